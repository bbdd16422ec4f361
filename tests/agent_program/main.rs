//! Parts of the agent, compiled into the test's process, on its pipes. No code here is PID 1, starts a command by the
//! agent or kills a process: the agent itself runs in containers only.

use std::sync::{Mutex, MutexGuard};

mod buffers;
mod commands;
mod lists;

/// Keeps other tests from running at the same time: the processes that they start hold copies of this test's pipes
/// until `exec`.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The agent's files. They name each other as in their own crate.
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
    clean: "../../agent/clean.rs",
    buffer: "../../agent/buffer.rs",
    cgroups: "../../agent/cgroups.rs",
    file_protocol: "../../agent/file_protocol.rs",
    files: "../../agent/files.rs",
    kill: "../../agent/kill.rs",
    look: "../../agent/look.rs",
    own: "../../agent/own.rs",
    picture: "../../agent/picture.rs",
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
