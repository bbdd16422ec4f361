//! The pool's background task: creates, removes, watches for deaths, and ends it all.
//!
//! One task per pool, driven by events: a demand rung by [`Idle`], a container to be removed, a task that ended, a death
//! told by the engine. It holds the pool's core, never the [`Pool`](super::Pool), so it does not keep a pool alive.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::adopt;
use super::idle::{Idle, Judge, Retired, Slot};
use super::lifetime::{self, Lifetime};
use super::watchdog::{self, Watchdog};
use crate::container::{Container, GIVE_UP, GiveUp, Handle, Running, Shared, Taint};
use crate::engine::{ContainerState, Engine, EngineError, EngineErrorKind, Event, EventKind, Selector, listed};
use crate::error::{Error, ErrorFn};
use crate::runtime::Home;
use crate::runtime::bounded;
use crate::spec::Resolved;
use crate::values::backoff::Backoff;
use crate::values::labels;
use crate::values::status::Cgroups;
use crate::values::text;

/// How long a shutdown's last part may take, in which everything left is removed.
pub(super) const SWEEP_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause after the first round of that part, which doubles from round to round.
const SWEEP_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause between two rounds.
const LONGEST_SWEEP_PAUSE: Duration = Duration::from_millis(250);

/// One that dies idle sooner than this after its start counts as one that could not be created: its image or its
/// command is broken, and making the next one at once would go on for ever.
const EARLY_DEATH: Duration = Duration::from_secs(10);

/// Without a failure for this long, the back-off begins anew.
const FORGIVEN: Duration = Duration::from_secs(10);

/// How far back a new subscription to events reaches, so that nothing is missed between a list and it, also when the
/// engine's clock differs a little from ours.
const EVENT_OVERLAP: Duration = Duration::from_secs(2);

/// How long after a subscription to events it certainly stands.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// How many warnings about one container are taken.
const MAX_WARNINGS_OF_ONE: usize = 16;

/// How many texts of warnings are remembered. In place of the last one the user is told that there are no more.
const MAX_WARNINGS: usize = 256;
const MAX_WARNING_BEFORE_LAST: usize = MAX_WARNINGS - 1;
const NO_MORE_WARNINGS: &str = "the engine has given too many warnings; no more of them are told";

pub(super) type Item = Container<Running>;

/// What a container is good for, between leases.
pub(super) const JUDGE: Judge<Item> = Judge {
    is_usable: Item::is_usable,
    is_outdated: |item| item.shared().life.is_outdated(),
};

/// Shares state between the pool and its background tasks.
pub(super) struct Background {
    pub(super) pool: String,
    pub(super) instance: String,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) spec: Arc<Resolved>,
    pub(super) call_timeout: Duration,
    pub(super) runtime: Home,
    pub(super) idle: Arc<Idle<Item>>,
    /// What came of creations so far.
    pub(super) created: watch::Sender<Created>,
    /// By when a shutdown stops waiting for leases.
    pub(super) leases_until: watch::Sender<Option<Instant>>,
    /// Every container that is alive for all we know, by id; for the events, which name it so.
    pub(super) known: Mutex<HashMap<String, Weak<Shared>>>,
    pub(super) next_name: AtomicU64,
    /// Counts the refreshes.
    pub(super) generation: AtomicU64,
    pub(super) lifetime: Option<Arc<Lifetime>>,
    pub(super) watchdog: Option<Arc<Watchdog>>,
    /// Whether a container's name tells that it was never lent, so that another process may adopt it.
    pub(super) marks_unused: bool,
    /// The ids of those that were adopted and not removed yet: another instance's labels are on them.
    pub(super) adopted: Mutex<HashSet<String>>,
    /// How many are removed at once.
    pub(super) max_removing: usize,
    pub(super) removing: Semaphore,
    /// Neither panics nor blocks, whatever the user's function does.
    pub(super) on_error: ErrorFn,
    /// The first container has the limits that were asked for.
    pub(super) limits_hold: AtomicBool,
    /// What the engine has said of containers so far.
    pub(super) warned: Mutex<HashSet<String>>,
    /// What the newest container has.
    pub(super) cgroups: Mutex<Cgroups>,
    /// A creation has failed, or a container died early, since this was last looked at. Set before its slot is free: whoever
    /// takes that must know of the failure.
    pub(super) creation_failed: AtomicBool,
}

/// What came of creations so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Created {
    pub(super) count: usize,
    /// Why the last one failed, if the last one did.
    pub(super) last_error: Option<EngineError>,
}

/// How the pool's end went.
#[derive(Clone, Debug)]
pub(super) enum Finished {
    NotYet,
    Clean,
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

impl Background {
    pub(super) fn begin_shutdown(&self, wait_for_leases: Duration) {
        let until = self.runtime.now().checked_add(wait_for_leases);
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
        self.idle.close();
    }

    pub(super) fn last_create_error(&self) -> Option<EngineError> {
        self.created.borrow().last_error.clone()
    }

    /// Tells the user of an error that no call of theirs can return.
    pub(super) fn report(&self, error: Error) {
        (self.on_error)(error);
    }

    /// Tells the user what the engine says of a container: each text once, and no more of them than anybody reads.
    pub(super) fn warn(&self, container: &str, mut warnings: Vec<String>) {
        warnings.truncate(MAX_WARNINGS_OF_ONE);
        for warning in warnings {
            let warning = {
                let mut warned = self.warned.lock();
                match warned.len() {
                    MAX_WARNINGS.. => return,
                    _ if !warned.insert(text::clean(&warning).into_owned()) => continue,
                    MAX_WARNING_BEFORE_LAST => NO_MORE_WARNINGS.to_owned(),
                    _ => warning,
                }
            };
            let warning = EngineError::new(EngineErrorKind::Warning, warning);
            tracing::warn!(pool = self.pool, container, %warning, "the engine warns of a container");
            self.report(Error::engine(
                "create the container without a warning",
                Some(container),
                warning,
            ));
        }
    }

    /// What this pool has made.
    pub(super) fn selector(&self) -> Selector {
        Selector::label(labels::INSTANCE, &self.instance)
    }

    /// What this pool has, and perhaps more: what it has adopted has the labels of another instance.
    fn wide_selector(&self) -> Selector {
        if self.adopted.lock().is_empty() {
            self.selector()
        } else {
            Selector::pool(&self.pool)
        }
    }

    /// The engine's events are about it from now on.
    pub(super) fn know(&self, container: &Arc<Shared>) {
        self.known
            .lock()
            .insert(container.id().to_owned(), Arc::downgrade(container));
    }

    /// Chosen before the call, so that an abandoned creation can be found and removed.
    pub(super) fn new_name(&self) -> String {
        let number = self.next_name.fetch_add(1, Ordering::Relaxed);
        numbered_name(&self.pool, &self.instance, number)
    }

    /// The kernel has killed a process of this container: what is left in it may be half of something.
    fn out_of_memory(&self, event: &Event) {
        let known = self.known.lock().get(&event.id).cloned();
        if let Some(shared) = known.and_then(|shared| shared.upgrade()) {
            shared.note_oom_kill(event.at);
        }
        for (item, slot) in self.idle.evict(|item| item.id() == event.id) {
            self.idle.give_away(item, slot);
        }
    }

    /// The engine says that this container is not usable any more.
    fn lost(&self, id: &str, kind: EventKind) {
        let known = if kind == EventKind::Removed {
            self.known.lock().remove(id)
        } else {
            self.known.lock().get(id).cloned()
        };
        if let Some(shared) = known.and_then(|shared| shared.upgrade()) {
            if kind == EventKind::Paused {
                // Whoever has it on loan may wait for it to be thawed; it is not lent again.
                shared.life.withdraw();
            } else {
                shared.set_taint(Taint::Died);
            }
        }
        for (item, slot) in self.idle.evict(|item| item.id() == id) {
            tracing::debug!(
                pool = self.pool,
                container = item.name(),
                ?kind,
                "an idle container was lost"
            );
            item.shared().set_taint(Taint::Died);
            self.note_unlent(item.shared());
            self.idle.give_away(item, slot);
        }
    }

    /// This one died before anybody got it. Soon after its start, that counts as a creation that failed.
    fn note_unlent(&self, shared: &Shared) {
        let early = shared.started().is_some_and(|started| started.elapsed() < EARLY_DEATH);
        if early && shared.taint() == Some(Taint::Died) {
            self.creation_failed.store(true, Ordering::Release);
            let error = died_early(shared);
            self.created.send_modify(|created| created.last_error = Some(error));
        }
    }
}

fn died_early(shared: &Shared) -> EngineError {
    let unexplained = || {
        let message = match shared.taint() {
            None | Some(Taint::Died) => "PID 1 ended soon after the start".to_owned(),
            Some(taint) => format!("nobody can be lent it: {taint:?}"),
        };
        EngineError::new(EngineErrorKind::Internal, message)
    };
    shared.end_of_command().unwrap_or_else(unexplained)
}

/// How the names of a pool's containers begin.
pub(super) fn name_of(pool: &str) -> String {
    // The engine takes letters, digits, `_`, `.` and `-`.
    let pool: String = pool
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    format!("dockerpool-{pool}")
}

/// Told of when the pool's task ends. Where that is dropped before, since its runtime has ended, the pool ends here:
/// nothing is idle any more, nobody waits, and containers are removed by their owners' `Drop`.
pub(super) struct End {
    background: Arc<Background>,
    finished: watch::Sender<Finished>,
}

impl End {
    pub(super) fn of(background: &Arc<Background>, finished: watch::Sender<Finished>) -> Self {
        Self {
            background: background.clone(),
            finished,
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.finished.borrow().is_finished() {
            // Before those who wait are told, so that they can say why.
            self.background.runtime.note_end();
            self.background.idle.close();
        }
    }
}

/// The name of a container of the pool, by its number.
pub(super) fn numbered_name(pool: &str, instance: &str, number: u64) -> String {
    format!("{}-{}-{number}", name_of(pool), &instance[..12])
}

/// Tells what a background task has done.
enum Done {
    Created,
    NotCreated,
    Removed,
}

/// The pool's task. Ends when the pool was closed and everything of it is gone, or its time is up.
pub(super) async fn run(background: Arc<Background>, mut to_remove: mpsc::UnboundedReceiver<Retired<Item>>, end: End) {
    let mut tasks = JoinSet::new();
    let mut watches = JoinSet::new();
    watches.spawn(watch_for_deaths(background.clone()));
    if let Some(lifetime) = &background.lifetime {
        watches.spawn(lifetime::keep(lifetime.clone(), background.clone()));
    }
    if let Some(watchdog) = &background.watchdog {
        watches.spawn(watchdog::watch(watchdog.clone(), background.clone()));
    }
    let mut pace = Pace::default();
    let mut leases_until = background.leases_until.subscribe();

    loop {
        if background.creation_failed.swap(false, Ordering::AcqRel) {
            pace.failed();
        }
        if pace.resume_at.is_none() {
            background.idle.make_room();
            while let Some(slot) = background.idle.reserve() {
                tasks.spawn(create(background.clone(), slot));
            }
        }
        if background.idle.is_closed() && background.idle.status().total() == 0 && to_remove.is_empty() {
            break;
        }
        let until = *leases_until.borrow_and_update();
        tokio::select! {
            () = background.idle.demand() => {}
            _ = leases_until.changed() => {}
            Some((item, slot)) = to_remove.recv() => {
                if slot.is_refused() {
                    background.note_unlent(item.shared());
                }
                tasks.spawn(remove(background.clone(), item, slot));
            }
            Some(done) = tasks.join_next() => match done {
                Ok(Done::Created) => pace.succeeded(),
                // A failure is told by `creation_failed`.
                Ok(Done::NotCreated | Done::Removed) => {}
                Err(error) => {
                    tracing::error!(pool = background.pool, %error, "a task of the pool failed");
                    pace.failed();
                }
            },
            () = until_or_never(pace.resume_at) => pace.resume_at = None,
            () = until_or_never(until) => break,
        }
    }
    watches.shutdown().await;
    // Containers whose creation or removal is under way are found by the sweep, or removed by their owners' `Drop`.
    tasks.shutdown().await;
    if let Some(agent) = &background.spec.decided.agent {
        agent.release();
    }
    let until = Instant::now() + SWEEP_TIMEOUT;
    let outcome = match timeout_at(until, sweep(&background, until)).await {
        Ok(Ok(())) => Finished::Clean,
        Ok(Err(error)) => Finished::Incomplete(Some(error)),
        Err(_) => Finished::Incomplete(Some(not_swept())),
    };
    if let Err(source) = outcome.result() {
        background.report(Error::ShutdownIncomplete {
            pool: background.pool.clone(),
            instance: background.instance.clone(),
            source,
        });
    }
    end.finished.send_replace(outcome);
}

fn not_swept() -> EngineError {
    EngineError::new(
        EngineErrorKind::Timeout,
        format!("the engine did not remove everything within {SWEEP_TIMEOUT:?}"),
    )
}

/// When to create again after failures.
#[derive(Default)]
struct Pace {
    backoff: Backoff,
    last_failure: Option<Instant>,
    /// Nothing is created before this.
    resume_at: Option<Instant>,
}

impl Pace {
    fn failed(&mut self) {
        let now = Instant::now();
        self.last_failure = Some(now);
        // Several that failed together count as one failure.
        if self.resume_at.is_none() {
            self.resume_at = Some(now + self.backoff.next_delay());
        }
    }

    fn succeeded(&mut self) {
        // One that starts well and dies at once is no better than one that fails.
        if self.last_failure.is_none_or(|at| at.elapsed() > FORGIVEN) {
            self.backoff.reset();
        }
    }
}

async fn until_or_never(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

/// A spec for a container that is created now.
pub(super) fn created_now(spec: &Resolved) -> Resolved {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    spec.clone().with_label(labels::CREATED, now.as_secs().to_string())
}

/// Creates and starts one container.
async fn create(background: Arc<Background>, mut slot: Slot<Item>) -> Done {
    let generation = background.generation.load(Ordering::Acquire);
    let (name, fresh_name) = adopt::names(background.new_name(), background.marks_unused);
    let spec = created_now(&background.spec);
    let handle = Handle::with_mark(
        background.engine.clone(),
        name,
        fresh_name,
        Arc::new(spec),
        background.call_timeout,
        background.runtime.clone(),
        GiveUp(Some(background.on_error.clone())),
    );
    let up = async {
        let warnings = handle.create(!background.limits_hold.load(Ordering::Acquire)).await?;
        background.limits_hold.store(true, Ordering::Release);
        background.warn(&handle.shared().name, warnings);
        background.know(handle.shared());
        handle.start().await
    };
    match up.await {
        Ok(()) => {
            if !take_in(&background, handle, slot, generation) {
                background.creation_failed.store(true, Ordering::Release);
                return Done::NotCreated;
            }
            Done::Created
        }
        Err(error) => {
            background
                .created
                .send_modify(|created| created.last_error = Some(error.clone()));
            background.report(Error::engine(
                "create the container",
                Some(&handle.shared().name),
                error,
            ));
            background.known.lock().remove(handle.shared().id());
            // Whatever there is of it goes with its slot; the next attempt waits for the back-off.
            background.creation_failed.store(true, Ordering::Release);
            slot.failed();
            if !handle.is_released() {
                handle.release();
                handle.shared().remove_behind(Some(Box::new(slot)));
            }
            Done::NotCreated
        }
    }
}

/// Has the pool have a container that was brought up for it. `generation` is that from before it was created. `false`: it
/// has died already.
pub(super) fn take_in(background: &Arc<Background>, handle: Handle, slot: Slot<Item>, generation: u64) -> bool {
    if let Some(lifetime) = &background.lifetime {
        lifetime.begin(handle.shared());
    }
    if background.generation.load(Ordering::Acquire) != generation {
        handle.shared().life.set_outdated();
    }
    let shared = handle.shared().clone();
    if let Some(agent) = shared.agent() {
        *background.cgroups.lock() = agent.cgroups();
    }
    if !slot.put(Container::running(handle)) {
        let error = died_early(&shared);
        background
            .created
            .send_modify(|created| created.last_error = Some(error.clone()));
        background.report(Error::engine("create the container", Some(&shared.name), error));
        return false;
    }
    shared.watch_lifeline({
        let (background, id) = (Arc::downgrade(background), shared.id().to_owned());
        move || {
            if let Some(background) = background.upgrade() {
                background.lost(&id, EventKind::Died);
            }
        }
    });
    if let Some(lifetime) = &background.lifetime {
        lifetime.after_creation();
    }
    background.created.send_modify(|created| {
        created.count += 1;
        created.last_error = None;
    });
    true
}

/// Removes one container; its slot is free when that is done.
async fn remove(background: Arc<Background>, item: Item, slot: Slot<Item>) -> Done {
    let id = item.id().to_owned();
    // Never closed.
    let permit = background.removing.acquire().await;
    let removed = item.removal().persist(GIVE_UP).await;
    drop(permit);
    match removed {
        Ok(()) => {
            background.adopted.lock().remove(&id);
            item.into_removed();
        }
        Err(error) => background.report(Error::engine("remove the container", Some(item.name()), error)),
    }
    background.known.lock().remove(&id);
    drop(slot);
    Done::Removed
}

/// Takes containers that died, were removed or were paused by somebody else out of the pool.
async fn watch_for_deaths(background: Arc<Background>) {
    let mut backoff = Backoff::default();
    // Of those that were adopted one may have died since they were listed.
    let mut since = match background.adopted.lock().is_empty() {
        true => None,
        false => SystemTime::now().checked_sub(EVENT_OVERLAP),
    };
    loop {
        let mut events = background.engine.events(&background.wide_selector(), since);
        // Once more when the subscription certainly stands, whatever the engine's clock says.
        let second_look = sleep(SECOND_LOOK);
        tokio::pin!(second_look);
        let mut looked = false;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = &mut second_look, if !looked => {
                    looked = look_for_lost(&background).await;
                    second_look.as_mut().reset(Instant::now() + SECOND_LOOK);
                    continue;
                }
            };
            let Some(event) = event else { break };
            // An engine may have told of a lot, and tell it without a pause.
            tokio::task::coop::consume_budget().await;
            match event {
                Ok(event) => {
                    backoff.reset();
                    match event.kind {
                        EventKind::OutOfMemory => background.out_of_memory(&event),
                        kind => background.lost(&event.id, kind),
                    }
                }
                Err(error) => {
                    tracing::debug!(pool = background.pool, %error, "the stream of events broke");
                    break;
                }
            }
        }
        // What happened meanwhile is seen by a list; what happens between that and the new subscription, by its overlap.
        loop {
            sleep(backoff.next_delay()).await;
            since = SystemTime::now().checked_sub(EVENT_OVERLAP);
            if look_for_lost(&background).await {
                break;
            }
        }
    }
}

/// Takes out what a list does not show as usable any more; `false` if there was no list to be had.
async fn look_for_lost(background: &Background) -> bool {
    // Before the list, so that one that is made meanwhile is not taken for one that is gone.
    let known: Vec<_> = background.known.lock().keys().cloned().collect();
    let selector = background.wide_selector();
    let list = background.engine.list(&selector);
    let found: HashMap<_, _> = match bounded("a list of containers", background.call_timeout, list).await {
        Ok(found) => found.into_iter().map(|report| (report.id, report.state)).collect(),
        Err(error) => {
            tracing::debug!(pool = background.pool, %error, "the engine does not answer");
            return false;
        }
    };
    for id in known {
        match found.get(&id) {
            Some(ContainerState::Running | ContainerState::Created) => {}
            Some(ContainerState::Paused) => background.lost(&id, EventKind::Paused),
            Some(_) => background.lost(&id, EventKind::Died),
            None => background.lost(&id, EventKind::Removed),
        }
    }
    true
}

/// Removes everything that was adopted or carries our instance label, by what the answer says of it, looks whether it is
/// gone, and gives back what was made ready. Ends at `until` also where the engine answers at once, so that nobody else
/// gets to look at the time.
async fn sweep(background: &Background, until: Instant) -> Result<(), EngineError> {
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
                let release = background.engine.release(&background.spec.plan);
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
