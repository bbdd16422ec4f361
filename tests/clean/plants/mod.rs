//! Programs that leave something behind, one for each channel.

mod identity;
mod memory;
mod objects;
mod processes;
mod root;

/// What is promised of a container after a plant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// The container is cleaned, and lent again.
    Cleaned,
    /// A root file system that could be written to has changed, and so the container is replaced. One that is read-only is
    /// cleaned.
    Root,
    /// As [`Root`](Self::Root), but some engines do not show such a change, as the documentation of `Clean` says.
    NotShown,
    /// The container is cleaned or replaced.
    Either,
}

use Promise::{Cleaned, Either, NotShown, Root};

/// A program that leaves something behind: Python, run by `plant.py`.
#[derive(Clone, Copy, Debug)]
pub struct Plant {
    pub name: &'static str,
    pub promise: Promise,
    pub code: &'static str,
    /// Whether another command of the same lease can see it.
    pub is_seen: bool,
}

const fn plant(name: &'static str, promise: Promise, code: &'static str) -> Plant {
    let is_seen = true;
    Plant {
        name,
        promise,
        code,
        is_seen,
    }
}

/// A plant that no later command can see, since the agent or the kernel takes it back at once.
const fn unseen(name: &'static str, promise: Promise, code: &'static str) -> Plant {
    let mut plant = plant(name, promise, code);
    plant.is_seen = false;
    plant
}

/// Returns the plants in file systems in memory and among the objects of System V.
pub fn in_memory() -> impl Iterator<Item = Plant> {
    [memory::PLANTS, objects::PLANTS].into_iter().flatten().copied()
}

/// Returns the other plants: processes, what belongs to the whole container, and the root file system.
pub fn elsewhere() -> impl Iterator<Item = Plant> {
    let lists = [processes::PLANTS, identity::PLANTS, root::PLANTS];
    lists.into_iter().flatten().copied()
}

/// Returns one of so many plants.
pub fn some(step: usize) -> impl Iterator<Item = Plant> {
    in_memory().chain(elsewhere()).step_by(step)
}
