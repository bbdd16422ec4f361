//! Runs tests of the agent again with the agent reached through the engine alone. `support::by_transport` recognizes
//! this binary by its name.

#[path = "../agent/commands.rs"]
mod commands;
#[path = "../agent/limits.rs"]
mod limits;
#[path = "../agent/output.rs"]
mod output;
#[path = "../agent/stop.rs"]
mod stop;
#[path = "../support/mod.rs"]
mod support;

#[test]
fn commands_limits_output_and_stop_in_one_process() {
    support::together(&["commands::", "limits::", "output::", "stop::"]);
}
