//! Looking at a container from its inside, before it is lent.

use futures_util::StreamExt;

use super::handle::Handle;
use super::heard::Heard;
use super::shared::Shared;
use crate::agent::{AgentFile, Client, Role};
use crate::engine::{EngineError, EngineErrorKind, ExecRequest, ExecSession, OutputStream};
use crate::runtime::bounded;
use crate::spec::{CALLS, FILES, LOOK, Look};

/// The most output of a look that is read.
const MOST: usize = 4 << 20;

impl Handle {
    /// Compares the container with what its sandbox asks for, where there is one, and keeps the report. Fails if an item is not
    /// in force.
    pub(super) async fn check_sandbox(&self) -> Result<(), EngineError> {
        let shared = &**self.shared();
        let Some(asked) = &shared.spec.sandbox else {
            return Ok(());
        };
        let look = match by_agent(shared) {
            Some(by_agent) => look_by_agent(shared, by_agent, &[&FILES[..], &CALLS].concat()).await?,
            None => look_by_engine(shared, &FILES).await?,
        };
        let report = asked.judge(&look).map_err(EngineError::of_settings)?;
        // The first container's.
        let _ = shared.spec.security.set(report);
        Ok(())
    }
}

/// Reads files of a container: by the agent, or else by the image's `cat`. A file that cannot be read is left out.
///
/// # Errors
///
/// Without the agent, also where the image has no `cat`.
pub(super) async fn read_files(shared: &Shared, paths: &[&str]) -> Result<Look, EngineError> {
    let look = match by_agent(shared) {
        Some(by_agent) => return look_by_agent(shared, by_agent, paths).await,
        None => look_by_engine(shared, paths).await?,
    };
    if look.is_empty() {
        let message = "the image has no `cat`, by which files of the container are read without the agent";
        return Err(EngineError::new(EngineErrorKind::CannotStart, message));
    }
    Ok(look)
}

/// Returns the agent and the path of its program, where it is PID 1.
fn by_agent(shared: &Shared) -> Option<(&Client, &str)> {
    let program = shared.spec.decided.agent.as_ref().map(AgentFile::program);
    shared.agent().zip(program)
}

/// Has the agent run its own program as a command, which needs no program of the image.
async fn look_by_agent(shared: &Shared, (agent, program): (&Client, &str), at: &[&str]) -> Result<Look, EngineError> {
    let words = [program, LOOK].into_iter().chain(at.iter().copied());
    let ended = bounded("a look at a container", shared.call_timeout, async {
        finish(agent.exec(agent.place().await?, &ExecRequest::new(words), Role::Command, None)?).await
    });
    match ended.await? {
        Ended {
            code: Some(0), stdout, ..
        } => Ok(Look::of_agent(&stdout)),
        Ended { code, .. } => {
            let code = code.map_or("an unknown exit code".to_owned(), |code| format!("exit code {code}"));
            let message = format!("the agent could not look at its container: it ended with {code}");
            Err(EngineError::new(EngineErrorKind::Internal, message))
        }
    }
}

/// Reads files by the image's `cat`, which may be missing. No system call is tried.
async fn look_by_engine(shared: &Shared, paths: &[&str]) -> Result<Look, EngineError> {
    let mut look = Look::default();
    for path in paths {
        let path = *path;
        let mut request = ExecRequest::new(["cat", path]);
        request.user.clone_from(&shared.spec.decided.command_user);
        let read = bounded("a look at a container", shared.call_timeout, async {
            finish(shared.engine.exec(shared.id(), &request).await?).await
        });
        match read.await {
            Ok(Ended {
                code: Some(0), stdout, ..
            }) => look.add_file(path, &stdout),
            // There is no such file.
            Ok(_) => {}
            Err(error) if error.says_not_started() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(look)
}

/// How a command has ended.
pub(super) struct Ended {
    pub(super) code: Option<i64>,
    /// The beginning of its standard output.
    pub(super) stdout: Vec<u8>,
    heard: Heard,
}

impl Ended {
    /// Returns at most so many bytes of the end of its output, without space around it.
    pub(super) fn last_words(&self, most: usize) -> String {
        let words = self.heard.last_words();
        let mut from = words.len().saturating_sub(most);
        while !words.is_char_boundary(from) {
            from += 1;
        }
        words[from..].trim().to_owned()
    }
}

/// Waits for the end of a command.
pub(super) async fn finish(session: ExecSession) -> Result<Ended, EngineError> {
    let ExecSession {
        mut output, control, ..
    } = session;
    let (mut stdout, heard) = (Vec::new(), Heard::default());
    while let Some(frame) = output.next().await {
        let frame = frame?;
        heard.hear(&frame);
        if frame.stream == OutputStream::Stdout && stdout.len() < MOST {
            stdout.extend_from_slice(&frame.data);
        }
    }
    let mut code = control.exit_code().await?;
    while code.is_none() {
        tokio::time::sleep(POLL).await;
        code = control.exit_code().await?;
    }
    Ok(Ended { code, stdout, heard })
}

/// The pause before an engine is asked once more whether a command has ended whose output has.
const POLL: std::time::Duration = std::time::Duration::from_millis(5);
