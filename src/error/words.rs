//! The words of an [`Error`].

use std::error::Error as StdError;
use std::fmt;

use super::hint::{Hint, no_shell};
use super::{EngineError, EngineErrorKind, Error, FieldError};
use crate::labels;
use crate::values::subject::Subject;
use crate::values::text;

/// The words of [`Error::RuntimeEnded`].
pub(crate) const RUNTIME_ENDED: &str = "the runtime given to PoolBuilder::tokio_runtime() or Container::create_on() has ended, \
     and their work with it; build them on a runtime that outlives them";

/// Where an operation ends with this word, the name of the container follows.
const CONTAINER: &str = "container";

/// Returns the innermost message of an error.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// An engine's error as the cause of another: its words, and those of its innermost cause unless they are in its own.
pub(super) struct Cause<'a>(pub(super) &'a EngineError);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.0.to_string();
        let root = root_cause(self.0);
        let root = text::clean(&root);
        f.write_str(&words)?;
        match words.contains(&*root) {
            true => Ok(()),
            false => write!(f, ": {root}"),
        }
    }
}

/// Returns the first of the causes below an engine's error that is not told by [`Cause`].
fn untold(error: &EngineError) -> Option<&(dyn StdError + 'static)> {
    let below = error.source()?;
    // The innermost cause is told.
    below.source().map(|_| below)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(problems) => config(problems, f),
            Self::BadCommand { subject, problem } => write!(f, "cannot run {subject} as it was given: {problem}"),
            Self::Engine { subject, source, .. } if source.kind() == EngineErrorKind::Warning => {
                write!(f, "the engine warns about {subject}: {}", Cause(source))
            }
            Self::Engine { op, subject, source } => {
                let op = subject.call().unwrap_or(op);
                write!(f, "could not {op}")?;
                match (subject.program(), subject.container()) {
                    _ if subject.call().is_some() => write!(f, " in {subject}")?,
                    (Some(_), _) => write!(f, " {subject}")?,
                    (None, Some(container)) if op.ends_with(CONTAINER) => {
                        write!(f, " {container}")?;
                        if let Some(pool) = subject.pool() {
                            write!(f, " of pool {pool}")?;
                        }
                    }
                    (None, None) if subject.pool().is_none() => {}
                    (None, _) => write!(f, " for {subject}")?,
                }
                write!(f, ": {}{}", Cause(source), Hint(source))
            }
            Self::AcquireTimeout(timeout) => timeout.fmt(f),
            Self::Shutdown { pool } => write!(
                f,
                "pool {pool} is shut down and lends no more containers; build another"
            ),
            Self::RuntimeEnded => f.write_str(RUNTIME_ENDED),
            Self::ShutdownIncomplete { pool, instance, source } => {
                write!(f, "the shutdown of pool {pool} could not remove everything")?;
                if let Some(source) = source {
                    write!(f, ": {}{}", Cause(source), Hint(source))?;
                }
                write!(
                    f,
                    "; look for containers with the label {}={instance}",
                    labels::INSTANCE
                )
            }
            Self::CannotStart { subject, reason } => {
                write!(f, "{}: {reason}{}", NotStarted(subject), no_shell(subject, reason))
            }
            Self::ContainerGone { subject, source } => {
                write!(f, "{}: the container is gone: {}", NotStarted(subject), Cause(source))?;
                match source.advice().unwrap_or("use another") {
                    "" => Ok(()),
                    advice => write!(f, "; {advice}"),
                }
            }
            Self::NotUtf8 { subject, source, .. } => {
                write!(
                    f,
                    "the output of {subject} is not UTF-8: {source}; take it as bytes with output()"
                )
            }
            Self::Write {
                subject,
                stream,
                source,
            } => {
                write!(
                    f,
                    "could not write the {stream} of {subject} to the given writer: {}",
                    text::clean(&source.to_string())
                )
            }
            Self::Read { subject, source } => {
                write!(
                    f,
                    "could not read the output of {subject}: {}",
                    text::clean(&source.to_string())
                )
            }
            Self::Unsupported { subject, reason } => write!(f, "not possible for {subject}: {reason}"),
            Self::File {
                subject,
                op,
                path,
                on_host,
                source,
            } => {
                let relation = if *on_host { "of this machine for" } else { "in" };
                write!(
                    f,
                    "could not {op} {path} {relation} {subject}: {}",
                    text::clean(&source.to_string())
                )
            }
            Self::Command(failed) => failed.fmt(f),
        }
    }
}

/// A command that was not started, or the call on files for which it should have been.
struct NotStarted<'a>(&'a Subject);

impl fmt::Display for NotStarted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self.0;
        match subject.call() {
            Some(call) => write!(f, "could not {call} in {subject}"),
            None => write!(f, "cannot start {subject}"),
        }
    }
}

fn config(problems: &[FieldError], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("bad configuration")?;
    if let Some(pool) = problems
        .first()
        .and_then(FieldError::pool)
        .filter(|pool| !pool.is_empty())
    {
        write!(f, " of pool {pool}")?;
    }
    for (i, problem) in problems.iter().enumerate() {
        write!(f, "{} {problem}", if i == 0 { ":" } else { ";" })?;
    }
    Ok(())
}

impl StdError for Error {
    /// Returns the first cause that `Display` does not tell.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Engine { source, .. } | Self::ContainerGone { source, .. } => untold(source),
            Self::ShutdownIncomplete { source, .. } => untold(source.as_ref()?),
            Self::Write { source, .. } | Self::Read { source, .. } | Self::File { source, .. } => source.source(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::super::{AcquireTimeout, CommandError, EngineError, EngineErrorKind};
    use super::*;
    use crate::values::outcome::{ExitStatus, Output, Usage};
    use crate::values::status::Status;
    use crate::values::subject::Subject;
    use crate::values::why_gone::WhyGone;

    /// An error with a cause.
    fn engine(kind: EngineErrorKind) -> EngineError {
        EngineError::new(kind, "the engine's words").with_source(io::Error::other("below"))
    }

    fn container() -> Subject {
        Subject::new(Some("judge"), Some("box"))
    }

    fn command() -> Subject {
        container().program_is("python")
    }

    /// A call on files.
    fn call() -> Subject {
        let mut subject = command();
        subject.set_call("read /a");
        subject
    }

    fn output(status: ExitStatus, stderr: &str) -> Output {
        Output {
            status,
            stdout: Vec::new(),
            stderr: stderr.into(),
            truncated: false,
            incomplete: false,
            usage: Usage::default(),
            subject: command(),
            time_limit: matches!(status, ExitStatus::TimedOut | ExitStatus::IdleTimedOut)
                .then_some(Duration::from_secs(2)),
        }
    }

    fn ended(status: ExitStatus, stderr: &str) -> Error {
        let output = output(status, stderr);
        Error::Command(Box::new(CommandError { output }))
    }

    #[test]
    fn each_error_is_a_sentence_that_stands_alone() {
        use EngineErrorKind::{Internal, NotFound, RuntimeEnded, Unreachable, Warning};

        let no_text = String::from_utf8(vec![b'a', 0xff]).unwrap_err().utf8_error();
        let timeout = |in_use, last_create_error| {
            Error::AcquireTimeout(Box::new(AcquireTimeout {
                pool: "judge".to_owned(),
                waited: Duration::new(30, 123_000),
                status: Status {
                    in_use,
                    max_total: 4,
                    waiting: 1,
                    ..Status::default()
                },
                last_create_error,
                key_in_use: false,
                is_under_way: false,
            }))
        };
        let incomplete = |source| Error::ShutdownIncomplete {
            pool: "judge".to_owned(),
            instance: "00ff".to_owned(),
            source,
        };
        let bad = |field| FieldError::new(field, "must be at least 1");
        for (error, words) in [
            (
                Error::Config(vec![bad("max_total"), bad("pids_limit")]).of_pool("judge"),
                "bad configuration of pool judge: max_total: must be at least 1; pids_limit: must be at least 1",
            ),
            (
                Error::Config(vec![bad("memory")]),
                "bad configuration: memory: must be at least 1",
            ),
            (
                Error::BadCommand {
                    subject: command(),
                    problem: FieldError::new("arg 2", "must not contain NUL"),
                },
                "cannot run `python` in container box of pool judge as it was given: arg 2: must not contain NUL",
            ),
            (
                Error::File {
                    subject: container(),
                    op: "read".into(),
                    path: "/a".to_owned(),
                    on_host: false,
                    source: io::Error::other("why"),
                },
                "could not read /a in container box of pool judge: why",
            ),
            (
                Error::File {
                    subject: container(),
                    op: "write".into(),
                    path: "/b".to_owned(),
                    on_host: true,
                    source: io::Error::other("a\nb"),
                },
                "could not write /b of this machine for container box of pool judge: a\\nb",
            ),
            (
                Error::engine_about("start the container", container(), engine(Internal)),
                "could not start the container box of pool judge: the engine's words: below",
            ),
            (
                Error::engine_about("run", command(), engine(Internal)),
                "could not run `python` in container box of pool judge: the engine's words: below",
            ),
            (
                Error::engine("reach the engine", None, engine(Unreachable)).of_pool("judge"),
                "could not reach the engine for pool judge: the engine's words: below \
                 (is the engine running? see DOCKER_HOST)",
            ),
            (
                Error::engine("warn", Some("box"), engine(Internal)),
                "could not warn for container box: the engine's words: below",
            ),
            (
                Error::engine("start the container", None, engine(RuntimeEnded)),
                RUNTIME_ENDED,
            ),
            (
                timeout(4, None),
                "no container of pool judge within 30 s (0 idle, 4 in use, 0 creating, 0 recycling, at most 4; 1 waiting); \
                 all are lent: give them back sooner, or raise max_total()",
            ),
            (
                timeout(1, Some(engine(Unreachable))),
                "no container of pool judge within 30 s (0 idle, 1 in use, 0 creating, 0 recycling, at most 4; 1 waiting); \
                 the last attempt to create one failed: the engine's words: below \
                 (is the engine running? see DOCKER_HOST)",
            ),
            (
                Error::Shutdown {
                    pool: "judge".to_owned(),
                },
                "pool judge is shut down and lends no more containers; build another",
            ),
            (
                incomplete(None),
                "the shutdown of pool judge could not remove everything; \
                 look for containers with the label dockerpool.instance=00ff",
            ),
            (
                incomplete(Some(engine(Internal))),
                "the shutdown of pool judge could not remove everything: the engine's words: below; \
                 look for containers with the label dockerpool.instance=00ff",
            ),
            (
                Error::CannotStart {
                    subject: command(),
                    reason: "not found".to_owned(),
                },
                "cannot start `python` in container box of pool judge: not found",
            ),
            (
                Error::CannotStart {
                    subject: container().program_is("ls -l"),
                    reason: "exec: \"ls -l\": executable file not found in $PATH".to_owned(),
                },
                "cannot start `ls -l` in container box of pool judge: exec: \"ls -l\": executable file not found in $PATH \
                 (a program's name has a space in it: there is no shell; give arguments one by one, or run sh -c)",
            ),
            (
                Error::CannotStart {
                    subject: container().program_is("my tool"),
                    reason: "unable to change to the working directory /x: no such file or directory".to_owned(),
                },
                "cannot start `my tool` in container box of pool judge: \
                 unable to change to the working directory /x: no such file or directory",
            ),
            (
                Error::ContainerGone {
                    subject: command(),
                    source: engine(NotFound),
                },
                "cannot start `python` in container box of pool judge: the container is gone: the engine's words: below; \
                 use another",
            ),
            (
                Error::ContainerGone {
                    subject: call(),
                    source: EngineError::new(NotFound, "its pool was shut down").advise(""),
                },
                "could not read /a in container box of pool judge: the container is gone: its pool was shut down",
            ),
            (
                Error::CannotStart {
                    subject: call(),
                    reason: "no such user".to_owned(),
                },
                "could not read /a in container box of pool judge: no such user",
            ),
            (
                Error::engine_about("run", call(), engine(Internal)),
                "could not read /a in container box of pool judge: the engine's words: below",
            ),
            (
                Error::engine(
                    "create the container",
                    Some("box"),
                    EngineError::new(Warning, "no swap"),
                )
                .of_pool("judge"),
                "the engine warns about container box of pool judge: no swap",
            ),
            (
                Error::NotUtf8 {
                    subject: command(),
                    output: Box::new(output(ExitStatus::Exited(0), "")),
                    source: no_text,
                },
                "the output of `python` in container box of pool judge is not UTF-8: \
                 invalid utf-8 sequence of 1 bytes from index 1; take it as bytes with output()",
            ),
            (
                Error::Write {
                    subject: command(),
                    stream: "standard output".into(),
                    source: io::Error::other("full\x1b"),
                },
                "could not write the standard output of `python` in container box of pool judge to the given writer: \
                 full\\u{1b}",
            ),
            (
                Error::Read {
                    subject: command(),
                    source: io::Error::other("too long"),
                },
                "could not read the output of `python` in container box of pool judge: too long",
            ),
            (
                Error::Unsupported {
                    subject: container(),
                    reason: "this needs the agent".to_owned(),
                },
                "not possible for container box of pool judge: this needs the agent",
            ),
        ] {
            assert_eq!(error.to_string(), words);
        }
    }

    #[test]
    fn each_end_of_a_command_is_told_by_a_verb_and_the_last_lines_of_standard_error() {
        for (status, words) in [
            (ExitStatus::Exited(1), "exited with 1"),
            (ExitStatus::Signaled(9), "was ended by signal 9"),
            (
                ExitStatus::Incomplete(0),
                "exited with 0, with the end of its output missing",
            ),
            (ExitStatus::TimedOut, "was killed at its time limit of 2 s"),
            (
                ExitStatus::IdleTimedOut,
                "was killed at its idle timeout of 2 s: it printed nothing for so long",
            ),
            (
                ExitStatus::OutputLimit {
                    limit: 100_000,
                    is_default: false,
                },
                "was killed at its output limit of 100000 bytes",
            ),
            (
                ExitStatus::OutputLimit {
                    limit: 16 << 20,
                    is_default: true,
                },
                "was killed at the default output limit of 16 MiB (see output_limit())",
            ),
            (ExitStatus::CpuTime, "has used up its processor time"),
            (
                ExitStatus::FileSize,
                "was ended by the kernel at its limit of the size of a file",
            ),
            (
                ExitStatus::OutOfMemory { exit: None },
                "was killed because a memory limit was reached",
            ),
            (
                ExitStatus::OutOfMemory { exit: Some(0) },
                "exited with 0 after a process of it was killed because a memory limit was reached",
            ),
            (
                ExitStatus::ContainerGone { why: WhyGone::Unknown },
                "ended with its container, which is gone",
            ),
            (
                ExitStatus::ContainerGone { why: WhyGone::Removed },
                "ended with its container, which is gone: somebody else ended or removed it",
            ),
            (ExitStatus::Killed, "was killed on request"),
            (ExitStatus::Unknown, "may have ended: the engine does not tell"),
        ] {
            let error = ended(status, "first\n  no space\x1b[31m left \n\n");
            let place = "`python` in container box of pool judge";
            assert_eq!(
                error.to_string(),
                format!("{place} {words}: first; no space\\u{{1b}}[31m left")
            );
            assert_eq!(ended(status, "").to_string(), format!("{place} {words}"));
        }
    }

    #[test]
    fn a_chain_of_sources_says_what_the_words_do_not() {
        let error = Error::engine("start the container", Some("box"), engine(EngineErrorKind::Internal));
        assert!(error.to_string().ends_with(": the engine's words: below"), "{error}");
        assert!(error.source().is_none(), "it would say the same once more");
        assert_eq!(error.engine_error().unwrap().to_string(), "the engine's words");

        let middle = EngineError::new(EngineErrorKind::Internal, "between").with_source(io::Error::other("below"));
        let cause = EngineError::new(EngineErrorKind::Internal, "the engine's words").with_source(middle);
        let error = Error::engine("start the container", Some("box"), cause);
        assert!(error.to_string().ends_with(": the engine's words: below"), "{error}");
        assert_eq!(error.source().unwrap().to_string(), "between");
    }

    #[test]
    fn advice_fits_the_cause_or_is_not_given() {
        let told = |error: EngineError| Error::engine("reach the engine", None, error).to_string();
        let forbidden = io::Error::from(io::ErrorKind::PermissionDenied);
        let closed = EngineError::new(EngineErrorKind::Unreachable, "no answer").with_source(forbidden);
        assert!(told(closed).ends_with(" (may this user open the engine's socket? mostly its group may)"));
        let own = EngineError::new(EngineErrorKind::Unreachable, "no answer").advise("ask the operator");
        assert_eq!(told(own), "could not reach the engine: no answer (ask the operator)");
        let none = EngineError::new(EngineErrorKind::Unreachable, "no answer").advise("");
        assert_eq!(told(none), "could not reach the engine: no answer");
    }

    #[test]
    fn check_gives_the_output_back_either_way() {
        let Error::Command(failed) = ended(ExitStatus::TimedOut, "why") else {
            panic!("it is one")
        };
        let output = |status| Output {
            status,
            stdout: b"partial".to_vec(),
            ..failed.output.clone()
        };
        assert_eq!(output(ExitStatus::Exited(0)).check().unwrap().stdout, b"partial");
        let error = output(ExitStatus::TimedOut).check().unwrap_err();
        assert!(error.is_timeout());
        assert_eq!((error.container(), error.program()), (Some("box"), Some("python")));
        let Error::Command(failed) = error else {
            panic!("{error:?}")
        };
        assert_eq!(failed.output.stdout, b"partial");
    }
}
