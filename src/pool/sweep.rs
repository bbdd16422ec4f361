//! The last part of a shutdown.

use std::time::Duration;

use futures_util::{TryStreamExt, stream};
use tokio::time::{Instant, sleep};

use super::core::Background;
use crate::engine::{EngineError, EngineErrorKind, listed};
use crate::runtime::bounded;
use crate::values::backoff::Backoff;

/// How long a shutdown's last part may take, in which everything left is removed.
pub(super) const SWEEP_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause after the first round of that part, which doubles from round to round.
const SWEEP_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause between two rounds.
const LONGEST_SWEEP_PAUSE: Duration = Duration::from_millis(250);

pub(super) fn not_swept() -> EngineError {
    EngineError::new(
        EngineErrorKind::Timeout,
        format!("the engine did not remove everything within {SWEEP_TIMEOUT:?}"),
    )
}

/// Removes everything that was adopted or carries our instance label, by what the answer says of it, looks whether it is
/// gone, and gives back what was made ready. Ends at `until` also where the engine answers at once, so that nobody else
/// gets to look at the time.
pub(super) async fn sweep(background: &Background, until: Instant) -> Result<(), EngineError> {
    let selector = background.selector();
    let mut backoff = Backoff::default();
    let mut pause = SWEEP_PAUSE;
    while Instant::now() < until {
        let attempt = async {
            let left = listed(&*background.engine, &selector, background.call_timeout).await?;
            let adopted = std::mem::take(&mut *background.adopted.lock());
            let ids: Vec<_> = left.into_iter().map(|report| report.id).chain(adopted).collect();
            let empty = ids.is_empty();
            stream::iter(ids.iter().map(Ok))
                .try_for_each_concurrent(background.max_removing, async |id| {
                    let remove = background.engine.remove(id);
                    let removed = bounded("the removal of a container", background.call_timeout, remove).await;
                    removed.inspect_err(|_| background.adopted.lock().extend(ids.iter().cloned()))
                })
                .await?;
            if empty {
                let release = background.engine.release(&background.spec);
                bounded("the release of what was made ready", background.call_timeout, release).await?;
            }
            Ok::<_, EngineError>(empty)
        };
        match attempt.await {
            Ok(true) => return Ok(()),
            // Looked at once more: an abandoned creation may have come through meanwhile, and an engine may still list what
            // it has said is removed.
            Ok(false) => {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_SWEEP_PAUSE);
            }
            Err(error) if !error.is_retryable() => return Err(error),
            Err(error) => {
                tracing::debug!(pool = background.pool, %error, "the engine did not remove everything yet");
                sleep(backoff.next_delay()).await;
            }
        }
    }
    Err(not_swept())
}
