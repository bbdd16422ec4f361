//! Who holds which container: [`Pool`] lends them, [`PooledContainer`] gives them back.

mod adopt;
mod builder;
mod core;
mod creating;
mod deaths;
mod expire;
mod guard;
mod idle;
mod lifetime;
mod lifetime_settings;
mod maintainer;
mod pace;
mod pool;
mod reclaim;
mod refresh;
mod removing;
mod reuse;
mod sweep;
mod watchdog;

pub use crate::values::status::{Counters, Status};
pub use adopt::Adopt;
pub use builder::PoolBuilder;
pub use guard::PooledContainer;
pub use pool::Pool;
pub use reuse::Reuse;
