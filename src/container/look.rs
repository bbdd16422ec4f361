//! Looking at a container from its inside, before it is lent.

use futures_util::StreamExt;

use super::handle::Handle;
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
        let program = shared.spec.decided.agent.as_ref().map(AgentFile::program);
        let look = match (shared.agent(), program) {
            (Some(agent), Some(program)) => {
                bounded(
                    "a look at a container",
                    shared.call_timeout,
                    look_by_agent(agent, program),
                )
                .await?
            }
            _ => look_by_engine(shared).await?,
        };
        let report = asked.judge(&look).map_err(EngineError::of_settings)?;
        // The first container's.
        let _ = shared.spec.security.set(report);
        Ok(())
    }
}

/// Has the agent run its own program as a command, which needs no program of the image.
async fn look_by_agent(agent: &Client, program: &str) -> Result<Look, EngineError> {
    let words = [program, LOOK].into_iter().chain(FILES).chain(CALLS);
    let session = agent.exec(agent.place().await?, &ExecRequest::new(words), Role::Command, None)?;
    let (code, printed) = finish(session).await?;
    match code {
        Some(0) => Ok(Look::of_agent(&printed)),
        code => {
            let code = code.map_or("an unknown exit code".to_owned(), |code| format!("exit code {code}"));
            let message = format!("the agent could not look at its container: it ended with {code}");
            Err(EngineError::new(EngineErrorKind::Internal, message))
        }
    }
}

/// Reads the kernel's files by the image's `cat`, which may be missing. No system call is tried.
async fn look_by_engine(shared: &Shared) -> Result<Look, EngineError> {
    let mut look = Look::default();
    for path in FILES {
        let mut request = ExecRequest::new(["cat", path]);
        request.user.clone_from(&shared.spec.decided.command_user);
        let read = bounded("a look at a container", shared.call_timeout, async {
            finish(shared.engine.exec(shared.id(), &request).await?).await
        });
        match read.await {
            Ok((Some(0), text)) => look.add_file(path, &text),
            // There is no such file.
            Ok(_) => {}
            Err(error) if error.says_not_started() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(look)
}

/// Returns the exit code and the standard output of a command.
async fn finish(session: ExecSession) -> Result<(Option<i64>, Vec<u8>), EngineError> {
    let ExecSession {
        mut output, control, ..
    } = session;
    let mut printed = Vec::new();
    while let Some(frame) = output.next().await {
        let frame = frame?;
        if frame.stream == OutputStream::Stdout && printed.len() < MOST {
            printed.extend_from_slice(&frame.data);
        }
    }
    let mut code = control.exit_code().await?;
    while code.is_none() {
        tokio::time::sleep(POLL).await;
        code = control.exit_code().await?;
    }
    Ok((code, printed))
}

/// The pause before an engine is asked once more whether a command has ended whose output has.
const POLL: std::time::Duration = std::time::Duration::from_millis(5);
