//! Parts of the agent, compiled for the test's own process, on its pipes. Nothing here is PID 1, starts a command by the agent
//! or kills anything: the agent itself only ever runs in containers.

use std::sync::{Mutex, MutexGuard};

mod buffers;
mod commands;
mod lists;

/// Runs a test beside none of the others: processes that they start hold copies of its pipes until they execute their program.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The agent's files, which name each other as in their own crate.
macro_rules! agent {
    ($($name:ident: $path:literal),* $(,)?) => {
        $(
            #[allow(dead_code, clippy::all)]
            #[path = $path]
            mod $name;
        )*
    };
}

agent! {
    buffer: "../../agent/buffer.rs",
    cgroups: "../../agent/cgroups.rs",
    kill: "../../agent/kill.rs",
    own: "../../agent/own.rs",
    protocol: "../../agent/protocol.rs",
    sessions: "../../agent/sessions.rs",
    spawn: "../../agent/spawn.rs",
    table: "../../agent/table/mod.rs",
    tree: "../../agent/tree.rs",
    users: "../../agent/users.rs",
    wipe: "../../agent/wipe.rs",
    wire: "../../agent/wire.rs",
}

#[allow(dead_code, unsafe_code)]
#[path = "../../agent/sys/mod.rs"]
mod sys;
