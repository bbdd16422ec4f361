//! How a pool ends: [`Ending`] and [`Finished`].

use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::EngineError;

/// Holds the moment at which a shutdown stops waiting for leases. It only ever moves to an earlier time.
#[derive(Default)]
pub(super) struct Ending {
    leases_until: watch::Sender<Option<Instant>>,
}

impl Ending {
    /// Asks for an end at this moment, unless an earlier one was asked for. `None` is a moment beyond the end of time.
    pub(super) fn ask(&self, until: Option<Instant>) {
        self.leases_until.send_if_modified(|known| {
            let earlier = match (*known, until) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(known), Some(until)) => until < known,
            };
            if earlier {
                *known = until;
            }
            earlier
        });
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Instant>> {
        self.leases_until.subscribe()
    }
}

/// Tells whether the pool has ended, and how.
#[derive(Clone, Debug)]
pub(super) enum Finished {
    NotYet,
    Clean,
    /// Containers may be left. The error is the engine's last answer.
    Incomplete(Option<EngineError>),
}

impl Finished {
    pub(super) fn is_finished(&self) -> bool {
        !matches!(self, Self::NotYet)
    }

    pub(super) fn result(&self) -> Result<(), Option<EngineError>> {
        match self {
            Self::Incomplete(error) => Err(error.clone()),
            Self::NotYet | Self::Clean => Ok(()),
        }
    }
}
