//! The behaviour of pools, mostly on the in-memory engine.

mod acquire;
mod builder;
mod cancellation;
mod clock;
mod command_defaults;
mod counters;
mod discard;
mod exec_unknown;
mod fairness;
mod gates;
mod gone;
mod hooks;
mod keys;
mod lease;
mod lifetime;
mod limit;
mod panic;
mod recovery;
mod refused;
mod returns;
mod servers;
mod shutdown;
mod stress;
#[path = "../support/mod.rs"]
mod support;
mod told;
mod waits;
