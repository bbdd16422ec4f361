//! Removing a container for certain, from wherever its owner is dropped.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle as RuntimeHandle;

use crate::backoff::Backoff;
use crate::engine::{Engine, EngineError, bounded};

/// When to look again for a container whose create call was given up: the engine may finish the call later.
const UNCONFIRMED_CHECKS: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(4),
];

/// After this long the engine is taken to be gone for good, and the container is named in the log.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(600);

/// Without a runtime, the thread that stands in for it must not keep a process from ending well for long.
const GIVE_UP_WITHOUT_RUNTIME: Duration = Duration::from_secs(60);

/// The removal of one container.
#[derive(Clone, Debug)]
pub(crate) struct Removal {
    pub(crate) engine: Arc<dyn Engine>,
    /// Id, or name where no id was given yet.
    pub(crate) target: String,
    /// Whether the engine has confirmed that the container exists; else "not found" may be too early.
    pub(crate) confirmed: bool,
    pub(crate) call_timeout: Duration,
}

impl Removal {
    /// One attempt.
    pub(crate) async fn attempt(&self) -> Result<(), EngineError> {
        bounded(
            "the removal of a container",
            self.call_timeout,
            self.engine.remove(&self.target),
        )
        .await
    }

    /// Tries until the engine says that the container is gone, or `give_up` has passed.
    pub(crate) async fn persist(&self, give_up: Duration) -> Result<(), EngineError> {
        let begun = Instant::now();
        let mut backoff = Backoff::default();
        loop {
            match self.attempt().await {
                Ok(()) => break,
                Err(error) if begun.elapsed() >= give_up => return Err(error),
                Err(error) => {
                    tracing::debug!(container = self.target, %error, "could not remove a container, will try again");
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
        Ok(())
    }

    /// The same where there is nobody to give the failure to.
    async fn persist_or_log(&self, give_up: Duration) {
        if let Err(error) = self.persist(give_up).await {
            tracing::error!(container = self.target, %error, "gave up removing a container");
        }
    }

    /// Looks again, a few times, for a container of which "not found" was not the last word.
    pub(crate) async fn look_again(&self) {
        if self.confirmed {
            return;
        }
        for pause in UNCONFIRMED_CHECKS {
            tokio::time::sleep(pause).await;
            if let Err(error) = self.attempt().await {
                tracing::debug!(container = self.target, %error, "could not look again for a container");
            }
        }
    }

    /// Removes it behind, on the given runtime; if that is gone or goes, on a thread of its own. `keep` is dropped when
    /// the removal has ended.
    pub(crate) fn spawn(self, runtime: &RuntimeHandle, keep: Option<Box<dyn Any + Send>>) {
        let job = Job {
            removal: self,
            keep,
            done: false,
        };
        // A runtime that is shut down drops the task unpolled, and the job's own `Drop` takes over.
        drop(runtime.spawn(job.run()));
    }
}

struct Job {
    removal: Removal,
    keep: Option<Box<dyn Any + Send>>,
    done: bool,
}

impl Job {
    async fn run(mut self) {
        self.removal.persist_or_log(GIVE_UP).await;
        self.keep = None;
        self.removal.look_again().await;
        self.done = true;
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let removal = self.removal.clone();
        let keep = self.keep.take();
        let target = removal.target.clone();
        let spawned = std::thread::Builder::new()
            .name("dockerpool-removal".to_owned())
            .spawn(move || {
                let _keep = keep;
                match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => {
                        runtime.block_on(async {
                            removal.persist_or_log(GIVE_UP_WITHOUT_RUNTIME).await;
                            removal.look_again().await;
                        });
                    }
                    Err(error) => tracing::error!(container = removal.target, %error, "could not remove a container"),
                }
            });
        if let Err(error) = spawned {
            tracing::error!(container = target, %error, "could not remove a container");
        }
    }
}
