//! One command in one container.
//!
//! [`Command`] is built like `tokio::process::Command`; [`Command::output`] collects, [`Command::spawn`] streams through a
//! [`Child`], and [`Command::spawn_owned`] through an [`OwnedChild`], which borrows nothing. The end of a command is an
//! [`ExitStatus`]: a typed outcome, not a number.

mod background;
mod child;
mod command;
mod driver;
mod ending;
mod event;
mod event_lines;
mod events;
mod files;
mod gone;
mod halt;
mod limit;
mod memory_kills;
mod merged;
mod pipe;
mod pump;
mod run;
mod setup;
mod shorthands;
mod signals;
mod start;
mod stdio;
mod streams;
mod tail;
mod verdict;

pub use background::{BackgroundCommand, CommandId, CommandState};
pub use child::{Child, OwnedChild};
pub use command::Command;
pub use event::Event;
pub use event_lines::EventLines;
pub use events::Events;
pub use files::{
    FileChange, FileEntry, FileEvent, FileLimits, FileMetadata, FileReader, FileType, FileWatch, Files, SkipReason,
    Skipped, Transfer,
};
pub use limit::{Budget, LimitReached, Limited};
pub use shorthands::OutputLines;
pub use stdio::Stdio;
pub use streams::{ChildStderr, ChildStdin, ChildStdout};
