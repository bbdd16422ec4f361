//! The last part of a shutdown, in which everything left is removed.

use std::time::Duration;

use futures_util::{TryStreamExt, stream};
use tokio::time::{Instant, sleep, timeout_at};

use super::core::Core;
use super::ending::Finished;
use crate::engine::{EngineError, EngineErrorKind};
use crate::values::backoff::Backoff;
use crate::values::shown::Rounded;

/// How long the sweep may take.
pub(super) const SWEEP_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause after the first round. It doubles from round to round.
const SWEEP_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause between two rounds.
const LONGEST_SWEEP_PAUSE: Duration = Duration::from_millis(250);

/// Removes all that the pool has on the engine, within [`SWEEP_TIMEOUT`].
pub(super) async fn sweep(core: &Core) -> Finished {
    let until = Instant::now() + SWEEP_TIMEOUT;
    match timeout_at(until, remove_all(core, until)).await {
        Ok(Ok(())) => Finished::Clean,
        Ok(Err(error)) => Finished::Incomplete(Some(error)),
        Err(_) => Finished::Incomplete(Some(not_swept())),
    }
}

/// Repeats rounds until one finds nothing. Ends at `until` also where the engine answers at once, which leaves the timer of
/// the caller no turn.
async fn remove_all(core: &Core, until: Instant) -> Result<(), EngineError> {
    let mut backoff = Backoff::default();
    let mut pause = SWEEP_PAUSE;
    while Instant::now() < until {
        match round(core).await {
            Ok(true) => return Ok(()),
            // An abandoned creation may come through meanwhile, and an engine may still list a container that it has
            // removed.
            Ok(false) => {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_SWEEP_PAUSE);
            }
            Err(error) if !error.is_retryable() => return Err(error),
            Err(error) => {
                tracing::debug!(pool = core.identity.pool, %error, "the engine did not remove everything yet");
                sleep(backoff.next_delay()).await;
            }
        }
    }
    Err(not_swept())
}

/// Removes every container that carries our instance label or was adopted. Where there is none, releases what was made ready
/// for the pool, and returns `true`.
async fn round(core: &Core) -> Result<bool, EngineError> {
    let backend = &core.backend;
    // By the labels in the answer: an engine that does not know the filter lists the containers of others too.
    let left = backend.list(&core.identity.own()).await?;
    let adopted = core.roster.take_adopted();
    let ids: Vec<_> = left.into_iter().map(|report| report.id).chain(adopted).collect();
    stream::iter(ids.iter().map(Ok))
        .try_for_each_concurrent(core.removals.max_at_once, async |id| {
            if let Some(shared) = core.roster.find(id) {
                shared.death.note_by_library();
            }
            let remove = backend.engine.remove(id);
            let removed = backend.call("the removal of a container", remove).await;
            removed.inspect_err(|_| core.roster.put_back_adopted(ids.iter().cloned()))
        })
        .await?;
    if ids.is_empty() {
        let release = backend.engine.release(&backend.spec.plan);
        backend.call("the release of what was made ready", release).await?;
    }
    Ok(ids.is_empty())
}

fn not_swept() -> EngineError {
    EngineError::new(
        EngineErrorKind::Timeout,
        format!("the engine did not remove everything within {}", Rounded(SWEEP_TIMEOUT)),
    )
}
