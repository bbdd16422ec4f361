//! The trait that an engine implements: [`Engine`], with the traits it consists of.

use std::fmt;
use std::time::{Duration, SystemTime};

#[cfg(doc)]
use super::Pid1;
use super::{
    Attachment, BoxFuture, BoxStream, Capabilities, ContainerReport, Creation, EngineError, EngineErrorKind,
    EngineInfo, Event, ExecRequest, ExecSession, Identity, ImageInfo, Plan, ProgressFn, Selector,
};
#[cfg(doc)]
use crate::values::labels;

/// Runs containers for pools. Object-safe: a pool holds an `Arc<dyn Engine>`. The calls are grouped by purpose:
/// [`Lifecycle`], [`Commands`], [`Observation`], and the [`Parts`] that an engine may lack.
///
/// No method has a default: an engine that wraps another one does not compile before it decides about each method.
///
/// # Contract
///
/// - Every future may be dropped at any await point. An operation that it had begun may then have happened or not: the
///   caller finds out by [`inspect`](Observation::inspect), or undoes the operation by [`remove`](Lifecycle::remove).
/// - An engine needs no deadlines: the library puts its own around every call and every read.
/// - [`remove`](Lifecycle::remove) of a container that does not exist succeeds.
/// - [`create`](Lifecycle::create) is idempotent by name: an existing container of that name with the plan's labels is a
///   success, any other is an [`EngineErrorKind::Conflict`]. If several callers, in whatever processes, create one name at
///   the same time, one of them creates the container.
///
/// # Examples
///
/// ```
/// # use std::sync::Arc;
/// # use std::sync::atomic::{AtomicUsize, Ordering};
/// # use std::time::{Duration, SystemTime};
/// # use dockerpool::engine::*;
/// # use dockerpool::{Engine, EngineError, EngineErrorKind, Pool};
/// # type Answer<'a, T> = BoxFuture<'a, Result<T, EngineError>>;
/// /// Passes calls on to another engine, and limits how many containers it creates.
/// #[derive(Debug)]
/// struct Quota {
///     inner: Arc<dyn Engine>,
///     left: AtomicUsize,
/// }
///
/// impl Lifecycle for Quota {
///     fn create<'a>(&'a self, identity: &'a Identity, plan: &'a Plan) -> BoxFuture<'a, Result<Creation, EngineError>> {
///         let one_less = |left: usize| left.checked_sub(1);
///         match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) {
///             Ok(_) => self.inner.create(identity, plan),
///             Err(_) => Box::pin(async { Err(EngineError::new(EngineErrorKind::Rejected, "the quota is used up")) }),
///         }
///     }
///
///     fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
///         self.inner.remove(id)
///     }
///     // ... and so on: every other call is passed on.
/// #     fn prepare<'a>(&'a self, plan: &'a Plan, progress: &'a ProgressFn) -> Answer<'a, ()> {
/// #         self.inner.prepare(plan, progress)
/// #     }
/// #     fn release<'a>(&'a self, plan: &'a Plan) -> Answer<'a, ()> {
/// #         self.inner.release(plan)
/// #     }
/// #     fn sweep<'a>(&'a self, plan: &'a Plan) -> Answer<'a, ()> {
/// #         self.inner.sweep(plan)
/// #     }
/// #     fn attach<'a>(&'a self, id: &'a str) -> Answer<'a, Attachment> {
/// #         self.inner.attach(id)
/// #     }
/// #     fn start<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
/// #         self.inner.start(id)
/// #     }
/// #     fn kill<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
/// #         self.inner.kill(id)
/// #     }
/// #     fn stop<'a>(&'a self, id: &'a str, grace: Duration) -> Answer<'a, ()> {
/// #         self.inner.stop(id, grace)
/// #     }
/// }
/// # impl Commands for Quota {
/// #     fn exec<'a>(&'a self, id: &'a str, request: &'a ExecRequest) -> Answer<'a, ExecSession> {
/// #         self.inner.exec(id, request)
/// #     }
/// # }
/// # impl Observation for Quota {
/// #     fn image<'a>(&'a self, plan: &'a Plan) -> Answer<'a, ImageInfo> {
/// #         self.inner.image(plan)
/// #     }
/// #     fn inspect<'a>(&'a self, id: &'a str) -> Answer<'a, ContainerReport> {
/// #         self.inner.inspect(id)
/// #     }
/// #     fn list<'a>(&'a self, selector: &'a Selector) -> Answer<'a, Vec<ContainerReport>> {
/// #         self.inner.list(selector)
/// #     }
/// #     fn missing_limits<'a>(&'a self, id: &'a str, plan: &'a Plan) -> Answer<'a, Vec<String>> {
/// #         self.inner.missing_limits(id, plan)
/// #     }
/// #     fn ignored_settings<'a>(&'a self, id: &'a str, plan: &'a Plan) -> Answer<'a, Vec<String>> {
/// #         self.inner.ignored_settings(id, plan)
/// #     }
/// #     fn events(&self, selector: &Selector, since: Option<SystemTime>) -> BoxStream<'static, Result<Event, EngineError>> {
/// #         self.inner.events(selector, since)
/// #     }
/// # }
///
/// impl Engine for Quota {
///     fn parts(&self) -> Parts<'_> {
///         self.inner.parts()
///     }
///
///     fn capabilities(&self) -> Capabilities {
///         self.inner.capabilities()
///     }
/// #     fn check(&self) -> Answer<'_, EngineInfo> {
/// #         self.inner.check()
/// #     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let inner = Arc::new(dockerpool::testing::FakeEngine::new());
/// let engine = Arc::new(Quota { inner, left: AtomicUsize::new(1) });
/// let pool = Pool::builder("frugal").image("busybox:1.36").engine(engine.clone()).build().await?;
/// assert_eq!(engine.left.load(Ordering::Relaxed), 0);
/// # pool.shutdown().await?;
/// let second = Pool::builder("frugal").image("busybox:1.36").engine(engine).build().await;
/// assert_eq!(second.unwrap_err().engine_error().map(EngineError::kind), Some(EngineErrorKind::Rejected));
/// # Ok(())
/// # }
/// ```
pub trait Engine: Lifecycle + Commands + Observation {
    /// Returns what this engine can do. A pool refuses at `build()` a setting that its engine cannot provide.
    fn capabilities(&self) -> Capabilities;

    /// Asks the engine for its version and its properties.
    fn check(&self) -> BoxFuture<'_, Result<EngineInfo, EngineError>>;

    /// Returns the optional parts that this engine has. An engine that wraps another one returns the parts of that one, or
    /// its own in their place.
    fn parts(&self) -> Parts<'_>;
}

/// Creates, starts, stops and removes containers.
pub trait Lifecycle: fmt::Debug + Send + Sync + 'static {
    /// Prepares everything that containers of this plan need: the image, the network, volumes with programs. Called for each
    /// pool. Idempotent.
    fn prepare<'a>(&'a self, plan: &'a Plan, progress: &'a ProgressFn) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Removes what [`prepare`](Lifecycle::prepare) made for this pool alone (volumes with programs), and the network if the
    /// plan asks for that. Called when the pool's last container is gone. Idempotent: succeeds if there is nothing to
    /// remove, and leaves a network that others use. A no-op for an engine whose `prepare` leaves nothing.
    fn release<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Removes what [`prepare`](Lifecycle::prepare) made for dead owners of this pool name (volumes with programs, networks that
    /// were to be removed with their pool); see
    /// [`labels::OWNER`]. Called once per pool, in a background task. Idempotent. A no-op for an engine whose `prepare`
    /// leaves nothing.
    fn sweep<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Creates a container without starting it, and returns its id and the engine's warnings.
    fn create<'a>(&'a self, identity: &'a Identity, plan: &'a Plan) -> BoxFuture<'a, Result<Creation, EngineError>>;

    /// Attaches to the standard streams of PID 1 of a created container, where the plan asks for a
    /// [lifeline](Pid1::lifeline). PID 1 reads end-of-file when the [`Attachment`] is dropped or this process ends in any way.
    fn attach<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Attachment, EngineError>>;

    /// Starts a created or stopped container, and returns when the container runs.
    fn start<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Ends PID 1 with SIGKILL, and every other process of the container with it. A container that does not run, or does not
    /// exist, is a success.
    fn kill<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Asks PID 1 to end (SIGTERM, or the image's stop signal), and kills it after `grace`, in whole seconds.
    fn stop<'a>(&'a self, id: &'a str, grace: Duration) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Removes a container by id or name, running or not, with its anonymous volumes. Succeeds if the container does not
    /// exist.
    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>>;
}

/// Runs commands in containers.
///
/// Commands that the library's agent runs do not pass here, but through [`Lifecycle::attach`] or a socket of their container: an
/// engine that counts or filters commands needs [`ExecVia::Docker`](crate::ExecVia::Docker).
pub trait Commands: Send + Sync + 'static {
    /// Runs a command in a running container.
    fn exec<'a>(&'a self, id: &'a str, request: &'a ExecRequest) -> BoxFuture<'a, Result<ExecSession, EngineError>>;
}

/// Reads the state of images and containers.
pub trait Observation: Send + Sync + 'static {
    /// Describes the image of this plan, which is on the engine. Called before anything is created. A fact that the engine
    /// does not report stays as in [`ImageInfo::default`].
    fn image<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Result<ImageInfo, EngineError>>;

    /// Returns the engine's present report of one container. Fails with [`EngineErrorKind::NotFound`] if the container does
    /// not exist.
    fn inspect<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<ContainerReport, EngineError>>;

    /// Returns all containers that match, in any state.
    fn list<'a>(&'a self, selector: &'a Selector) -> BoxFuture<'a, Result<Vec<ContainerReport>, EngineError>>;

    /// Returns the limits that the plan asks for and that this container does not have, each in words: an empty list claims that
    /// all of them are in force. Called after the creation of the first containers of a pool; the pool refuses a container that lacks one. An engine that refuses at
    /// [`create`](Lifecycle::create) every limit that it cannot set returns none.
    fn missing_limits<'a>(&'a self, id: &'a str, plan: &'a Plan) -> BoxFuture<'a, Result<Vec<String>, EngineError>>;

    /// Returns the settings of isolation that the plan asks for (the runtime, the read-only root, dropped capabilities and
    /// so on) and that this container does not have, each in words: an empty list claims that all of them are in force. Called when
    /// [`missing_limits`](Observation::missing_limits) is, and again when the container has started. The pool refuses a
    /// container that lacks a setting, with [`EngineErrorKind::SettingIgnored`]. An engine that refuses at
    /// [`create`](Lifecycle::create) every setting that it does not know returns none.
    fn ignored_settings<'a>(&'a self, id: &'a str, plan: &'a Plan) -> BoxFuture<'a, Result<Vec<String>, EngineError>>;

    /// Streams the events of the containers that match, from `since` on (`None`: from now on). When the connection breaks,
    /// the stream ends, or yields an error and ends; the caller then lists the containers and subscribes again.
    fn events(&self, selector: &Selector, since: Option<SystemTime>) -> BoxStream<'static, Result<Event, EngineError>>;
}

/// Holds the parts that an engine may lack. The library never calls a missing part: the pool refuses at `build()` a setting
/// that needs one, and [`Container::pause`](crate::Container::pause) fails with [`EngineErrorKind::Unsupported`].
///
/// # Examples
///
/// ```
/// use dockerpool::Engine;
///
/// # let engine = dockerpool::testing::FakeEngine::new();
/// assert!(engine.parts().pausing.is_some());
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Parts<'a> {
    /// The calls that pause and unpause containers. `None`: the engine cannot.
    pub pausing: Option<&'a dyn Pausing>,
    /// The call that renames containers. `None`: the engine cannot.
    pub renaming: Option<&'a dyn Renaming>,
    /// The call that lists changes of the root file system. `None`: the engine cannot.
    pub changes: Option<&'a dyn Changes>,
}

impl<'a> Parts<'a> {
    /// Makes an empty set of parts.
    pub const fn none() -> Self {
        Self {
            pausing: None,
            renaming: None,
            changes: None,
        }
    }

    /// Returns these parts with the calls that pause.
    #[must_use]
    pub const fn with_pausing(mut self, pausing: &'a dyn Pausing) -> Self {
        self.pausing = Some(pausing);
        self
    }

    /// Returns these parts with the call that renames.
    #[must_use]
    pub const fn with_renaming(mut self, renaming: &'a dyn Renaming) -> Self {
        self.renaming = Some(renaming);
        self
    }

    /// Returns these parts with the call that lists changes.
    #[must_use]
    pub const fn with_changes(mut self, changes: &'a dyn Changes) -> Self {
        self.changes = Some(changes);
        self
    }
}

/// Freezes containers and thaws them.
pub trait Pausing: fmt::Debug + Send + Sync {
    /// Freezes all processes of a running container.
    fn pause<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Thaws a paused container.
    fn unpause<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>>;
}

/// Renames containers. Needed for [`Adopt`](crate::Adopt) only.
pub trait Renaming: fmt::Debug + Send + Sync {
    /// Renames a container, given by id or by its present name. Fails with [`EngineErrorKind::Conflict`] if the new name is
    /// taken.
    ///
    /// A rename decides no race: if two callers rename the same container at the same time, both may succeed, one after the
    /// other, even if both gave its old name.
    fn rename<'a>(&'a self, id: &'a str, name: &'a str) -> BoxFuture<'a, Result<(), EngineError>>;
}

/// Lists what has changed in a container's root file system. Needed for [`Reuse::Clean`](crate::Reuse) on a root file system that
/// can be written to: without it such containers are replaced.
pub trait Changes: fmt::Debug + Send + Sync {
    /// Returns the files and directories of the root file system that are not as in the image. Mounts are no part of it.
    fn changes<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Vec<Change>, EngineError>>;

    /// Returns the absolute paths of files and directories whose own changes the list leaves out, apart from mounts. The agent looks
    /// at these.
    fn unlisted(&self) -> &[&str];
}

/// A file or directory of a root file system that is not as in the image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Change {
    /// The absolute path in the container. Bytes that are not UTF-8 may be replaced.
    pub path: String,
    /// How it differs from the image.
    pub kind: ChangeKind,
}

/// How a file or directory differs from the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ChangeKind {
    /// The image has it with other contents or attributes. Also a directory in which something was added or deleted.
    Modified,
    /// The image does not have it.
    Added,
    /// The image has it, and the container does not.
    Deleted,
}

impl Change {
    /// Makes a change of this path.
    pub fn new(path: impl Into<String>, kind: ChangeKind) -> Self {
        Self {
            path: path.into(),
            kind,
        }
    }
}

impl<'e> dyn Engine + 'e {
    /// Renames a container, or fails with `Unsupported` if the engine cannot.
    pub(crate) fn rename<'a>(&'a self, id: &'a str, name: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        match self.parts().renaming {
            Some(renaming) => renaming.rename(id, name),
            None => lacks(format!("this engine cannot rename the container {id}")),
        }
    }

    /// Pauses a container, or fails with `Unsupported` if the engine cannot.
    pub(crate) fn pause<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        match self.parts().pausing {
            Some(pausing) => pausing.pause(id),
            None => lacks(format!("this engine cannot pause the container {id}")),
        }
    }

    /// Unpauses a container, or fails with `Unsupported` if the engine cannot.
    pub(crate) fn unpause<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        match self.parts().pausing {
            Some(pausing) => pausing.unpause(id),
            None => lacks(format!("this engine cannot unpause the container {id}")),
        }
    }
}

fn lacks<'a>(message: String) -> BoxFuture<'a, Result<(), EngineError>> {
    Box::pin(async { Err(EngineError::new(EngineErrorKind::Unsupported, message)) })
}
