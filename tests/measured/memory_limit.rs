//! An owner with little memory, and commands that print far more than that. The owner lives and loses no output.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use crate::memory_group::MemoryGroup;
use crate::support::{containers_of_instance, engine, itself, own_test, pool};
use dockerpool::{Child, Container, ExitStatus, Running};
use futures_util::future::join_all;
use tokio::io::AsyncReadExt;
use tokio::time::sleep;

/// Makes the test, run in a process of its own, the owner under the limit.
const OWNER: &str = "DOCKERPOOL_TEST_OWNER";

const MIB: usize = 1 << 20;

/// The memory that the owner may use once it was told to go on. Without bounds it would need memory for all output.
const LIMIT: usize = 48 * MIB;

/// The number of bytes that each command prints, or would print.
const PRINTED: usize = 128 * MIB;

#[tokio::test]
async fn an_owner_with_little_memory_outlives_commands_that_print_half_a_gibibyte() {
    if std::env::var_os(OWNER).is_some() {
        return own().await;
    }
    if crate::support::lacks(crate::support::Capability::Root) {
        return;
    }
    let mut owner = itself(&own_test!(
        "an_owner_with_little_memory_outlives_commands_that_print_half_a_gibibyte"
    ))
    .env(OWNER, "1")
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    let _group = MemoryGroup::with(owner.id(), LIMIT);
    owner.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    let owner = owner.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&owner.stdout);
    print!("{said}");
    // The kernel did not kill the owner.
    assert!(owner.status.success(), "{:?}: {said}", owner.status);
    let instance = said.lines().find_map(|line| line.strip_prefix("instance "));
    let instance = instance.expect("the owner prints its instance");
    assert_eq!(containers_of_instance(&*engine().await, instance).await, 0);
}

async fn own() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let pool = pool("little-memory").max_total(4).build().await.unwrap();
    println!("\ninstance {}", pool.instance());
    let all = join_all((0..4).map(|_| pool.acquire())).await;
    let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();

    // The output of the first command is read only after the others have ended.
    let mut unread = print_zeros(&all[0]).await;
    let slowly = async {
        let mut child = print_zeros(&all[1]).await;
        assert_eq!(count(&mut child, Duration::from_millis(2)).await, PRINTED);
        assert_eq!(child.wait().await.unwrap(), ExitStatus::Exited(0));
    };
    let limited = async {
        let mut command = all[2].command("head");
        let command = command.args(["-c", &PRINTED.to_string(), "/dev/zero"]);
        let output = command.output_limit(MIB as u64).output().await.unwrap();
        assert_eq!(
            (output.status, output.stdout.len()),
            (
                ExitStatus::OutputLimit {
                    limit: MIB as u64,
                    is_default: false
                },
                MIB
            )
        );
    };
    let on_a_terminal = async {
        let mut command = all[3].command("head");
        let command = command.args(["-c", &PRINTED.to_string(), "/dev/zero"]).tty(24, 80);
        assert_eq!(command.status().await.unwrap(), ExitStatus::Exited(0));
    };
    tokio::join!(slowly, limited, on_a_terminal);
    assert_eq!(unread.try_wait().unwrap(), None, "the command waits for its reader");
    assert_eq!(count(&mut unread, Duration::ZERO).await, PRINTED);
    assert_eq!(unread.wait().await.unwrap(), ExitStatus::Exited(0));

    drop(unread);
    drop(all);
    pool.shutdown().await.unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    print!(
        "{}",
        status
            .lines()
            .filter(|line| line.starts_with("VmHWM"))
            .collect::<String>()
    );
    println!(" of {} KiB", LIMIT / 1024);
}

async fn print_zeros(c: &Container<Running>) -> Child<'_> {
    let mut command = c.command("head");
    let command = command.args(["-c", &PRINTED.to_string(), "/dev/zero"]);
    command.spawn().await.unwrap()
}

/// Reads to the end, with a pause for each MiB.
async fn count(child: &mut Child<'_>, pause: Duration) -> usize {
    let stdout = child.stdout.as_mut().unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let (mut total, mut paused) = (0, 0);
    loop {
        match stdout.read(&mut buffer).await.unwrap() {
            0 => return total,
            read => total += read,
        }
        if total / MIB > paused {
            paused = total / MIB;
            sleep(pause).await;
        }
    }
}
