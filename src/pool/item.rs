//! The item that a pool lends: a running container.

use super::idle::Judge;
use crate::container::{Container, Running};

/// A container between its creation and its removal.
pub(super) type Item = Container<Running>;

/// Judges a container by its flags alone.
pub(super) const JUDGE: Judge<Item> = Judge {
    is_usable: Item::is_usable,
    is_outdated: |item| item.shared().life.is_outdated(),
};
