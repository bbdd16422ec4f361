//! Events that a test adds to those of an engine in memory: [`Told`].

use dockerpool::EngineError;
use dockerpool::engine::{BoxStream, Event};
use futures_util::stream::{self, StreamExt};
use tokio::sync::broadcast;

/// Sends events to all streams of an engine that wraps another one, and cuts these streams.
#[derive(Clone, Debug)]
pub struct Told {
    events: broadcast::Sender<Event>,
    cut: broadcast::Sender<()>,
}

impl Told {
    pub fn new() -> Self {
        Self {
            events: broadcast::Sender::new(16),
            cut: broadcast::Sender::new(1),
        }
    }

    pub fn send(&self, event: Event) {
        self.events.send(event).unwrap();
    }

    /// Ends all streams so far.
    pub fn cut(&self) {
        self.cut.send(()).unwrap();
    }

    /// Returns the events of `stream` and those that are sent from now on, until the next cut.
    pub fn join(
        &self,
        stream: BoxStream<'static, Result<Event, EngineError>>,
    ) -> BoxStream<'static, Result<Event, EngineError>> {
        let told = stream::unfold(self.events.subscribe(), async |mut told| {
            let event = told.recv().await.ok()?;
            Some((Ok(event), told))
        });
        let mut cut = self.cut.subscribe();
        stream::select(stream, told)
            .take_until(async move { cut.recv().await })
            .boxed()
    }
}
