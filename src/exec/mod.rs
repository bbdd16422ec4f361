//! One command in one container.
//!
//! [`Command`] is built like `tokio::process::Command`; [`Command::output`] collects, [`Command::spawn`] streams through a
//! [`Child`], and [`Command::spawn_owned`] through an [`OwnedChild`], which borrows nothing. The end of a command is an
//! [`ExitStatus`]: a typed outcome, not a number.
//!
//! # Beside `tokio::process`
//!
//! The names of `tokio::process::Command`:
//!
//! | there | here |
//! |---|---|
//! | `new` | [`Container::command`](crate::Container::command) names the container; [`Command::new`] is for [`Command::spawn_owned`] |
//! | `arg`, `args`, `env`, `envs`, `env_clear`, `current_dir` | the same; texts are UTF-8, as in the engine's API |
//! | `stdin`, `stdout`, `stderr` | the same, with a [`Stdio`] of the library's own: `null`, `piped`, `bytes`. Nothing is inherited and no file is passed, since the command runs elsewhere; outputs are piped by default |
//! | `spawn`, `status`, `output` | the same names; `status` drops the output, and `output` is limited to [16 MiB](Command::DEFAULT_OUTPUT_LIMIT) where no limit is set |
//! | `uid`, `gid` | [`Command::user`], by name or number |
//! | `kill_on_drop` | always so; [`Child::detach`] lets a command go on until the lease ends |
//! | `env_remove` | none: neither the exec API nor the agent removes one variable; use [`Command::env_clear`] |
//! | `arg0`, `raw_arg`, `process_group`, `pre_exec`, `creation_flags` | none: the engine's API has nothing like them. The agent ends a command with everything that it has started, whatever its process group |
//! | `as_std`, `into_std`, `spawn_with` | none: no process of this machine is behind a command |
//!
//! The names of `tokio::process::Child`:
//!
//! | there | here |
//! |---|---|
//! | `stdin`, `stdout`, `stderr` | the same fields, with the same traits |
//! | `wait`, `try_wait`, `wait_with_output` | the same names |
//! | `start_kill`, `kill` | the same names; `start_kill` cannot fail, and `kill` returns the status |
//! | `id` | none: Docker tells a number that holds on its own machine only, and the agent tells none, since a number may name another process later. [`Child::signal`] reaches the command's first process as long as it lives |

mod child;
mod command;
mod driver;
mod ending;
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
pub use limit::{Budget, LimitReached, Limited};
pub use shorthands::OutputLines;
pub use stdio::{OnLimit, Stdio};
pub use streams::{ChildStderr, ChildStdin, ChildStdout};
