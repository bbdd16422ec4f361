//! Much output of commands by the agent, reached through the engine alone, as where its socket cannot be had.

#[path = "agent_output.rs"]
mod agent_output;
