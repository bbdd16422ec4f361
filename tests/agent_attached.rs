//! Commands run by the agent, reached through the engine alone, as where its socket cannot be had.

#[path = "agent.rs"]
mod agent;
