//! Attacks on promises: what an attacker has tried, and holds.

mod clean;
mod conflicts;
mod guard;
mod pool;
mod real;
mod spec;
mod words;

#[path = "../support/mod.rs"]
mod support;
