//! Runs every example, and asserts its output.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use dockerpool::engine::{ContainerState, Lifecycle, Observation, Selector};
use rustix::process::{Pid, Signal, kill_process};

/// Returns a command that runs an example: through cargo as from a shell, so that the example is up to date. `./dev test` has just
/// built all examples and names their folder, `DOCKERPOOL_TEST_EXAMPLES`: fifteen calls of cargo would wait for each other's lock
/// on the target directory.
///
/// Without cargo, the command runs the example that `./dev engines` has built before.
fn example(name: &str) -> Command {
    let built = match std::env::var_os("DOCKERPOOL_TEST_EXAMPLES") {
        Some(folder) => Some(folder.into()),
        None if Path::new(env!("CARGO")).exists() => None,
        None => Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("../debug/examples")),
    };
    if let Some(folder) = built {
        let mut program = Command::new(folder.join(name));
        program.current_dir(env!("CARGO_MANIFEST_DIR"));
        return program;
    }
    let mut cargo = cargo();
    cargo.args(["run", "--quiet", "--all-features", "--example", name, "--"]);
    cargo
}

/// Returns a call of cargo. Some variables that cargo sets for this test would make it rebuild dependencies, now and once more
/// afterwards.
fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo
}

/// Runs an example. Returns its output.
fn run(name: &str, args: &[&str]) -> String {
    // Cargo alone knows whether the example is up to date and where it is. The lock on the target directory is free
    // while tests run.
    let output = example(name)
        .args(args)
        .env("DOCKERPOOL_BUSYBOX_IMAGE", support::busybox())
        .env("DOCKERPOOL_PYTHON_IMAGE", support::python())
        .env("DOCKERPOOL_REDIS_IMAGE", support::redis())
        .env("DOCKERPOOL_JUDGE_IMAGE", support::judge())
        .output()
        .expect("cargo runs");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{stdout}\n{stderr}", output.status);
    stdout
}

/// Asserts that an example prints these lines in this order. Other lines may stand between them.
fn assert_prints(name: &str, args: &[&str], lines: &[&str]) {
    let printed = run(name, args);
    let mut rest = printed.lines();
    for line in lines {
        assert!(
            rest.any(|printed| printed == *line),
            "{name} does not print {line:?} (in this order):\n{printed}"
        );
    }
}

#[test]
fn basic() {
    assert_prints(
        "basic",
        &[],
        &[
            "exited 0: hello from a container",
            "the same container again: true",
            "another one after discard: true",
            "shut down: 0 containers left",
        ],
    );
}

/// Runs a pipeline of the CI runner into a directory that it makes. Sends it SIGINT when it prints the line `interrupt_at`. Returns its
/// exit code and its log without the times and the last line, which names the directory.
fn run_ci(pipeline: &str, artifacts: &Path, interrupt_at: Option<&str>) -> (Option<i32>, Vec<String>) {
    let mut ci = example("ci")
        .args([pipeline.as_ref(), artifacts.as_os_str()])
        .env("DOCKERPOOL_BUSYBOX_IMAGE", support::busybox())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cargo runs");
    let mut log = Vec::new();
    for line in BufReader::new(ci.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let (time, text) = line.split_once("] ").expect("every line has its time");
        time.trim_start_matches(['[', ' ']).parse::<f64>().expect(time);
        if interrupt_at == Some(text) {
            // Cargo has become the example.
            kill_process(Pid::from_child(&ci), Signal::INT).unwrap();
        }
        log.push(text.to_owned());
    }
    let code = ci.wait().unwrap().code();
    let last = log.pop().unwrap_or_default();
    assert!(last.starts_with("ci = copied out: 1 files to "), "{last}\n{log:#?}");
    (code, log)
}

#[test]
fn ci() {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = dir.path().join("artifacts");
    let (code, log) = run_ci("pass", &artifacts, None);
    assert_eq!(
        log,
        [
            "ci = copied in: 3 files",
            "build $ sh build.sh",
            "build | 3 words",
            "build = exited 0",
            "test $ sh test.sh fig",
            "test | fig: there",
            "test = exited 0",
            "package $ mkdir out/v1; mv out/words out/v1; echo unsigned >&2",
            "package ! unsigned",
            "package = exited 0",
        ]
    );
    assert_eq!(code, Some(0));
    let words = std::fs::read_to_string(artifacts.join("v1/words")).unwrap();
    assert_eq!(words, "apple\nfig\npear\n");
}

#[test]
fn ci_ends_at_the_first_step_that_fails_or_is_too_slow_and_copies_out_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    for (pipeline, end, expected) in [
        ("fail", &["test ! kiwi: missing", "test = exited 3"][..], 3),
        ("slow", &["test = timed out"], 1),
    ] {
        let artifacts = dir.path().join(pipeline);
        let (code, log) = run_ci(pipeline, &artifacts, None);
        assert_eq!(log[3], "build = exited 0", "{log:#?}");
        assert!(log[4].starts_with("test $ "), "{log:#?}");
        assert_eq!(&log[5..], end);
        assert_eq!(code, Some(expected), "{log:#?}");
        let words = std::fs::read_to_string(artifacts.join("words")).unwrap();
        assert_eq!(words, "apple\nfig\npear\n");
    }
}

#[test]
fn ci_stops_a_step_at_ctrl_c_and_copies_out_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = dir.path().join("artifacts");
    let (code, log) = run_ci("wait", &artifacts, Some("serve | ready"));
    let end = [
        "serve | ready",
        "serve = Ctrl-C: it has 10 s to end",
        "serve | stopping",
        "serve = exited 1",
    ];
    assert!(log.ends_with(&end.map(str::to_owned)), "{log:#?}");
    assert_eq!(code, Some(130));
    let words = std::fs::read_to_string(artifacts.join("words")).unwrap();
    assert_eq!(words, "apple\nfig\npear\n");
}

#[test]
fn code_runner() {
    let printed = run("code_runner", &["examples/programs"]);
    assert!(printed.contains("\nok hello "), "{printed}");
    let summary = printed.lines().find(|line| line.contains(" passed; ")).unwrap();
    let (passed, rest) = summary.split_once(" of ").unwrap();
    assert!(rest.starts_with(&format!("{passed} passed; ")), "{summary}");
    assert!(passed.parse::<usize>().unwrap() >= 20, "{summary}");
}

#[test]
fn code_runner_fails_on_an_unexpected_end_of_a_program_and_on_bad_calls() {
    let dir = std::env::temp_dir().join(format!("dockerpool-programs-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("wrong.py"), "print('hello')").unwrap();
    std::fs::write(dir.join("wrong.json"), r#"{"outcome": "exited 3"}"#).unwrap();
    let call = |arg: &str| {
        let output = example("code_runner")
            .arg(arg)
            .env("DOCKERPOOL_PYTHON_IMAGE", support::python())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let (wrong, missing) = (call(dir.to_str().unwrap()), call("no-such-file.py"));
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(wrong.0, Some(1), "{}", wrong.1);
    assert!(
        wrong.1.contains("expected exited 3") && wrong.1.contains("0 of 1 passed"),
        "{}",
        wrong.1
    );
    assert_eq!(missing.0, Some(2), "{}", missing.1);
    assert!(missing.1.contains("no-such-file.py"), "{}", missing.1);
}

#[test]
fn custom_labels() {
    assert_prints(
        "custom_labels",
        &[],
        &[
            "refused: label: names that begin with `dockerpool.` are reserved",
            "with our label: 2",
            "com.example.tier = free",
            "dockerpool.managed-by = dockerpool",
            "dockerpool.pool = labels",
            "the instance is this pool: true",
            "left: 0",
        ],
    );
}

#[test]
fn error_handling() {
    assert_prints(
        "error_handling",
        &[],
        &[
            "bad setting: name: must not be empty",
            "bad setting: max_total: must be at least 1",
            "bad setting: image: the name is missing",
            "no image: true (retry: false)",
            r#"failed: exited 3, printed "half\n""#,
            r#"as an error: exited 3 "why\n""#,
            "cannot start: no-such-program",
            "no container in time (retry: true)",
            r#"too slow: timed out, printed "before\n", the container goes on: true"#,
            "and on: true",
            "after the end: pool errors is shut down and lends no more containers; build another",
        ],
    );
}

#[test]
fn files() {
    assert_prints(
        "files",
        &[],
        &[
            "ran: exited 0",
            "evil: Symlink",
            "sorted: File",
            "sub: Directory",
            r#"sorted: "apple\nfig\npear\n""#,
            "copied: 1 file, 1 directory, 1 link",
            r#"skipped: Skipped { path: "evil", reason: LinkOutside }"#,
            "back in: 1 file",
            "a sparse file: exited 0",
            "too large: more than the limit of 1048576 bytes",
        ],
    );
}

#[test]
fn graceful_shutdown() {
    assert_prints(
        "graceful_shutdown",
        &[],
        &[
            "four jobs are done",
            "at least four jobs, each to its end: true",
            "left: 0 containers",
        ],
    );
}

#[test]
fn high_throughput() {
    assert_prints(
        "high_throughput",
        &[],
        &["100 commands, sum 4950, through 4 containers"],
    );
}

#[test]
fn judge() {
    if support::lacks(support::Capability::Judge) {
        return;
    }
    let printed = run("judge", &[]);
    // Behind the verdict are time and memory.
    let columns = printed.lines().filter_map(|line| {
        let mut columns = line.split('|').map(str::trim);
        Some((columns.next()?, columns.next()?))
    });
    let expected = [
        ("right.c", "Accepted"),
        ("right.py", "Accepted"),
        ("small_type.c", "Wrong answer, case 3"),
        ("endless_loop.py", "Time limit, case 1"),
        ("memory_hog.c", "Memory limit, case 1"),
        ("fork_bomb.c", "Time limit, case 1"),
        ("output_flood.py", "Output limit, case 1"),
        ("large_file.c", "Output limit, case 1"),
        ("division_by_zero.py", "Runtime error, case 1"),
        ("bad_syntax.c", "Compile error"),
        ("bad_syntax.py", "Compile error"),
        ("leaves_files.c", "Accepted"),
        ("looks_for_files.py", "Accepted"),
    ];
    assert_eq!(columns.collect::<Vec<_>>(), expected, "{printed}");
}

#[test]
fn metrics() {
    assert_prints(
        "metrics",
        &[],
        &[
            r#"dockerpool_in_use{pool="metrics"} 1"#,
            r#"dockerpool_lent_total{pool="metrics"} 6"#,
            r#"dockerpool_returned_total{pool="metrics"} 4"#,
            r#"dockerpool_discarded_total{pool="metrics"} 1"#,
            "after the end:",
            r#"dockerpool_in_use{pool="metrics"} 0"#,
            "all that were made are gone: true",
            "errors of background tasks: 0",
        ],
    );
}

#[test]
fn network_isolation() {
    assert_prints(
        "network_isolation",
        &[],
        &[
            "the same pool: hello",
            "a pool beside: not reached",
            "no network: not reached",
        ],
    );
}

#[test]
fn resource_limits() {
    assert_prints(
        "resource_limits",
        &[],
        &[
            "memory: out of memory",
            "processes: refused true",
            "time: timed out",
            "processor time: out of processor time",
            r#"output: output limit of 10 bytes, kept "y\ny\ny\ny\ny\n""#,
            r#"truncated: exited 0, kept "1\n2\n""#,
        ],
    );
}

#[test]
fn sandbox() {
    assert_prints(
        "sandbox",
        &[],
        &[
            "seen from the inside: true",
            "user: 65534",
            "capabilities: none",
            "root file system: read-only",
            "network: none",
            "/work ['result']",
            "PermissionError: [Errno 13] Permission denied: '/etc/passwd'",
            "PermissionError: [Errno 1] Operation not permitted",
            "OSError: [Errno 101] Network is unreachable",
            "AssertionError: mount is refused",
            "bad configuration of pool untrusted: read_only_root: the sandbox's is read-only: see Sandbox::writable_root()",
            "with writable_root(): writable",
        ],
    );
}

#[test]
fn shared_pool_in_tests() {
    if support::lacks(support::Capability::Servers) {
        return;
    }
    assert_prints(
        "shared_pool_in_tests",
        &[],
        &[
            "a counter counts: ok",
            "every test begins with an empty database: ok",
            "a command can run beside the server: ok",
            "3 leases, at most two servers: true",
        ],
    );
    // Nobody has shut the pool down. A server that was just being created never ran, and would stay until the next run.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(support::eventually(
        "the servers have ended with their process",
        async || {
            let engine = support::engine().await;
            let left = engine.list(&Selector::pool("redis-in-tests")).await.unwrap();
            for report in left.iter().filter(|report| report.state == ContainerState::Created) {
                engine.remove(&report.id).await.unwrap();
            }
            left.is_empty()
        },
    ));
}

#[test]
fn stdin_pipe() {
    assert_prints(
        "stdin_pipe",
        &[],
        &[
            r#"sorted: "apple\nfig\npear\n""#,
            "you said: hello",
            "you said: how are you",
            "bye",
            "exited 0",
        ],
    );
}

#[test]
fn stream_to_file() {
    assert_prints(
        "stream_to_file",
        &[],
        &["exited 0: 6888896 bytes in the file", r#"on standard error: "done\n""#],
    );
}

/// An example that no test runs breaks unnoticed.
#[test]
fn every_example_has_a_test() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let there: BTreeSet<String> = std::fs::read_dir(folder.join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let this = std::fs::read_to_string(folder.join("tests/examples.rs")).unwrap();
    for name in there {
        assert!(
            this.contains(&format!("\nfn {name}()")),
            "the example {name} has no test"
        );
    }
}
