//! Commands on the real engine.

mod background;
mod begin;
mod cancel;
mod command;
mod ends;
mod events;
mod limits;
mod owned;
mod stdin;
#[path = "../support/mod.rs"]
mod support;

#[test]
fn commands_in_one_process() {
    support::together(&[
        "begin::a_command_that",
        "command::",
        "ends::",
        "events::",
        "limits::",
        "stdin::",
    ]);
}
