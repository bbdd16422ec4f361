//! Cleaning a container between two leases.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::timeout;

use super::handle::Handle;
use super::shared::Shared;
use crate::agent::Client;
use crate::engine::{Change, ChangeKind, EngineError, EngineErrorKind};
use crate::runtime::bounded;
use crate::spec::Cleaning;

/// The most time that emptying the workspaces may take. Then a new container is there sooner.
const WIPE_LIMIT: Duration = Duration::from_secs(2);

/// How long commands that run when the lease ends may take to end, and the time between two kills of them.
const ENDS: Duration = Duration::from_secs(2);
const KILLED_AGAIN: Duration = Duration::from_millis(20);

/// The state of a container before its first lease, where it was looked at.
#[derive(Debug, Default)]
pub(super) struct Cleanliness {
    /// The root file system, or why the state is not known. The agent keeps the rest.
    baseline: OnceLock<Result<Root, EngineError>>,
    /// Whether the user has changed the container since.
    is_set_up: AtomicBool,
}

/// A root file system before the first lease.
#[derive(Debug)]
enum Root {
    ReadOnly,
    /// A root file system with these changes, sorted. `is_seen`: they were seen in this container, and not in an earlier one.
    Writable {
        changes: Arc<[Change]>,
        is_seen: bool,
    },
}

impl Handle {
    /// Looks at the container before its first command, where it is to be cleaned. A container whose state cannot be known is
    /// usable, and is replaced after its first lease.
    pub(super) async fn take_baseline(&self, agent: &Client) {
        let shared = &**self.shared();
        let Ok(cleaning) = &shared.spec.cleaning else { return };
        let look = bounded(
            "the look at a container",
            shared.call_timeout,
            look(shared, agent, cleaning),
        );
        let baseline = look.await;
        if let Err(error) = &baseline {
            tracing::debug!(container = shared.name(), %error, "the container cannot be cleaned");
        }
        // The first look counts.
        let _ = shared.cleanliness.baseline.set(baseline);
    }
}

async fn look(shared: &Shared, agent: &Client, cleaning: &Cleaning) -> Result<Root, EngineError> {
    let root = match (cleaning.read_only_root, shared.spec.first_changes.known()) {
        (true, _) => Root::ReadOnly,
        (false, Some(changes)) => Root::Writable {
            changes,
            is_seen: false,
        },
        (false, None) => {
            let changes = changes(shared).await?;
            shared.spec.first_changes.note(&changes);
            Root::Writable { changes, is_seen: true }
        }
    };
    let mut watched = Vec::new();
    if let Root::Writable { changes, .. } = &root {
        let is_there = |change: &&Change| change.kind != ChangeKind::Deleted;
        watched.extend(changes.iter().filter(is_there).map(|change| change.path.clone()));
        if let Some(part) = shared.engine.parts().changes {
            watched.extend(part.unlisted().iter().map(|path| (*path).to_owned()));
        }
    }
    let is_read_only = agent
        .take_baseline(&cleaning.workspaces, &cleaning.shared, &watched)
        .await?;
    if matches!(root, Root::ReadOnly) && !is_read_only {
        let message = "the root file system can be written to, which was not asked for";
        return Err(EngineError::new(EngineErrorKind::SettingIgnored, message));
    }
    Ok(root)
}

/// Lists the changes of the root file system, sorted.
async fn changes(shared: &Shared) -> Result<Arc<[Change]>, EngineError> {
    let Some(part) = shared.engine.parts().changes else {
        let message = "the root file system can be written to, and the engine cannot list its changes";
        return Err(EngineError::new(EngineErrorKind::Unsupported, message));
    };
    let mut changes = part.changes(shared.id()).await?;
    changes.sort_unstable();
    Ok(changes.into())
}

impl Shared {
    /// Notes that the user has prepared the container for its first lease.
    pub(crate) fn end_setup(&self) {
        if self.commands().end_setup() {
            self.cleanliness.is_set_up.store(true, Ordering::Release);
        }
    }

    /// Kills everything, cleans the container, and fails unless it is proven to be as before its first lease.
    pub(crate) async fn clean(&self) -> Result<(), EngineError> {
        self.end_lease_value();
        bounded("the cleaning of a container", self.call_timeout, self.clean_up()).await
    }

    async fn clean_up(&self) -> Result<(), EngineError> {
        if self.cleanliness.is_set_up.load(Ordering::Acquire) {
            let message = "on_create() has run commands in the container, and what they have made may have changed";
            return Err(EngineError::new(EngineErrorKind::Unsupported, message));
        }
        let root = match (self.cleanliness.baseline.get(), &self.spec.cleaning) {
            (Some(Ok(root)), Ok(_)) => root,
            (Some(Err(error)), _) => return Err(error.clone()),
            (_, Err(why)) => return Err(EngineError::new(EngineErrorKind::Unsupported, *why)),
            (None, Ok(_)) => {
                let message = "the container's first state is not known";
                return Err(EngineError::new(EngineErrorKind::Internal, message));
            }
        };
        let Some(agent) = self.agent() else {
            return Err(EngineError::new(EngineErrorKind::Internal, "there is no agent"));
        };
        // Before the proof, which holds for what has come into the container by then.
        bounded("the end of all commands", ENDS, self.end_commands(agent)).await?;
        agent.clean(WIPE_LIMIT).await?;
        if let Root::Writable {
            changes: before,
            is_seen,
        } = root
        {
            let now = changes(self).await?;
            if let Some(change) = difference(before, &now) {
                // The earlier container may have been of another image. Then every container would be replaced.
                if !is_seen {
                    self.spec.first_changes.doubt(before);
                }
                let message = format!("{:?} in the root file system has changed", change.path);
                return Err(EngineError::new(EngineErrorKind::Internal, message));
            }
        }
        self.commands().forget();
        Ok(())
    }

    /// Kills everything until the ends of all commands are known. An engine says that it has started a command of its exec API some
    /// time before there is a process, which no kill reaches before.
    async fn end_commands(&self, agent: &Client) -> Result<(), EngineError> {
        while self.commands().has_unfinished() {
            agent.kill_all().await?;
            // The next round looks.
            let _ = timeout(KILLED_AGAIN, self.commands().all_ended()).await;
        }
        Ok(())
    }

    /// Returns whether no command was begun since the container was created or cleaned.
    #[inline]
    pub(crate) fn is_untouched(&self) -> bool {
        self.commands().is_untouched()
    }
}

/// Returns a change that is in one of two sorted lists only.
fn difference<'a>(before: &'a [Change], now: &'a [Change]) -> Option<&'a Change> {
    let mut pairs = before.iter().zip(now);
    let differs = pairs
        .find(|(before, now)| before != now)
        .map(|(before, now)| before.min(now));
    let (shorter, longer) = match before.len() <= now.len() {
        true => (before, now),
        false => (now, before),
    };
    differs.or_else(|| longer.get(shorter.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_only_one_of_both_lists_has_is_found() {
        let change = |path: &str| Change::new(path, ChangeKind::Added);
        let list = |paths: &[&str]| paths.iter().map(|path| change(path)).collect::<Vec<_>>();
        for (before, now, expected) in [
            (&["/a", "/b"][..], &["/a", "/b"][..], None),
            (&["/a"], &["/a", "/b"], Some("/b")),
            (&["/a", "/b"], &["/a"], Some("/b")),
            (&["/b"], &["/a", "/b"], Some("/a")),
            (&[], &["/a"], Some("/a")),
        ] {
            let (before, now) = (list(before), list(now));
            assert_eq!(difference(&before, &now).map(|change| &*change.path), expected);
        }
    }
}
