//! Replacing containers that are too old, and removing those that were idle for too long.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::{Instant, timeout_at};

use super::core::{Background, Item};
use super::lifetime::Lifetime;

impl Lifetime {
    /// Does what is due; when the next is.
    fn tend(&self, background: &Background) -> Option<Instant> {
        let now = Instant::now();
        let mut next = None;
        let mut at_latest = |at: Instant| next = Some(next.map_or(at, |next: Instant| next.min(at)));

        let mut expired = false;
        for shared in background.known.lock().values().filter_map(std::sync::Weak::upgrade) {
            match shared.life.expires() {
                Some(at) if at <= now => expired |= shared.life.set_outdated(),
                Some(at) => at_latest(at),
                None => {}
            }
        }
        if expired {
            background.idle.outdate();
        }

        if let Some(limit) = self.limits.idle_timeout {
            // Before the look, so that whatever becomes idle after it rings.
            self.idle_timer.store(false, Ordering::Release);
            let until = |item: &Item| {
                item.shared()
                    .life
                    .idle_since()
                    .and_then(|since| since.checked_add(limit))
            };
            let rested = background
                .idle
                .evict_above_min(|item| until(item).is_some_and(|at| at <= now));
            for (item, slot) in rested {
                tracing::debug!(pool = background.pool, container = item.name(), "idle for too long");
                background.idle.give_away(item, slot);
            }
            if let Some(at) = background.idle.first_above_min(until) {
                self.idle_timer.store(true, Ordering::Release);
                at_latest(at);
            }
        }
        next
    }
}

/// The task that keeps the timer.
pub(super) async fn keep(lifetime: Arc<Lifetime>, background: Arc<Background>) {
    loop {
        let changed = lifetime.changed.notified();
        match lifetime.tend(&background) {
            // The time being up is what was waited for.
            Some(next) => drop(timeout_at(next, changed).await),
            None => changed.await,
        }
    }
}
