//! Removing a container for certain, wherever its owner is dropped.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle as RuntimeHandle;
use tokio::time::Instant;

use crate::engine::{Engine, EngineError, EngineErrorKind, Selector, listed};
use crate::error::{Error, ErrorFn};
use crate::runtime::bounded;
use crate::values::backoff::Backoff;
use crate::values::shown::Rounded;

/// Names the call in errors.
const REMOVAL: &str = "the removal of a container";

/// When to look again for a container whose create call was given up: the engine may finish the call later.
const UNCONFIRMED_CHECKS: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(4),
];

/// After this long the engine counts as gone for good, and `on_error` is told of the container.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(600);

/// The same on a thread of its own, which must not hold up the end of a process for long.
const GIVE_UP_WITHOUT_RUNTIME: Duration = Duration::from_secs(60);

/// The longest silence of the engine after which a removal asks whether the engine answers at all. The silence begins with the
/// timeout of a call and doubles.
const LONGEST_SILENCE: Duration = Duration::from_secs(120);

/// The pause between two attempts to build a runtime.
const RUNTIME_PAUSE: Duration = Duration::from_millis(100);

/// The function that is told of a container whose removal was given up. Without one, the error is logged.
#[derive(Clone, Default)]
pub(crate) struct GiveUp(pub(crate) Option<ErrorFn>);

impl GiveUp {
    fn tell(&self, container: &str, error: EngineError) {
        let error = Error::engine("remove the container", Some(container), error);
        match &self.0 {
            Some(tell) => tell(error),
            None => tracing::error!(%error, "gave up the removal of a container"),
        }
    }
}

impl fmt::Debug for GiveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GiveUp").field(&self.0.is_some()).finish()
    }
}

/// The duty of a container's owner to have it removed.
#[derive(Debug)]
pub(super) struct Duty {
    /// Nothing is left to be removed, or another owner has taken the container over.
    ended: AtomicBool,
    give_up: GiveUp,
}

impl Duty {
    pub(super) fn new(give_up: GiveUp) -> Self {
        Self {
            ended: AtomicBool::new(false),
            give_up,
        }
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(super) fn give_up(&self) -> GiveUp {
        self.give_up.clone()
    }
}

/// The removal of one container.
#[derive(Clone, Debug)]
pub(crate) struct Removal {
    pub(crate) engine: Arc<dyn Engine>,
    /// The id, or the name until the engine has given an id.
    pub(crate) target: String,
    /// Restricts the removal to these containers, where others may have one of the same name. `target` is a name then.
    pub(crate) among: Option<Selector>,
    /// Whether the engine has confirmed that the container exists. Until then "not found" may come too early.
    pub(crate) confirmed: bool,
    pub(crate) call_timeout: Duration,
}

impl Removal {
    /// Makes one attempt. Each of its calls ends by its timeout.
    pub(crate) async fn attempt(&self) -> Result<(), EngineError> {
        for id in self.targets().await? {
            bounded(REMOVAL, self.call_timeout, self.engine.remove(&id)).await?;
        }
        Ok(())
    }

    /// Returns the ids, or the names, of the containers to remove.
    async fn targets(&self) -> Result<Vec<String>, EngineError> {
        let Some(selector) = &self.among else {
            return Ok(vec![self.target.clone()]);
        };
        let mut found = listed(&*self.engine, selector, self.call_timeout).await?;
        found.retain(|report| report.name == self.target);
        Ok(found.into_iter().map(|report| report.id).collect())
    }

    /// Retries until the engine confirms that the container is gone, or until `give_up` has passed.
    ///
    /// Requests do not pile up in an engine that hangs: see [`outwait`](Self::outwait).
    pub(crate) async fn persist(&self, give_up: Duration) -> Result<(), EngineError> {
        let begun = Instant::now();
        let mut backoff = Backoff::default();
        let mut silence = self.call_timeout;
        loop {
            let attempt = async {
                for id in self.targets().await? {
                    self.outwait(&id, &mut silence).await?;
                }
                Ok(())
            };
            let left = give_up.saturating_sub(begun.elapsed());
            // A short `give_up` does not cut a call short.
            let error = match bounded(REMOVAL, left.max(self.call_timeout), attempt).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if begun.elapsed() >= give_up {
                return Err(error);
            }
            tracing::debug!(container = self.target, %error, "could not remove a container; the removal is tried again");
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Sends one request, and waits for its answer as long as the engine answers nothing else either: the engine may still carry
    /// the request out, and a second request would only wait beside the first. Fails when the engine answers a check and not the
    /// request, which is lost then, or hangs alone. `silence` is the time until the next check. It doubles with each check, which
    /// bounds the number of requests where each request hangs alone.
    async fn outwait(&self, id: &str, silence: &mut Duration) -> Result<(), EngineError> {
        let mut request = self.engine.remove(id);
        loop {
            let patience = *silence;
            if let Ok(answer) = tokio::time::timeout(patience, &mut request).await {
                return answer;
            }
            *silence = patience.saturating_mul(2).min(LONGEST_SILENCE.max(self.call_timeout));
            let check = bounded("the check of the engine", self.call_timeout, self.engine.check());
            let checked = tokio::select! {
                biased;
                answer = &mut request => return answer,
                checked = check => checked,
            };
            if checked.is_err_and(|error| error.kind() == EngineErrorKind::Timeout) {
                continue;
            }
            let look = bounded("an inspect", self.call_timeout, self.engine.inspect(id));
            if look.await.is_err_and(|error| error.kind() == EngineErrorKind::NotFound) && self.confirmed {
                // The answer is lost.
                return Ok(());
            }
            // The engine answers, or is gone and the request with it.
            let message = format!("no answer to {REMOVAL} within {}", Rounded(patience));
            return Err(EngineError::new(EngineErrorKind::Timeout, message));
        }
    }

    /// Looks a few more times for a container whose creation was never confirmed.
    pub(crate) async fn look_again(&self) {
        if self.confirmed {
            return;
        }
        for pause in UNCONFIRMED_CHECKS {
            tokio::time::sleep(pause).await;
            if let Err(error) = self.attempt().await {
                tracing::debug!(container = self.target, %error, "could not look again for a container whose creation was given up");
            }
        }
    }

    /// Removes the container in the background, on the given runtime. If the runtime has ended or ends, the removal goes on on a
    /// thread of its own. `keep` is dropped when the removal has ended.
    pub(crate) fn spawn(self, runtime: &RuntimeHandle, name: &str, give_up: GiveUp, keep: Option<Box<dyn Any + Send>>) {
        let job = Job {
            name: name.to_owned(),
            removal: self,
            give_up,
            keep,
            done: false,
        };
        // A runtime that has ended drops the task, and the job's `Drop` takes over.
        drop(runtime.spawn(job.run()));
    }
}

/// A removal in the background. Dropping an unfinished job moves the removal to a thread of its own.
struct Job {
    name: String,
    removal: Removal,
    give_up: GiveUp,
    keep: Option<Box<dyn Any + Send>>,
    done: bool,
}

impl Job {
    async fn run(mut self) {
        self.remove(GIVE_UP).await;
        self.done = true;
    }

    async fn remove(&mut self, limit: Duration) {
        if let Err(error) = self.removal.persist(limit).await {
            self.give_up.tell(&self.name, error);
        }
        self.keep = None;
        self.removal.look_again().await;
    }

    /// Goes on without the runtime that the job began on.
    fn remove_on_this_thread(&mut self) {
        let begun = std::time::Instant::now();
        let error = loop {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => return runtime.block_on(self.remove(GIVE_UP_WITHOUT_RUNTIME)),
                Err(error) if begun.elapsed() >= GIVE_UP_WITHOUT_RUNTIME => break error,
                // Perhaps no file descriptor is left.
                Err(_) => std::thread::sleep(RUNTIME_PAUSE),
            }
        };
        self.give_up.tell(&self.name, cannot_run(error));
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut job = Job {
            name: self.name.clone(),
            removal: self.removal.clone(),
            give_up: self.give_up.clone(),
            keep: self.keep.take(),
            // The thread is the last attempt.
            done: true,
        };
        let spawned = std::thread::Builder::new()
            .name("dockerpool-removal".to_owned())
            .spawn(move || job.remove_on_this_thread());
        if let Err(error) = spawned {
            self.give_up.tell(&self.name, cannot_run(error));
        }
    }
}

fn cannot_run(error: std::io::Error) -> EngineError {
    let words = "the runtime has ended, and no other can be started for the removal";
    EngineError::of_system(EngineErrorKind::Internal, words, error)
}
