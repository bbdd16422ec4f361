//! The user's specification of containers, and the one place where it becomes a [`Plan`](crate::engine::Plan).

mod check;
mod cleaning;
mod command_defaults;
mod command_limits;
pub(crate) mod container_spec;
mod entrypoint;
mod judge;
mod look;
mod merge;
mod pid1;
mod raw_config;
mod ready;
mod resolve;
mod sandbox;
mod seccomp;
mod security;
mod server_env;
mod setters;
mod take_body;
#[cfg(test)]
mod tests;

pub(crate) use check::problems_of_variable;
pub(crate) use cleaning::Cleaning;
pub use command_defaults::CommandDefaults;
pub use container_spec::ContainerSpec;
pub use entrypoint::Entrypoint;
pub(crate) use look::{CALLS, FILES, LOOK, Look};
pub(crate) use pid1::{GUARD_USER, Keep, On, Ways, bring, check_cgroups, decide, find_command};
pub use ready::Ready;
pub(crate) use ready::{ASK, Sign};
pub(crate) use resolve::{Decided, Resolved, resolve};
pub use sandbox::Sandbox;
pub use seccomp::Seccomp;
pub use security::{HowSeen, SecurityItem, SecurityReport};
pub(crate) use setters::setters;
