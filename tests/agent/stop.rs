//! Signals to all processes of a command, and its end with grace.

use std::time::Duration;

use crate::support::{eventually, with_agent};
use dockerpool::{Child, Error, Event, ExitStatus, PooledContainer, Signal};
use futures_util::FutureExt;

const SECONDS_30: Duration = Duration::from_secs(30);

/// Begins a script, and waits until it has written so many files `/tmp/ready*`.
async fn begin<'c>(c: &'c PooledContainer, script: &str, ready: usize) -> Child<'c> {
    let child = c.command("sh").args(["-c", script]).spawn().await.unwrap();
    eventually("the script is ready", async || {
        let count = c.exec(["sh", "-c", "ls /tmp/ready* 2>/dev/null | wc -l"]).await;
        count.unwrap().stdout_lossy().trim() == ready.to_string()
    })
    .await;
    child
}

async fn text(c: &PooledContainer, script: &str) -> String {
    let mut command = c.command("sh");
    command.args(["-c", script]).output_string().await.unwrap()
}

/// A process that writes a line for each USR1, and ends with 7 at TERM.
fn counter(name: &str) -> String {
    format!(
        "trap 'echo {name} >>/tmp/got' USR1; trap 'echo end {name} >>/tmp/got; exit 7' TERM; : >/tmp/ready-{name}; \
         while :; do read -t 1 x </tmp/never; done"
    )
}

/// Prints what the processes have written so far.
const SORTED: &str = "cat /tmp/got 2>/dev/null | sort";

/// A FIFO that nobody writes to: reading it waits without another process, which would get the signals too.
const FIFO: &str = "mkfifo /tmp/never; exec 9<>/tmp/never; ";

#[tokio::test]
async fn a_signal_to_the_group_reaches_each_process_once_and_none_of_others() {
    with_agent(async |c| {
        text(c, "mkfifo /tmp/never").await;
        let script = format!("exec 9<>/tmp/never; {}", counter("other"));
        let other = c.command("sh").args(["-c", &script]).spawn().await.unwrap();
        // In its group, in a session of its own, and without a parent.
        let script = format!(
            "exec 9<>/tmp/never; ({}) & setsid sh -c \"{}\" & (setsid sh -c \"{}\" &); {}",
            counter("group"),
            counter("session"),
            counter("orphan"),
            counter("first"),
        );
        let mut child = begin(c, &script, 5).await;
        child.signal_group(Signal::USR1).await.unwrap();
        let all = "first\ngroup\norphan\nsession\n";
        eventually("each has got it", async || text(c, SORTED).await.len() >= all.len()).await;
        assert_eq!(text(c, SORTED).await, all);
        child.signal(Signal::USR1).await.unwrap();
        eventually("the first has got one more", async || {
            text(c, SORTED).await.starts_with("first\nfirst\n")
        })
        .await;
        assert_eq!(
            child.stop(Signal::TERM, SECONDS_30).await.unwrap(),
            ExitStatus::Exited(7)
        );
        let ends = "end first\nend group\nend orphan\nend session\n";
        assert_eq!(text(c, "grep end /tmp/got | sort").await, ends);
        // The other command alone is left.
        assert_eq!((c.process_count().await.unwrap(), c.taint()), (1, None));
        drop(other);
    })
    .await;
}

#[tokio::test]
async fn a_stop_waits_for_what_the_command_has_left() {
    with_agent(async |c| {
        let script =
            "(trap '' TERM; : >/tmp/ready; read -t 2 x </tmp/never; echo late >/tmp/late) & read x </tmp/never";
        let mut child = begin(c, &format!("{FIFO}{script}"), 1).await;
        // The first process ends at once.
        assert_eq!(
            child.stop(Signal::TERM, SECONDS_30).await.unwrap(),
            ExitStatus::Signaled(15)
        );
        assert_eq!(text(c, "cat /tmp/late").await, "late\n");
        assert_eq!((c.process_count().await.unwrap(), c.taint()), (0, None));
    })
    .await;
}

#[tokio::test]
async fn what_is_left_after_the_grace_is_killed() {
    with_agent(async |c| {
        let grace = Duration::from_millis(300);
        for script in [
            // The first process does not end.
            "trap '' TERM; : >/tmp/ready; while :; do read -t 1 x </tmp/never; done",
            // Another one does not.
            "(trap '' TERM; : >/tmp/ready; while :; do read -t 1 x </tmp/never; done) & read x </tmp/never",
        ] {
            let mut child = begin(c, &format!("{FIFO}{script}"), 1).await;
            assert_eq!(
                child.stop(Signal::TERM, grace).await.unwrap(),
                ExitStatus::Killed,
                "{script}"
            );
            assert_eq!(
                child.stop(Signal::TERM, grace).await.unwrap(),
                ExitStatus::Killed,
                "the same again"
            );
            child.signal_group(Signal::TERM).await.unwrap();
            assert_eq!((c.process_count().await.unwrap(), c.taint()), (0, None), "{script}");
            c.wipe(&["/tmp"]).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_stop_goes_on_without_its_future_and_its_output_can_be_read_meanwhile() {
    with_agent(async |c| {
        let mut child = begin(c, "trap '' TERM; : >/tmp/ready; while :; do sleep 1; done", 1).await;
        let begun = child.stop(Signal::TERM, Duration::from_millis(100)).now_or_never();
        assert!(begun.is_none());
        assert_eq!(child.wait().await.unwrap(), ExitStatus::Killed);

        c.wipe(&["/tmp"]).await.unwrap();
        // More than any pipe holds comes after the signal.
        let script = "trap 'seq 100000; exit 3' TERM; : >/tmp/ready; while :; do sleep 0.05; done";
        let mut lines = begin(c, script, 1).await.events().lines();
        lines.child().start_stop(Signal::TERM, SECONDS_30).unwrap();
        let mut last = None;
        while let Some(event) = lines.next().await {
            match event.unwrap() {
                Event::Stdout(line) => last = Some(line),
                // The shell's word on the `sleep` that the signal has ended.
                Event::Stderr(line) => assert_eq!(line, "Terminated"),
                Event::Exit(status) => assert_eq!(status, ExitStatus::Exited(3)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(last.as_deref(), Some("100000"));
    })
    .await;
}

#[tokio::test]
async fn a_command_that_is_to_end_is_still_under_its_limits_and_can_be_killed() {
    with_agent(async |c| {
        let script = "(trap '' TERM; : >/tmp/ready; while :; do sleep 1; done) & read x </tmp/never";
        let script = format!("{FIFO}{script}");
        let mut command = c.command("sh");
        command.args(["-c", &script]).timeout(Duration::from_secs(2));
        let mut child = command.spawn().await.unwrap();
        eventually("it is ready", async || text(c, "ls /tmp").await.contains("ready")).await;
        assert_eq!(
            child.stop(Signal::TERM, SECONDS_30).await.unwrap(),
            ExitStatus::TimedOut
        );
        assert_eq!(c.process_count().await.unwrap(), 0);

        c.wipe(&["/tmp"]).await.unwrap();
        let mut child = begin(c, &script, 1).await;
        child.start_stop(Signal::TERM, SECONDS_30).unwrap();
        assert_eq!(child.kill().await.unwrap(), ExitStatus::Killed);
        assert_eq!((c.process_count().await.unwrap(), c.taint()), (0, None));
    })
    .await;
}

#[tokio::test]
async fn numbers_that_are_no_signals_are_refused() {
    with_agent(async |c| {
        let mut child = c.command("sleep").arg("1000").spawn().await.unwrap();
        for number in [i32::MIN, -1, 0, 65] {
            let errors = [
                child.signal(number).await.unwrap_err(),
                child.signal_group(number).await.unwrap_err(),
                child.stop(number, SECONDS_30).await.unwrap_err(),
            ];
            for error in errors {
                let Error::BadCommand { problem, .. } = &error else {
                    panic!("{error:?}")
                };
                assert_eq!(problem.field(), "signal");
                assert_eq!(problem.problem(), format!("must be from 1 to 64, and is {number}"));
            }
        }
        assert_eq!(child.try_wait().unwrap(), None, "nothing was sent");
        assert_eq!(child.stop(9, SECONDS_30).await.unwrap(), ExitStatus::Signaled(9));
        assert_eq!((c.process_count().await.unwrap(), c.taint()), (0, None));
    })
    .await;
}

/// The first process may not have executed its program yet, which is no failure to begin.
#[tokio::test]
async fn a_signal_right_after_the_start_is_the_end_of_the_command() {
    with_agent(async |c| {
        for way in 0..40 {
            let mut child = c.command("sleep").arg("1000").spawn().await.unwrap();
            let status = match way % 4 {
                0 => {
                    child.signal(Signal::KILL).await.unwrap();
                    child.wait().await
                }
                1 => {
                    child.signal_group(Signal::KILL).await.unwrap();
                    child.wait().await
                }
                2 => child.stop(Signal::KILL, SECONDS_30).await,
                _ => child.stop(Signal::TERM, SECONDS_30).await,
            };
            let expected = if way % 4 == 3 { 15 } else { 9 };
            assert_eq!(status.unwrap(), ExitStatus::Signaled(expected), "{way}");
        }
        assert_eq!((c.process_count().await.unwrap(), c.taint()), (0, None));
    })
    .await;
}
