//! The labels that a pool sets on its containers.
//!
//! The labels tell an operator which containers belong to which pool: `docker ps --filter label=dockerpool.pool=NAME`. A program
//! adds labels of its own by [`ContainerSpec::label`](crate::ContainerSpec::label).
//!
//! The labels of a container cannot be changed. On a container that a pool has [adopted](crate::Adopt), they name the instance
//! and the owner that created it; its name tells the present owner.

use std::collections::BTreeMap;

/// The prefix of the library's own labels.
pub const PREFIX: &str = "dockerpool.";

/// The label of every container, network and volume that the library creates, with the value [`MANAGED_BY_VALUE`].
pub const MANAGED_BY: &str = "dockerpool.managed-by";

/// The value of [`MANAGED_BY`].
pub const MANAGED_BY_VALUE: &str = "dockerpool";

/// The label with the pool's name.
pub const POOL: &str = "dockerpool.pool";

/// The label with the instance, which is one pool in one process: 32 random hexadecimal digits, new at every `build()`.
pub const INSTANCE: &str = "dockerpool.instance";

/// The label of a network that is to be removed with its pool, with the value `true`: see
/// [`NewNetwork::remove_on_shutdown`](method@crate::engine::NewNetwork::remove_on_shutdown).
pub const REMOVE_ON_SHUTDOWN: &str = "dockerpool.remove-on-shutdown";

/// The label with the owner, the process that created the container, network or volume, in a form by which another process on the same
/// machine can prove that the owner is dead: boot id, pid namespace, pid and start time (in clock ticks since boot), with dots
/// between. `unknown` where the system does not tell.
pub const OWNER: &str = "dockerpool.owner";

/// The label with a hash of the settings and the image: two containers with the same hash are alike.
pub const SPEC: &str = "dockerpool.spec";

/// The label with the time at which the pool asked for the container: seconds since 1970, UTC, by the clock of the owner's machine.
pub const CREATED: &str = "dockerpool.created";

/// Returns the labels of all containers of pools of this name, in any process.
pub fn of_pool(name: impl Into<String>) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MANAGED_BY.to_owned(), MANAGED_BY_VALUE.to_owned()),
        (POOL.to_owned(), name.into()),
    ])
}

/// Returns whether a label of this name is reserved for the library. `build()` and `create()` refuse a spec with such a label.
pub fn is_reserved(name: &str) -> bool {
    name.starts_with(PREFIX)
}
