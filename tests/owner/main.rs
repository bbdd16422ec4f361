//! Tests of containers whose owner, its runtime or its process ends.

mod adopt;
mod guard_anywhere;
mod lifeline;
#[path = "../support/memory_group.rs"]
mod memory_group;
mod runtimes;
#[path = "../support/mod.rs"]
mod support;
