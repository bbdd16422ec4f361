//! Programs that hide from a search for their processes. Once a command was ended, none of them runs.

use std::time::{Duration, Instant};

use dockerpool::{Child, ExitStatus, PooledContainer, Stdio};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::{Capability, MARK, eventually, eventually_now, lacks, processes, unique_mark};
use crate::ways::{each, lease_is_sound, run};

/// Holds `lock` while any process lives that has inherited it.
const HOLD: &str = "import ctypes, fcntl, os, sys, threading, time\n\
                    begun = time.monotonic()\n\
                    libc = ctypes.CDLL(None)\n\
                    lock = open(sys.argv[1], 'w')\n\
                    os.chmod(sys.argv[1], 0o666)\n\
                    os.set_inheritable(lock.fileno(), True)\n\
                    fcntl.flock(lock, fcntl.LOCK_EX)\n\
                    def ready():\n\
                    \x20   print('ready', flush=True)\n\
                    \x20   while True: time.sleep(1)\n";

/// A daemon whose first thread ends alone. The kernel shows the process as a zombie while its other thread works.
const ZOMBIE: &str = "if os.fork() == 0:\n\
                      \x20   os.setsid()\n\
                      \x20   if os.fork() == 0:\n\
                      \x20       os.setsid()\n\
                      \x20       threading.Thread(target=ready).start()\n\
                      \x20       libc.syscall(60, 0)\n\
                      \x20   os._exit(0)\n\
                      while True: time.sleep(1)\n";

/// The command's own first process, whose first thread ends alone.
const ZOMBIE_ITSELF: &str = "threading.Thread(target=ready).start()\n\
                             libc.syscall(60, 0)\n";

/// A process that starts the next one in a new session and ends, forever. Each process lives for some microseconds. The
/// program is `loop: if fork() <= 0 { setsid(); goto loop } exit(0)`, without a library, so that its fork is fast.
///
/// The program begins as many seconds after the command as the second argument says, since it takes a processor until the command's end.
const CHAIN: &str = "import struct\n\
                     code = bytes.fromhex('b839000000 0f05 85c0 7f09 b870000000 0f05 ebec b83c000000 31ff 0f05')\n\
                     base, size = 0x400000, 120 + len(code)\n\
                     elf = b'\\x7fELF\\x02\\x01\\x01' + bytes(9)\n\
                     elf += struct.pack('<HHIQQQIHHHHHH', 2, 62, 1, base + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)\n\
                     elf += struct.pack('<IIQQQQQQ', 1, 5, 0, base, base, size, size, 4096) + code\n\
                     program = os.memfd_create('chain', 0)\n\
                     os.write(program, elf)\n\
                     if os.fork() == 0:\n\
                     \x20   os.setsid()\n\
                     \x20   time.sleep(max(0, begun + float(sys.argv[2]) - time.monotonic()))\n\
                     \x20   os.execve(program, ['chain'], os.environ)\n\
                     ready()\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Timeout,
    Kill,
    Drop,
}

/// Starts such a program, and waits until it prints that it is ready.
///
/// `slowest` is how long a start and a look took so far, and decides about the time limit: the program must be seen while it runs.
async fn begin<'a>(
    c: &'a PooledContainer,
    user: &str,
    program: &str,
    (end, slowest): (End, Duration),
    [lock, mark]: [&str; 2],
) -> Child<'a> {
    let script = [HOLD, program].concat();
    let mut command = c.command("python3");
    let mut later = Duration::ZERO;
    if end == End::Timeout {
        command.timeout(Duration::from_secs(4) + 4 * slowest);
        // A second before the time is up, also where the command begins late.
        later = Duration::from_secs(3) + 3 * slowest;
    }
    let later = later.as_secs_f64().to_string();
    command.args(["-c", &script, lock, &later]).user(user).env(MARK, mark);
    let mut child = command.stdout(Stdio::piped()).spawn().await.unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
    child
}

/// Ends the command, which runs `program`, and asserts how it ended.
///
/// The kernel frees an ended process some time after its end, and until then the process counts against the memory limit of its
/// container. A chain of processes may reach that limit before the test ends the command.
async fn stop(mut child: Child<'_>, program: &str, end: End, attack: &str) {
    let (status, expected) = match end {
        End::Timeout => (child.wait().await.unwrap(), ExitStatus::TimedOut),
        End::Kill => (child.kill().await.unwrap(), ExitStatus::Killed),
        End::Drop => return drop(child),
    };
    let ran_out = program == CHAIN && status.is_out_of_memory();
    assert!(ran_out || status == expected, "{attack}: {status:?}");
}

/// Returns whether a process lives that has inherited the lock.
async fn is_held(c: &PooledContainer, lock: &str) -> bool {
    let script = format!(
        "import fcntl\n\
         try: fcntl.flock(open('{lock}', 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)\n\
         except BlockingIOError: print('held')\n\
         else: print('free')"
    );
    match &*run(c, "root", &script).await.unwrap().check().unwrap().stdout_lossy() {
        "held\n" => true,
        "free\n" => false,
        other => panic!("{other}"),
    }
}

/// Ends such a program in each way, and asserts that none of its processes lives. With `beside`, another command runs
/// meanwhile and must go on.
async fn assert_nothing_is_left(name: &str, program: &str, ends: &[End], beside: bool) {
    // The test looks for processes of other users.
    if lacks(Capability::Root) {
        return;
    }
    each(name, async |way, user, pool| {
        let mut slowest = Duration::ZERO;
        let mut ends = ends.to_vec();
        if !way.is_agent() {
            // The engine ends the whole container: in each way once shows it.
            ends.dedup();
        }
        for (round, end) in ends.iter().enumerate() {
            let attack = format!("{way:?} {user} {end:?} {round}");
            let (lock, mark) = (format!("/tmp/lock-{user}-{round}"), unique_mark());
            let c = pool.acquire().await.unwrap();
            let mut other = None;
            if beside {
                other = Some(c.command("sleep").arg("1000").spawn().await.unwrap());
            }
            let begun = Instant::now();
            let child = begin(&c, user, program, (*end, slowest), [&lock, &mark]).await;
            assert!(
                !processes(&mark).is_empty(),
                "{attack}: the test finds the processes while they run"
            );
            slowest = begun.elapsed().max(slowest);
            stop(child, program, *end, &attack).await;
            if way.is_agent() {
                let others = u32::from(beside);
                eventually("the command has ended", async || {
                    c.taint().is_some() || c.process_count().await.unwrap() == others
                })
                .await;
                if c.taint().is_none() {
                    assert!(!is_held(&c, &lock).await, "{attack}: a process of the command lives");
                    assert_eq!(
                        other.as_mut().and_then(|other| other.try_wait().unwrap()),
                        None,
                        "{attack}"
                    );
                }
            }
            eventually_now("no process of the command lives", || processes(&mark).is_empty()).await;
            drop(other);
            lease_is_sound(pool, c, &attack).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_daemon_whose_first_thread_has_ended_dies() {
    let ends = [End::Kill, End::Timeout, End::Drop];
    assert_nothing_is_left("zombie", ZOMBIE, &ends, false).await;
}

#[tokio::test]
async fn a_daemon_whose_first_thread_has_ended_dies_beside_another_command() {
    assert_nothing_is_left("zombie-beside", ZOMBIE, &[End::Kill, End::Kill], true).await;
}

#[tokio::test]
async fn a_command_whose_first_thread_has_ended_dies() {
    assert_nothing_is_left(
        "zombie-itself",
        ZOMBIE_ITSELF,
        &[End::Kill, End::Timeout, End::Drop],
        true,
    )
    .await;
}

#[tokio::test]
async fn a_chain_of_short_lived_processes_dies() {
    assert_nothing_is_left("chain", CHAIN, &[End::Kill, End::Kill, End::Timeout, End::Drop], false).await;
}

#[tokio::test]
async fn a_chain_of_short_lived_processes_dies_beside_another_command() {
    assert_nothing_is_left("chain-beside", CHAIN, &[End::Kill; 8], true).await;
}
