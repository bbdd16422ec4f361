//! An engine in memory, for tests of code that uses a pool.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::pending;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use super::{
    Attachment, Capabilities, Commands, ContainerReport, ContainerState, Creation, Engine, EngineError,
    EngineErrorKind, EngineInfo, Event, EventKind, ExecControl, ExecReport, ExecRequest, ExecSession, Frame, Health,
    Identity, ImageInfo, Killing, Lifecycle, LimitSupport, Network, Observation, OutputStream, Parts, Pausing, Plan,
    ProgressFn, Publish, PublishedPort, Renaming, Selector, StreamEnd, TtySize, loopback_of,
};

/// How many events a subscriber may lag before it loses the oldest.
const EVENT_BACKLOG: usize = 4096;

/// The first port of the engine's machine that is published. The ports above follow.
const FIRST_PORT: u16 = 49152;

/// Implements [`Engine`] in memory. Answers at once, and fails, hangs or delays on request. A clone is cheap, and is the
/// same engine.
///
/// In a test with tokio's time paused (`start_paused`), the pool must run on the test's runtime and not on the library's
/// own: [`tokio_runtime(Handle::current())`](crate::PoolBuilder::tokio_runtime).
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use dockerpool::testing::{Answer, Call, FakeEngine, FakeProcess};
/// use dockerpool::{EngineErrorKind, Pool};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// let engine = FakeEngine::new();
/// engine.on_exec(|request| FakeProcess::exit(0).stdout(request.argv.join(" ")));
/// engine.answer_once(Call::Remove, Answer::Fail(EngineErrorKind::Internal));
///
/// let pool = Pool::builder("test").image("any").engine(Arc::new(engine.clone())).build().await?;
/// let c = pool.acquire().await?;
/// let output = c.command("echo").arg("hello").output().await?;
/// assert_eq!(output.stdout, b"echo hello");
/// drop(c);
///
/// pool.shutdown().await?;
/// assert_eq!(engine.containers().len(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FakeEngine {
    shared: Arc<Shared>,
}

/// Names the calls of [`Engine`] whose answers a test can set.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use dockerpool::{Pool, Reuse};
/// use dockerpool::testing::{Call, FakeEngine};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// let engine = FakeEngine::new();
/// let builder = Pool::builder("test").image("any").min_idle(0).engine(Arc::new(engine.clone()));
/// // There is no agent in these containers, which could clean them.
/// let pool = builder.reuse(Reuse::AsIs).build().await?;
/// for _ in 0..3 {
///     assert!(pool.acquire().await?.command("true").status().await?.success());
/// }
/// // Three commands ran in one container.
/// assert_eq!((engine.calls(Call::Exec), engine.calls(Call::Create)), (3, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)] // each names the method
pub enum Call {
    Check,
    Prepare,
    Release,
    Image,
    Create,
    Attach,
    Start,
    Exec,
    Inspect,
    List,
    Kill,
    Stop,
    Rename,
    Remove,
    Pause,
    Unpause,
}

/// Says how a call is answered.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use dockerpool::Pool;
/// use dockerpool::testing::{Answer, Call, FakeEngine};
/// # use std::sync::Arc;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// let engine = FakeEngine::new();
/// let builder = Pool::builder("test").image("any").min_idle(0).engine(Arc::new(engine.clone()));
/// let pool = builder.build().await?;
/// engine.answer(Call::Create, Answer::Hold);
/// assert!(pool.acquire_timeout(Duration::from_millis(10)).await.unwrap_err().is_timeout());
/// engine.answer(Call::Create, Answer::Ok); // the create continues
/// let c = pool.acquire().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// At once, with success.
    #[default]
    Ok,
    /// At once, with an error; the call has no effect.
    Fail(EngineErrorKind),
    /// With success, after this long.
    After(Duration),
    /// With success, after its future was polled this often.
    AfterPolls(usize),
    /// Never; the call has no effect.
    Never,
    /// Never; but the call has its effect, as when an answer is lost.
    DoneButNever,
    /// With success, once [`FakeEngine::answer`] sets another answer for this call, like an engine that was stopped and
    /// resumes.
    Hold,
}

/// Describes the behaviour of a fake command.
///
/// # Examples
///
/// ```
/// use dockerpool::testing::{FakeEngine, FakeProcess};
/// # use std::sync::Arc;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// let engine = FakeEngine::new();
/// engine.on_exec(|request| match request.argv[0].as_str() {
///     "true" => FakeProcess::exit(0),
///     program => FakeProcess::exit(1).stderr(format!("{program}: no such thing")),
/// });
/// # let pool = dockerpool::Pool::builder("test").image("any").engine(Arc::new(engine)).build().await?;
/// let c = pool.acquire().await?;
/// assert!(c.command("true").status().await?.success());
/// assert_eq!(c.command("maybe").output().await?.stderr, b"maybe: no such thing");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FakeProcess {
    stdout: Bytes,
    stderr: Bytes,
    /// The exit code. `None`: the command runs until its container is killed.
    code: Option<i64>,
}

impl FakeProcess {
    /// Makes a command that ends with this exit code.
    pub fn exit(code: i64) -> Self {
        Self {
            stdout: Bytes::new(),
            stderr: Bytes::new(),
            code: Some(code),
        }
    }

    /// Makes a command that runs until its container is killed.
    pub fn forever() -> Self {
        Self {
            code: None,
            ..Self::exit(0)
        }
    }

    /// Sets what the command prints to standard output before it ends.
    #[must_use]
    pub fn stdout(mut self, data: impl Into<Bytes>) -> Self {
        self.stdout = data.into();
        self
    }

    /// Sets what the command prints to standard error before it ends.
    #[must_use]
    pub fn stderr(mut self, data: impl Into<Bytes>) -> Self {
        self.stderr = data.into();
        self
    }
}

type Program = dyn Fn(&ExecRequest) -> FakeProcess + Send + Sync;

struct Shared {
    state: Mutex<State>,
    events: broadcast::Sender<(Event, BTreeMap<String, String>)>,
    /// Counts the changes of answers, so that held calls wake up.
    answers: watch::Sender<u64>,
}

struct State {
    containers: BTreeMap<String, FakeContainer>,
    networks: BTreeSet<String>,
    next_id: u64,
    /// The port of the engine's machine that is published next.
    next_port: u16,
    peak: usize,
    calls: HashMap<Call, usize>,
    answers: HashMap<Call, Answer>,
    once: HashMap<Call, VecDeque<Answer>>,
    program: Arc<Program>,
    keeps_removed: bool,
    /// The answer to every creation; its id is replaced.
    said: Creation,
    missing_limits: Vec<String>,
    ignored_settings: Vec<String>,
    limits: LimitSupport,
    pretends_programs: bool,
    health: Option<Health>,
    image: ImageInfo,
}

struct FakeContainer {
    report: ContainerReport,
    labels: BTreeMap<String, String>,
    auto_remove: bool,
    /// The ports that the engine publishes at the start, and whether there is a network.
    ports: Vec<Publish>,
    has_network: bool,
    /// `false` once the container has ended.
    alive: watch::Sender<bool>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeEngine")
            .field("containers", &self.state.lock().containers.len())
            .finish()
    }
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeEngine {
    /// Makes an engine without containers that answers every call at once; commands end with exit code 0.
    pub fn new() -> Self {
        let state = State {
            containers: BTreeMap::new(),
            networks: BTreeSet::from(["bridge".to_owned()]),
            next_id: 1,
            next_port: FIRST_PORT,
            peak: 0,
            calls: HashMap::new(),
            answers: HashMap::new(),
            once: HashMap::new(),
            program: Arc::new(|_| FakeProcess::exit(0)),
            keeps_removed: false,
            said: Creation::new(""),
            missing_limits: Vec::new(),
            ignored_settings: Vec::new(),
            limits: LimitSupport::all(),
            pretends_programs: false,
            health: None,
            image: ImageInfo::default(),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                events: broadcast::Sender::new(EVENT_BACKLOG),
                answers: watch::Sender::new(0),
            }),
        }
    }

    /// Sets the answer to this call, from now on.
    pub fn answer(&self, call: Call, answer: Answer) {
        self.shared.state.lock().answers.insert(call, answer);
        self.shared.answers.send_modify(|changes| *changes += 1);
    }

    /// Queues an answer to one call of this kind, after the answers that are already queued.
    pub fn answer_once(&self, call: Call, answer: Answer) {
        self.shared.state.lock().once.entry(call).or_default().push_back(answer);
    }

    /// Sets the behaviour of commands that start from now on.
    pub fn on_exec(&self, program: impl Fn(&ExecRequest) -> FakeProcess + Send + Sync + 'static) {
        self.shared.state.lock().program = Arc::new(program);
    }

    /// Makes the engine claim from now on that it can run mounted programs. Each attempt to run one then fails.
    #[doc(hidden)]
    pub fn pretend_programs(&self) {
        self.shared.state.lock().pretends_programs = true;
    }

    /// Returns all containers, in any state.
    pub fn containers(&self) -> Vec<ContainerReport> {
        let state = self.shared.state.lock();
        state
            .containers
            .values()
            .map(|container| container.report.clone())
            .collect()
    }

    /// Returns the names of all networks; `bridge` exists from the beginning.
    pub fn networks(&self) -> Vec<String> {
        self.shared.state.lock().networks.iter().cloned().collect()
    }

    /// Returns the highest number of containers that existed at once.
    pub fn peak(&self) -> usize {
        self.shared.state.lock().peak
    }

    /// Adds a label to a container, given by name or id, as on a container of another process.
    pub fn set_label(&self, id: &str, name: &str, value: &str) {
        let mut state = self.shared.state.lock();
        if let Ok(container) = state.get(id) {
            container.labels.insert(name.to_owned(), value.to_owned());
            container.report.labels.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Sets the engine's answer to every creation from now on; the id in the answer is replaced.
    pub fn say_of_created(&self, creation: Creation) {
        self.shared.state.lock().said = creation;
    }

    /// Sets the settings of isolation that the engine silently does not apply to its containers.
    pub fn ignore_settings(&self, settings: impl IntoIterator<Item = String>) {
        self.shared.state.lock().ignored_settings = settings.into_iter().collect();
    }

    /// Sets the limits that the engine silently does not apply to its containers.
    pub fn lack_limits(&self, limits: impl IntoIterator<Item = String>) {
        self.shared.state.lock().missing_limits = limits.into_iter().collect();
    }

    /// Sets how every image is described from now on.
    pub fn describe_images(&self, image: ImageInfo) {
        self.shared.state.lock().image = image;
    }

    /// Sets what the health check of every container has found. Default: there is no health check.
    pub fn set_health(&self, health: Option<Health>) {
        self.shared.state.lock().health = health;
    }

    /// Sets the limits that the engine claims to support.
    pub fn support_limits(&self, limits: LimitSupport) {
        self.shared.state.lock().limits = limits;
    }

    /// Sets whether the engine reports success for the removal of a container, but keeps and lists the container.
    pub fn keep_removed(&self, keep: bool) {
        self.shared.state.lock().keeps_removed = keep;
    }

    /// Returns how often this call was made.
    pub fn calls(&self, call: Call) -> usize {
        self.shared.state.lock().calls.get(&call).copied().unwrap_or(0)
    }

    /// Ends a container, given by name or id, without a call of its owner, as another program does that kills it.
    pub fn end_container(&self, id: &str) {
        self.shared.kill(id, 137);
    }

    /// Ends PID 1 of a container, given by name or id, with this exit code and without a call of anybody: by itself, or, with 137, as
    /// the kernel kills it.
    pub fn end_with_code(&self, id: &str, code: i64) {
        self.shared.end(id, code);
    }

    async fn answered<T>(
        &self,
        call: Call,
        act: impl FnOnce(&Shared) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let answer = {
            let mut state = self.shared.state.lock();
            *state.calls.entry(call).or_default() += 1;
            let once = state.once.get_mut(&call).and_then(VecDeque::pop_front);
            once.or_else(|| state.answers.get(&call).copied()).unwrap_or_default()
        };
        match answer {
            Answer::Ok => {}
            Answer::Fail(kind) => return Err(EngineError::new(kind, format!("{call:?} was made to fail"))),
            Answer::After(time) => tokio::time::sleep(time).await,
            Answer::AfterPolls(polls) => {
                for _ in 0..polls {
                    tokio::task::yield_now().await;
                }
            }
            Answer::Never => return pending().await,
            Answer::Hold => {
                let mut changes = self.shared.answers.subscribe();
                let held = || self.shared.state.lock().answers.get(&call) == Some(&Answer::Hold);
                // The sender is a field of this engine: the wait cannot fail.
                let _ = changes.wait_for(|_| !held()).await;
            }
            Answer::DoneButNever => {
                act(&self.shared)?;
                return pending().await;
            }
        }
        act(&self.shared)
    }
}

impl Shared {
    fn tell(&self, container: &FakeContainer, kind: EventKind) {
        let mut event = Event::new(&container.report.id, kind);
        event.exit_code = container.report.exit_code.filter(|_| kind == EventKind::Died);
        // An error only means that there is no subscriber.
        let _ = self.events.send((event, container.labels.clone()));
    }

    /// Ends PID 1 by a call of somebody.
    fn kill(&self, id: &str, code: i64) {
        let mut state = self.state.lock();
        if let Ok(container) = state.get(id)
            && matches!(container.report.state, ContainerState::Running | ContainerState::Paused)
        {
            self.tell(container, EventKind::Killed);
        }
        drop(state);
        self.end(id, code);
    }

    /// Ends PID 1.
    fn end(&self, id: &str, code: i64) {
        let mut state = self.state.lock();
        let keeps_removed = state.keeps_removed;
        let Some(key) = state.key_of(id) else { return };
        let Some(container) = state.containers.get_mut(&key) else {
            return;
        };
        if !matches!(container.report.state, ContainerState::Running | ContainerState::Paused) {
            return;
        }
        container.report.state = ContainerState::Exited;
        container.report.exit_code = Some(code);
        container.alive.send_replace(false);
        self.tell(container, EventKind::Died);
        if container.auto_remove && !keeps_removed {
            let container = state.containers.remove(&key);
            container
                .iter()
                .for_each(|container| self.tell(container, EventKind::Removed));
        }
    }

    fn change(&self, id: &str, from: &[ContainerState], to: ContainerState) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        let container = state.get(id)?;
        if !from.contains(&container.report.state) {
            let message = format!("the container {id} is {:?}", container.report.state);
            return Err(EngineError::new(EngineErrorKind::Conflict, message));
        }
        container.report.state = to;
        Ok(())
    }
}

impl State {
    fn key_of(&self, id: &str) -> Option<String> {
        let found = self
            .containers
            .iter()
            .find(|(key, container)| *key == id || container.report.name == id);
        found.map(|(key, _)| key.clone())
    }

    fn get(&mut self, id: &str) -> Result<&mut FakeContainer, EngineError> {
        let missing = || EngineError::new(EngineErrorKind::NotFound, format!("there is no container {id}"));
        let key = self.key_of(id).ok_or_else(missing)?;
        self.containers.get_mut(&key).ok_or_else(missing)
    }

    /// Gives a container that starts its address, and publishes its ports. Addresses and ports are told, and lead nowhere.
    fn connect(&mut self, id: &str) -> Result<(), EngineError> {
        let mut next = self.next_port;
        let container = self.get(id)?;
        let number = u64::from_str_radix(&container.report.id, 16).unwrap_or_default() as u16;
        let [high, low] = number.to_be_bytes();
        let ip = Ipv4Addr::new(172, 17, high, low);
        container.report.ip = container.has_network.then_some(ip.into());
        let publish = |asked: &Publish| {
            let port = next;
            next = next.checked_add(1).unwrap_or(FIRST_PORT);
            PublishedPort::new(asked.port, (loopback_of(asked.address), port).into())
        };
        container.alive.send_replace(true);
        container.report.ports = container.ports.iter().map(publish).collect();
        self.next_port = next;
        Ok(())
    }
}

impl Lifecycle for FakeEngine {
    fn prepare<'a>(&'a self, plan: &'a Plan, _progress: &'a ProgressFn) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(self.answered(Call::Prepare, move |shared| {
            let networks = &mut shared.state.lock().networks;
            match &plan.network {
                Some(Network::Create(new)) => {
                    networks.insert(new.name.clone());
                }
                Some(Network::Existing(name)) if !networks.contains(name) => {
                    let message = format!("there is no network {name}");
                    return Err(EngineError::new(EngineErrorKind::NetworkNotFound, message));
                }
                _ => {}
            }
            Ok(())
        }))
    }

    fn release<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(self.answered(Call::Release, move |shared| {
            if let Some(Network::Create(new)) = &plan.network
                && new.remove_on_shutdown
            {
                shared.state.lock().networks.remove(&new.name);
            }
            Ok(())
        }))
    }

    fn sweep<'a>(&'a self, _plan: &'a Plan) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async { Ok(()) })
    }

    fn create<'a>(&'a self, identity: &'a Identity, plan: &'a Plan) -> BoxFuture<'a, Result<Creation, EngineError>> {
        Box::pin(self.answered(Call::Create, move |shared| {
            let mut state = shared.state.lock();
            let said = state.said.clone();
            let creation = |id| Creation { id, ..said };
            let (name, labels) = (&*identity.name, plan.labels.clone());
            if let Some(key) = state.key_of(name) {
                let same = state.get(&key)?.labels == labels;
                return if same { Ok(creation(key)) } else { Err(taken(name)) };
            }
            let id = format!("{:016x}", state.next_id);
            state.next_id += 1;
            let mut report = ContainerReport::new(&id, name, ContainerState::Created);
            report.image = plan.image.name.clone();
            report.labels = labels.clone().into_iter().collect();
            let container = FakeContainer {
                report,
                labels,
                auto_remove: plan.auto_remove,
                ports: plan.ports.clone(),
                has_network: plan.network != Some(Network::None),
                alive: watch::Sender::new(true),
            };
            state.containers.insert(id.clone(), container);
            state.peak = state.peak.max(state.containers.len());
            Ok(creation(id))
        }))
    }

    fn attach<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Attachment, EngineError>> {
        Box::pin(self.answered(Call::Attach, move |shared| {
            let mut state = shared.state.lock();
            let container = state.get(id)?;
            // A container with a lifeline ends with the attachment, and its end is told by events.
            let mut alive = (!container.auto_remove).then(|| container.alive.subscribe());
            let end = async move {
                match &mut alive {
                    // An error says that the container is not even known any more.
                    Some(alive) => drop(alive.wait_for(|alive| !alive).await),
                    None => pending().await,
                }
            };
            // PID 1 echoes its input, like `cat`.
            let (read, write) = tokio::io::simplex(64);
            let output = tokio_util::io::ReaderStream::new(read).map(|data| match data {
                Ok(data) => Ok(Frame {
                    stream: OutputStream::Stdout,
                    data,
                }),
                Err(error) => {
                    Err(EngineError::new(EngineErrorKind::Protocol, "the echo of PID 1 failed").with_source(error))
                }
            });
            Ok(Attachment {
                stdin: Box::new(write),
                output: output.take_until(Box::pin(end)).boxed(),
            })
        }))
    }

    fn start<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(self.answered(Call::Start, move |shared| {
            shared.change(
                id,
                &[ContainerState::Created, ContainerState::Exited],
                ContainerState::Running,
            )?;
            shared.state.lock().connect(id)
        }))
    }

    fn kill<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(self.answered(Call::Kill, move |shared| {
            shared.kill(id, 137);
            Ok(())
        }))
    }

    fn stop<'a>(&'a self, id: &'a str, _grace: Duration) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(self.answered(Call::Stop, move |shared| {
            shared.kill(id, 143);
            Ok(())
        }))
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(self.answered(Call::Remove, move |shared| {
            shared.kill(id, 137);
            let mut state = shared.state.lock();
            if !state.keeps_removed
                && let Some(key) = state.key_of(id)
            {
                let container = state.containers.remove(&key);
                container
                    .iter()
                    .for_each(|container| shared.tell(container, EventKind::Removed));
            }
            Ok(())
        }))
    }
}

impl Commands for FakeEngine {
    fn exec<'a>(&'a self, id: &'a str, request: &'a ExecRequest) -> BoxFuture<'a, Result<ExecSession, EngineError>> {
        Box::pin(self.answered(Call::Exec, move |shared| {
            shared.change(id, &[ContainerState::Running], ContainerState::Running)?;
            let mut state = shared.state.lock();
            let program = state.program.clone();
            let alive = state.get(id)?.alive.subscribe();
            drop(state);
            Ok(session(program(request), request, alive))
        }))
    }
}

impl Observation for FakeEngine {
    fn image<'a>(&'a self, _plan: &'a Plan) -> BoxFuture<'a, Result<ImageInfo, EngineError>> {
        Box::pin(self.answered(Call::Image, |shared| Ok(shared.state.lock().image.clone())))
    }

    fn inspect<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<ContainerReport, EngineError>> {
        Box::pin(self.answered(Call::Inspect, move |shared| {
            let mut state = shared.state.lock();
            let mut report = state.get(id)?.report.clone();
            report.health = state.health;
            Ok(report)
        }))
    }

    fn list<'a>(&'a self, selector: &'a Selector) -> BoxFuture<'a, Result<Vec<ContainerReport>, EngineError>> {
        Box::pin(self.answered(Call::List, move |shared| {
            let state = shared.state.lock();
            let matching = state
                .containers
                .values()
                .filter(|c| matches(selector, &c.report.id, &c.labels));
            Ok(matching.map(|container| container.report.clone()).collect())
        }))
    }

    fn missing_limits<'a>(&'a self, _id: &'a str, _plan: &'a Plan) -> BoxFuture<'a, Result<Vec<String>, EngineError>> {
        let missing = self.shared.state.lock().missing_limits.clone();
        Box::pin(async move { Ok(missing) })
    }

    fn ignored_settings<'a>(
        &'a self,
        _id: &'a str,
        _plan: &'a Plan,
    ) -> BoxFuture<'a, Result<Vec<String>, EngineError>> {
        let ignored = self.shared.state.lock().ignored_settings.clone();
        Box::pin(async move { Ok(ignored) })
    }

    fn events(
        &self,
        selector: &Selector,
        _since: Option<SystemTime>,
    ) -> BoxStream<'static, Result<Event, EngineError>> {
        let selector = selector.clone();
        stream::unfold(
            (self.shared.events.subscribe(), selector),
            async |(mut events, selector)| {
                loop {
                    let (event, labels) = events.recv().await.ok()?;
                    if matches(&selector, &event.id, &labels) {
                        return Some((Ok(event), (events, selector)));
                    }
                }
            },
        )
        .boxed()
    }
}

impl Engine for FakeEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            programs: self.shared.state.lock().pretends_programs,
            ..Capabilities::all()
        }
    }

    fn check(&self) -> BoxFuture<'_, Result<EngineInfo, EngineError>> {
        Box::pin(self.answered(Call::Check, |shared| {
            let mut info = EngineInfo::new("Fake 1", "1", "linux/amd64");
            info.limits = shared.state.lock().limits;
            Ok(info)
        }))
    }

    fn parts(&self) -> Parts<'_> {
        Parts::none().with_pausing(self).with_renaming(self)
    }
}

impl Pausing for FakeEngine {
    fn pause<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(self.answered(Call::Pause, move |shared| {
            shared.change(id, &[ContainerState::Running], ContainerState::Paused)?;
            let mut state = shared.state.lock();
            shared.tell(state.get(id)?, EventKind::Paused);
            Ok(())
        }))
    }

    fn unpause<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(self.answered(Call::Unpause, move |shared| {
            shared.change(id, &[ContainerState::Paused], ContainerState::Running)
        }))
    }
}

impl Renaming for FakeEngine {
    fn rename<'a>(&'a self, id: &'a str, name: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(self.answered(Call::Rename, move |shared| {
            let mut state = shared.state.lock();
            if state.key_of(name).is_some() {
                return Err(taken(name));
            }
            state.get(id)?.report.name = name.to_owned();
            Ok(())
        }))
    }
}

fn taken(name: &str) -> EngineError {
    EngineError::new(EngineErrorKind::Conflict, format!("there is another container {name}"))
}

fn matches(selector: &Selector, id: &str, labels: &BTreeMap<String, String>) -> bool {
    selector.selects(id, |name| labels.get(name))
}

/// Controls a fake command that prints its output, and ends by itself or with its container.
fn session(process: FakeProcess, request: &ExecRequest, alive: watch::Receiver<bool>) -> ExecSession {
    let FakeProcess { stdout, stderr, code } = process;
    let pieces = [(OutputStream::Stdout, stdout), (OutputStream::Stderr, stderr)];
    let frames = pieces
        .into_iter()
        .filter(|(_, data)| !data.is_empty())
        .map(|(stream, data)| Ok(Frame { stream, data }));
    let mut container = alive.clone();
    let end = stream::once(async move {
        if code.is_none() {
            // An error says that the container is not even known any more.
            let _ = container.wait_for(|alive| !alive).await;
        }
    });
    ExecSession {
        stdin: request.stdin.then(|| Box::new(tokio::io::sink()) as _),
        output: stream::iter(frames).chain(end.filter_map(async |()| None)).boxed(),
        control: Box::new(FakeControl { code, alive }),
    }
}

struct FakeControl {
    code: Option<i64>,
    alive: watch::Receiver<bool>,
}

impl ExecControl for FakeControl {
    fn exit_code(&self) -> BoxFuture<'_, Result<Option<i64>, EngineError>> {
        let alive = *self.alive.borrow();
        Box::pin(async move { Ok(if alive { self.code } else { self.code.or(Some(137)) }) })
    }

    fn resize(&self, _size: TtySize) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async { Ok(()) })
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        Box::pin(pending())
    }

    fn stream_end(&self) -> StreamEnd {
        StreamEnd::GivenUp
    }

    fn report(&self) -> Option<ExecReport> {
        None
    }

    fn killing(&self) -> Option<&dyn Killing> {
        None
    }
}
