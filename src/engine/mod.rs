//! The engines that run containers: the object-safe trait [`Engine`] and its plain types.
//!
//! The library ships [`DockerEngine`]; anything that implements [`Engine`] can stand in its place. An engine knows nothing
//! of pools, guards or typestates: it takes a [`Plan`], names and ids, and answers in the plain types of this module.

pub(crate) mod calls;
mod capabilities;
pub(crate) mod docker;
mod exec;
mod exec_control;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod fake;
pub(crate) mod floors;
pub(crate) mod network;
pub(crate) mod plan;
pub(crate) mod progress;
pub(crate) mod reference;
pub(crate) mod registry_auth;
mod report;
mod tty;

use std::pin::Pin;

use futures_util::Stream;

pub use calls::{Change, ChangeKind, Changes, Commands, Lifecycle, Observation, Parts, Pausing, Renaming};
pub use capabilities::{Capabilities, EngineInfo, LimitSupport};
pub use exec::{Attachment, ExecRequest, ExecSession, Frame, OutputStream, TtySize};
pub use exec_control::{ExecControl, ExecReport, Killing, StreamEnd};
pub(crate) use floors::warnings;
pub use network::NewNetwork;
pub(crate) use plan::OWN_TARGETS;
pub use plan::{Identity, Image, Limits, Mount, MountSource, Pid1, Plan, ProgramVolume, Publish, Security, Ulimit};
pub use progress::ProgressFn;
pub(crate) use registry_auth::AuthKind;
pub use report::{
    ContainerReport, ContainerState, Creation, Event, EventKind, Health, ImageInfo, PublishedPort, Selector,
};
pub(crate) use report::{listed, loopback_of};
pub(crate) use tty::TtyInput;

// Their public path is the crate's root.
pub(crate) use crate::error::{EngineError, EngineErrorKind};
pub(crate) use calls::Engine;
pub(crate) use docker::DockerEngine;
pub(crate) use network::Network;
pub(crate) use plan::PullPolicy;
pub(crate) use progress::Progress;
pub use registry_auth::Login;
pub(crate) use registry_auth::RegistryAuth;

/// A future that an engine's method returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A stream that an engine's method returns.
pub type BoxStream<'a, T> = Pin<Box<dyn Stream<Item = T> + Send + 'a>>;
