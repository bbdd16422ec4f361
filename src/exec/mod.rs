//! One command in one container.
//!
//! [`Command`] is built like `tokio::process::Command`; [`Command::output`] collects, [`Command::spawn`] streams through a
//! [`Child`], and [`Command::spawn_owned`] through an [`OwnedChild`], which borrows nothing. The end of a command is an
//! [`ExitStatus`]: a typed outcome, not a number.

mod child;
mod command;
mod driver;
mod ending;
mod files;
mod gone;
mod halt;
mod limit;
mod memory_kills;
mod pump;
mod run;
mod setup;
mod shorthands;
mod start;
mod stdio;
mod streams;
mod verdict;

pub use child::{Child, OwnedChild};
pub use command::Command;
pub use files::{
    FileChange, FileEntry, FileEvent, FileLimits, FileMetadata, FileReader, FileType, FileWatch, Files, SkipReason,
    Skipped, Transfer,
};
pub use limit::{Budget, LimitReached, Limited};
pub use shorthands::OutputLines;
pub use stdio::Stdio;
pub use streams::{ChildStderr, ChildStdin, ChildStdout};
