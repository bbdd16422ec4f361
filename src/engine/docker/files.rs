//! Reading of configuration files, which may be anything that a user or a mount has put at their paths. Only regular files
//! of bounded size are read, and on a thread that the runtime does not need.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::thread;

use tokio::sync::oneshot;

/// The maximum size of a file, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Reads a file; `None` if it does not exist.
pub(super) fn read(file: &Path) -> Result<Option<Vec<u8>>, String> {
    match read_file(file) {
        Ok(content) => Ok(Some(content)),
        // A parent of the path is not a directory.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

fn read_file(file: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe waits for its other end, and opening a device may have any effect.
    must_be_regular(&fs::metadata(file)?)?;
    let file = open(file)?;
    must_be_regular(&file.metadata()?)?;
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("it has more than {} MiB", MAX_FILE >> 20)));
    }
    Ok(content)
}

fn must_be_regular(found: &fs::Metadata) -> io::Result<()> {
    if found.is_file() {
        Ok(())
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}

/// Opens the file without blocking, in case it has become a pipe since the check.
fn open(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt;

        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        options.custom_flags(flags.bits().cast_signed());
    }
    options.open(file)
}

/// Runs file system calls that may block on a thread of its own; the caller sets the deadline. A runtime waits for its own
/// blocking threads when it ends, so that a hanging file system would keep it from ending.
pub(super) async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (sender, answer) = oneshot::channel();
    thread::Builder::new()
        .name("docker-settings".to_owned())
        .spawn(move || {
            // A failed send only means that the caller has given up.
            let _ = sender.send(work());
        })?;
    answer
        .await
        .map_err(|_| io::Error::other("the thread that read the file died"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "content").unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        std::os::unix::fs::symlink(path("nothing"), path("dangling")).unwrap();
        std::os::unix::fs::symlink(path("loop"), path("loop")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path("zero")).unwrap();
        File::create(path("huge")).unwrap().set_len(1 << 30).unwrap();
        let made = std::process::Command::new("mkfifo").arg(path("fifo")).status().unwrap();
        assert!(made.success());
        let socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();

        for name in ["file", "link"] {
            assert_eq!(read(&path(name)).unwrap().unwrap(), b"content");
        }
        for name in ["nothing", "dangling", "file/below"] {
            assert_eq!(read(&path(name)), Ok(None), "{name}");
        }
        for name in ["loop", "zero", "huge", "fifo", "socket", "."] {
            let problem = read(&path(name)).unwrap_err();
            assert!(problem.starts_with("cannot be read: "), "{name}: {problem}");
        }
        drop(socket);
    }
}
