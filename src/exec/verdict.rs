//! What became of a command: [`Verdict`].

use super::ending::{Proof, is_going, is_gone};
use crate::container::{Shared, Taint};
use crate::engine::{EngineError, EngineErrorKind, ExecReport};
use crate::values::outcome::{ExitStatus, Usage};

/// What became of a command.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Ended(ExitStatus, Usage),
    /// The engine's words.
    CannotStart(String),
    /// The container was gone before the command was started.
    Gone(EngineError),
    /// The engine failed, and nobody knows whether the command was started.
    Failed(EngineError),
}

/// How a command ended of which everything is known.
pub(super) fn outcome(shared: &Shared, code: i64, report: &ExecReport) -> (ExitStatus, Proof) {
    let proof = if report.all_dead { Proof::Ended } else { Proof::None };
    if report.at_deadline {
        if proof == Proof::None {
            shared.set_taint(Taint::TimedOut);
        }
        return (ExitStatus::TimedOut, proof);
    }
    if report.killed_for_memory {
        shared.set_taint(Taint::OutOfMemory);
        return (ExitStatus::OutOfMemory, proof);
    }
    let status = match report.signal {
        Some(signal) => ExitStatus::Signaled(signal),
        None => i32::try_from(code).map_or(ExitStatus::Unknown, ExitStatus::Exited),
    };
    (status, proof)
}

/// The command was not started, or nobody knows whether it was.
pub(super) async fn not_started(shared: &Shared, error: EngineError) -> (Verdict, Proof) {
    // What it was gone for says more than that it was.
    let gone = |error| Verdict::Gone(shared.end_of_command().unwrap_or(error));
    match error.kind() {
        // Nothing can be started in a container that has just ended, and the engine blames the program.
        EngineErrorKind::CannotStart if error.is_of_container() || is_going(shared, &error).await => {
            shared.set_taint(Taint::Died);
            (gone(error), Proof::Ended)
        }
        EngineErrorKind::CannotStart => {
            // What is not known to be the command's own fault would befall the next lease, too.
            if error.is_of_any_command() || error.is_unexplained() {
                shared.set_taint(Taint::Broken);
            }
            (Verdict::CannotStart(error.to_string()), Proof::Ended)
        }
        // Refused in the container's present state: it has ended, or somebody has paused it.
        EngineErrorKind::Conflict if !is_gone(shared).await => {
            shared.set_taint(Taint::Died);
            (Verdict::Failed(error), Proof::Ended)
        }
        EngineErrorKind::NotFound | EngineErrorKind::Conflict => {
            shared.set_taint(Taint::Died);
            (gone(error), Proof::Ended)
        }
        // A container that ends has nothing left either.
        EngineErrorKind::Exhausted if is_gone(shared).await => {
            shared.set_taint(Taint::Died);
            (gone(error), Proof::Ended)
        }
        // Nor could the next one.
        EngineErrorKind::Exhausted => {
            shared.set_taint(Taint::Exhausted);
            (Verdict::Failed(error), Proof::Ended)
        }
        // Refused: nothing was begun.
        EngineErrorKind::Rejected | EngineErrorKind::Unsupported => (Verdict::Failed(error), Proof::Ended),
        _ => {
            shared.set_taint(Taint::EngineFailed);
            (Verdict::Failed(error), Proof::None)
        }
    }
}
