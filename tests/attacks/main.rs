//! Attacks on promises: each test here shows a fault that is not mended.

mod clean;
mod conflicts;
mod guard;
mod pool;
mod real;
mod spec;
mod words;

#[path = "../support/mod.rs"]
mod support;
