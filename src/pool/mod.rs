//! Who holds which container: [`Pool`] lends them, [`PooledContainer`] gives them back.
//!
//! # Which file knows which
//!
//! Each file knows only files of the lines above its own, and those before it on its line.
//!
//! | files | concern |
//! |---|---|
//! | `reuse`, `idle`, `item` | the containers by where they are: idle, lent, in creation, in removal; the queue. `idle` is the heart: state without I/O |
//! | `identity`, `backend`, `report`, `roster`, `creations`, `pace`, `ending` | one concern each of the state: names and labels, calls to the engine, errors that no call returns, ids, outcome of creations, back-off, how it ends |
//! | `lifetime`, `watchdog`, `kept` | limits on containers and on leases; the containers that are kept for a key |
//! | `hooks` | what the user does with a container before its first lease and after each |
//! | `core` | all of that state in one `Core`, which the pool and its background tasks share |
//! | `deaths`, `creating`, `cleaning`, `removing`, `reclaim`, `adopt`, `sweep` | one job each on the core |
//! | `maintainer` | the background task, which starts the jobs |
//! | `guard`, `lease`, `pool`, `refresh` | the public face: leases, acquiring, rolling onto a new image |
//! | `error_callback`, `engine_checks`, `prepared`, `builder`, `lifetime_settings`, `hook_settings`, `build` | makes all of it: settings, checks, what the engine makes ready, and the pool |

mod adopt;
mod backend;
mod build;
mod builder;
mod cleaning;
mod core;
mod creating;
mod creations;
mod deaths;
mod ending;
mod engine_checks;
mod error_callback;
mod guard;
mod hook_settings;
mod hooks;
mod identity;
mod idle;
mod item;
mod kept;
mod lease;
mod lifetime;
mod lifetime_settings;
mod maintainer;
mod pace;
#[allow(clippy::module_inception)] // named for the type in it
mod pool;
mod prepared;
mod reclaim;
mod refresh;
mod removing;
mod report;
mod reuse;
mod roster;
mod sweep;
mod watchdog;

pub use adopt::Adopt;
pub use builder::PoolBuilder;
pub use guard::PooledContainer;
pub use hooks::{HookContainer, HookError, Return};
pub use lease::Lease;
pub use pool::Pool;
pub use reuse::Reuse;
