//! The agent as PID 1 of real containers.

mod aarch64;
mod attacks;
mod cgroup;
mod commands;
mod conformance;
mod guard;
mod leftovers;
mod limits;
mod output;
#[path = "../support/proxy.rs"]
#[allow(dead_code)] // only a part of the proxy is used here
mod proxy;
mod socket;
mod stop;
mod supervise;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/teller.rs"]
mod teller;
mod volume;

#[test]
fn commands_limits_output_and_stop_in_one_process() {
    support::together(&["commands::", "limits::", "output::", "stop::"]);
}
