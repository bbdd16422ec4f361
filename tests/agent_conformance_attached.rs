//! The same commands both ways, reached through the engine alone, as where its socket cannot be had.

#[path = "agent_conformance.rs"]
mod agent_conformance;
