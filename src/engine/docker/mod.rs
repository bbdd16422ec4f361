//! The Docker engine, through its HTTP API and `bollard`.

mod budget;
mod convert;
pub(crate) mod create_body;
mod credentials;
mod discover;
mod endpoint;
mod events;
mod exec;
mod files;
pub(crate) mod frames;
mod helper;
mod image;
mod limits;
mod lost_end;
mod network;
mod podman;
mod ports;
mod pull_words;
mod read_back;
mod refusals;
mod said;
mod search;
mod ssh;
#[cfg(feature = "tls")]
mod tls;
mod transport;
mod upgrade;
mod versions;
mod volume;
mod words;

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bollard::Docker;
use bollard::errors::Error as DockerError;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use bollard::query_parameters as query;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use parking_lot::Mutex;

use super::{
    Attachment, Capabilities, Change, Changes, Commands, ContainerReport, ContainerState, Creation, Engine,
    EngineError, EngineErrorKind, EngineInfo, Event, ExecRequest, ExecSession, Identity, ImageInfo, Lifecycle, Mount,
    MountSource, Observation, Parts, Pausing, Plan, ProgressFn, Renaming, Selector,
};
use crate::error::{Error, root_cause};
use crate::runtime::bounded;
use crate::runtime::{Home, stream_within, within};
use crate::values::shown::Rounded;
use crate::values::text;
use convert::{engine_error, question_error, report_of_inspect, report_of_summary};
use discover::{Candidate, Environment};
use said::Said;
use search::Pace;
use transport::Replaced;
use upgrade::Connection;
use versions::Agreed;

pub use endpoint::Endpoint;

/// The step that all errors of connecting name.
const REACH: &str = "reach the Docker engine";

/// The name of an endpoint that a caller gave in code, in errors.
const ENDPOINT: &str = "endpoint";

/// The step of `build()` that fails if the engine would ignore a setting.
const USE_SETTINGS: &str = "use the settings of the containers";

/// The deadline of connecting as a whole; then the engine counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause before the next query about a change that another client makes.
const RECHECK: Duration = Duration::from_millis(10);

/// How long an engine may take to notice the end of a container, after a call on that container has failed.
const END_SEEN: Duration = Duration::from_secs(1);

/// How often a pause is tried where the runtime could not stop all processes in its time.
const PAUSES: u32 = 3;

/// The states of a container that has ended.
const ENDED: [ContainerState; 2] = [ContainerState::Exited, ContainerState::Dead];

/// Runs containers on a Docker engine, reached in any of the ways that an [`Endpoint`] names. Cheap to clone; dropping it
/// ends nothing.
///
/// Works on any thread, inside a tokio runtime or not. The connections are kept alive, belong to the library's own runtime
/// (see [the crate's documentation](crate#runtime)), and are shared by all calls.
///
/// # Examples
///
/// ```no_run
/// use std::sync::Arc;
/// use dockerpool::{DockerEngine, Endpoint, Engine, Pool};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = DockerEngine::connect_to(Endpoint::unix("/run/user/1000/docker.sock")).await?;
/// println!("{}", engine.check().await?.version);
/// // Two pools on one engine share its connections.
/// let engine: Arc<dyn Engine> = Arc::new(engine);
/// let shells = Pool::builder("shells").image("busybox:1.36").engine(engine.clone()).build().await?;
/// let pythons = Pool::builder("pythons").image("python:3.12-alpine").engine(engine).build().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DockerEngine {
    /// The client for the library's own calls.
    docker: Docker,
    /// The client for the caller's own calls, without budgets.
    #[cfg(feature = "bollard-0_21")]
    unbounded: Docker,
    endpoint: Option<Endpoint>,
    /// Whether the engine is Podman, whose API differs in details.
    is_podman: bool,
    agreed: Agreed,
    shared: Arc<Shared>,
    runtime: Home,
}

/// Holds the state that all clones of an engine share.
#[derive(Debug, Default)]
struct Shared {
    said: Mutex<Option<Heard>>,
    volumes: volume::Filled,
}

/// Holds an answer to `/info`, with the count of changes of the engine before that answer.
#[derive(Clone, Debug)]
struct Heard {
    said: Arc<Said>,
    changes: u64,
}

impl DockerEngine {
    /// Polls a call inside the library's own runtime.
    fn here<'a, T: 'a>(&'a self, call: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
        within(&self.runtime, call)
    }

    /// Connects to the engine that the docker command line would use, and negotiates a version of the API. The first of these settings names the engine:
    ///
    /// 1. `DOCKER_HOST`, in the forms of [`Endpoint`]. `tcp://` uses TLS if `DOCKER_TLS_VERIFY`, `DOCKER_TLS` or
    ///    `DOCKER_CERT_PATH` is set: with `ca.pem`, `cert.pem` and `key.pem` from `DOCKER_CERT_PATH`, or else from
    ///    Docker's own directory (`DOCKER_CONFIG`, or `~/.docker`). The server is always verified.
    /// 2. The docker context named by `DOCKER_CONTEXT`, or else by `currentContext` in `config.json` of Docker's directory.
    /// 3. The first of these sockets at which an engine answers: `/var/run/docker.sock`; rootless Docker's
    ///    `$XDG_RUNTIME_DIR/docker.sock` and `/run/user/UID/docker.sock`; Docker Desktop's `~/.docker/run/docker.sock` and
    ///    `~/.docker/desktop/docker.sock`; rootless Podman's `$XDG_RUNTIME_DIR/podman/podman.sock` and
    ///    `/run/user/UID/podman/podman.sock`; Podman's `/run/podman/podman.sock`, and that of `podman machine`,
    ///    `~/.local/share/containers/podman/machine/podman.sock`. On Windows: the pipes `docker_engine` and
    ///    `dockerDesktopLinuxEngine`.
    ///
    /// If several engines are running, the first in this order is used, even if a later one is faster. A socket without a
    /// listener, or without permission for this user, is skipped at once. A socket that accepts the connection and does not
    /// answer is skipped after four seconds, if another one has answered. An engine that answers with a failure is used, and
    /// its failure is the result.
    ///
    /// Podman's own settings, `CONTAINER_HOST` and the connections of `podman system connection`, are not read, as the
    /// docker command line does not read them either: set `DOCKER_HOST` to the address of the socket.
    ///
    /// The version of the API is the newest that both sides support, at least 1.25 (Docker 1.13), and is part of each
    /// request. If an engine of another version later takes the place of this one and refuses a request for its version, the
    /// library negotiates again and retries the request once. If the other version is older, the library first checks
    /// whether that version supports every setting of a container to create.
    ///
    /// Plain `tcp://` beyond the loopback interface is refused unless `DOCKERPOOL_INSECURE_TCP` is set to a non-empty value.
    ///
    /// A `config.json` that cannot be read or parsed is ignored with a warning to `tracing`, as by the docker command line.
    /// Only regular files of at most 4 MiB are read, here and for TLS, on a thread of their own.
    ///
    /// # Errors
    ///
    /// - [`Error::Config`] for a setting that cannot be used; the error names the setting.
    /// - [`Error::Engine`] with [`EngineErrorKind::Unreachable`], naming every endpoint that was tried;
    ///   [`EngineErrorKind::Untrusted`]; [`EngineErrorKind::Timeout`] (after ten seconds);
    ///   [`EngineErrorKind::Unsupported`] if both sides have no version of the API in common.
    pub async fn connect() -> Result<Self, Error> {
        let connect = async {
            // Reading the settings reads files.
            let found = files::off_the_runtime(|| {
                let environment = Environment::of_process();
                (environment.candidates(), environment.hint())
            });
            let (candidates, hint) = found.await.map_err(|error| {
                let words = "the settings could not be read";
                let error = EngineError::of_system(EngineErrorKind::Internal, words, error);
                Error::engine(REACH, None, error)
            })?;
            let mut candidates = candidates?;
            if candidates.len() == 1 {
                let Candidate { endpoint, named_by } = candidates.remove(0);
                return Self::open(endpoint, &named_by).await;
            }
            search::first_that_answers(candidates, Pace::USUAL, hint).await
        };
        // Boxed: the future is large, and is moved several times.
        Home::own()?
            .run(within_connect_timeout("the engine", Box::pin(connect)))
            .await
    }

    /// Connects to the engine at this endpoint, and negotiates a version of the API. Reads no environment variable.
    ///
    /// # Errors
    ///
    /// The same as those of [`connect`](Self::connect).
    pub async fn connect_to(endpoint: Endpoint) -> Result<Self, Error> {
        let engine = format!("the engine at {endpoint}");
        let connect = Self::open(endpoint, ENDPOINT);
        // Boxed: the future is large, and is moved several times.
        Home::own()?
            .run(within_connect_timeout(&engine, Box::pin(connect)))
            .await
    }

    async fn open(endpoint: Endpoint, named_by: &str) -> Result<Self, Error> {
        let runtime = Home::own()?;
        let agreed = Agreed::default();
        let unbounded = transport::client(&endpoint, named_by, &runtime, agreed.clone()).await?;
        let docker = budget::for_answers(&unbounded);
        let is_podman = agree_on_version(&docker, &agreed, Some((&endpoint, named_by))).await?;
        Ok(Self {
            docker,
            #[cfg(feature = "bollard-0_21")]
            unbounded,
            endpoint: Some(endpoint),
            is_podman,
            agreed,
            shared: Arc::default(),
            runtime,
        })
    }

    /// Uses a connection made by the caller, unchanged, and negotiates a version of the API. For connections that an
    /// [`Endpoint`] cannot describe. Memory is not bounded if the engine's answer is endless.
    ///
    /// Connections that bollard opens for the library's calls belong to the library's own runtime. A connection that bollard
    /// has opened before belongs to another runtime, and stalls when nothing drives that runtime: pass a `Docker` that has
    /// made no calls.
    ///
    /// bollard decides whether requests contain the version of the API. Version 0.21 leaves it out, so that the engine
    /// answers in its newest version. The library does not modify the requests: a modifier that the caller has set on the
    /// `Docker` would be lost. Without the heads of answers the library cannot negotiate again with a replaced engine.
    ///
    /// # Errors
    ///
    /// The same as those of [`connect`](Self::connect).
    #[cfg(feature = "bollard-0_21")]
    pub async fn from_bollard(docker: Docker) -> Result<Self, Error> {
        let runtime = Home::own()?;
        let agreed = Agreed::default();
        let (docker, is_podman) = runtime
            .run(async {
                let is_podman = agree_on_version(&docker, &agreed, None).await?;
                let negotiated = bounded("the version request", CONNECT_TIMEOUT, async {
                    docker
                        .negotiate_version()
                        .await
                        .map_err(|error| engine_error("the engine did not tell its version", error))
                });
                let docker = negotiated.await.map_err(|error| Error::engine(REACH, None, error))?;
                Ok::<_, Error>((docker, is_podman))
            })
            .await?;
        Ok(Self {
            unbounded: docker.clone(),
            docker,
            endpoint: None,
            is_podman,
            agreed,
            shared: Arc::default(),
            runtime,
        })
    }

    /// Returns the engine's address; `None` for a connection made by the caller.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.endpoint.as_ref()
    }

    /// Returns the bollard client, for calls that this library does not make. Answers may have any length; of an answer
    /// about a failure, the first 256 KiB are read. A call that the engine refuses for its version of the API alone is
    /// retried once, in the version that the engine reports. The calls need a tokio runtime with time enabled, for bollard's
    /// own timeout.
    #[cfg(feature = "bollard-0_21")]
    pub fn bollard(&self) -> &Docker {
        &self.unbounded
    }

    /// Returns the last answer to `/info`. Asks again if another engine may have taken the place of this one since. `None`
    /// if `/info` was never queried: a query here would delay the caller.
    async fn said(&self) -> Option<Arc<Said>> {
        let heard = self.shared.said.lock().clone()?;
        if heard.changes == self.agreed.changes() {
            return Some(heard.said);
        }
        self.ask_what_it_is().await
    }

    /// Queries `/info` now. `None` if the engine has never answered that query.
    async fn ask_what_it_is(&self) -> Option<Arc<Said>> {
        // Read before the query: a change during the query leads to another one.
        let changes = self.agreed.changes();
        match self.docker.info().await {
            Ok(info) => {
                let said = Arc::new(Said::of(&info, self.is_podman));
                *self.shared.said.lock() = Some(Heard {
                    said: said.clone(),
                    changes,
                });
                Some(said)
            }
            Err(error) => {
                tracing::debug!(%error, "the engine does not answer the query for its properties");
                self.last_said()
            }
        }
    }

    /// Returns the last answer to `/info`, without a query.
    fn last_said(&self) -> Option<Arc<Said>> {
        self.shared.said.lock().as_ref().map(|heard| heard.said.clone())
    }

    /// Makes a call that checks the version before its first effect. Retries once if the engine turns out to have been
    /// replaced by one of another version, because the first attempt had no effect.
    async fn again_if_replaced<T, F>(&self, call: impl Fn() -> F + Send) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, EngineError>> + Send,
    {
        // No other error proves that the call had no effect: a broken tunnel may have delivered the request.
        let is_replaced = |error: &EngineError| StdError::source(error).is_some_and(|source| source.is::<Replaced>());
        match call().await {
            Err(error) if is_replaced(&error) => call().await,
            result => result,
        }
    }

    /// Returns the body of the create call, without the network and the parts that belong to one container alone.
    fn body_of(&self, plan: &Plan) -> Result<ContainerCreateBody, EngineError> {
        let mut body = create_body::of(plan)?;
        if self.is_podman {
            podman::adapt(&mut body);
        }
        Ok(body)
    }

    /// Refuses settings that the engine would ignore because they are newer than the negotiated version of the API.
    fn refuse_unknown(&self, plan: &Plan) -> Result<(), EngineError> {
        ports::refuse(&plan.ports, self.endpoint.as_ref())?;
        if self.is_podman {
            podman::refuse(&self.body_of(plan)?)?;
        }
        let Some(version) = self.agreed.get() else {
            return Ok(());
        };
        let mut unknown = versions::unknown(&self.body_of(plan)?, version);
        if plan.image.platform.is_some() && version < versions::PLATFORM {
            unknown.push(format!("platform() needs version {}", versions::PLATFORM));
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let message = format!(
            "the engine speaks version {version} of its API, and would ignore: {}",
            unknown.join(", ")
        );
        Err(EngineError::new(EngineErrorKind::Unsupported, message))
    }

    /// Returns the answer of a call, line by line: see [`budget`].
    fn lines<T: Send + 'static, S>(&self, call: impl FnOnce(&Docker) -> S) -> BoxStream<'static, Result<T, DockerError>>
    where
        S: Stream<Item = Result<T, DockerError>> + Send + 'static,
    {
        match self.endpoint {
            Some(_) => budget::for_lines(&self.docker, call),
            // The caller's own transport has no budgets.
            None => call(&self.docker).boxed(),
        }
    }

    /// Describes an upgraded connection to this engine.
    fn frames(&self, tty: bool) -> frames::Wire {
        let is_local = self.endpoint.as_ref().is_some_and(Endpoint::is_unix);
        frames::Wire { tty, is_local }
    }

    /// Returns the container's real state after the engine failed to change it: success if the state is a `wanted` one, and
    /// a precise error if the container has ended meanwhile. The engine may notice that end late: the state `before` is
    /// polled for up to [`END_SEEN`].
    async fn unless_changed(
        &self,
        id: &str,
        error: EngineError,
        before: Option<ContainerState>,
        wanted: &[ContainerState],
    ) -> Result<(), EngineError> {
        if !matches!(error.kind(), EngineErrorKind::Internal | EngineErrorKind::Conflict) {
            return Err(error);
        }
        let until = tokio::time::Instant::now() + END_SEEN;
        loop {
            let kind = match self.inspect(id).await {
                Ok(report) if Some(report.state) == before => {
                    if error.kind() == EngineErrorKind::Conflict || tokio::time::Instant::now() >= until {
                        return Err(error);
                    }
                    tokio::time::sleep(RECHECK).await;
                    continue;
                }
                Ok(report) if wanted.contains(&report.state) => return Ok(()),
                Ok(report) => match report.state {
                    ContainerState::Exited | ContainerState::Dead | ContainerState::Removing => {
                        EngineErrorKind::Conflict
                    }
                    _ => return Err(error),
                },
                Err(answer)
                    if answer.kind() == EngineErrorKind::NotFound && wanted.contains(&ContainerState::Exited) =>
                {
                    return Ok(());
                }
                Err(answer) if answer.kind() == EngineErrorKind::NotFound => EngineErrorKind::NotFound,
                Err(_) => return Err(error),
            };
            return Err(EngineError::new(
                kind,
                format!("the container has ended meanwhile: {error}"),
            ));
        }
    }

    async fn create_once(&self, identity: &Identity, plan: &Plan) -> Result<Creation, EngineError> {
        let options = query::CreateContainerOptions {
            name: Some(identity.name.clone()),
            platform: plan.image.platform.clone().unwrap_or_default(),
        };
        // Checked again, since another engine may have taken the place of the first one.
        self.refuse_unknown(plan)?;
        let mut body = self.body_of(plan)?;
        create_body::add_identity(identity, &mut body);
        if plan.security.writable_cgroups {
            create_body::writable_cgroups(&mut body, self.is_podman);
        }
        if let (Some(id), Some(network)) = (network::ensure(self, plan).await?, &plan.network) {
            network::pin(&mut body, network.name().unwrap_or_default(), id);
        }
        volume::ensure(self, plan).await?;
        let mounts = || plan.mounts.iter().chain(&identity.mounts);
        if self.said().await.is_some_and(|said| said.selinux) {
            said::label_own(&mut body, mounts());
        }
        let asked = body.host_config.clone().unwrap_or_default();
        // The library's own mounts, without those that got an SELinux label.
        let is_mounted = |target: &str| {
            let mut mounts = asked.mounts.iter().flatten();
            mounts.any(|mount| mount.target.as_deref() == Some(target))
        };
        let own: Vec<String> = mounts()
            .filter(|mount| is_mounted(&mount.target))
            .filter_map(|mount| match &mount.source {
                MountSource::File { path, .. } => Some(path.to_string_lossy().into_owned()),
                _ => None,
            })
            .collect();
        let created = self
            .docker
            .create_container(Some(options), body)
            .await
            .map_err(|error| {
                let error = engine_error("the engine did not create the container", error);
                refusals::explain_creation(error, &own)
            });
        match created {
            Ok(created) => {
                let id = convert::checked(created.id)?;
                let (discarded, warnings) = created
                    .warnings
                    .into_iter()
                    .partition(|warning| limits::says_discarded(warning, &asked));
                Ok(Creation {
                    warnings,
                    discarded,
                    ..Creation::new(id)
                })
            }
            // An earlier, abandoned call may have created the container: the name belongs to this pool alone.
            Err(error) if error.kind() == EngineErrorKind::Conflict => {
                let there = self.inspect(&identity.name).await?;
                let mut labels = plan.labels.iter();
                let ours = labels.all(|(key, value)| there.labels.get(key) == Some(value));
                if ours { Ok(Creation::new(there.id)) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the engine's full description of a container.
    async fn description(&self, id: &str) -> Result<ContainerInspectResponse, EngineError> {
        self.docker
            .inspect_container(id, None::<query::InspectContainerOptions>)
            .await
            .or_else(convert::with_other_states)
            .map_err(|error| question_error("the engine did not describe the container", error))
    }

    /// Waits for the end of a removal begun elsewhere (automatic removal, another client).
    async fn wait_until_removed(&self, id: &str) -> Result<(), EngineError> {
        // Polls: the event that matters may have passed before a subscription exists. The caller's deadline bounds the loop.
        loop {
            match self.inspect(id).await {
                Err(error) if error.kind() == EngineErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
                Ok(_) => tokio::time::sleep(RECHECK).await,
            }
        }
    }
}

/// Returns the path of a file that the library mounts in a container.
fn own_file(mount: &Mount) -> Option<&str> {
    matches!(mount.source, MountSource::File { .. }).then_some(&*mount.target)
}

/// Bounds connecting as a whole, including the reading of files. `engine` names the engine in the error.
async fn within_connect_timeout<T>(engine: &str, connect: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
        Ok(connected) => connected,
        Err(_) => {
            let words = format!("{engine} was not reached within {}", Rounded(CONNECT_TIMEOUT));
            let error = EngineError::new(EngineErrorKind::Timeout, words);
            Err(Error::engine(REACH, None, error))
        }
    }
}

/// Negotiates the version, and returns whether the engine is Podman. `at` is the engine's endpoint and the setting that names it,
/// for errors; `None` for a connection of the caller's own.
async fn agree_on_version(docker: &Docker, agreed: &Agreed, at: Option<(&Endpoint, &str)>) -> Result<bool, Error> {
    let place = at.map_or(String::new(), |(endpoint, _)| format!(" at {endpoint}"));
    let agree = async {
        let asked = bounded("the version request", CONNECT_TIMEOUT, async {
            Ok(docker.version().await)
        })
        .await;
        let what = format!("the engine{place} did not tell its version");
        let answer = asked.map_err(|late| EngineError::new(late.kind(), format!("{what}: {late}")))?;
        let version = answer.map_err(|error| match question_error(&what, error) {
            error if error.kind() == EngineErrorKind::Unreachable => nobody_answers(error, at),
            error => error,
        })?;
        let common = versions::agree(&version);
        let unusable =
            |error: EngineError| EngineError::new(error.kind(), format!("the engine{place} cannot be used: {error}"));
        agreed.set(common.map_err(unusable)?);
        Ok(convert::is_podman(&version))
    };
    agree.await.map_err(|error| Error::engine(REACH, None, error))
}

/// Says that no engine answers, and which setting has named the endpoint.
fn nobody_answers(error: EngineError, at: Option<(&Endpoint, &str)>) -> EngineError {
    let Some((endpoint, named_by)) = at else {
        return error.reworded("no engine answers");
    };
    let (is_forbidden, cause) = (error.is_forbidden(), root_cause(&error));
    let error = match named_by {
        ENDPOINT => error.reworded(format!("no engine answers at {endpoint}")),
        setting => error.reworded(format!("no engine answers at {endpoint}, which {setting} names")),
    };
    match &endpoint.kind {
        endpoint::Kind::Ssh(_) => error.advise("does `ssh` get there without a question?"),
        _ if is_forbidden => error,
        _ if cause.ends_with(transport::NO_SOCKET) => error.advise(""),
        _ => error.advise("is the engine running there?"),
    }
}

impl Lifecycle for DockerEngine {
    fn prepare<'a>(&'a self, plan: &'a Plan, progress: &'a ProgressFn) -> BoxFuture<'a, Result<(), EngineError>> {
        self.here(async move {
            let failed = |doing| move |error: EngineError| error.while_doing(doing);
            self.refuse_unknown(plan).map_err(failed(USE_SETTINGS))?;
            let body = self.body_of(plan).map_err(failed(USE_SETTINGS))?;
            read_back::check_runtime(self, &body)
                .await
                .map_err(failed("use the runtime"))?;
            image::prepare(self, &plan.image, progress)
                .await
                .map_err(failed("prepare the image"))?;
            network::ensure(self, plan)
                .await
                .map_err(failed("prepare the network"))?;
            volume::ensure(self, plan)
                .await
                .map_err(failed("prepare the volume of the library's program"))
        })
    }

    fn release<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Result<(), EngineError>> {
        self.here(async move {
            let volume = volume::release(self, plan).await;
            network::release(self, plan).await.and(volume)
        })
    }

    fn sweep<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Result<(), EngineError>> {
        self.here(async move {
            let volumes = volume::sweep(self, plan).await;
            network::sweep(self, plan).await.and(volumes)
        })
    }

    fn create<'a>(&'a self, identity: &'a Identity, plan: &'a Plan) -> BoxFuture<'a, Result<Creation, EngineError>> {
        self.here(self.again_if_replaced(move || self.create_once(identity, plan)))
    }

    fn attach<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Attachment, EngineError>> {
        self.here(async move {
            let options = query::AttachContainerOptions {
                stream: true,
                stdin: true,
                stdout: true,
                stderr: true,
                ..Default::default()
            };
            let attached = upgrade::raw(self.docker.attach_container(id, Some(options)))
                .await
                .map_err(|error| {
                    // Podman's runtime creates the container only now.
                    let error = engine_error("the engine did not attach to the container", error);
                    refusals::explain(error, &[])
                })?;
            Ok(match attached {
                Connection::Raw(stream) => {
                    let (read, write) = tokio::io::split(stream);
                    Attachment {
                        stdin: Box::new(write),
                        output: frames::decode(read, self.frames(false)),
                    }
                }
                Connection::Decoded(attached) => Attachment {
                    stdin: Box::new(attached.input),
                    output: exec::plain_frames(attached.output, false),
                },
            })
        })
    }

    fn start<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        self.here(async move {
            self.docker
                .start_container(id, None::<query::StartContainerOptions>)
                .await
                .map_err(|error| refusals::explain(engine_error("the engine did not start the container", error), &[]))
        })
    }

    fn kill<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        self.here(async move {
            let options = query::KillContainerOptions {
                signal: "SIGKILL".to_owned(),
            };
            match self.docker.kill_container(id, Some(options)).await {
                Ok(()) => Ok(()),
                Err(error) => match engine_error("the engine did not kill the container", error) {
                    error if error.says_gone() => Ok(()),
                    error => self.unless_changed(id, error, None, &ENDED).await,
                },
            }
        })
    }

    fn stop<'a>(&'a self, id: &'a str, grace: Duration) -> BoxFuture<'a, Result<(), EngineError>> {
        self.here(async move {
            let options = query::StopContainerOptions {
                t: Some(i32::try_from(grace.as_secs()).unwrap_or(i32::MAX)),
                signal: None,
            };
            let result = self.docker.stop_container(id, Some(options)).await;
            match result {
                Ok(()) => Ok(()),
                Err(error) => {
                    let error = engine_error("the engine did not stop the container", error);
                    self.unless_changed(id, error, None, &ENDED).await
                }
            }
        })
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        self.here(async move {
            // Without `v` the image's anonymous volumes would be left.
            let options = query::RemoveContainerOptions {
                v: true,
                force: true,
                link: false,
            };
            match self.docker.remove_container(id, Some(options)).await {
                Ok(()) => Ok(()),
                Err(error) => match engine_error("the engine did not remove the container", error) {
                    error if error.kind() == EngineErrorKind::NotFound => Ok(()),
                    error if error.kind() == EngineErrorKind::Conflict => self.wait_until_removed(id).await,
                    // Another client may have removed the container meanwhile, which is no failure.
                    error if error.kind() == EngineErrorKind::Internal => match self.inspect(id).await {
                        Err(answer) if answer.kind() == EngineErrorKind::NotFound => Ok(()),
                        _ => Err(error),
                    },
                    error => Err(error),
                },
            }
        })
    }
}

impl Commands for DockerEngine {
    fn exec<'a>(&'a self, id: &'a str, request: &'a ExecRequest) -> BoxFuture<'a, Result<ExecSession, EngineError>> {
        self.here(self.again_if_replaced(move || exec::start(self, id, request)))
    }
}

impl Observation for DockerEngine {
    fn image<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Result<ImageInfo, EngineError>> {
        self.here(async move {
            let image = image::describe(self, &plan.image).await?;
            let config = image.config.unwrap_or_default();
            let mut volumes = config.volumes.unwrap_or_default();
            // The answer is a map; the fingerprint needs a stable order.
            volumes.sort();
            Ok(ImageInfo {
                id: image.id,
                user: Some(config.user.unwrap_or_default()),
                entrypoint: Some(config.entrypoint.unwrap_or_default()),
                cmd: Some(config.cmd.unwrap_or_default()),
                volumes,
            })
        })
    }

    fn inspect<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<ContainerReport, EngineError>> {
        self.here(async move {
            let mut report = report_of_inspect(self.description(id).await?)?;
            ports::reach(&mut report.ports, self.endpoint.as_ref()).await?;
            Ok(report)
        })
    }

    fn list<'a>(&'a self, selector: &'a Selector) -> BoxFuture<'a, Result<Vec<ContainerReport>, EngineError>> {
        self.here(async move {
            let options = query::ListContainersOptions {
                all: true,
                filters: Some(convert::filters(selector, "id")),
                ..Default::default()
            };
            let found = self
                .docker
                .list_containers(Some(options))
                .await
                .or_else(convert::with_other_states)
                .map_err(|error| engine_error("the engine did not list containers", error))?;
            found.into_iter().map(report_of_summary).collect()
        })
    }

    fn missing_limits<'a>(&'a self, id: &'a str, plan: &'a Plan) -> BoxFuture<'a, Result<Vec<String>, EngineError>> {
        self.here(async move {
            let asked = self.body_of(plan)?;
            let found = self.description(id).await?;
            let (asked, found) = (asked.host_config.unwrap_or_default(), found.host_config);
            Ok(found.map_or_else(Vec::new, |found| limits::missing(&asked, &found, self.is_podman)))
        })
    }

    fn ignored_settings<'a>(&'a self, id: &'a str, plan: &'a Plan) -> BoxFuture<'a, Result<Vec<String>, EngineError>> {
        self.here(async move {
            let asked = self.body_of(plan)?;
            let found = self.description(id).await?;
            let own: Vec<_> = plan.mounts.iter().filter_map(own_file).collect();
            Ok(read_back::ignored(&asked, &found, &own, self.is_podman))
        })
    }

    fn events(&self, selector: &Selector, since: Option<SystemTime>) -> BoxStream<'static, Result<Event, EngineError>> {
        stream_within(&self.runtime, events::subscribe(self, selector, since))
    }
}

impl Engine for DockerEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            // A connection made by the caller counts as local, because its address is not known.
            local_files: self.endpoint.as_ref().is_none_or(Endpoint::is_unix)
                && self.last_said().is_none_or(|said| said.elsewhere.is_none()),
            // Podman has no event for a kill for memory.
            oom_events: !self.is_podman,
            ..Capabilities::all()
        }
    }

    fn check(&self) -> BoxFuture<'_, Result<EngineInfo, EngineError>> {
        self.here(async move {
            let version = self
                .docker
                .version()
                .await
                .map_err(|error| engine_error("the engine's version cannot be read", error))?;
            let name = if self.is_podman { "Podman" } else { "Docker" };
            let part = |told: Option<String>| text::clean(&told.unwrap_or_default()).into_owned();
            let mut components = version.components.into_iter().flatten();
            let runc = components.find(|component| component.name == "runc");
            let kernel = version.kernel_version.filter(|kernel| !kernel.is_empty());
            let mut info = EngineInfo::new(
                format!("{name} {}", part(version.version)),
                part(version.api_version),
                format!("{}/{}", part(version.os), part(version.arch)),
            );
            info.runc = runc.map(|runc| part(Some(runc.version)));
            info.kernel = kernel.map(|kernel| part(Some(kernel)));
            // If the query fails, the creation of containers shows the limits.
            if let Some(said) = self.ask_what_it_is().await {
                info.limits = said.limits;
                info.cgroup_version = said.cgroup_version;
                info.remaps_users = said.remaps_users;
                info.runtime.clone_from(&said.runtime);
            }
            if self.is_podman {
                info.read_only_tmpfs = podman::READ_ONLY_TMPFS.map(str::to_owned).into();
            }
            info.id = self.endpoint.as_ref().map(ToString::to_string);
            Ok(info)
        })
    }

    fn parts(&self) -> Parts<'_> {
        Parts::none().with_pausing(self).with_renaming(self).with_changes(self)
    }
}

impl Pausing for DockerEngine {
    fn pause<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        self.here(async move {
            for attempt in 1.. {
                let Err(error) = self.docker.pause_container(id).await else {
                    break;
                };
                let error = engine_error("the engine did not pause the container", error);
                if attempt < PAUSES && words::is_not_frozen(&error) {
                    continue;
                }
                return self
                    .unless_changed(id, error, Some(ContainerState::Running), &[ContainerState::Paused])
                    .await;
            }
            Ok(())
        })
    }

    fn unpause<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        self.here(async move {
            let result = self.docker.unpause_container(id).await;
            match result {
                Ok(()) => Ok(()),
                Err(error) => {
                    let error = engine_error("the engine did not unpause the container", error);
                    self.unless_changed(id, error, Some(ContainerState::Paused), &[ContainerState::Running])
                        .await
                }
            }
        })
    }
}

impl Renaming for DockerEngine {
    fn rename<'a>(&'a self, id: &'a str, name: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        self.here(async move {
            let options = query::RenameContainerOptions { name: name.to_owned() };
            self.docker
                .rename_container(id, options)
                .await
                .map_err(|error| engine_error("the engine did not rename the container", error))
        })
    }
}

impl Changes for DockerEngine {
    fn changes<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Vec<Change>, EngineError>> {
        self.here(async move {
            let changes = self.docker.container_changes(id).await;
            let changes = changes.map_err(|error| engine_error("the engine did not list what has changed", error))?;
            Ok(changes
                .unwrap_or_default()
                .into_iter()
                .map(convert::change_of)
                .collect())
        })
    }

    fn unlisted(&self) -> &[&str] {
        if self.is_podman { &podman::UNLISTED } else { &[] }
    }
}
