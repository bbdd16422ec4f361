//! One table of the words of engines and runtimes about a command that did not start.
//!
//! Collected from the sources of Moby, containerd, Podman, runc, crun, youki and gVisor (`runsc`), and from the words of
//! real ones.

use std::borrow::Cow;

use crate::engine::{EngineError, EngineErrorKind};
use crate::values::text;

/// How much of an engine's words is searched, in bytes, at the beginning and at the end. All phrases are matched, so endless
/// words would block the thread that all calls share. A path has at most 4 KiB, and may be escaped.
const LONGEST: usize = 32 << 10;

/// Returns the searched part of an engine's words: all of them, unless they are longer than any engine's.
pub(super) fn shortened(words: &str) -> Cow<'_, str> {
    text::shorten(words, LONGEST)
}

/// Names the reason why a command did not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The program, which every command names itself.
    Program,
    /// The working directory: to blame on the command only if the command names one.
    Directory,
    /// The user or a group: to blame on the command only if the command names one.
    User,
    /// The container has ended, is paused, or is being removed.
    Container,
    /// The container has no processes, file descriptors or memory left for another command.
    Exhausted,
    /// The runtime lost the process that it had started: either the container has ended meanwhile, or it has no processes
    /// left. The words do not tell which.
    Lost,
    /// A fault of the container or the engine that would affect any command.
    AnyCommand,
}

/// Holds a phrase, in lower case; another phrase that must follow it, if any; the source of the words; and their meaning.
struct Row {
    phrase: &'static str,
    then: &'static str,
    /// For readers of the table only.
    #[allow(dead_code)]
    seen_at: &'static str,
    why: Why,
}

const fn row(phrase: &'static str, seen_at: &'static str, why: Why) -> Row {
    Row {
        phrase,
        then: "",
        seen_at,
        why,
    }
}

const fn pair(phrase: &'static str, then: &'static str, seen_at: &'static str, why: Why) -> Row {
    Row {
        phrase,
        then,
        seen_at,
        why,
    }
}

/// The row whose phrase occurs first in the words wins; of several at one place, the longest. A name chosen by the command
/// comes after the phrase that introduces it, and so cannot pass for another one.
const TABLE: &[Row] = &[
    // The program.
    row("exec: \"", "runc", Why::Program),
    row("exec: \\\"", "runc 1.0", Why::Program),
    row("executable file `", "crun", Why::Program),
    row("the path `", "crun", Why::Program),
    row("cannot find `", "crun", Why::Program),
    row("open `", "crun: a name too long, links that loop", Why::Program),
    row("exec `", "crun", Why::Program),
    row("exec container process `", "crun", Why::Program),
    row(
        "exec container process (missing dynamic library?) `",
        "crun",
        Why::Program,
    ),
    row("executable path not specified", "crun", Why::Program),
    row("executable path is empty", "Podman", Why::Program),
    row("invalid executable", "youki", Why::Program),
    row("executable '", "youki", Why::Program),
    row("failed to execute workload", "youki", Why::Program),
    row("error finding executable", "runsc", Why::Program),
    row("no filename or command provided", "runsc", Why::Program),
    pair("executing command ", "no such file or directory", "runsc", Why::Program),
    pair("executing command ", "permission denied", "runsc", Why::Program),
    pair("executing command ", "not a directory", "runsc", Why::Program),
    pair(
        "executing command ",
        "too many levels of symbolic links",
        "runsc",
        Why::Program,
    ),
    pair("executing command ", "error finding executable", "runsc", Why::Program),
    pair("exec process failed with error", "executable", "youki", Why::Program),
    row("executable file not found", "Moby, Podman", Why::Program),
    row("executable not found", "youki", Why::Program),
    row("exec format error", "any", Why::Program),
    row("a command that was not found", "Podman", Why::Program),
    row("oci permission denied", "Podman", Why::Program),
    // The working directory.
    row("chdir to cwd (", "runc", Why::Directory),
    row("chdir to `", "crun", Why::Directory),
    row("failed to chdir", "youki", Why::Directory),
    row("failed to set working directory", "youki", Why::Directory),
    row(
        "failed to verify if current working directory is safe",
        "runc, youki",
        Why::Directory,
    ),
    row("current working directory is ", "runc", Why::Directory),
    row("the current working directory is ", "crun", Why::Directory),
    row("the working directory is ", "crun", Why::Directory),
    row("getcwd", "crun", Why::Directory),
    row("cwd must ", "runc, runsc", Why::Directory),
    row("cwd \"", "runsc", Why::Directory),
    row("cwd property must ", "runc", Why::Directory),
    row("working directory \"", "runsc", Why::Directory),
    // The user. If the file of users cannot be read, no other command could start either.
    pair("unable to find user", "no matching entries", "Moby, Podman", Why::User),
    pair("unable to find group", "no matching entries", "Moby, Podman", Why::User),
    row("unable to find user", "Moby: its file cannot be read", Why::AnyCommand),
    row("unable to find group", "Moby: its file cannot be read", Why::AnyCommand),
    row("no matching entries", "Moby, Podman", Why::User),
    row("no users found", "containerd", Why::User),
    row("no groups found", "containerd", Why::User),
    row("uids and gids must be in range", "Moby, Podman", Why::User),
    row("invalid user value", "containerd", Why::User),
    row("unable to setup user", "runc", Why::User),
    row("cannot setuid to unmapped uid", "runc", Why::User),
    row("cannot setgid to unmapped gid", "runc", Why::User),
    row("setresuid", "crun", Why::User),
    row("setresgid", "crun", Why::User),
    // The container.
    row("cannot exec in a ", "runc, containerd", Why::Container),
    row("cannot exec a container that ", "runc 1.0", Why::Container),
    pair("container `", "is not running", "crun", Why::Container),
    pair("container `", "is paused", "crun", Why::Container),
    pair("container ", "is not running", "Moby, Podman", Why::Container),
    pair("container ", "is paused", "Moby", Why::Container),
    pair("container ", "is restarting", "Moby", Why::Container),
    pair("container \"", "has stopped", "runsc", Why::Container),
    pair("container \"", "not started", "runsc", Why::Container),
    pair("container ", "in state", "runsc", Why::Container),
    row("container not running", "runc, crun", Why::Container),
    row("container process not found", "crun", Why::Container),
    row("container does not exist", "runc", Why::Container),
    row("container paused", "runc", Why::Container),
    row("container state improper", "Podman", Why::Container),
    row("container has been removed", "Podman", Why::Container),
    row("no such container", "Moby, Podman", Why::Container),
    row("incompatible container status", "youki", Why::Container),
    row("container state directory does not exist", "youki", Why::Container),
    row("no running task found", "containerd", Why::Container),
    row("namespace path: ", "runc", Why::Container),
    row("lstat /proc/", "runc", Why::Container),
    // A resource has run out.
    row(
        "resource temporarily unavailable",
        "any: the limit of processes",
        Why::Exhausted,
    ),
    row("eagain", "youki: the limit of processes", Why::Exhausted),
    row("failed to create new os thread", "runc, by Go", Why::Exhausted),
    row("may need to increase max user processes", "runc, by Go", Why::Exhausted),
    row("pthread_create failed", "runc, by Go", Why::Exhausted),
    row("cannot allocate memory", "any", Why::Exhausted),
    row("out of memory", "any", Why::Exhausted),
    row("possibly oom-killed", "runc", Why::Exhausted),
    row("too many open files", "any", Why::Exhausted),
    // A lost process.
    row(
        "procready not received",
        "runc: the limit of processes, or killed",
        Why::Lost,
    ),
    row(
        "error executing setns process",
        "runc: killed as it joined the namespaces",
        Why::Lost,
    ),
    row("error starting setns process", "runc", Why::Lost),
    row("error waiting on setns process", "runc", Why::Lost),
    row("error copying bootstrap data", "runc", Why::Lost),
    row("error reading pid from init pipe", "runc", Why::Lost),
    row("error writing config to pipe", "runc", Why::Lost),
    row(" init-p: ", "runc: killed after it joined the namespaces", Why::Lost),
    row("error adding pid ", "runc: its group has gone", Why::Lost),
    row("can't open cgroup", "runc: its group has gone", Why::Lost),
    row("cgroup not exist", "runc: its group has gone", Why::Lost),
    row(
        "error setting rlimits for ready process",
        "runc: killed, or refused",
        Why::Lost,
    ),
    row("no such process", "any", Why::Lost),
    row("fail startup", "crun: the limit of processes, or killed", Why::Lost),
    row("sched_setaffinity", "crun: killed", Why::Lost),
    row("cgroup.procs", "crun: its group has gone", Why::Lost),
    row("setns `", "crun: killed as it joined the namespaces", Why::Lost),
    row("open `/proc/", "crun: its namespaces have gone", Why::Lost),
    row("read from sync socket", "crun", Why::Lost),
    row("read status from sync socket", "crun", Why::Lost),
    row("read from the init process", "crun", Why::Lost),
    row("waitpid for exec child pid", "crun", Why::Lost),
    row("failed to clone process", "youki", Why::Lost),
    row("exec process failed with error", "youki", Why::Lost),
    row("intermediate process", "youki", Why::Lost),
    row("failed to receive. ", "youki", Why::Lost),
    row("executing command ", "runsc: its sandbox has gone", Why::Lost),
    row("connecting to control server", "runsc: its sandbox has gone", Why::Lost),
    row("failedprecondition", "containerd", Why::Lost),
    row("failed precondition", "containerd", Why::Lost),
    row("container must be created", "containerd, runsc", Why::Lost),
    row(
        "ttrpc: closed",
        "containerd: what watched over the container has gone",
        Why::Lost,
    ),
    row("transport is closing", "containerd", Why::Lost),
    row("process already finished", "containerd", Why::Lost),
    row("no logs from conmon", "Podman", Why::Lost),
    row("connection reset by peer", "Podman", Why::Lost),
    // Other faults of the container.
    row("open `/dev/ptmx`", "crun: no terminal", Why::AnyCommand),
    row("open `/dev/pts/", "crun: no terminal", Why::AnyCommand),
    row("open `/dev/null`", "crun", Why::AnyCommand),
    row("ptsname", "crun: no terminal", Why::AnyCommand),
    row("unlockpt", "crun: no terminal", Why::AnyCommand),
    row("tcgetattr", "crun: no terminal", Why::AnyCommand),
    row("tiocsctty", "crun: no terminal", Why::AnyCommand),
    row("/dev/null", "any", Why::AnyCommand),
    row("/dev/ptmx", "any", Why::AnyCommand),
    row("/dev/pts", "any", Why::AnyCommand),
    row("unable to init seccomp", "runc", Why::AnyCommand),
    row("unable to join session keyring", "runc", Why::AnyCommand),
    row("no space left on device", "any", Why::AnyCommand),
];

/// Prefixes of many of `runc`'s words, without a meaning.
const ABOUT_ALL: [&str; 2] = ["unable to start container process", "starting container process"];

/// Returns the row that wins for these words, which are in lower case.
fn first_row(words: &str) -> Option<&'static Row> {
    let place = |row: &Row| {
        let at = words.find(row.phrase)?;
        words[at + row.phrase.len()..].contains(row.then).then_some(at)
    };
    let fitting = TABLE.iter().filter_map(|row| Some((place(row)?, row)));
    let first = fitting.min_by_key(|(at, row)| (*at, std::cmp::Reverse(row.phrase.len() + row.then.len())));
    first.map(|(_, row)| row)
}

/// Returns the searched part of the words, in lower case, without the meaningless prefixes.
fn looked_at(words: &str) -> String {
    let mut words = shortened(words).to_ascii_lowercase();
    for about_all in ABOUT_ALL {
        words = words.replacen(about_all, "", 1);
    }
    words
}

/// Returns why a command did not start, by the words about it. `None`: no row matches.
pub(super) fn why(words: &str) -> Option<Why> {
    let words = looked_at(words);
    // Some words name the loss first, and the missing resource later.
    let is_exhausted = || {
        TABLE
            .iter()
            .any(|row| row.why == Why::Exhausted && words.contains(row.phrase))
    };
    match first_row(&words)?.why {
        Why::Lost if is_exhausted() => Some(Why::Exhausted),
        why => Some(why),
    }
}

/// Rows for a whole answer, in which the place of a phrase does not matter: a program, also that of a container, could not
/// be started.
const STARTS: &[Row] = &[
    row("executable file not found", "Moby, Podman", Why::Program),
    row("oci runtime exec failed", "Moby, containerd", Why::Program),
    row("oci permission denied", "Podman", Why::Program),
    row(
        "oci runtime attempted to invoke a command that was not found",
        "Podman",
        Why::Program,
    ),
    pair(
        "oci runtime create failed",
        "no such file or directory",
        "Moby, containerd",
        Why::Program,
    ),
    pair(
        "oci runtime create failed",
        "permission denied",
        "Moby, containerd",
        Why::Program,
    ),
    row("unable to find user", "Moby, Podman", Why::User),
    row("unable to find group", "Moby, Podman", Why::User),
];

/// The beginnings of runtimes' words on the start of a container, anywhere in an answer.
const OF_A_START: &[(&str, &str)] = &[
    ("oci runtime create failed", "Moby, containerd"),
    ("failed to create task for container", "Moby"),
    ("crun: ", "Podman"),
    ("runc: ", "Podman"),
];

/// Phrases about the program of an exec that mean something else when a container starts: `crun` opens many files then.
const OF_EXEC_ONLY: &[&str] = &["open `"];

/// Returns whether an answer says that the program itself is the reason for a failed start, of a container or of a command.
pub(super) fn cannot_start(words: &str) -> bool {
    let lower = shortened(words).to_ascii_lowercase();
    let fits = |row: &Row| {
        let at = lower.find(row.phrase);
        at.is_some_and(|at| lower[at + row.phrase.len()..].contains(row.then))
    };
    let is_of_start = OF_A_START.iter().any(|(phrase, _)| lower.contains(phrase));
    let is_of_program =
        |row: &Row| matches!(row.why, Why::Program | Why::Directory | Why::User) && !OF_EXEC_ONLY.contains(&row.phrase);
    STARTS.iter().any(fits) || (is_of_start && first_row(&looked_at(words)).is_some_and(is_of_program))
}

/// Returns what to look at where PID 1 of a container could not be started.
pub(super) fn advice(words: &str) -> &'static str {
    match why(words) {
        Some(Why::Directory) => "see working_dir()",
        Some(Why::User) => "see user()",
        _ => "does the image have this program? see cmd()",
    }
}

/// Returns whether a pause failed since not all processes were stopped in the runtime's time. Seen with runc 1.1 on cgroup v1, on a
/// busy machine.
pub(super) fn is_not_frozen(error: &EngineError) -> bool {
    error.to_string().contains("unable to freeze")
}

/// The maximum length of engine words that no row matches.
const LONGEST_UNKNOWN: usize = 16 << 10;

/// Returns whether output of a command that, by the engine, never started can be the engine's words: words of a row, or one
/// line. Engines make mistakes: output that is not text, or has many lines, is a program's.
pub(super) fn may_be_words(said: &[u8]) -> bool {
    let said = said.trim_ascii_end();
    let first = said.split(|byte| *byte == b'\n').next().unwrap_or_default();
    // Some words of `crun` have two lines, and a name may have many.
    if why(&String::from_utf8_lossy(first)).is_some() {
        return true;
    }
    // The rest of a character may still follow.
    let is_text =
        std::str::from_utf8(said).map_or_else(|error| error.error_len().is_none(), |text| !text.contains('\0'));
    is_text && first.len() == said.len() && said.len() <= LONGEST_UNKNOWN
}

/// Holds whether the command names a directory and a user, which may be wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    pub(super) directory: bool,
    pub(super) user: bool,
}

impl Named {
    /// Returns the error of a command that did not start for this reason.
    pub(super) fn error(self, why: Option<Why>, words: impl Into<String>) -> EngineError {
        let kind = match why {
            Some(Why::Exhausted) => EngineErrorKind::Exhausted,
            _ => EngineErrorKind::CannotStart,
        };
        let error = EngineError::new(kind, words);
        match why {
            Some(Why::Program | Why::Exhausted) => error,
            Some(Why::Directory) if self.directory => error,
            Some(Why::User) if self.user => error,
            Some(Why::Directory | Why::User | Why::AnyCommand) => error.of_any_command(),
            // The container's state has changed since the command was created, and an inspect may not show that yet.
            Some(Why::Container) => error.of_container(),
            Some(Why::Lost) | None => error.unexplained(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observed_words_have_their_reasons() {
        let heard = [
            // Words of Docker 20.10 and 28 with runc.
            (
                r#"OCI runtime exec failed: exec failed: unable to start container process: exec: "no": executable file not found in $PATH: unknown"#,
                Why::Program,
            ),
            (
                r#"OCI runtime exec failed: exec failed: unable to start container process: exec: "/tmp/a": stat /tmp/a: too many levels of symbolic links"#,
                Why::Program,
            ),
            (
                r#"OCI runtime exec failed: exec failed: unable to start container process: exec: "/bin": is a directory: permission denied"#,
                Why::Program,
            ),
            (
                r#"OCI runtime exec failed: exec failed: unable to start container process: chdir to cwd ("/tmp/a") set in config.json failed: too many levels of symbolic links"#,
                Why::Directory,
            ),
            (
                "unable to find user nobody-here: no matching entries in passwd file",
                Why::User,
            ),
            ("uids and gids must be in range 0-2147483647", Why::User),
            (
                "unable to find user daemon: read /etc/passwd: is a directory",
                Why::AnyCommand,
            ),
            (
                "OCI runtime exec failed: exec failed: unable to start container process: procReady not received",
                Why::Lost,
            ),
            (
                "OCI runtime exec failed: exec failed: cannot exec in a stopped container",
                Why::Container,
            ),
            (
                "OCI runtime exec failed: exec failed: unable to start container process: unable to create new parent process: namespace path: lstat /proc/7/ns/ipc: no such file or directory",
                Why::Container,
            ),
            // Words of Docker 28 with crun.
            (
                "OCI runtime exec failed: executable file `no` not found in $PATH: No such file or directory",
                Why::Program,
            ),
            (
                "OCI runtime exec failed: the path `/bin` is not a regular file: Operation not permitted",
                Why::Program,
            ),
            (
                "OCI runtime exec failed: open `/tmp/a`: Too many levels of symbolic links",
                Why::Program,
            ),
            (
                "OCI runtime exec failed: cannot find `` in $PATH: No such file or directory",
                Why::Program,
            ),
            (
                "OCI runtime exec failed: chdir to `/etc/hosts`: Not a directory: Are you trying to mount a directory onto a file (or vice-versa)?",
                Why::Directory,
            ),
            (
                "OCI runtime exec failed: open `/dev/ptmx`: No such file or directory",
                Why::AnyCommand,
            ),
            ("OCI runtime exec failed: fail startup", Why::Lost),
            ("OCI runtime exec failed: sched_setaffinity: No such process", Why::Lost),
            (
                "OCI runtime exec failed: the container `0123` is not running",
                Why::Container,
            ),
            // Words of Podman 5.8 with crun.
            (
                "Error: crun: chdir to `/no/such`: No such file or directory: OCI runtime attempted to invoke a command that was not found",
                Why::Directory,
            ),
            (
                "Error: crun: fork: Resource temporarily unavailable\nfail startup: OCI runtime error",
                Why::Exhausted,
            ),
            ("Error: crun: fail startup: OCI runtime error", Why::Lost),
        ];
        for (words, expected) in heard {
            assert_eq!(why(words), Some(expected), "{words}");
        }
        assert_eq!(why("OCI runtime exec failed: the moon is full"), None);
    }

    #[test]
    fn names_in_a_command_do_not_pass_for_a_runtimes_words() {
        for row in TABLE {
            let name = format!("{} {}", row.phrase, row.then);
            for (words, expected) in [
                (
                    format!(
                        "OCI runtime exec failed: exec failed: unable to start container process: exec: \"{name}\": stat {name}: no such file"
                    ),
                    Why::Program,
                ),
                (
                    format!(
                        "OCI runtime exec failed: executable file `{name}` not found in $PATH: No such file or directory"
                    ),
                    Why::Program,
                ),
                (
                    format!("OCI runtime exec failed: chdir to `{name}`: No such file or directory"),
                    Why::Directory,
                ),
                (
                    format!("unable to find user {name}: no matching entries in passwd file"),
                    Why::User,
                ),
            ] {
                assert_eq!(why(&words), Some(expected), "{words}");
            }
        }
    }

    #[test]
    fn no_two_rows_are_the_same_and_all_are_in_lower_case() {
        for (at, row) in TABLE.iter().chain(STARTS).enumerate() {
            assert_eq!(row.phrase, row.phrase.to_ascii_lowercase());
            assert_eq!(row.then, row.then.to_ascii_lowercase());
            assert!(!row.phrase.is_empty() && !row.seen_at.is_empty());
            let same = |other: &&Row| (other.phrase, other.then) == (row.phrase, row.then);
            let table = if at < TABLE.len() { TABLE } else { STARTS };
            assert_eq!(table.iter().filter(same).count(), 1, "{}", row.phrase);
        }
    }

    #[test]
    fn binary_or_many_lined_output_is_not_an_engines_words() {
        let long_name = format!(
            "OCI runtime exec failed: executable file `{}` not found",
            "a\n".repeat(60_000)
        );
        for words in [
            "the moon is full\r\n",
            "Error: crun: fork: Resource temporarily unavailable\nfail startup\r\n",
            "",
            &long_name,
        ] {
            assert!(may_be_words(words.as_bytes()), "{words:.60}");
        }
        let long = "x".repeat(LONGEST_UNKNOWN + 1);
        for said in [
            &b"\xff\xfe\r\n"[..],
            b"the moon\0is full\r\n",
            b"one line\r\nand another, of no such process\r\n",
            long.as_bytes(),
        ] {
            assert!(!may_be_words(said), "{:?}", said.get(..60));
        }
    }

    #[test]
    fn the_same_rows_explain_the_start_of_a_container() {
        for words in [
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: \
             unable to start container process: error during container init: exec: \"/x\": is a directory: unknown",
            "OCI runtime create failed: runc create failed: unable to start container process: error during container init: \
             chdir to cwd (\"/x\") set in config.json failed: not a directory",
            "crun: the path `/bin` is not a regular file: Operation not permitted: OCI runtime error",
            "runc: runc create failed: unable to start container process: exec: \"/x\": exec format error: OCI runtime error",
        ] {
            assert!(cannot_start(words), "{words}");
        }
        for words in [
            "crun: open `/proc/self/oom_score_adj`: Permission denied: OCI runtime error",
            "OCI runtime create failed: container with id exists: unknown",
            "exec: \"mkfs\": a helper of the engine's own failed",
        ] {
            assert!(!cannot_start(words), "{words}");
        }
    }

    #[test]
    fn both_ends_of_endless_words_are_searched() {
        let long = "x ".repeat(5 << 20);
        assert_eq!(why(&long), None);
        assert!(shortened(&long).len() <= LONGEST);
        assert_eq!(why(&format!("{long}no such process{long}")), None);
        assert_eq!(why(&format!("{long}no such process")), Some(Why::Lost));
        let user = format!("unable to find user {long}: no matching entries in passwd file");
        assert_eq!(why(&user), Some(Why::User));
        assert!(cannot_start(&user) && !cannot_start(&long));
    }

    #[test]
    fn a_directory_or_user_is_the_commands_fault_only_if_it_names_one() {
        for (own, named) in [
            (
                true,
                Named {
                    directory: true,
                    user: true,
                },
            ),
            (
                false,
                Named {
                    directory: false,
                    user: false,
                },
            ),
        ] {
            for reason in [Why::Directory, Why::User] {
                let error = named.error(Some(reason), "words");
                assert_eq!(
                    (error.kind(), error.is_of_any_command()),
                    (EngineErrorKind::CannotStart, !own)
                );
            }
            assert!(!named.error(Some(Why::Program), "words").is_of_any_command());
            assert!(named.error(Some(Why::Container), "words").is_of_container());
            assert!(named.error(Some(Why::Lost), "words").is_unexplained());
            assert!(named.error(None, "words").is_unexplained());
            assert_eq!(
                named.error(Some(Why::Exhausted), "words").kind(),
                EngineErrorKind::Exhausted
            );
        }
    }
}
