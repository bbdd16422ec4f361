//! The labels a pool puts on its containers, and the names behind them.
//!
//! Whoever looks at an engine from outside can tell by them what belongs to whom:
//! `docker ps --filter label=dockerpool.pool=NAME`.

/// Names that begin with this are the library's own.
pub const PREFIX: &str = "dockerpool.";

/// On every container the library makes, with the value [`MANAGED_BY_VALUE`].
pub const MANAGED_BY: &str = "dockerpool.managed-by";

/// The value of [`MANAGED_BY`].
pub const MANAGED_BY_VALUE: &str = "dockerpool";

/// The pool's name.
pub const POOL: &str = "dockerpool.pool";

/// One pool in one process: 32 random hexadecimal digits, new at every `build()`.
pub const INSTANCE: &str = "dockerpool.instance";
