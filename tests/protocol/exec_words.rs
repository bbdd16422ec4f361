//! What engines say of a command that they have not begun: never its output, whatever they say and whatever the exit code; and
//! what a command says is its output, whatever it looks like. A daemon that says it all.

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

/// Far longer than a busy machine needs, so that what hangs is seen to.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("it hangs")
}

async fn lease(stub: &Stub) -> (Pool, PooledContainer) {
    let endpoint = format!("unix://{}", stub.socket().display());
    let engine = DockerEngine::connect_to(endpoint.parse().unwrap()).await.unwrap();
    let builder = Pool::builder("words").image("any").engine(Arc::new(engine));
    let pool = builder.min_idle(0).max_total(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    (pool, c)
}

/// Runs one command on a daemon whose exec API does this.
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
    // Else the size that is taken would say that it was begun.
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
async fn what_has_no_pid_never_began_whatever_its_exit_code_and_the_engines_words_are_no_output() {
    for tty in [false, true] {
        for code in [0, 1, 125, 126, 127, 128, 255] {
            let inspect = NEVER_BEGAN.replace("128", &code.to_string());
            for (frames, words, taint) in [
                (PROGRAM, "OCI runtime exec failed: open `/tmp/a`: Too many levels", None),
                // What nobody understands is told as it is, and could befall every other command.
                (UNKNOWN, "the moon is full", Some(Taint::Broken)),
            ] {
                // Whether the container has ended is waited for.
                if taint.is_some() && !matches!(code, 0 | 128) {
                    continue;
                }
                // A terminal's output comes without frames.
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
async fn nothing_of_the_words_comes_to_a_reader() {
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
async fn words_that_come_later_than_the_news_that_it_never_began_are_not_lost() {
    let (result, taint) = run(Fault::PrintsLate(PROGRAM), NEVER_BEGAN, false).await;
    let error = result.unwrap_err();
    assert!(
        matches!(&error, Error::CannotStart { reason, .. } if reason.starts_with("OCI runtime exec failed: open")),
        "{error:?}"
    );
    assert_eq!(taint, None);

    // Whether anybody reads the output does not matter.
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
async fn a_container_that_ended_as_a_command_began_is_gone_in_whatever_words() {
    for frames in [UNKNOWN, LOST] {
        let stub = Stub::start();
        let (pool, c) = lease(&stub).await;
        let asked = stub.calls(Route::Inspect);
        // The engine sees a little later that it has ended.
        let ended = async {
            eventually_now("it is asked", || stub.calls(Route::Inspect) > asked).await;
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
async fn a_container_with_hardly_any_processes_left_is_told_from_one_that_has_ended() {
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
async fn what_a_command_says_is_its_output_whatever_it_looks_like() {
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
async fn a_command_that_runs_is_not_held_up_and_no_more_is_asked_than_must_be() {
    // Not even when it could be the engine that says so, with a terminal and without.
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

    // The usual command costs three requests, and one that looks like the engine none beyond them.
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
async fn an_engine_that_does_not_answer_at_first_does_not_hold_up_the_output_for_ever() {
    let stub = Stub::start();
    let (pool, c) = lease(&stub).await;
    stub.fault(
        Route::ExecStart,
        Fault::PrintsOn(b"\x01\0\0\0\0\0\0\x0dready, now?\r\n"),
    );
    stub.fault(Route::ExecInspect, Fault::Status(500));
    let mut child = c.command("any").stdout(Stdio::piped()).spawn().await.unwrap();
    eventually_now("it is asked", || stub.calls(Route::ExecInspect) > 0).await;
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

/// A lease on an engine that says that it is Podman.
async fn lease_of_podman() -> (Stub, Pool, PooledContainer) {
    let stub = Stub::start();
    stub.say(Route::Version, 200, PODMAN);
    let (pool, c) = lease(&stub).await;
    (stub, pool, c)
}

#[tokio::test]
async fn podmans_words_come_with_a_line_on_what_it_tried_next_and_with_a_terminal_as_they_are() {
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
        // What a program says itself is its own, though Podman has taken its pid away.
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
async fn a_command_that_podman_has_yet_to_begin_has_not_ended_though_it_has_an_exit_code() {
    let (stub, pool, c) = lease_of_podman().await;
    let inspect = r#"{"ID":"e1","Running":false,"ExitCode":0,"Pid":0,"CanRemove":false}"#;
    let ended = async {
        eventually_now("it is asked", || stub.calls(Route::ExecInspect) > 1).await;
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
async fn an_output_whose_end_podman_has_lost_is_incomplete_and_has_none_of_its_words() {
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
        // What is not the last is the command's own.
        (
            Fault::Prints(OWN),
            false,
            ExitStatus::Exited(0),
            "usual\n",
            text(LOST[1].1),
        ),
        // Nor are lines of which the first and the last look like parts of it.
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
        // A terminal ends lines in another way.
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
    // Nor does the line say that the command was never begun, whatever its exit code.
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
async fn what_is_answered_in_place_of_a_command_is_understood_by_the_same_words() {
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

/// A command that runs in a terminal whose first size the engine has refused so often.
async fn in_terminal_of_no_size<'c>(stub: &Stub, c: &'c PooledContainer, often: usize) -> Child<'c> {
    stub.fault(Route::ExecStart, Fault::SilentUpgrade);
    stub.fault(Route::ExecInspect, Fault::Running);
    stub.fault(Route::ExecResize, Fault::Status(500));
    let child = c.command("any").tty(33, 101).spawn().await.unwrap();
    eventually_now("a size is refused", || stub.calls(Route::ExecResize) >= often).await;
    child
}

#[tokio::test]
async fn a_terminal_is_given_its_size_until_the_engine_takes_it() {
    let stub = Stub::start();
    let (pool, c) = lease(&stub).await;
    let mut child = in_terminal_of_no_size(&stub, &c, 3).await;
    stub.say(Route::ExecResize, 200, "");
    stub.unfault(Route::ExecResize);
    let taken = stub.calls(Route::ExecResize);
    eventually_now("it is taken", || stub.calls(Route::ExecResize) > taken).await;
    assert!(
        stub.requests()
            .iter()
            .any(|path| path.contains("h=33") && path.contains("w=101"))
    );
    // A later size is not undone by the first, which is not given again.
    let taken = stub.calls(Route::ExecResize);
    child.resize(50, 132).await.unwrap();
    assert_eq!(stub.calls(Route::ExecResize), taken + 1);
    assert!(
        stub.requests().last().unwrap().contains("h=50"),
        "{:?}",
        stub.requests().last()
    );
    // An engine of this version would refuse it with the command.
    assert_eq!(stub.bodies(Route::ExecCreate)[0].get("ConsoleSize"), None);
    drop(child);
    drop(c);
    stub.heal();
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_later_size_takes_the_place_of_one_that_was_not_taken() {
    let stub = Stub::start();
    let (pool, c) = lease(&stub).await;
    let mut child = in_terminal_of_no_size(&stub, &c, 1).await;
    stub.unfault(Route::ExecResize);
    child.resize(50, 132).await.unwrap();
    // The questions go on: by the third after it any size that is still wanted would have been given.
    let asked = stub.calls(Route::ExecInspect);
    eventually_now("it runs on", || stub.calls(Route::ExecInspect) >= asked + 3).await;
    let requests = stub.requests();
    let sizes: Vec<_> = requests.iter().filter(|path| path.contains("/resize")).collect();
    assert!(sizes.last().unwrap().contains("h=50"), "{sizes:?}");
    drop(child);
    drop(c);
    stub.heal();
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_terminal_is_given_its_size_with_the_command_where_the_engine_takes_it() {
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

/// How an engine describes the container.
fn described(state: &str) -> String {
    format!(r#"{{"Id":"1","Name":"/one","State":{{"Status":"{state}"}},"Config":{{"Image":"any"}}}}"#)
}

#[tokio::test]
async fn what_an_engine_fails_in_since_the_container_has_ended_is_told_as_that() {
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
    // What was asked for is so.
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
    // A failure that nothing explains stays one.
    assert_eq!(kind(engine.pause("1").await), Err(EngineErrorKind::Internal));
    assert_eq!(kind(engine.kill("1").await), Err(EngineErrorKind::Internal));
    assert_eq!(
        kind(engine.stop("1", Duration::ZERO).await),
        Err(EngineErrorKind::Internal)
    );
    assert_eq!(kind(engine.remove("1").await), Err(EngineErrorKind::Internal));
    stub.say(Route::Inspect, 200, described("paused"));
    assert_eq!(kind(engine.pause("1").await), Ok(()));
    assert_eq!(kind(engine.unpause("1").await), Err(EngineErrorKind::Internal));

    // The engine sees the end a little later.
    let asked = stub.calls(Route::Inspect);
    let ended = async {
        eventually_now("it is asked", || stub.calls(Route::Inspect) > asked).await;
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
        // An image of that name is there, from before.
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

/// An engine says of every command that it has no process, though it ran: none is taken for one that was not begun.
#[tokio::test]
async fn a_command_that_printed_was_begun_whatever_the_engine_says() {
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
    // Neither words nor output.
    let (result, _) = run(Fault::Prints(&[]), &NEVER_BEGAN.replace("128", "0"), false).await;
    assert_eq!(result.unwrap().status, ExitStatus::Unknown);
    let (result, _) = run(Fault::Prints(&[]), NEVER_BEGAN, false).await;
    assert!(matches!(result, Err(Error::CannotStart { .. })));
    // With a terminal all comes as it is.
    let (result, _) = run(Fault::PrintsPlain(b"one\r\ntwo\r\n"), NEVER_BEGAN, true).await;
    let out = result.unwrap();
    assert_eq!(
        (out.status, &*out.stdout_lossy()),
        (ExitStatus::Unknown, "one\r\ntwo\r\n")
    );
}

#[tokio::test]
async fn what_comes_after_the_news_that_a_command_never_began_is_not_lost() {
    let (result, _) = run(Fault::PrintsLate(USUAL), &NEVER_BEGAN.replace("128", "0"), false).await;
    let out = result.unwrap();
    assert_eq!((out.status, &*out.stdout_lossy()), (ExitStatus::Unknown, "usual\n"));
}

#[tokio::test]
async fn a_process_that_is_not_there_has_no_pid_whether_the_engine_says_0_or_less() {
    for pid in [0, -1] {
        let inspect = NEVER_BEGAN.replace(r#""Pid":0"#, &format!(r#""Pid":{pid}"#));
        let (result, _) = run(Fault::Prints(PROGRAM), &inspect, false).await;
        assert!(matches!(result, Err(Error::CannotStart { .. })), "{pid}: {result:?}");
    }
}

/// Words without end are neither read nor matched to their end: what they cost would be everybody's time.
#[tokio::test]
async fn words_without_end_cost_little_wherever_an_engine_says_them() {
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
    // The status is told though nobody has read the words to their end.
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

/// An engine is replaced by one of another version while its client lives on.
#[tokio::test]
async fn what_is_refused_for_its_version_alone_is_asked_again_in_the_new_one() {
    for (first, second) in [((24, 47), (24, 41)), ((24, 41), (44, 52))] {
        // Nothing is sent with the one, and much with the others.
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
                assert_eq!(stub.bodies(route).len(), 2, "one was refused");
            }
        }
    }
}

fn any_command() -> ExecRequest {
    ExecRequest::new(["any"])
}

#[tokio::test]
async fn what_an_older_engine_would_ignore_is_not_sent_to_it_again() {
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
async fn a_bad_request_is_not_made_again_though_the_engine_was_replaced() {
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
async fn the_limits_of_an_engine_that_was_replaced_are_not_those_of_the_first() {
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

/// What an engine is, is asked again when another one may be there: not before, and not for ever.
#[tokio::test]
async fn what_an_engine_is_is_asked_again_once_another_may_be_there() {
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
    assert_eq!(asked_by_creation().await, 0, "nobody has asked before");
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
async fn a_description_without_what_was_asked_for_verifies_nothing() {
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
async fn a_container_that_is_being_removed_is_no_failure_of_the_engine() {
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
async fn a_container_that_docker_calls_paused_just_after_it_was_unpaused_runs_commands() {
    const PAUSED: &str = r#"{"message":"Container c1 is paused, unpause the container before exec"}"#;
    let ended = r#"{"ID":"e1","Running":false,"ExitCode":0,"Pid":7}"#;
    let stub = Stub::start();
    let (pool, c) = lease(&stub).await;
    stub.say(Route::ExecCreate, 409, PAUSED);
    let so_far = stub.calls(Route::ExecCreate);
    let news = async {
        eventually_now("it is asked again", || stub.calls(Route::ExecCreate) > so_far + 1).await;
        stub.say(Route::ExecCreate, 201, r#"{"Id":"e1"}"#);
    };
    let command = on(&stub, &c, Fault::Prints(USUAL), ended, false);
    let ((result, taint), ()) = in_time(async { tokio::join!(command, news) }).await;
    assert_eq!((result.unwrap().status, taint), (ExitStatus::Exited(0), None));

    // One that is paused is told as that.
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
