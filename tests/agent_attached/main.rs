//! Runs tests of the agent again with the agent reached through the engine alone. `support::by_transport` recognizes
//! this binary by its name.

#[path = "../agent/commands.rs"]
mod commands;
#[path = "../agent/conformance.rs"]
mod conformance;
#[path = "../agent/output.rs"]
mod output;
#[path = "../support/mod.rs"]
mod support;
