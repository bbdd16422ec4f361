//! One container: its life, enforced by types, and the operations on it.
//!
//! ```text
//!            start             pause
//!  Created ────────► Running ────────► Paused
//!                     │   ▲             │  │
//!         stop, kill  │   └─────────────┘  │ kill
//!                     ▼       unpause      ▼
//!                   Exited ◄───────────────┘
//! ```
//!
//! Every transition takes the container by value and returns it in its next state, so a call that does not fit the state
//! does not compile. A transition that fails returns an error that names the container, and the container is removed.

mod address;
mod cleaning;
mod commands;
mod create;
mod death;
mod guard;
mod handle;
mod heard;
mod identity;
mod lease_value;
mod life;
mod look;
mod memory_kills;
mod pid1;
mod ready;
mod removal;
mod route;
mod running;
mod shared;
mod startup;
mod state;
mod supervise;
mod taint;
mod typestate;

use std::time::Duration;

pub(crate) use commands::Unfinished;
pub(crate) use death::KILLED;
pub use guard::Guard;
pub(crate) use handle::Handle;
pub(crate) use life::Plan;
pub(crate) use memory_kills::OomKills;
pub(crate) use removal::{GIVE_UP, GiveUp, Removal};
pub(crate) use shared::Shared;
pub use state::{Created, Exited, Paused, Running, State};
pub use taint::Taint;
pub use typestate::Container;

/// The default deadline of one engine call.
pub(crate) const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(30);
