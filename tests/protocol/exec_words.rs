//! Messages about commands: an engine's message about a command that never began is never output, whatever its words
//! and the exit code; the words of a command are always output. The stub sends all of them.

use std::sync::Arc;
use std::time::Duration;

use crate::stub::{Fault, Route, Stub};
use crate::support::eventually_now;
use dockerpool::engine::{Commands, ExecRequest, Identity, Lifecycle, Observation, Pausing, ProgressFn, Selector};
use dockerpool::{
    Child, ContainerSpec, DockerEngine, Engine, EngineErrorKind, Error, ExitStatus, Output, Pool, PooledContainer,
    PullPolicy, Stdio, Taint,
};
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;

const PODMAN: &str = r#"{"Version":"5.8.6","ApiVersion":"1.41","MinAPIVersion":"1.24","Os":"linux","Arch":"riscv64",
    "Components":[{"Name":"Podman Engine","Version":"5.8.6"}]}"#;

const NEVER_BEGAN: &str = r#"{"ID":"e1","Running":false,"ExitCode":128,"Pid":0}"#;

/// Fails a future that hangs. The timeout is far longer than a busy machine needs.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("no hang")
}

async fn lease(stub: &Stub) -> (Pool, PooledContainer) {
    let endpoint = format!("unix://{}", stub.socket().display());
    let engine = DockerEngine::connect_to(endpoint.parse().unwrap()).await.unwrap();
    let builder = Pool::builder("words").image("any").engine(Arc::new(engine));
    let pool = builder.min_idle(0).max_total(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    (pool, c)
}

/// Runs one command on a stub whose exec API answers like this.
async fn run(start: Fault, inspect: &str, tty: bool) -> (Result<Output, Error>, Option<Taint>) {
    let stub = Stub::start();
    let (pool, c) = lease(&stub).await;
    let ended = on(&stub, &c, start, inspect, tty).await;
    drop(c);
    stub.heal();
    pool.shutdown().await.unwrap();
    ended
}

async fn on(
    stub: &Stub,
    c: &PooledContainer,
    start: Fault,
    inspect: &str,
    tty: bool,
) -> (Result<Output, Error>, Option<Taint>) {
    stub.fault(Route::ExecStart, start);
    stub.say(Route::ExecInspect, 200, inspect);
    // A size that the engine accepts would prove that the command was begun.
    stub.say(Route::ExecResize, 400, r#"{"message":"exec process is not started"}"#);
    let mut command = c.command("any");
    if tty {
        command.tty(24, 80);
    }
    let result = command.output().await;
    (result, c.taint())
}

const UNKNOWN: &[(u8, &[u8])] = &[(1, b"the moon is full\r\n")];
const USUAL: &[(u8, &[u8])] = &[(1, b"usual\n")];
const ON_STDERR: &[(u8, &[u8])] = &[(2, b"on stderr\r\n")];
const PROGRAM: &[(u8, &[u8])] = &[(
    1,
    b"OCI runtime exec failed: open `/tmp/a`: Too many levels of symbolic links\r\n",
)];

#[tokio::test]
async fn a_command_without_a_pid_never_began_and_the_engines_message_is_no_output() {
    for tty in [false, true] {
        for code in [0, 1, 125, 126, 127, 128, 255] {
            let inspect = NEVER_BEGAN.replace("128", &code.to_string());
            for (frames, words, taint) in [
                (PROGRAM, "OCI runtime exec failed: open `/tmp/a`: Too many levels", None),
                // A message that the library does not know is passed on unchanged. It could concern every other
                // command, too.
                (UNKNOWN, "the moon is full", Some(Taint::Broken)),
            ] {
                // Here the library waits for the end of the container, which takes time: two exit codes are enough.
                if taint.is_some() && !matches!(code, 0 | 128) {
                    continue;
                }
                // With a terminal, the output has no frames.
                let start = match (tty, frames == PROGRAM) {
                    (false, _) => Fault::Prints(frames),
                    (true, true) => Fault::PrintsPlain(PROGRAM[0].1),
                    (true, false) => Fault::PrintsPlain(UNKNOWN[0].1),
                };
                let (result, found) = run(start, &inspect, tty).await;
                let error = result.expect_err(words);
                assert!(
                    matches!(&error, Error::CannotStart { reason, .. } if reason.starts_with(words)),
                    "{tty} {code}: {error:?}"
                );
                assert_eq!(found, taint, "{tty} {code}: {words}");
            }
        }
    }
}

#[tokio::test]
async fn a_reader_gets_nothing_of_the_engines_message() {
    let stub = Stub::start();
    let (pool, c) = lease(&stub).await;
    stub.fault(Route::ExecStart, Fault::Prints(UNKNOWN));
    stub.say(Route::ExecInspect, 200, NEVER_BEGAN);
    let mut child = c.command("any").stdout(Stdio::piped()).spawn().await.unwrap();
    let mut read = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"");
    let error = child.wait().await.unwrap_err();
    assert!(
        matches!(&error, Error::CannotStart { reason, .. } if reason == "the moon is full"),
        "{error:?}"
    );
    drop(child);
    drop(c);
    stub.heal();
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_message_later_than_the_news_that_the_command_never_began_is_not_lost() {
    let (result, taint) = run(Fault::PrintsLate(PROGRAM), NEVER_BEGAN, false).await;
    let error = result.unwrap_err();
    assert!(
        matches!(&error, Error::CannotStart { reason, .. } if reason.starts_with("OCI runtime exec failed: open")),
        "{error:?}"
    );
    assert_eq!(taint, None);

    // The result is the same if the output is not read.
    let stub = Stub::start();
    let (pool, c) = lease(&stub).await;
    stub.fault(Route::ExecStart, Fault::PrintsLate(PROGRAM));
    stub.say(Route::ExecInspect, 200, NEVER_BEGAN);
    let error = c.command("any").status().await.unwrap_err();
    assert!(
        matches!(&error, Error::CannotStart { reason, .. } if reason.starts_with("OCI runtime exec failed: open")),
        "{error:?}"
    );
    assert_eq!(c.taint(), None);
    drop(c);
    stub.heal();
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_container_that_ended_as_a_command_began_is_gone_whatever_the_message() {
    for frames in [UNKNOWN, LOST] {
        let stub = Stub::start();
        let (pool, c) = lease(&stub).await;
        let asked = stub.calls(Route::Inspect);
        // The engine notices the end of the container after a delay.
        let ended = async {
            eventually_now("the container is inspected", || stub.calls(Route::Inspect) > asked).await;
            stub.fault(Route::Inspect, Fault::Ended);
        };
        let command = on(&stub, &c, Fault::Prints(frames), NEVER_BEGAN, false);
        let ((result, taint), ()) = tokio::join!(command, ended);
        let error = result.unwrap_err();
        assert!(matches!(error, Error::ContainerGone { .. }), "{error:?}");
        assert_eq!(taint, Some(Taint::Died));
        drop(c);
        stub.heal();
        pool.shutdown().await.unwrap();
    }
}

const LOST: &[(u8, &[u8])] = &[(
    1,
    b"OCI runtime exec failed: exec failed: unable to start container process: procReady not received\r\n",
)];

#[tokio::test]
async fn a_container_short_of_processes_is_told_from_an_ended_one() {
    for (pids, exhausted) in [
        (r#"{"current":30,"limit":32}"#, true),
        (r#"{"current":3,"limit":512}"#, false),
        (r#"{"current":3}"#, false),
        (r#"{}"#, false),
    ] {
        let stub = Stub::start();
        let (pool, c) = lease(&stub).await;
        stub.say(Route::Stats, 200, format!(r#"{{"pids_stats":{pids}}}"#));
        let (result, taint) = on(&stub, &c, Fault::Prints(LOST), NEVER_BEGAN, false).await;
        let error = result.unwrap_err();
        if exhausted {
            assert_eq!(
                error.engine_error().unwrap().kind(),
                EngineErrorKind::Exhausted,
                "{error:?}"
            );
            assert_eq!(taint, Some(Taint::Exhausted));
        } else {
            assert!(matches!(error, Error::CannotStart { .. }), "{pids}: {error:?}");
            assert_eq!(taint, Some(Taint::Broken));
        }
        drop(c);
        stub.heal();
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn words_of_a_command_are_its_output_whatever_they_look_like() {
    const MORE: &[(u8, &[u8])] = &[(1, b"the moon is full\r\n"), (1, b"more\r\n")];
    const BOTH: &[(u8, &[u8])] = &[(1, b"the moon is full\r\n"), (2, b"oh\r\n")];
    for (frames, stdout, stderr) in [
        (UNKNOWN, "the moon is full\r\n", ""),
        (MORE, "the moon is full\r\nmore\r\n", ""),
        (BOTH, "the moon is full\r\n", "oh\r\n"),
    ] {
        for code in [0, 126, 127, 128] {
            let inspect = format!(r#"{{"ID":"e1","Running":false,"ExitCode":{code},"Pid":7}}"#);
            let (result, taint) = run(Fault::Prints(frames), &inspect, false).await;
            let out = result.unwrap();
            assert_eq!(
                (out.status, &*out.stdout_lossy(), &*out.stderr_lossy(), taint),
                (ExitStatus::Exited(code), stdout, stderr, None)
            );
        }
    }
}

#[tokio::test]
async fn a_running_command_is_not_delayed_and_costs_no_extra_requests() {
    // This holds also for output that looks like a message of the engine, with and without a terminal.
    for (tty, data) in [
        (false, &b"\x01\0\0\0\0\0\0\x0dready, now?\r\n"[..]),
        (true, &b"ready, now?\r\n"[..]),
    ] {
        let stub = Stub::start();
        let (pool, c) = lease(&stub).await;
        stub.fault(Route::ExecStart, Fault::PrintsOn(data));
        stub.fault(Route::ExecInspect, Fault::Running);
        let mut command = c.command("any");
        if tty {
            command.tty(24, 80);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().await.unwrap();
        let mut read = [0; 13];
        in_time(child.stdout.take().unwrap().read_exact(&mut read))
            .await
            .unwrap();
        assert_eq!(&read, b"ready, now?\r\n");
        stub.fault(Route::ExecInspect, Fault::Status(404));
        drop(child);
        drop(c);
        stub.heal();
        pool.shutdown().await.unwrap();
    }

    // A usual command costs three requests. Output that looks like a message of the engine costs no more.
    for frames in [USUAL, UNKNOWN, ON_STDERR, &[]] {
        let stub = Stub::start();
        let (pool, c) = lease(&stub).await;
        stub.fault(Route::ExecStart, Fault::Prints(frames));
        let before = stub.requests().len();
        assert!(c.command("any").output().await.unwrap().status.success());
        let requests = stub.requests().split_off(before);
        let of_exec = requests.iter().filter(|request| request.contains("exec")).count();
        assert_eq!(of_exec, 3, "{requests:?}");
        drop(c);
        stub.heal();
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn an_engine_that_fails_at_first_does_not_hold_up_the_output() {
    let stub = Stub::start();
    let (pool, c) = lease(&stub).await;
    stub.fault(
        Route::ExecStart,
        Fault::PrintsOn(b"\x01\0\0\0\0\0\0\x0dready, now?\r\n"),
    );
    stub.fault(Route::ExecInspect, Fault::Status(500));
    let mut child = c.command("any").stdout(Stdio::piped()).spawn().await.unwrap();
    eventually_now("the command is inspected", || stub.calls(Route::ExecInspect) > 0).await;
    stub.fault(Route::ExecInspect, Fault::Running);
    let mut read = [0; 13];
    in_time(child.stdout.take().unwrap().read_exact(&mut read))
        .await
        .unwrap();
    drop(child);
    drop(c);
    stub.heal();
    pool.shutdown().await.unwrap();
}

/// Creates a lease on an engine that says it is Podman.
async fn lease_of_podman() -> (Stub, Pool, PooledContainer) {
    let stub = Stub::start();
    stub.say(Route::Version, 200, PODMAN);
    let (pool, c) = lease(&stub).await;
    (stub, pool, c)
}

#[tokio::test]
async fn podmans_message_is_taken_without_its_line_on_the_lost_connection() {
    const WORDS: &[(u8, &[u8])] = &[
        (
            2,
            b"Error: crun: the path `/bin` is not a regular file: Operation not permitted: OCI permission denied\n",
        ),
        (
            2,
            b"Error: read unixpacket @->/proc/self/fd/13/attach: read: connection reset by peer\n",
        ),
    ];
    const OWN: &[(u8, &[u8])] = &[(2, b"Error: no such file\n")];
    for (start, tty) in [(Fault::Prints(WORDS), false), (Fault::PrintsPlain(WORDS[0].1), true)] {
        let (stub, pool, c) = lease_of_podman().await;
        let inspect = r#"{"ID":"e1","Running":false,"ExitCode":126,"Pid":0}"#;
        let (result, taint) = on(&stub, &c, start, inspect, tty).await;
        let error = result.unwrap_err();
        assert!(
            matches!(&error, Error::CannotStart { reason, .. } if reason.ends_with(": OCI permission denied")),
            "{tty}: {error:?}"
        );
        assert_eq!(taint, None);
        // A message printed by the program is output, although Podman reports no pid.
        let (result, taint) = on(&stub, &c, Fault::Prints(OWN), inspect, false).await;
        let out = result.unwrap();
        assert_eq!((out.status, taint), (ExitStatus::Exited(126), None));
        assert_eq!(out.stderr_lossy(), "Error: no such file\n");
        drop(c);
        stub.heal();
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_command_that_podman_has_yet_to_begin_has_not_ended_despite_its_exit_code() {
    let (stub, pool, c) = lease_of_podman().await;
    let inspect = r#"{"ID":"e1","Running":false,"ExitCode":0,"Pid":0,"CanRemove":false}"#;
    let ended = async {
        eventually_now("the command is inspected", || stub.calls(Route::ExecInspect) > 1).await;
        let inspect = inspect.replace("\"CanRemove\":false", "\"CanRemove\":true");
        stub.say(
            Route::ExecInspect,
            200,
            inspect.replace("\"ExitCode\":0", "\"ExitCode\":3"),
        );
    };
    let ((result, taint), ()) =
        in_time(async { tokio::join!(on(&stub, &c, Fault::Prints(USUAL), inspect, false), ended) }).await;
    let out = result.unwrap();
    assert_eq!((out.status, taint), (ExitStatus::Exited(3), None));
    assert_eq!(out.stdout_lossy(), "usual\n");
    drop(c);
    stub.heal();
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn output_cut_by_podman_is_incomplete_and_contains_none_of_its_message() {
    const LOST: &[(u8, &[u8])] = &[
        (1, b"usual\n"),
        (
            2,
            b"Error: read unixpacket @->/proc/self/fd/16/attach: read: connection reset by peer\n",
        ),
    ];
    const OWN: &[(u8, &[u8])] = &[LOST[1], LOST[0]];
    const PLAIN: &[u8] = b"usual\nError: read unixpacket @->/proc/self/fd/16/attach: read: connection reset by peer\n";
    const PLAIN_OWN: &[u8] = b"Error: read unixpacket @->/proc/self/fd/16/attach: read: connection reset by peer\r\n";
    const WRITING: &[(u8, &[u8])] = &[
        (1, b"usual\n"),
        (
            2,
            b"Error: write unixpacket @->/proc/self/fd/16/attach: write: broken pipe\n",
        ),
    ];
    const ALONE: &[(u8, &[u8])] = &[LOST[1]];
    const LINES: &[(u8, &[u8])] = &[
        LOST[0],
        (
            2,
            b"Error: read unixpacket x\nof the command's own\nError: x: connection reset by peer\n",
        ),
    ];
    let ended = r#"{"ID":"e1","Running":false,"ExitCode":0,"Pid":0,"CanRemove":true}"#;
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    for (start, tty, status, stdout, stderr) in [
        (Fault::Prints(LOST), false, ExitStatus::Incomplete(0), "usual\n", ""),
        (Fault::Prints(WRITING), false, ExitStatus::Incomplete(0), "usual\n", ""),
        // A message that is not the last output belongs to the command.
        (
            Fault::Prints(OWN),
            false,
            ExitStatus::Exited(0),
            "usual\n",
            text(LOST[1].1),
        ),
        // Lines whose first and last look like parts of a message belong to the command.
        (
            Fault::Prints(LINES),
            false,
            ExitStatus::Exited(0),
            "usual\n",
            text(LINES[1].1),
        ),
        (
            Fault::PrintsPlain(PLAIN),
            true,
            ExitStatus::Incomplete(0),
            "usual\n",
            "",
        ),
        // A terminal ends lines differently.
        (
            Fault::PrintsPlain(PLAIN_OWN),
            true,
            ExitStatus::Exited(0),
            text(PLAIN_OWN),
            "",
        ),
    ] {
        let (stub, pool, c) = lease_of_podman().await;
        let (result, _) = in_time(on(&stub, &c, start, ended, tty)).await;
        let out = result.unwrap();
        assert_eq!((out.status, &*out.stdout_lossy()), (status, stdout));
        assert_eq!(out.stderr_lossy(), stderr);
        drop(c);
        stub.heal();
        pool.shutdown().await.unwrap();
    }
    // The message does not say either that the command never began, whatever its exit code.
    for code in [125, 126, 127] {
        let (stub, pool, c) = lease_of_podman().await;
        let ended = ended.replace("\"ExitCode\":0", &format!("\"ExitCode\":{code}"));
        let (result, _) = in_time(on(&stub, &c, Fault::Prints(ALONE), &ended, false)).await;
        let out = result.unwrap();
        assert_eq!(out.status, ExitStatus::Incomplete(code));
        assert_eq!((&*out.stdout_lossy(), &*out.stderr_lossy()), ("", ""));
        drop(c);
        stub.heal();
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn an_error_response_in_place_of_a_command_is_understood_by_the_same_words() {
    let at = [Route::ExecCreate, Route::ExecStart];
    for (route, words, own) in [
        (
            at[0],
            "unable to find user no-one: no matching entries in passwd file",
            true,
        ),
        (
            at[1],
            "OCI runtime exec failed: executable file `no` not found in $PATH",
            true,
        ),
        (
            at[1],
            "unable to find user daemon: read /etc/passwd: is a directory",
            false,
        ),
    ] {
        for status in [400, 500] {
            let stub = Stub::start();
            let (pool, c) = lease(&stub).await;
            stub.say(route, status, format!(r#"{{"message":"{words}"}}"#));
            let error = c.command("any").user("no-one").output().await.unwrap_err();
            assert!(
                matches!(&error, Error::CannotStart { reason, .. } if reason.contains(words)),
                "{error:?}"
            );
            assert_eq!(c.taint(), (!own).then_some(Taint::Broken), "{words}");
            drop(c);
            stub.heal();
            pool.shutdown().await.unwrap();
        }
    }
}

/// Starts a command in a terminal whose first size the engine has refused this often.
async fn in_terminal_with_refused_size<'c>(stub: &Stub, c: &'c PooledContainer, often: usize) -> Child<'c> {
    stub.fault(Route::ExecStart, Fault::SilentUpgrade);
    stub.fault(Route::ExecInspect, Fault::Running);
    stub.fault(Route::ExecResize, Fault::Status(500));
    let child = c.command("any").tty(33, 101).spawn().await.unwrap();
    eventually_now("a size is refused", || stub.calls(Route::ExecResize) >= often).await;
    child
}

#[tokio::test]
async fn a_terminal_size_is_sent_until_the_engine_accepts_it() {
    let stub = Stub::start();
    let (pool, c) = lease(&stub).await;
    let mut child = in_terminal_with_refused_size(&stub, &c, 3).await;
    stub.say(Route::ExecResize, 200, "");
    stub.unfault(Route::ExecResize);
    let taken = stub.calls(Route::ExecResize);
    eventually_now("the size is accepted", || stub.calls(Route::ExecResize) > taken).await;
    assert!(
        stub.requests()
            .iter()
            .any(|path| path.contains("h=33") && path.contains("w=101"))
    );
    // The first size is not sent again, so it does not undo a later one.
    let taken = stub.calls(Route::ExecResize);
    child.resize(50, 132).await.unwrap();
    assert_eq!(stub.calls(Route::ExecResize), taken + 1);
    assert!(
        stub.requests().last().unwrap().contains("h=50"),
        "{:?}",
        stub.requests().last()
    );
    // An engine of this version would refuse the size in the request that creates the command.
    assert_eq!(stub.bodies(Route::ExecCreate)[0].get("ConsoleSize"), None);
    drop(child);
    drop(c);
    stub.heal();
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_later_size_replaces_a_refused_one() {
    let stub = Stub::start();
    let (pool, c) = lease(&stub).await;
    let mut child = in_terminal_with_refused_size(&stub, &c, 1).await;
    stub.unfault(Route::ExecResize);
    child.resize(50, 132).await.unwrap();
    // The library goes on inspecting the command. By the third inspection, any pending size would have been sent.
    let asked = stub.calls(Route::ExecInspect);
    eventually_now("the command is inspected three times more", || {
        stub.calls(Route::ExecInspect) >= asked + 3
    })
    .await;
    let requests = stub.requests();
    let sizes: Vec<_> = requests.iter().filter(|path| path.contains("/resize")).collect();
    assert!(sizes.last().unwrap().contains("h=50"), "{sizes:?}");
    drop(child);
    drop(c);
    stub.heal();
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_terminal_size_is_sent_with_the_command_if_the_engine_accepts_it() {
    for (version, expected) in [("1.41", None), ("1.42", Some([33, 101])), ("1.47", Some([33, 101]))] {
        let stub = Stub::start();
        let body = r#"{"Version":"28","ApiVersion":"VERSION","MinAPIVersion":"1.24","Os":"linux","Arch":"riscv64"}"#;
        stub.say(Route::Version, 200, body.replace("VERSION", version));
        let (pool, c) = lease(&stub).await;
        stub.fault(Route::ExecStart, Fault::PrintsPlain(b"hello\r\n"));
        let out = c.command("any").tty(33, 101).output().await.unwrap();
        assert_eq!(out.stdout_lossy(), "hello\r\n");
        let created = stub.bodies(Route::ExecCreate);
        let size = created[0].get("ConsoleSize").cloned();
        assert_eq!(size, expected.map(|size| serde_json::json!(size)), "{version}");
        drop(c);
        stub.heal();
        pool.shutdown().await.unwrap();
    }
}

const FROZEN: &str = r#"{"message":"Cannot unpause container 1: expected \"cgroup.freeze\" to be in state \"THAWED\" but was in \"FROZEN\""}"#;

const NOT_FROZEN: &str =
    r#"{"message":"Cannot pause container 1: OCI runtime pause failed: unable to freeze: unknown"}"#;

/// Returns the engine's description of a container in this state.
fn described(state: &str) -> String {
    format!(r#"{{"Id":"1","Name":"/one","State":{{"Status":"{state}"}},"Config":{{"Image":"any"}}}}"#)
}

#[tokio::test]
async fn a_failure_caused_by_the_end_of_the_container_is_reported_as_its_end() {
    let stub = Stub::start();
    let endpoint = format!("unix://{}", stub.socket().display());
    let engine = DockerEngine::connect_to(endpoint.parse().unwrap()).await.unwrap();
    stub.say(Route::Pause, 500, FROZEN);
    stub.say(Route::Unpause, 500, FROZEN);
    stub.say(Route::Kill, 500, FROZEN);
    stub.say(Route::Stop, 500, FROZEN);
    stub.say(Route::Remove, 500, FROZEN);
    let kind = |result: Result<(), dockerpool::EngineError>| result.map_err(|error| error.kind());

    stub.say(Route::Inspect, 200, described("exited"));
    assert_eq!(kind(engine.unpause("1").await), Err(EngineErrorKind::Conflict));
    assert_eq!(kind(engine.pause("1").await), Err(EngineErrorKind::Conflict));
    // The container has ended, which is the aim of these calls.
    assert_eq!(kind(engine.kill("1").await), Ok(()));
    assert_eq!(kind(engine.stop("1", Duration::ZERO).await), Ok(()));

    stub.say(Route::Inspect, 404, r#"{"message":"No such container: 1"}"#);
    assert_eq!(kind(engine.unpause("1").await), Err(EngineErrorKind::NotFound));
    assert_eq!(kind(engine.pause("1").await), Err(EngineErrorKind::NotFound));
    assert_eq!(kind(engine.kill("1").await), Ok(()));
    assert_eq!(kind(engine.stop("1", Duration::ZERO).await), Ok(()));
    assert_eq!(kind(engine.remove("1").await), Ok(()));

    stub.say(Route::Inspect, 200, described("running"));
    assert_eq!(kind(engine.unpause("1").await), Ok(()));
    // Without an explanation, the failure stays an internal one.
    assert_eq!(kind(engine.pause("1").await), Err(EngineErrorKind::Internal));
    assert_eq!(kind(engine.kill("1").await), Err(EngineErrorKind::Internal));
    assert_eq!(
        kind(engine.stop("1", Duration::ZERO).await),
        Err(EngineErrorKind::Internal)
    );
    assert_eq!(kind(engine.remove("1").await), Err(EngineErrorKind::Internal));
    // Only a race of the runtime is worth another call, and not without end.
    let before = stub.calls(Route::Pause);
    assert_eq!(kind(engine.pause("1").await), Err(EngineErrorKind::Internal));
    assert_eq!(stub.calls(Route::Pause), before + 1);
    stub.say(Route::Pause, 500, NOT_FROZEN);
    assert_eq!(kind(engine.pause("1").await), Err(EngineErrorKind::Internal));
    assert_eq!(stub.calls(Route::Pause), before + 1 + 3);
    stub.say(Route::Inspect, 200, described("paused"));
    assert_eq!(kind(engine.pause("1").await), Ok(()));
    assert_eq!(kind(engine.unpause("1").await), Err(EngineErrorKind::Internal));

    // The engine notices the end after a delay.
    let asked = stub.calls(Route::Inspect);
    let ended = async {
        eventually_now("the container is inspected", || stub.calls(Route::Inspect) > asked).await;
        stub.say(Route::Inspect, 200, described("exited"));
    };
    let (result, ()) = tokio::join!(engine.unpause("1"), ended);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), EngineErrorKind::Conflict);
    assert!(error.to_string().contains("has ended"), "{error}");
}

const PODMAN_PULL: &str = r#"{"error":"Get \"http://r.example/v2/\": dial tcp: connection refused"}"#;

#[tokio::test]
async fn a_pull_that_failed_in_any_form_is_a_failure() {
    for (line, kind) in [
        (PODMAN_PULL, EngineErrorKind::Internal),
        (
            r#"{"progressDetail":{},"error":"no","id":"1"}"#,
            EngineErrorKind::Internal,
        ),
        (r#"{"error":"no","errorDetail":{}}"#, EngineErrorKind::Internal),
        (
            r#"{"error":"manifest unknown","errorDetail":{"message":"manifest unknown"}}"#,
            EngineErrorKind::ImageNotFound,
        ),
    ] {
        let stub = Stub::start();
        let engine = engine_of(&stub).await;
        stub.say(
            Route::Pull,
            200,
            format!("{{\"status\":\"Pulling\",\"id\":\"1\"}}\r\n{line}\r\n"),
        );
        // An older image of that name exists.
        let spec = ContainerSpec::new("any").pull(PullPolicy::Always);
        let error = engine
            .prepare(&spec.plan().unwrap(), &(Arc::new(|_| ()) as ProgressFn))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{line}: {error:?}");
    }
}

async fn engine_of(stub: &Stub) -> DockerEngine {
    let endpoint = format!("unix://{}", stub.socket().display());
    DockerEngine::connect_to(endpoint.parse().unwrap()).await.unwrap()
}

/// The engine reports no process for every command, although it ran. None of them counts as never begun.
#[tokio::test]
async fn a_command_that_printed_was_begun_whatever_the_engine_reports() {
    const LINES: &[(u8, &[u8])] = &[(1, b"one\r\n"), (1, b"two\r\n")];
    const BINARY: &[(u8, &[u8])] = &[(1, b"\x7fELF\0\0\xff\xfe\r\n")];
    const MANY: &[(u8, &[u8])] = &[(1, b"one\r\ntwo, of no such process\r\n")];
    const LONG: &[(u8, &[u8])] = &[(1, &{
        let mut long = [b'x'; 20_000];
        long[19_998] = b'\r';
        long[19_999] = b'\n';
        long
    })];
    for frames in [USUAL, ON_STDERR, LINES, BINARY, MANY, LONG] {
        for (pid, code) in [(0, 0), (-1, 0), (0, 127)] {
            let inspect = format!(r#"{{"ID":"e1","Running":false,"ExitCode":{code},"Pid":{pid}}}"#);
            let (result, taint) = run(Fault::Prints(frames), &inspect, false).await;
            let out = result.unwrap();
            let printed: Vec<u8> = frames.iter().flat_map(|(_, data)| data.to_vec()).collect();
            assert_eq!(out.status, ExitStatus::Unknown);
            assert!(
                [&out.stdout, &out.stderr].into_iter().any(|all| **all == *printed),
                "{out:?}"
            );
            assert_eq!(taint, Some(Taint::EngineFailed));
        }
    }
    // Neither a message nor output.
    let (result, _) = run(Fault::Prints(&[]), &NEVER_BEGAN.replace("128", "0"), false).await;
    assert_eq!(result.unwrap().status, ExitStatus::Unknown);
    let (result, _) = run(Fault::Prints(&[]), NEVER_BEGAN, false).await;
    assert!(matches!(result, Err(Error::CannotStart { .. })));
    // With a terminal, the output passes unchanged.
    let (result, _) = run(Fault::PrintsPlain(b"one\r\ntwo\r\n"), NEVER_BEGAN, true).await;
    let out = result.unwrap();
    assert_eq!(
        (out.status, &*out.stdout_lossy()),
        (ExitStatus::Unknown, "one\r\ntwo\r\n")
    );
}

#[tokio::test]
async fn output_after_the_news_that_a_command_never_began_is_not_lost() {
    let (result, _) = run(Fault::PrintsLate(USUAL), &NEVER_BEGAN.replace("128", "0"), false).await;
    let out = result.unwrap();
    assert_eq!((out.status, &*out.stdout_lossy()), (ExitStatus::Unknown, "usual\n"));
}

#[tokio::test]
async fn a_pid_of_zero_or_less_means_no_process() {
    for pid in [0, -1] {
        let inspect = NEVER_BEGAN.replace(r#""Pid":0"#, &format!(r#""Pid":{pid}"#));
        let (result, _) = run(Fault::Prints(PROGRAM), &inspect, false).await;
        assert!(matches!(result, Err(Error::CannotStart { .. })), "{pid}: {result:?}");
    }
}

/// Endless messages are neither read nor matched to their end, since that would cost everybody time.
#[tokio::test]
async fn endless_messages_of_an_engine_cost_little() {
    let stub = Stub::start();
    let engine = engine_of(&stub).await;
    let long = "no such process, ".repeat(10 << 16);
    let message = format!(r#"{{"message":"{long}"}}"#);
    for (route, status) in [
        (Route::Create, 500),
        (Route::Start, 500),
        (Route::Inspect, 404),
        (Route::ExecCreate, 500),
        (Route::Pull, 404),
        (Route::Info, 500),
    ] {
        stub.say(route, status, message.clone());
    }
    let spec = ContainerSpec::new("any").pull(PullPolicy::Always);
    let request = any_command();
    let mut kinds = Vec::new();
    let errors = [
        engine
            .create(&Identity::new("any"), &spec.plan().unwrap())
            .await
            .map(drop),
        engine.start("1").await,
        engine.inspect("1").await.map(drop),
        engine.exec("1", &request).await.map(drop),
        engine
            .prepare(&spec.plan().unwrap(), &(Arc::new(|_| ()) as ProgressFn))
            .await,
    ];
    for error in errors {
        let error = error.unwrap_err();
        kinds.push(error.kind());
        assert!(error.to_string().len() <= 2048, "{}", error.to_string().len());
    }
    use EngineErrorKind as Kind;
    // The kind follows from the status, although the message was not read to its end.
    assert_eq!(
        kinds,
        [
            Kind::Internal,
            Kind::Internal,
            Kind::NotFound,
            Kind::Internal,
            Kind::ImageNotFound
        ]
    );
    assert!(stub.calls(Route::Create) == 1 && stub.calls(Route::Pull) == 1);
}

/// The engine is replaced by one of another version while its client lives on.
#[tokio::test]
async fn a_request_refused_only_for_its_version_is_repeated_in_the_new_version() {
    for (first, second) in [((24, 47), (24, 41)), ((24, 41), (44, 52))] {
        // The requests with a body are sent in both versions. The inspect has none.
        for creates in [Some(Route::Create), Some(Route::ExecCreate), None] {
            let stub = Stub::start();
            stub.speaks(Some(first));
            let engine = engine_of(&stub).await;
            stub.speaks(Some(second));
            match creates {
                Some(Route::Create) => drop(
                    engine
                        .create(&Identity::new("any"), &ContainerSpec::new("any").plan().unwrap())
                        .await
                        .unwrap(),
                ),
                Some(_) => drop(engine.exec("1", &any_command()).await.unwrap()),
                None => drop(engine.inspect("1").await.unwrap()),
            }
            let requests = stub.requests();
            let prefix = format!("/v1.{}/", second.1);
            assert!(requests.last().unwrap().contains(&prefix), "{prefix}: {requests:?}");
            if let Some(route) = creates {
                assert_eq!(stub.bodies(route).len(), 2, "the first request was refused");
            }
        }
    }
}

fn any_command() -> ExecRequest {
    ExecRequest::new(["any"])
}

#[tokio::test]
async fn a_setting_an_older_engine_would_ignore_is_not_sent_to_it_again() {
    let stub = Stub::start();
    stub.speaks(Some((24, 47)));
    let engine = engine_of(&stub).await;
    stub.speaks(Some((24, 41)));
    let host = bollard::models::HostConfig {
        annotations: Some([("a".to_owned(), "b".to_owned())].into()),
        ..Default::default()
    };
    let spec = ContainerSpec::new("any").host_config(host);
    let error = engine
        .create(&Identity::new("any"), &spec.plan().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), EngineErrorKind::Unsupported, "{error:?}");
    assert!(error.to_string().contains("Annotations"), "{error}");
    assert_eq!(stub.bodies(Route::Create).len(), 1);
}

#[tokio::test]
async fn a_bad_request_is_not_repeated_although_the_engine_was_replaced() {
    let stub = Stub::start();
    stub.speaks(Some((24, 41)));
    let engine = engine_of(&stub).await;
    stub.bad_request_in(Some(47));
    let error = engine
        .create(&Identity::new("any"), &ContainerSpec::new("any").plan().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), EngineErrorKind::Rejected, "{error:?}");
    assert_eq!(stub.calls(Route::Create), 1);
}

#[tokio::test]
async fn the_limits_of_a_replaced_engine_are_read_again() {
    let stub = Stub::start();
    let engine = engine_of(&stub).await;
    for can in [true, false] {
        stub.say(
            Route::Info,
            200,
            format!(r#"{{"MemoryLimit":{can},"SwapLimit":{can}}}"#),
        );
        let limits = engine.check().await.unwrap().limits;
        assert_eq!((limits.memory, limits.swap), (can, can));
    }
}

/// The properties of an engine are requested again when another engine may have taken its place: once, and not
/// before.
#[tokio::test]
async fn engine_properties_are_requested_again_once_the_engine_may_have_been_replaced() {
    let stub = Stub::start();
    stub.speaks(Some((24, 47)));
    let engine = engine_of(&stub).await;
    let spec = ContainerSpec::new("any");
    let asked_by_creation = async || {
        let before = stub.calls(Route::Info);
        engine
            .create(&Identity::new("any"), &spec.plan().unwrap())
            .await
            .unwrap();
        stub.calls(Route::Info) - before
    };
    assert_eq!(asked_by_creation().await, 0, "no properties were requested before");
    engine.check().await.unwrap();
    assert_eq!(asked_by_creation().await, 0);

    stub.speaks(Some((24, 41)));
    engine.inspect("1").await.unwrap();
    assert_eq!(asked_by_creation().await, 1);
    assert_eq!(asked_by_creation().await, 0);

    stub.fault(Route::Events, Fault::CutBody);
    let events: Vec<_> = engine.events(&Selector::default(), None).collect().await;
    assert!(events.last().is_none_or(Result::is_err), "{events:?}");
    assert_eq!(asked_by_creation().await, 1);
    assert_eq!(asked_by_creation().await, 0);
}

#[tokio::test]
async fn a_description_without_the_requested_settings_verifies_nothing() {
    let stub = Stub::start();
    let engine = engine_of(&stub).await;
    stub.say(Route::Inspect, 200, described("running"));
    let error = Pool::builder("bare")
        .image("any")
        .engine(Arc::new(engine))
        .build()
        .await
        .unwrap_err();
    assert_eq!(
        error.engine_error().unwrap().kind(),
        EngineErrorKind::SettingIgnored,
        "{error:?}"
    );
}

#[tokio::test]
async fn a_container_in_removal_is_no_failure_of_the_engine() {
    let stub = Stub::start();
    let engine = engine_of(&stub).await;
    for route in [Route::ExecStart, Route::ExecCreate] {
        let words = r#"{"message":"Container 1 is not running: Removal In Progress"}"#;
        stub.say(route, 500, words);
        let error = engine.exec("1", &any_command()).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), EngineErrorKind::Conflict, "{error:?}");
    }
}

#[tokio::test]
async fn a_container_docker_still_calls_paused_after_its_unpause_runs_commands() {
    const PAUSED: &str = r#"{"message":"Container c1 is paused, unpause the container before exec"}"#;
    let ended = r#"{"ID":"e1","Running":false,"ExitCode":0,"Pid":7}"#;
    let stub = Stub::start();
    let (pool, c) = lease(&stub).await;
    stub.say(Route::ExecCreate, 409, PAUSED);
    let so_far = stub.calls(Route::ExecCreate);
    let news = async {
        eventually_now("the exec is requested again", || {
            stub.calls(Route::ExecCreate) > so_far + 1
        })
        .await;
        stub.say(Route::ExecCreate, 201, r#"{"Id":"e1"}"#);
    };
    let command = on(&stub, &c, Fault::Prints(USUAL), ended, false);
    let ((result, taint), ()) = in_time(async { tokio::join!(command, news) }).await;
    assert_eq!((result.unwrap().status, taint), (ExitStatus::Exited(0), None));

    // A container that stays paused is reported as paused.
    stub.say(Route::ExecCreate, 409, PAUSED);
    let (result, _) = in_time(on(&stub, &c, Fault::Prints(USUAL), ended, false)).await;
    let error = result.unwrap_err();
    assert_eq!(
        error.engine_error().unwrap().kind(),
        EngineErrorKind::Conflict,
        "{error}"
    );
    drop(c);
    stub.heal();
    pool.shutdown().await.unwrap();
}
