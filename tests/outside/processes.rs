//! Containers that are plain processes: each a directory, a copy of its image's, with a PID 1 that was started in it from the
//! plan. Commands are further processes in that directory. For programs that are trusted: nothing keeps them apart.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use dockerpool::engine::*;
use dockerpool::{Engine, EngineError, EngineErrorKind, Network};
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncRead;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::{broadcast, watch};
use tokio_util::io::ReaderStream;

/// The engine. Clones are one engine.
#[derive(Clone, Debug)]
pub struct Processes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    containers: Mutex<BTreeMap<String, Container>>,
    events: broadcast::Sender<(Event, BTreeMap<String, String>)>,
    next: AtomicUsize,
    /// How many processes it has started that have not ended.
    running: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Container {
    name: String,
    plan: Plan,
    dir: PathBuf,
    state: ContainerState,
    exit_code: Option<i64>,
    /// The ends of the pipes that PID 1 will have.
    pipes: Option<(OwnedFd, OwnedFd)>,
    /// Told when it is to end, and how it has ended.
    end: watch::Sender<End>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum End {
    #[default]
    NotYet,
    Wanted(i32),
    Ended,
}

fn failed(kind: EngineErrorKind, message: impl Into<String>) -> EngineError {
    EngineError::new(kind, message)
}

fn io_failed(error: io::Error) -> EngineError {
    failed(EngineErrorKind::Internal, "the machine refused").with_source(error)
}

impl Processes {
    /// Keeps containers in this directory, which has images in `images/`.
    pub fn new(root: &Path) -> Self {
        Self(Arc::new(Shared {
            root: root.to_owned(),
            containers: Mutex::default(),
            events: broadcast::Sender::new(256),
            next: AtomicUsize::new(1),
            running: Arc::default(),
        }))
    }

    /// How many directories of containers there are.
    pub fn directories(&self) -> usize {
        let entries = std::fs::read_dir(self.0.root.join("containers"));
        entries.map_or(0, Iterator::count)
    }

    /// How many of its processes run.
    pub fn processes(&self) -> usize {
        self.0.running.load(Ordering::SeqCst)
    }

    /// Ends a container behind everybody's back, and waits until its PID 1 has ended.
    pub async fn end(&self, id: &str) {
        self.0.end(id, Signal::KILL.as_raw()).await;
    }
}

impl Shared {
    /// The id of a container that is named by its name or its id.
    fn id_of(&self, id: &str) -> String {
        let containers = self.containers.lock();
        let by_name = containers.iter().find(|(_, container)| container.name == id);
        by_name.map_or(id.to_owned(), |(id, _)| id.clone())
    }

    fn with<T>(&self, id: &str, act: impl FnOnce(&mut Container) -> T) -> Result<T, EngineError> {
        let id = self.id_of(id);
        let mut containers = self.containers.lock();
        let missing = || failed(EngineErrorKind::NotFound, format!("there is no container {id}"));
        containers.get_mut(&id).map(act).ok_or_else(missing)
    }

    fn tell(&self, id: &str, kind: EventKind, labels: &BTreeMap<String, String>) {
        // Nobody may be listening.
        let _ = self.events.send((Event::new(id, kind), labels.clone()));
    }

    /// Has PID 1 ended by this signal, and waits for that. Not there or not running: nothing to do.
    async fn end(&self, id: &str, signal: i32) {
        let ended = self.with(id, |container| {
            let is_running = container.state == ContainerState::Running;
            is_running.then(|| {
                container.end.send_replace(End::Wanted(signal));
                container.end.subscribe()
            })
        });
        if let Ok(Some(mut ended)) = ended {
            // An error says that it is not even known any more.
            let _ = ended.wait_for(|end| *end == End::Ended).await;
        }
    }

    fn forget(&self, id: &str) -> io::Result<()> {
        let Some(container) = self.containers.lock().remove(id) else {
            return Ok(());
        };
        std::fs::remove_dir_all(&container.dir)?;
        self.tell(id, EventKind::Removed, &container.plan.labels);
        Ok(())
    }

    fn start(self: &Arc<Self>, id: &str) -> Result<(), EngineError> {
        let (child, mut end) = self.with(id, |container| {
            let plan = &container.plan;
            let program = plan.pid1.program.iter().chain(&plan.pid1.arguments).flatten();
            let mut command = command_of(container, program.cloned().collect())?;
            command.stderr(Stdio::inherit());
            if let Some((stdin, stdout)) = container.pipes.take() {
                command.stdin(stdin).stdout(stdout);
            } else {
                command.stdin(Stdio::null()).stdout(Stdio::null());
            }
            let child = command.spawn().map_err(|error| {
                failed(EngineErrorKind::CannotStart, "PID 1 could not be started").with_source(error)
            })?;
            container.state = ContainerState::Running;
            Ok::<_, EngineError>((child, container.end.subscribe()))
        })??;
        let (shared, id) = (self.clone(), id.to_owned());
        let child = Counted::new(&self.running, child);
        tokio::spawn(async move {
            let status = child.until(&mut end).await;
            let auto_remove = shared.with(&id, |container| {
                container.state = ContainerState::Exited;
                container.exit_code = Some(code(status));
                shared.tell(&id, EventKind::Died, &container.plan.labels);
                container.end.send_replace(End::Ended);
                container.plan.auto_remove
            });
            if matches!(auto_remove, Ok(true)) {
                // Whatever is left of it, the next removal tells of it.
                let _ = shared.forget(&id);
            }
        });
        Ok(())
    }
}

/// A process in the container's directory, with its variables.
fn command_of(container: &Container, mut argv: Vec<String>) -> Result<Command, EngineError> {
    if argv.is_empty() {
        return Err(failed(EngineErrorKind::CannotStart, "there is no program"));
    }
    let arguments = argv.split_off(1);
    let mut command = Command::new(&argv[0]);
    command.args(arguments).envs(container.plan.env.iter().cloned());
    command.current_dir(match &container.plan.working_dir {
        Some(dir) => container.dir.join(dir.trim_start_matches('/')),
        None => container.dir.clone(),
    });
    // All that it starts can be ended with it.
    command.process_group(0);
    Ok(command)
}

/// A child that is counted for as long as it runs.
struct Counted {
    running: Arc<AtomicUsize>,
    child: Child,
}

impl Counted {
    fn new(running: &Arc<AtomicUsize>, child: Child) -> Self {
        running.fetch_add(1, Ordering::SeqCst);
        Self {
            running: running.clone(),
            child,
        }
    }

    /// Waits for its end. When the container is to end, so is this, with all it has started.
    async fn until(mut self, end: &mut watch::Receiver<End>) -> ExitStatus {
        // It is not waited for yet: the number is that of no other process.
        let group = self.child.id().and_then(|id| Pid::from_raw(id as i32));
        let group = group.expect("it was not waited for");
        let wanted = async {
            match end.wait_for(|end| *end != End::NotYet).await.as_deref() {
                Ok(End::Wanted(signal)) if *signal == Signal::TERM.as_raw() => Signal::TERM,
                _ => Signal::KILL,
            }
        };
        let first = tokio::select! {
            status = self.child.wait() => Ok(status),
            signal = wanted => Err(signal),
        };
        let status = match first {
            Ok(status) => status,
            Err(signal) => {
                let _ = kill_process_group(group, signal);
                self.child.wait().await
            }
        };
        // What it has started is not the next one's to find.
        let _ = kill_process_group(group, Signal::KILL);
        self.running.fetch_sub(1, Ordering::SeqCst);
        status.expect("a child can be waited for")
    }
}

fn code(status: ExitStatus) -> i64 {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.map_or(-1, i64::from)
}

fn frames(
    stream: OutputStream,
    output: impl AsyncRead + Send + 'static,
) -> BoxStream<'static, Result<Frame, EngineError>> {
    let frame = move |data: io::Result<bytes::Bytes>| match data {
        Ok(data) => Ok(Frame::new(stream, data)),
        Err(error) => Err(io_failed(error)),
    };
    ReaderStream::new(output).map(frame).boxed()
}

fn fits(selector: &Selector, id: &str, labels: &BTreeMap<String, String>) -> bool {
    selector.selects(id, |name| labels.get(name))
}

fn report(id: &str, container: &Container) -> ContainerReport {
    let mut report = ContainerReport::new(id, &container.name, container.state);
    report.image = container.plan.image.name.clone();
    report.exit_code = container.exit_code;
    report.labels = container.plan.labels.clone().into_iter().collect();
    report
}

impl Lifecycle for Processes {
    fn prepare<'a>(&'a self, plan: &'a Plan, _progress: &'a ProgressFn) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            if plan.network != Some(Network::existing("host")) {
                let message = format!("processes are on the network `host`, and not on {:?}", plan.network);
                return Err(failed(EngineErrorKind::NetworkNotFound, message));
            }
            let image = self.0.root.join("images").join(&plan.image.name);
            let missing = || {
                failed(
                    EngineErrorKind::ImageNotFound,
                    format!("there is no image {}", plan.image.name),
                )
            };
            image.is_dir().then_some(()).ok_or_else(missing)
        })
    }

    fn release<'a>(&'a self, _plan: &'a Plan) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async { Ok(()) })
    }

    fn sweep<'a>(&'a self, _plan: &'a Plan) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async { Ok(()) })
    }

    fn create<'a>(&'a self, identity: &'a Identity, plan: &'a Plan) -> BoxFuture<'a, Result<Creation, EngineError>> {
        Box::pin(async move {
            if plan.user.is_some() || !plan.mounts.is_empty() || !plan.tmpfs.is_empty() {
                let message = "plain processes have no other user, and no mounts";
                return Err(failed(EngineErrorKind::Unsupported, message));
            }
            let mut containers = self.0.containers.lock();
            if let Some((id, there)) = containers.iter().find(|(_, there)| there.name == identity.name) {
                return match there.plan.labels == plan.labels {
                    true => Ok(Creation::new(id)),
                    false => Err(failed(EngineErrorKind::Conflict, "another container has the name")),
                };
            }
            let id = format!("process-{}", self.0.next.fetch_add(1, Ordering::Relaxed));
            let dir = self.0.root.join("containers").join(&id);
            std::fs::create_dir_all(&dir).map_err(io_failed)?;
            let image = self.0.root.join("images").join(&plan.image.name);
            for entry in std::fs::read_dir(image).map_err(io_failed)? {
                let entry = entry.map_err(io_failed)?;
                std::fs::copy(entry.path(), dir.join(entry.file_name())).map_err(io_failed)?;
            }
            let container = Container {
                name: identity.name.clone(),
                plan: plan.clone(),
                dir,
                state: ContainerState::Created,
                exit_code: None,
                pipes: None,
                end: watch::Sender::default(),
            };
            containers.insert(id.clone(), container);
            Ok(Creation::new(id))
        })
    }

    fn attach<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Attachment, EngineError>> {
        Box::pin(async move {
            // Pipes of the system's: this process has the only writing end, and so PID 1 sees its end, however it comes.
            let (theirs, ours) = io::pipe().map_err(io_failed)?;
            let (output, print) = io::pipe().map_err(io_failed)?;
            let stdin = pipe::Sender::from_owned_fd(ours.into()).map_err(io_failed)?;
            let output = pipe::Receiver::from_owned_fd(output.into()).map_err(io_failed)?;
            self.0
                .with(id, |container| container.pipes = Some((theirs.into(), print.into())))?;
            Ok(Attachment::new(Box::new(stdin), frames(OutputStream::Stdout, output)))
        })
    }

    fn start<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move { self.0.start(id) })
    }

    fn kill<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            self.0.end(id, Signal::KILL.as_raw()).await;
            Ok(())
        })
    }

    fn stop<'a>(&'a self, id: &'a str, grace: Duration) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let ended = tokio::time::timeout(grace, self.0.end(id, Signal::TERM.as_raw()));
            if ended.await.is_err() {
                self.0.end(id, Signal::KILL.as_raw()).await;
            }
            Ok(())
        })
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            self.0.end(id, Signal::KILL.as_raw()).await;
            self.0.forget(&self.0.id_of(id)).map_err(io_failed)
        })
    }
}

impl Commands for Processes {
    fn exec<'a>(&'a self, id: &'a str, request: &'a ExecRequest) -> BoxFuture<'a, Result<ExecSession, EngineError>> {
        Box::pin(async move {
            if request.user.is_some() || request.tty.is_some() {
                let message = "plain processes have no other user, and no terminal";
                return Err(failed(EngineErrorKind::Unsupported, message));
            }
            let (mut child, mut end) = self.0.with(id, |container| {
                if container.state != ContainerState::Running {
                    return Err(failed(EngineErrorKind::Conflict, "the container does not run"));
                }
                let mut command = command_of(container, request.argv.clone())?;
                command.envs(request.env.iter().filter_map(|entry| entry.split_once('=')));
                if let Some(dir) = &request.current_dir {
                    command.current_dir(container.dir.join(dir.trim_start_matches('/')));
                }
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                command.stdin(if request.stdin { Stdio::piped() } else { Stdio::null() });
                let child = command.spawn().map_err(|error| {
                    failed(EngineErrorKind::CannotStart, "the command could not be started").with_source(error)
                })?;
                Ok((child, container.end.subscribe()))
            })??;
            let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
            let output = stream::select(
                frames(OutputStream::Stdout, stdout),
                frames(OutputStream::Stderr, stderr),
            );
            let stdin = child.stdin.take().map(|stdin| Box::new(stdin) as _);
            let (tell, told) = watch::channel(None);
            let child = Counted::new(&self.0.running, child);
            tokio::spawn(async move {
                let status = child.until(&mut end).await;
                tell.send_replace(Some(code(status)));
            });
            Ok(ExecSession::new(stdin, output.boxed(), Box::new(Control(told))))
        })
    }
}

impl Observation for Processes {
    fn image<'a>(&'a self, _plan: &'a Plan) -> BoxFuture<'a, Result<ImageInfo, EngineError>> {
        Box::pin(async { Ok(ImageInfo::default()) })
    }

    fn inspect<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<ContainerReport, EngineError>> {
        Box::pin(async move { self.0.with(id, |container| report(id, container)) })
    }

    fn list<'a>(&'a self, selector: &'a Selector) -> BoxFuture<'a, Result<Vec<ContainerReport>, EngineError>> {
        Box::pin(async move {
            let containers = self.0.containers.lock();
            let found = containers
                .iter()
                .filter(|(id, there)| fits(selector, id, &there.plan.labels));
            Ok(found.map(|(id, container)| report(id, container)).collect())
        })
    }

    fn missing_limits<'a>(&'a self, _id: &'a str, _plan: &'a Plan) -> BoxFuture<'a, Result<Vec<String>, EngineError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn ignored_settings<'a>(
        &'a self,
        _id: &'a str,
        _plan: &'a Plan,
    ) -> BoxFuture<'a, Result<Vec<String>, EngineError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn events(
        &self,
        selector: &Selector,
        _since: Option<SystemTime>,
    ) -> BoxStream<'static, Result<Event, EngineError>> {
        let (selector, events) = (selector.clone(), self.0.events.subscribe());
        let next = async |(selector, mut events): (Selector, broadcast::Receiver<(Event, _)>)| {
            loop {
                // An error says that some were missed, or that the engine is gone: the stream ends.
                let (event, labels) = events.recv().await.ok()?;
                if fits(&selector, &event.id, &labels) {
                    return Some((Ok(event), (selector, events)));
                }
            }
        };
        stream::unfold((selector, events), next).boxed()
    }
}

impl Engine for Processes {
    fn capabilities(&self) -> Capabilities {
        let mut can = Capabilities::none();
        can.lifeline = true;
        can.networks = true;
        can
    }

    fn check(&self) -> BoxFuture<'_, Result<EngineInfo, EngineError>> {
        let mut info = EngineInfo::new("Processes 1", "1", "linux/any");
        info.limits = LimitSupport::none();
        Box::pin(async { Ok(info) })
    }

    fn parts(&self) -> Parts<'_> {
        Parts::none()
    }
}

/// A command: how it has ended, once it has.
struct Control(watch::Receiver<Option<i64>>);

impl ExecControl for Control {
    fn exit_code(&self) -> BoxFuture<'_, Result<Option<i64>, EngineError>> {
        let code = *self.0.borrow();
        Box::pin(async move { Ok(code) })
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        let mut told = self.0.clone();
        Box::pin(async move {
            // An error says that nobody tells any more.
            let _ = told.wait_for(Option::is_some).await;
        })
    }

    fn stream_end(&self) -> StreamEnd {
        StreamEnd::Whole
    }

    fn report(&self) -> Option<ExecReport> {
        None
    }

    fn killing(&self) -> Option<&dyn Killing> {
        None
    }

    fn resize(&self, _size: TtySize) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async { Err(failed(EngineErrorKind::Unsupported, "there is no terminal")) })
    }
}
