//! The agent, reached through the engine alone: `support::by_transport` knows this binary by its name.

#[path = "../agent/commands.rs"]
mod commands;
#[path = "../agent/conformance.rs"]
mod conformance;
#[path = "../agent/output.rs"]
mod output;
#[path = "../support/mod.rs"]
mod support;
