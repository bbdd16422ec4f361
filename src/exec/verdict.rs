//! How a command ended, or why it was not started: [`Verdict`].

use super::ending::{Proof, is_going, is_gone};
use crate::container::{Shared, Taint};
use crate::engine::{EngineError, EngineErrorKind, ExecReport};
use crate::values::outcome::{ExitStatus, Usage};

/// How a command ended, or why it was not started.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Ended(ExitStatus, Usage),
    /// The program could not be started, with the engine's words.
    CannotStart(String),
    /// The container was gone before the command was started.
    Gone(EngineError),
    /// The engine failed, and it is not known whether the command was started.
    Failed(EngineError),
}

/// The number of the signal by which the kernel ends a process that has written beyond its limit of the size of a file.
const SIGXFSZ: i32 = 25;

/// Returns the end of a command with a report. `limits_file_size` says that the command has a limit of its own of the size of a
/// file.
pub(super) fn outcome(shared: &Shared, code: i64, report: &ExecReport, limits_file_size: bool) -> (ExitStatus, Proof) {
    let proof = if report.all_dead { Proof::Ended } else { Proof::None };
    // The use decides, and not the order of events.
    let is_out_of_cpu_time = report.cpu_time_used_up && !report.killed_for_memory;
    if is_out_of_cpu_time || report.at_deadline {
        if proof == Proof::None {
            shared.set_taint(Taint::TimedOut);
        }
        let status = match is_out_of_cpu_time {
            true => ExitStatus::CpuTime,
            false => ExitStatus::TimedOut,
        };
        return (status, proof);
    }
    if report.killed_for_memory {
        shared.set_taint(Taint::OutOfMemory);
        let exit = match report.signal {
            Some(_) => None,
            None => i32::try_from(code).ok(),
        };
        return (ExitStatus::OutOfMemory { exit }, proof);
    }
    let status = match report.signal {
        Some(SIGXFSZ) if limits_file_size => ExitStatus::FileSize,
        Some(signal) => ExitStatus::Signaled(signal),
        None => i32::try_from(code).map_or(ExitStatus::Unknown, ExitStatus::Exited),
    };
    (status, proof)
}

/// Returns the verdict on a command that was not started, or of which it is not known whether it was.
pub(super) async fn not_started(shared: &Shared, error: EngineError) -> (Verdict, Proof) {
    let gone = |error| Verdict::Gone(shared.why_gone(error));
    match error.kind() {
        // In a container that has just ended nothing can be started, and the engine blames the program.
        EngineErrorKind::CannotStart if error.is_of_container() || is_going(shared, &error).await => {
            shared.set_taint(Taint::Died);
            (gone(error), Proof::Ended)
        }
        EngineErrorKind::CannotStart => {
            // A reason that does not lie in the command would hold for the next lease too.
            if error.is_of_any_command() || error.is_unexplained() {
                shared.set_taint(Taint::Broken);
            }
            (Verdict::CannotStart(error.to_string()), Proof::Ended)
        }
        // The engine refused in the container's present state: the container has ended, or somebody has paused it.
        EngineErrorKind::Conflict if !is_gone(shared).await => {
            shared.set_taint(Taint::Died);
            (Verdict::Failed(error), Proof::Ended)
        }
        EngineErrorKind::NotFound | EngineErrorKind::Conflict => {
            shared.set_taint(Taint::Died);
            (gone(error), Proof::Ended)
        }
        // A container that is ending has no resources left either.
        EngineErrorKind::Exhausted if is_gone(shared).await => {
            shared.set_taint(Taint::Died);
            (gone(error), Proof::Ended)
        }
        // The next command could not be started either.
        EngineErrorKind::Exhausted => {
            shared.set_taint(Taint::Exhausted);
            (Verdict::Failed(error), Proof::Ended)
        }
        // The engine refused: the command was not begun.
        EngineErrorKind::Rejected | EngineErrorKind::Unsupported => (Verdict::Failed(error), Proof::Ended),
        _ => {
            shared.set_taint(Taint::EngineFailed);
            (Verdict::Failed(error), Proof::None)
        }
    }
}
