//! The item that a pool lends: a running container.

use super::idle::Lend;
use crate::container::{Container, Running};

/// A container between its creation and its removal.
pub(super) type Item = Container<Running>;

impl Lend for Item {
    #[inline]
    fn is_usable(&self) -> bool {
        let shared = self.shared();
        !shared.is_tainted() && !shared.has_unfinished_commands() && !shared.life.is_withdrawn()
    }

    #[inline]
    fn is_outdated(&self) -> bool {
        self.shared().life.is_outdated()
    }
}
