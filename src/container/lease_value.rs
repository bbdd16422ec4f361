//! The value that a later room keeps for the lease of a container: [`LeaseValue`].

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// A value that lives as long as the present lease.
#[derive(Default)]
pub(super) struct LeaseValue {
    /// Whether there may be a value: most leases have none.
    is_set: AtomicBool,
    value: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
}

impl LeaseValue {
    /// Returns the value, which is made if there is none. Only one type is used.
    pub(super) fn get<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut value = self.value.lock();
        self.is_set.store(true, Ordering::Release);
        if let Some(Ok(known)) = value.clone().map(Arc::downcast) {
            return known;
        }
        let new = Arc::new(T::default());
        *value = Some(new.clone());
        new
    }

    /// Returns the value, if it was made.
    pub(super) fn known<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.value.lock().clone()?.downcast().ok()
    }

    /// Drops the value.
    #[inline]
    pub(super) fn end(&self) {
        if self.is_set.load(Ordering::Acquire) {
            self.is_set.store(false, Ordering::Release);
            // Dropped without the lock.
            let value = self.value.lock().take();
            drop(value);
        }
    }
}

impl fmt::Debug for LeaseValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseValue").finish_non_exhaustive()
    }
}
