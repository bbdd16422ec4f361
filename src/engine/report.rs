//! An engine's reports of images and containers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use super::{Engine, EngineError};
#[cfg(doc)]
use super::{EngineErrorKind, Lifecycle};
use crate::runtime::bounded;
use crate::values::labels;

/// Describes an image, as far as the engine reports.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::ImageInfo;
///
/// // An engine reports that commands run as root, and nothing else.
/// let mut image = ImageInfo::default();
/// image.user = Some(String::new());
/// assert!(image.id.is_none() && image.volumes.is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageInfo {
    /// The identity of the image's content. `None`: containers of one name count as made from the same image.
    pub id: Option<String>,
    /// The user that the image's commands run as (`USER`): `user[:group]`, and empty for root. `None`: not known; the
    /// library's own PID 1 then runs as the same user as the commands.
    pub user: Option<String>,
    /// The image's `ENTRYPOINT`, empty for none. [`supervise_command`](crate::ContainerSpec::supervise_command) needs it, and a pool
    /// warns where it is not run.
    pub entrypoint: Option<Vec<String>>,
    /// The image's `CMD`, empty for none. Only [`supervise_command`](crate::ContainerSpec::supervise_command) needs it.
    pub cmd: Option<Vec<String>>,
    /// The directories that the image declares as volumes (`VOLUME`), for which the engine would make anonymous volumes, in
    /// a stable order.
    pub volumes: Vec<String>,
}

/// Holds an engine's answer to [`Lifecycle::create`].
///
/// # Examples
///
/// ```
/// use dockerpool::engine::Creation;
///
/// let mut creation = Creation::new("4f53cda18c2b");
/// creation.warnings.push("the clock of this machine is wrong".to_owned());
/// assert!(creation.discarded.is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Creation {
    /// The container's id.
    pub id: String,
    /// The limits that the plan asks for and the engine does not set, in the engine's words. The library refuses such a
    /// container, with [`EngineErrorKind::LimitDiscarded`], and removes it.
    pub discarded: Vec<String>,
    /// The engine's warnings. A pool reports each text once to [`on_error`](crate::PoolBuilder::on_error), as an
    /// [`EngineErrorKind::Warning`].
    pub warnings: Vec<String>,
}

impl Creation {
    /// Makes an answer with this id and no warnings; the other fields are public.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            discarded: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// Tells a container's state as the engine reports it. The typestates of [`Container`](crate::Container), in contrast, hold
/// the last state that the library knows.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::ContainerState;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// // Another program may have paused the container since it was lent.
/// let report = c.inspect().await?;
/// assert_eq!(report.state, ContainerState::Running);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContainerState {
    /// Created, and never started.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Being restarted by the engine.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended: PID 1 has exited.
    Exited,
    /// Half removed: the engine can only remove the container.
    Dead,
    /// A state that this library does not know.
    Unknown,
}

/// Describes a container as the engine reports it.
///
/// # Examples
///
/// ```
/// use dockerpool::labels;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// let report = c.inspect().await?;
/// assert_eq!((&*report.id, &*report.name), (c.id(), c.name()));
/// assert_eq!(report.labels[labels::POOL], pool.name());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContainerReport {
    /// The container's id.
    pub id: String,
    /// The container's name, without a leading slash.
    pub name: String,
    /// The image that the container was made from, as it was requested; Podman adds the registry.
    pub image: String,
    /// The container's state.
    pub state: ContainerState,
    /// PID 1's exit code, if PID 1 has ended.
    pub exit_code: Option<i64>,
    /// The container's labels: the library's own and all others.
    pub labels: std::collections::HashMap<String, String>,
    /// The container's address on its network. `None`: it has none, it does not run, or the engine does not tell, as in a list.
    pub ip: Option<IpAddr>,
    /// The finding of the engine's health check. `None`: there is no health check, or the engine does not tell, as in a list.
    pub health: Option<Health>,
    /// The published TCP ports, sorted. Empty where the container does not run, or the engine does not tell, as in a list.
    pub ports: Vec<PublishedPort>,
}

/// Tells what a health check of the engine has found.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::{ContainerReport, ContainerState, Health};
///
/// let mut report = ContainerReport::new("4f53cda18c2b", "web", ContainerState::Running);
/// report.health = Some(Health::Starting);
/// assert_ne!(report.health, Some(Health::Healthy));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Health {
    /// No check has succeeded yet, and not enough have failed.
    Starting,
    /// The last check has succeeded.
    Healthy,
    /// The last checks have failed.
    Unhealthy,
}

/// Tells where a published TCP port of a container is reached.
///
/// # Examples
///
/// ```
/// use std::net::{Ipv4Addr, SocketAddr};
/// use dockerpool::engine::PublishedPort;
///
/// let redis = PublishedPort::new(6379, SocketAddr::from((Ipv4Addr::LOCALHOST, 49153)));
/// assert_eq!((redis.port, redis.address.port()), (6379, 49153));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct PublishedPort {
    /// The port in the container.
    pub port: u16,
    /// The address by which this machine reaches the port. An engine on another machine gives an address of that machine.
    pub address: SocketAddr,
}

impl PublishedPort {
    /// Says that this port of a container is reached at this address.
    pub fn new(port: u16, address: SocketAddr) -> Self {
        Self { port, address }
    }
}

impl ContainerReport {
    /// Makes the report of an engine written outside this crate; the other fields are public.
    pub fn new(id: impl Into<String>, name: impl Into<String>, state: ContainerState) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            image: String::new(),
            state,
            exit_code: None,
            labels: Default::default(),
            ip: None,
            health: None,
            ports: Vec::new(),
        }
    }
}

/// Returns the address by which a machine reaches what is bound to an address of its own.
pub(crate) fn loopback_of(bound: IpAddr) -> IpAddr {
    match bound {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        bound => bound,
    }
}

/// Selects containers: those that carry all of these labels, or the one of this id.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::Observation;
/// use dockerpool::engine::Selector;
/// use dockerpool::labels;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let engine = dockerpool::testing::FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").min_idle(2).engine(std::sync::Arc::new(engine.clone())).build().await?;
/// // The containers of this pool, and those of all pools of its name, in any process.
/// let its_own = engine.list(&Selector::label(labels::INSTANCE, pool.instance())).await?;
/// let all = engine.list(&Selector::pool(pool.name())).await?;
/// assert_eq!((its_own.len(), all.len()), (2, 2));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selector {
    /// Containers that carry all of these labels, each with its value.
    Labels(Vec<(String, String)>),
    /// The container with this id.
    Id(String),
}

impl Default for Selector {
    /// Selects every container.
    fn default() -> Self {
        Self::Labels(Vec::new())
    }
}

impl Selector {
    /// Selects containers with this label.
    pub fn label(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self::Labels(vec![(key.into(), value.into())])
    }

    /// Selects the containers of all pools of this name, in any process.
    pub fn pool(name: impl Into<String>) -> Self {
        Self::Labels(labels::of_pool(name).into_iter().collect())
    }

    /// Selects the container with this id.
    pub fn id(id: impl Into<String>) -> Self {
        Self::Id(id.into())
    }

    /// Returns whether a container of this id is selected. `label` returns the value of a label.
    pub fn selects<'a>(&self, id: &str, label: impl Fn(&str) -> Option<&'a String>) -> bool {
        match self {
            Self::Labels(labels) => labels.iter().all(|(name, value)| label(name) == Some(value)),
            Self::Id(wanted) => wanted == id,
        }
    }
}

/// Returns the containers with the labels of a selector, and checks the labels of each. The check matters because the
/// callers remove containers: an engine, or a proxy in front of it, that does not know the filter returns all containers.
pub(crate) async fn listed(
    engine: &dyn Engine,
    selector: &Selector,
    limit: Duration,
) -> Result<Vec<ContainerReport>, EngineError> {
    let mut found = bounded("a list of containers", limit, engine.list(selector)).await?;
    found.retain(|report| match selector {
        // An engine accepts the beginning of an id, so an id is not checked here.
        Selector::Id(_) => true,
        labels => labels.selects(&report.id, |name| report.labels.get(name)),
    });
    Ok(found)
}

/// Describes an event of a container.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::Observation;
/// use dockerpool::engine::{EventKind, Selector};
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let engine = dockerpool::testing::FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// let mut events = engine.events(&Selector::pool("docs"), None);
/// let c = pool.acquire().await?;
/// let id = c.id().to_owned();
/// c.discard();
/// let event = events.next().await.expect("the engine is there")?;
/// assert_eq!((event.id, event.kind), (id, EventKind::Killed)); // then `Died`, then `Removed`
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The container's id.
    pub id: String,
    /// The kind of event.
    pub kind: EventKind,
    /// The time by the engine's clock. `None`: the engine does not report it.
    pub at: Option<SystemTime>,
    /// PID 1's exit code, if PID 1 [ended](EventKind::Died). `None`: the engine does not report it.
    pub exit_code: Option<i64>,
}

impl Event {
    /// Makes the event of an engine written outside this crate; the other fields are public.
    pub fn new(id: impl Into<String>, kind: EventKind) -> Self {
        Self {
            id: id.into(),
            kind,
            at: None,
            exit_code: None,
        }
    }
}

/// Names the kinds of [`Event`] that a pool acts on.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::{Event, EventKind};
///
/// // The events of a container that an engine removes.
/// let told = [EventKind::Killed, EventKind::Died, EventKind::Removed].map(|kind| Event::new("4f53cda18c2b", kind));
/// assert!(told.iter().all(|event| event.id == "4f53cda18c2b" && event.at.is_none()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// The kernel killed a process of the container because it was over its memory limit.
    OutOfMemory,
    /// PID 1 ended.
    Died,
    /// The container was removed.
    Removed,
    /// The container was paused.
    Paused,
    /// Somebody had the engine send PID 1 a signal, to end the container or not. Comes with each kill, stop and forced removal; an
    /// engine that does not tell leaves the cause of an end [unknown](crate::WhyGone::Unknown).
    Killed,
}
