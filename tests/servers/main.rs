//! Debian's Redis and PostgreSQL in containers, shared by tests that run at the same time.

mod killed;
mod postgres;
mod redis;
#[path = "../support/mod.rs"]
mod support;
