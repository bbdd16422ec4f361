//! What a hostile command can do to the agent, reached through the engine alone, as where its socket cannot be had.

#[path = "agent_attacks.rs"]
mod agent_attacks;
