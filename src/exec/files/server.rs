//! A file server that runs: a command whose process serves files in place of executing a program.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::Files;
use super::answers::{Answer, Decoder, malformed, of_container, poll};
use super::by_tar;
use super::metadata::shown;
use crate::agent::Role;
use crate::agent::file_protocol::{
    HEADER, IN_MEMORY, MAX_PATH, Meta, REGULAR, Request, WITH_MODE, WITH_PARENTS, request as ops,
};
use crate::error::Error;
use crate::exec::child::{Child, keep_nothing};
use crate::exec::setup::{Outputs, Setup};
use crate::exec::stdio::Source;
use crate::exec::verdict::Verdict;
use crate::runtime::Home;
use crate::values::outcome::{ExitStatus, Usage};
use crate::values::shown::Rounded;
use crate::values::subject::Subject;
use crate::values::waker::Guarded;

/// The program of the request, which no engine executes. Errors name the call in its place.
const NAME: &str = "file server";

/// The program's name as runtimes quote it.
const TAR: [&str; 3] = ["\"tar\"", "`tar`", "'tar'"];

/// A call on files, for its errors.
#[derive(Clone)]
pub(super) struct Call {
    /// What is done, e.g. `read`.
    pub(super) op: &'static str,
    pub(super) path: Vec<u8>,
    /// The path is one of this machine, and not of the container.
    pub(super) on_host: bool,
    pub(super) subject: Subject,
}

impl Call {
    /// Returns the error of the call.
    pub(super) fn error(&self, source: io::Error) -> Error {
        self.error_at(&[], source)
    }

    /// Returns the error of the process that does the call, as that of the call.
    fn error_of_process(&self, error: Error) -> Error {
        error.in_call(&format!("{} {}", self.op, shown(&self.path)))
    }

    /// Returns the error of the image's `tar`, which does the call in place of the agent.
    fn error_of_tar(&self, error: Error) -> Error {
        match error {
            // All runtimes quote the name of a program that is missing. Else the user is.
            Error::CannotStart { reason, .. } if TAR.iter().any(|tar| reason.contains(tar)) => Error::Unsupported {
                subject: self.subject.clone(),
                reason: super::NO_AGENT.to_owned() + "; nor has its image a program `tar`",
            },
            error => self.error_of_process(error),
        }
    }

    /// Returns the error of the call at a path beneath that of the call.
    pub(super) fn error_at(&self, beneath: &[u8], source: io::Error) -> Error {
        let mut path = self.path.clone();
        if !beneath.is_empty() {
            if !path.ends_with(b"/") {
                path.push(b'/');
            }
            path.extend_from_slice(beneath);
        }
        Error::File {
            subject: self.subject.clone(),
            op: self.op.into(),
            path: shown(&path),
            on_host: self.on_host,
            source,
        }
    }
}

/// A server that works on one request. Dropping it ends it.
pub(super) struct Server<'c> {
    child: Child<'c>,
    way: Way,
    pub(super) call: Call,
    time: Option<std::time::Duration>,
    waker: Guarded,
}

/// Who serves.
enum Way {
    Agent(Decoder),
    /// The image's `tar` sends an archive.
    TarOut(by_tar::Decoder),
    /// The image's `tar` takes an archive, which is made of the frames that are written.
    TarIn(Decoder, by_tar::Encoder),
}

impl<'c> Server<'c> {
    /// Starts a server for a request. With `goes_on` more is to be written to it.
    pub(super) async fn start(
        files: &Files<'c>,
        call: Call,
        op: u8,
        to: Option<&[u8]>,
        goes_on: bool,
    ) -> Result<Self, Error> {
        for path in [Some(&call.path[..]), to].into_iter().flatten() {
            if let Some(problem) = problem(path) {
                return Err(call.error(io::Error::new(io::ErrorKind::InvalidInput, problem)));
            }
        }
        let request = request(files, op, &call.path, to.unwrap_or_default());
        let mut setup = Setup::new(NAME.to_owned());
        setup.role = Role::FileServer;
        setup.request.user.clone_from(&files.user);
        setup.request.current_dir = Some("/".to_owned());
        setup.options.timeout = Some(files.limits.time);
        setup.stdin = match goes_on {
            true => Source::Piped,
            false => Source::Bytes(request.clone()),
        };
        let shared = files.container.shared().clone();
        let begun = shared.runtime.now();
        let way = if shared.is_for_agent(&setup.request) {
            Way::Agent(Decoder::default())
        } else {
            setup.role = Role::Command;
            setup.request.argv = tar(files, &call, op).await?;
            setup.options.timeout = Some(time_left(files.limits.time, begun, &shared.runtime));
            match op {
                ops::READ | ops::PACK => {
                    setup.stdin = Source::Null;
                    Way::TarOut(by_tar::Decoder::new(op == ops::READ))
                }
                _ => Way::TarIn(Decoder::default(), by_tar::Encoder::default()),
            }
        };
        let outputs = Outputs {
            stdout: true,
            stderr: false,
        };
        let child = Child::start(files.container, shared, keep_nothing, setup.once(outputs)).await;
        let mut child = child.map_err(|error| match way {
            Way::Agent(_) => call.error_of_process(error),
            _ => call.error_of_tar(error),
        })?;
        if goes_on
            && matches!(way, Way::Agent(_))
            && let Some(stdin) = &mut child.stdin
        {
            // A server that does not read has ended, and the answer says why.
            let _ = stdin.write_all(&request).await;
        }
        Ok(Self {
            child,
            way,
            call,
            time: files.limits.time,
            waker: Guarded::default(),
        })
    }

    /// Writes to the server. Returns whether it reads on.
    pub(super) async fn write(&mut self, frames: &[u8]) -> io::Result<bool> {
        let Some(stdin) = &mut self.child.stdin else {
            return Ok(false);
        };
        let Way::TarIn(decoder, encoder) = &mut self.way else {
            return Ok(stdin.write_all(frames).await.is_ok());
        };
        decoder.feed(frames);
        let mut archive = Vec::new();
        while let Some(answer) = decoder.decode()? {
            encoder.encode(answer, &mut archive)?;
        }
        Ok(stdin.write_all(&archive).await.is_ok())
    }

    /// Writes the beginning of a file of this size, where that is told first.
    pub(super) async fn begin_file(&mut self, size: u64, mode: Option<u32>) -> io::Result<bool> {
        let (Way::TarIn(_, encoder), Some(stdin)) = (&mut self.way, &mut self.child.stdin) else {
            return Ok(true);
        };
        let meta = Meta {
            mode: REGULAR | mode.unwrap_or(0o644),
            size,
            ..Meta::default()
        };
        let (_, name) = split(&self.call.path);
        let mut archive = Vec::new();
        encoder.encode(Answer::Entry(meta, Bytes::copy_from_slice(name)), &mut archive)?;
        Ok(stdin.write_all(&archive).await.is_ok())
    }

    /// Returns the next answer. A failure of the server is [`Failed`](Answer::Failed).
    pub(super) async fn answer(&mut self) -> Result<Answer, Error> {
        match poll_fn(|cx| self.poll_answer(cx)).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.broken(error).await),
        }
    }

    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Answer>> {
        let Some(stdout) = &mut self.child.stdout else {
            return Poll::Ready(Err(malformed()));
        };
        let (answer, is_end) = match &mut self.way {
            Way::Agent(decoder) => return decoder.poll(cx, stdout),
            Way::TarOut(decoder) => {
                let answer = ready!(poll(
                    decoder,
                    |decoder| &mut decoder.buf,
                    by_tar::Decoder::decode,
                    cx,
                    stdout
                ));
                (answer, decoder.is_whole())
            }
            Way::TarIn(..) => {
                // It says nothing.
                let mut nothing = Decoder::default();
                (ready!(nothing.poll(cx, stdout)), true)
            }
        };
        match answer {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && is_end => {
                ready!(self.poll_end(cx));
                match self.status() {
                    Some(ExitStatus::Exited(0)) => Poll::Ready(Ok(Answer::Done)),
                    _ => Poll::Ready(Err(error)),
                }
            }
            answer => Poll::Ready(answer),
        }
    }

    /// Waits for the end of a call that answers nothing but its success.
    pub(super) async fn done(mut self) -> Result<(), Error> {
        drop(self.child.stdin.take());
        match self.answer().await? {
            Answer::Done => self.end().await,
            other => Err(self.unexpected(other).await),
        }
    }

    /// Waits for the end of the server after its last answer, so that the container can be given back at once.
    pub(super) async fn end(mut self) -> Result<(), Error> {
        let ended = self.child.wait().await;
        ended.map(drop).map_err(|error| self.call.error_of_process(error))
    }

    /// Waits for the end of the server as [`end`](Self::end) does, and for no other reason.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        drop(self.child.stdin.take());
        if self.child.verdict.is_none() {
            let cx = &mut Context::from_waker(self.waker.waker(cx.waker()));
            let verdict = ready!(Pin::new(&mut self.child.done).poll(cx));
            let lost = Verdict::Ended(ExitStatus::Unknown, Usage::default());
            self.child.verdict = Some(verdict.unwrap_or(lost));
        }
        Poll::Ready(())
    }

    /// Ends the server, and returns the error of an answer that ends the call.
    pub(super) async fn unexpected(self, answer: Answer) -> Error {
        match answer {
            Answer::Failed(errno, beneath) => {
                let call = self.call.clone();
                let _ = self.end().await;
                call.error_at(&beneath, of_container(errno))
            }
            _ => self.give_up(malformed()).await,
        }
    }

    /// Ends the server because of an error of this side.
    pub(super) async fn give_up(self, error: io::Error) -> Error {
        let call = self.call.clone();
        self.end_early().await;
        call.error(error)
    }

    /// Ends the server before its last answer, and waits until it has ended.
    pub(super) async fn end_early(mut self) {
        let _ = self.child.kill().await;
    }

    /// Returns why there is no answer.
    pub(super) async fn broken(&mut self, error: io::Error) -> Error {
        if error.kind() != io::ErrorKind::UnexpectedEof {
            let is_no_file = matches!(error.kind(), io::ErrorKind::IsADirectory | io::ErrorKind::Unsupported);
            if is_no_file && !matches!(self.way, Way::Agent(_)) {
                // The caller's mistake is not to cost the container, which a kill would: `tar` ends by itself.
                drop(self.child.stdout.take());
                let _ = self.child.wait().await;
            } else {
                let _ = self.child.kill().await;
            }
            return self.call.error(error);
        }
        match self.child.wait().await {
            Ok(status) => self.call.error(self.why(status)),
            Err(error) if matches!(self.way, Way::Agent(_)) => self.call.error_of_process(error),
            Err(error) => self.call.error_of_tar(error),
        }
    }

    /// Returns the error of a server that has ended in this way before its last answer.
    pub(super) fn why(&self, status: ExitStatus) -> io::Error {
        match (status, self.time) {
            (ExitStatus::TimedOut, Some(time)) => too_late(time),
            (status, _) => io::Error::new(
                io::ErrorKind::ConnectionAborted,
                format!("the process in the container that does it ended early: {status}"),
            ),
        }
    }

    /// Returns how the server has ended, if that is known.
    pub(super) fn status(&self) -> Option<ExitStatus> {
        match self.child.verdict {
            Some(Verdict::Ended(status, _)) => Some(status),
            _ => None,
        }
    }
}

/// Returns what is left of the time of a call that began then.
pub(super) fn time_left(time: Option<Duration>, begun: Instant, runtime: &Home) -> Option<Duration> {
    let passed = runtime.now().saturating_duration_since(begun);
    time.map(|time| time.saturating_sub(passed))
}

/// Returns the error of a call that was not done in its time.
pub(super) fn too_late(time: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("not done within {}", Rounded(time)))
}

/// Returns what is wrong with a path.
fn problem(path: &[u8]) -> Option<&'static str> {
    if !path.starts_with(b"/") {
        return Some("the path must be absolute");
    }
    if path.contains(&0) {
        return Some("the path must not contain NUL");
    }
    (path.len() >= MAX_PATH).then_some("the path must have less than 4096 bytes")
}

/// Encodes a request.
fn request(files: &Files<'_>, op: u8, path: &[u8], to: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER + 5 + path.len() + to.len() + 2);
    debug_assert!(frame.capacity() <= HEADER + Request::MOST);
    frame.put_u32_le((5 + path.len() + to.len() + 2) as u32);
    frame.put_u8(op);
    let parents = files.parents && matches!(op, ops::WRITE | ops::MAKE_DIR | ops::UNPACK);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    frame
        .put_u8(flag(files.mode.is_some(), WITH_MODE) | flag(parents, WITH_PARENTS) | flag(files.in_memory, IN_MEMORY));
    frame.put_u32_le(files.mode.unwrap_or(0));
    for path in [path, to] {
        frame.put_slice(path);
        frame.put_u8(0);
    }
    frame.freeze()
}

/// Returns the command that does without the agent what a request asks for, after making the directories that it needs.
async fn tar(files: &Files<'_>, call: &Call, op: u8) -> Result<Vec<String>, Error> {
    let unsupported = |reason: &str| Error::Unsupported {
        subject: call.subject.clone(),
        reason: reason.to_owned(),
    };
    if !matches!(op, ops::READ | ops::WRITE | ops::PACK | ops::UNPACK) {
        return Err(unsupported(super::NO_AGENT));
    }
    let Ok(path) = std::str::from_utf8(&call.path) else {
        return Err(unsupported("without the agent a path must be UTF-8"));
    };
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = if parent.is_empty() { "/" } else { parent };
    if matches!(op, ops::READ | ops::WRITE) && !super::answers::is_name(name.as_bytes()) {
        return Err(call.error(io::ErrorKind::IsADirectory.into()));
    }
    let make = match op {
        ops::WRITE if files.parents => vec!["mkdir", "-p", "--", parent],
        ops::UNPACK if files.parents => vec!["mkdir", "-p", "--", path],
        // One that is there is no error, and `tar` fails where there is none.
        ops::UNPACK => vec!["mkdir", "--", path],
        _ => Vec::new(),
    };
    if let [program, args @ ..] = &make[..] {
        let mut command = files.container.command(*program);
        if let Some(user) = &files.user {
            command.user(user);
        }
        let status = command.args(args).timeout(files.limits.time).status().await;
        match status {
            Err(Error::CannotStart { .. }) if files.user.is_none() => {
                return Err(unsupported(super::NO_AGENT));
            }
            status => drop(status.map_err(|error| call.error_of_process(error))?),
        }
    }
    let file = format!("./{name}");
    let argv = match op {
        ops::READ => vec!["tar", "-chf", "-", "-C", parent, &file],
        ops::PACK => vec!["tar", "-cf", "-", "-C", path, "."],
        ops::WRITE => vec!["tar", "-xof", "-", "-C", parent],
        _ => vec!["tar", "-xof", "-", "-C", path],
    };
    Ok(argv.into_iter().map(str::to_owned).collect())
}

/// Returns whether the agent serves the files, and not the image's `tar`.
pub(super) fn is_agent(files: &Files<'_>) -> bool {
    let mut setup = Setup::new(NAME.to_owned());
    setup.request.user.clone_from(&files.user);
    files.container.shared().is_for_agent(&setup.request)
}

/// Splits a path before its last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let at = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    (&path[..at], path.get(at + 1..).unwrap_or_default())
}
