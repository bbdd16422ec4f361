//! Commands on the real engine.

mod begin;
mod cancel;
mod command;
mod ends;
mod limits;
mod owned;
mod stdin;
#[path = "../support/mod.rs"]
mod support;
