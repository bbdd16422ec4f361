//! Tests that measure the memory and the file descriptors of their own process. One test runs at a time.

mod agent_memory;
mod bounded;
mod descriptors;
mod exec_volume;
mod files;
#[path = "../support/memory_group.rs"]
mod memory_group;
mod memory_limit;
#[path = "../support/stub.rs"]
mod stub;
#[path = "../support/mod.rs"]
mod support;
