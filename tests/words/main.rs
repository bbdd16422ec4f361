//! The words of the errors that a user can meet. Each error is really caused, and its whole text stands beside its cause.
//!
//! A text that changes fails its test, and nothing is written (`.config/insta.yaml`). `INSTA_UPDATE=new` and `cargo insta review` take
//! new texts over.

mod build;
mod commands;
mod connect;
mod files;
mod leases;
mod real;
#[path = "../support/stub.rs"]
mod stub;
#[path = "../support/mod.rs"]
mod support;

use std::error::Error as _;
use std::sync::Arc;

use dockerpool::testing::FakeEngine;
use dockerpool::{Error, Pool, PoolBuilder};
use tokio::runtime::Handle;

/// Begins a pool on the engine in memory, in the time of the test.
fn builder(engine: &FakeEngine) -> PoolBuilder {
    Pool::builder("words")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine.clone()))
}

/// Returns the text of an error, without what differs from run to run.
fn said(error: &Error) -> String {
    let words = error.to_string();
    assert!(!words.contains(char::is_control), "{words:?}");
    // A reporter that prints the causes too does not repeat the text.
    if let Some(cause) = error.source() {
        assert!(!words.contains(&cause.to_string()), "{words}: {cause}");
    }
    redacted(&words)
}

/// Replaces ids, and the numbers of containers.
fn redacted(words: &str) -> String {
    // As many characters as containers' names have of an instance. No word has so many of these letters.
    const LEAST: usize = 12;

    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let mut text = String::new();
    let mut rest = words;
    while let Some(at) = rest.find(is_hex) {
        let (before, run) = rest.split_at(at);
        let (run, after) = run.split_at(run.find(|c| !is_hex(c)).unwrap_or(run.len()));
        text += before;
        rest = after;
        if run.len() < LEAST {
            text += run;
            continue;
        }
        text += "[id]";
        if let Some(number) = rest.strip_prefix('-') {
            text += "-[n]";
            rest = number.trim_start_matches(|c: char| c.is_ascii_digit());
        }
    }
    text + rest
}

#[test]
fn only_ids_are_replaced() {
    let id = "0123456789ab";
    let words = format!("added words-{id}-17 of {id}{id} within 250 ms");
    assert_eq!(redacted(&words), "added words-[id]-[n] of [id] within 250 ms");
}
