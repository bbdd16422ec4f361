//! The user's specification of containers, and the one place where it becomes a [`Plan`](crate::engine::Plan).

mod check;
mod cleaning;
mod command_limits;
pub(crate) mod container_spec;
mod merge;
mod pid1;
mod raw_config;
mod resolve;
mod setters;
mod take_body;
#[cfg(test)]
mod tests;

pub(crate) use cleaning::Cleaning;
pub use container_spec::ContainerSpec;
pub(crate) use pid1::{GUARD_USER, Keep, On, Ways, bring, check_cgroups, decide, find_command};
pub(crate) use resolve::{Decided, Resolved, resolve};
pub(crate) use setters::setters;
