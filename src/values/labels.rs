//! The labels a pool puts on its containers, and their names.
//!
//! They tell an operator which containers belong to which pool: `docker ps --filter label=dockerpool.pool=NAME`. A program's own
//! labels go beside them, see
//! [`ContainerSpec::label`](crate::ContainerSpec::label).
//!
//! Labels cannot be changed once a container is there. On one that a pool has [adopted](crate::Adopt) they still name the
//! instance and the owner that made it; its name tells the present owner.

use std::collections::BTreeMap;

/// Names that begin with this are the library's own.
pub const PREFIX: &str = "dockerpool.";

/// On every container, network and volume the library makes, with the value [`MANAGED_BY_VALUE`].
pub const MANAGED_BY: &str = "dockerpool.managed-by";

/// The value of [`MANAGED_BY`].
pub const MANAGED_BY_VALUE: &str = "dockerpool";

/// The pool's name.
pub const POOL: &str = "dockerpool.pool";

/// One pool in one process: 32 random hexadecimal digits, new at every `build()`.
pub const INSTANCE: &str = "dockerpool.instance";

/// The process that made the container or volume, so that another one on the same machine can prove that it is dead: boot id, pid
/// namespace, pid and start time (in clock ticks since boot), with dots between. `unknown` where the system does not
/// tell.
pub const OWNER: &str = "dockerpool.owner";

/// A hash of all that the container was made from, image included: two containers with the same one are alike.
pub const SPEC: &str = "dockerpool.spec";

/// When the pool asked for the container: seconds since 1970, UTC, by the clock of the owner's machine.
pub const CREATED: &str = "dockerpool.created";

/// Returns the labels that all containers of pools of this name carry, in any process.
pub fn of_pool(name: impl Into<String>) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MANAGED_BY.to_owned(), MANAGED_BY_VALUE.to_owned()),
        (POOL.to_owned(), name.into()),
    ])
}

/// Returns whether a label of this name is reserved for the library. A spec with such a label is refused.
pub fn is_reserved(name: &str) -> bool {
    name.starts_with(PREFIX)
}
