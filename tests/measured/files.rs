//! Large files and trees: memory stays flat in both directions.

use dockerpool::{ExecVia, FileLimits};
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;

use crate::support::{pool, with_container};

const MIB: u64 = 1 << 20;

/// The memory that this process may use in addition, whatever the size of the files.
const FLAT: u64 = 48 * MIB;

/// The size of the file that is sent. It is held in the container's memory.
const SENT: u64 = 200 * MIB;

/// The size of the file that is read, which has no contents of its own.
const READ: u64 = 400 * MIB;

/// Runs the tests one at a time, since they measure the memory of the whole process.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Returns a value of `/proc/self/status`, in bytes.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Runs a function and asserts that the peak of this process's memory stays near the memory before.
async fn assert_flat(what: &str, run: impl AsyncFnOnce()) {
    // Resets the kernel's peak.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS:");
    run().await;
    let grown = memory("VmHWM:").saturating_sub(before);
    assert!(grown < FLAT, "{what}: {grown} bytes more");
}

#[tokio::test]
async fn large_files_and_trees_need_flat_memory() {
    let _alone = ALONE.lock().await;
    let builder = pool("files")
        .exec_via(ExecVia::Agent)
        .memory(512 << 20)
        .tmpfs("/files", 300 << 20);
    with_container(builder, async |c| {
        let files = c.files().limits(FileLimits {
            bytes: READ,
            entries: 100_000,
            time: None,
        });
        assert_flat("a file in", async || {
            let mut contents = tokio::io::repeat(7).take(SENT);
            files.write_from("/files/large", &mut contents).await.unwrap();
        })
        .await;
        assert_eq!(files.metadata("/files/large").await.unwrap().size, SENT);
        files.remove("/files/large").await.unwrap();

        let made = c
            .exec(["truncate", "-s", &READ.to_string(), "/files/sparse"])
            .await
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        assert_flat("a file out", async || {
            let mut reader = files.read("/files/sparse").await.unwrap();
            assert_eq!(
                tokio::io::copy(&mut reader, &mut tokio::io::sink()).await.unwrap(),
                READ
            );
        })
        .await;

        let here = tempfile::tempdir().unwrap();
        let source = here.path().join("source");
        std::fs::create_dir(&source).unwrap();
        std::fs::File::create(source.join("large"))
            .unwrap()
            .set_len(SENT)
            .unwrap();
        assert_flat("a tree in", async || {
            assert_eq!(files.upload_dir(&source, "/files/tree").await.unwrap().bytes, SENT);
        })
        .await;
        assert_flat("a tree out", async || {
            let done = files
                .download_dir("/files/tree", here.path().join("target"))
                .await
                .unwrap();
            assert_eq!(done.bytes, SENT);
        })
        .await;
        files.remove_dir_all("/files/tree").await.unwrap();

        // Twenty thousand names are listed, and as many files are copied.
        let script = "mkdir /files/many; cd /files/many; seq 20000 | xargs touch";
        assert!(c.exec(["sh", "-c", script]).await.unwrap().status.success());
        assert_flat("a list", async || {
            assert_eq!(files.list("/files/many").await.unwrap().len(), 20_000);
        })
        .await;
        assert_flat("many files out", async || {
            let done = files
                .download_dir("/files/many", here.path().join("many"))
                .await
                .unwrap();
            assert_eq!(done.files, 20_000);
        })
        .await;
    })
    .await;
}
