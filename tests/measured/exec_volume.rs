//! Large output and many commands: memory stays flat, a slow reader slows the command down, and outputs are not mixed
//! up.

use std::time::Duration;

use crate::support::{MARK, eventually_now, is_podman, pool, processes, unique_mark, with_container};
use dockerpool::{Child, Command, ExitStatus, PooledContainer, Stdio};
use futures_util::future::join_all;
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;
use tokio::time::Instant;

const MIB: usize = 1 << 20;

/// The memory that this process may use in addition, whatever a command prints.
const FLAT: usize = 64 * MIB;

/// The bytes by which a command can be ahead of its reader: all buffers of the library, the engine and the kernel, with
/// a large margin.
const AHEAD: usize = 8 * MIB;

/// Runs the tests one at a time, since they measure the memory of the whole process.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Returns a value of `/proc/self/status`, in bytes.
fn memory(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Runs a function and returns by how much the peak of this process's memory exceeded the memory before.
async fn growth(run: impl AsyncFnOnce()) -> usize {
    // Resets the kernel's peak.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS:");
    run().await;
    memory("VmHWM:").saturating_sub(before)
}

/// Reads to the end, asserts that all bytes are zero, and returns their count. After `size` bytes, ends the command's
/// input.
async fn count_zeros(child: &mut Child<'_>, size: usize) -> usize {
    let zeros = vec![0; 64 * 1024];
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        let read = child.stdout.as_mut().unwrap().read(&mut buffer).await.unwrap();
        if read == 0 {
            return total;
        }
        assert!(buffer[..read] == zeros[..read], "differs after {total} bytes");
        total += read;
        if total >= size {
            child.stdin.take();
        }
    }
}

/// Returns a command that prints so many zeros, and ends when its input does. Docker gives up output two seconds after a command's
/// end, which a starved test may not have read by then.
fn zeros(c: &PooledContainer, size: usize) -> Command<'_> {
    let mut command = c.command("sh");
    let script = format!("head -c {size} /dev/zero; read end; true");
    command.args(["-c", &script]).stdin(Stdio::piped());
    command
}

/// Returns the size of a large output in bytes: four times what memory may grow by, and a gibibyte in `./dev soak`.
fn large() -> usize {
    match std::env::var_os("DOCKERPOOL_SOAK_SECONDS") {
        Some(_) => 1024 * MIB,
        None => 4 * FLAT,
    }
}

#[tokio::test]
async fn a_large_output_needs_flat_memory() {
    let _alone = ALONE.lock().await;
    let size = large();
    with_container(pool("volume"), async |c| {
        let grown = growth(async || {
            let mut child = zeros(c, size).spawn().await.unwrap();
            assert_eq!(count_zeros(&mut child, size).await, size);
            assert_eq!(child.wait().await.unwrap(), ExitStatus::Exited(0));
        })
        .await;
        assert!(grown < FLAT, "{grown} bytes");

        // The same holds for output that is discarded.
        let grown = growth(async || {
            let mut command = c.command("head");
            let status = command.args(["-c", &size.to_string(), "/dev/zero"]).status();
            let status = status.await.unwrap();
            assert_eq!(status, ExitStatus::Exited(0));
        })
        .await;
        assert!(grown < FLAT, "{grown} bytes");
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_slows_the_command_down() {
    const TOTAL: usize = 64 * MIB;
    const PER_SECOND: usize = 8 * MIB;
    let _alone = ALONE.lock().await;
    with_container(pool("throttled"), async |c| {
        let mark = unique_mark();
        let grown = growth(async || {
            let mut command = c.command("head");
            command.args(["-c", &TOTAL.to_string(), "/dev/zero"]).env(MARK, &mark);
            let mut child = command.spawn().await.unwrap();
            let mut stdout = child.stdout.take().unwrap();
            let begun = Instant::now();
            let mut buffer = vec![0; 64 * 1024];
            let mut total = 0;
            loop {
                let read = stdout.read(&mut buffer).await.unwrap();
                if read == 0 {
                    break;
                }
                total += read;
                // The command cannot be far ahead of the reader, so it still runs.
                if total % PER_SECOND < read && total < TOTAL - AHEAD {
                    assert!(!processes(&mark).is_empty(), "ended when {total} bytes were read");
                    assert_eq!(child.try_wait().unwrap(), None);
                }
                let due = Duration::from_secs_f64(total as f64 / PER_SECOND as f64);
                tokio::time::sleep_until(begun + due).await;
            }
            assert_eq!(total, TOTAL);
            assert_eq!(child.wait().await.unwrap(), ExitStatus::Exited(0));
        })
        .await;
        assert!(grown < FLAT, "{grown} bytes");
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_stalls_the_command() {
    const TOTAL: usize = 64 * MIB;
    let _alone = ALONE.lock().await;
    with_container(pool("stalled"), async |c| {
        let mark = unique_mark();
        let grown = growth(async || {
            let mut command = c.command("head");
            command.args(["-c", &TOTAL.to_string(), "/dev/zero"]).env(MARK, &mark);
            let mut child = command.spawn().await.unwrap();
            let mut pid = None;
            eventually_now("the command runs", || {
                pid = processes(&mark).first().copied();
                pid.is_some_and(|pid| written_by(pid) > 0)
            })
            .await;
            let pid = pid.unwrap();
            // The command stalls once every buffer on the way is full.
            let (mut last, mut since) = (0, Instant::now());
            eventually_now("the command stalls", || {
                let written = written_by(pid);
                if written != last {
                    (last, since) = (written, Instant::now());
                }
                since.elapsed() > Duration::from_millis(500)
            })
            .await;
            assert!(
                0 < last && last < AHEAD,
                "{last} bytes were written although none was read"
            );
            assert_eq!(child.try_wait().unwrap(), None);
            // No byte is lost.
            assert_eq!(count_zeros(&mut child, TOTAL).await, TOTAL);
            assert_eq!(child.wait().await.unwrap(), ExitStatus::Exited(0));
        })
        .await;
        assert!(grown < FLAT, "{grown} bytes");
    })
    .await;
}

/// Returns how many bytes a process has written, by the kernel's account, or 0 when the process is gone.
fn written_by(pid: u32) -> usize {
    let account = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let written = account.lines().find_map(|line| line.strip_prefix("wchar: "));
    written.map_or(0, |written| written.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_commands_at_once_over_eight_containers_are_not_mixed_up() {
    let _alone = ALONE.lock().await;
    // On a slow machine the last of so many waits for long.
    let pool = pool("many")
        .max_total(8)
        .engine_timeout(Duration::from_secs(120))
        .build()
        .await
        .unwrap();
    let lent = join_all((0..8).map(|_| pool.acquire())).await;
    let lent: Vec<_> = lent.into_iter().map(Result::unwrap).collect();
    assert_eq!((pool.status().in_use, pool.status().total()), (8, 8));
    let is_podman = is_podman().await;
    let commands = (0..200_usize).map(|number| {
        let c = &lent[number % 8];
        async move {
            let input = format!("{number}-").repeat(1000);
            let script = r#"echo "out $0 $(hostname)"; echo "err $0" >&2; cat; exit $(($0 % 120))"#;
            let mut command = c.command("sh");
            command.args(["-c", script, &number.to_string()]);
            let out = command.stdin(Stdio::from(input.clone())).output().await.unwrap();
            // The engine uses the container's id as its host name.
            let expected = format!("out {number} {}\n{input}", &c.id()[..12]);
            let (stdout, stderr) = (out.stdout_lossy(), out.stderr_lossy());
            if is_podman && out.status == ExitStatus::Incomplete(number as i32 % 120) {
                // Podman sometimes reports that it has lost the end of the output.
                assert!(expected.starts_with(&*stdout), "{number}: {out:?}");
                assert!(
                    ["", &format!("err {number}\n")].contains(&&*stderr),
                    "{number}: {out:?}"
                );
                return;
            }
            assert_eq!(out.status, ExitStatus::Exited(number as i32 % 120), "{number}: {out:?}");
            assert!(stdout == expected, "{number}: {out:?}");
            assert_eq!(stderr, format!("err {number}\n"));
        }
    });
    join_all(commands).await;
    assert!(lent.iter().all(|c| c.taint().is_none()));
    drop(lent);
    assert_eq!(pool.status().idle, 8);
    pool.shutdown().await.unwrap();
}
