//! The Docker engine, over its HTTP API through `bollard`.

mod convert;
mod events;
mod exec;
mod image;

use std::time::{Duration, SystemTime};

use bollard::Docker;
use bollard::query_parameters as query;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use super::{
    Attachment, Capabilities, ContainerReport, ContainerSpec, Engine, EngineError, EngineErrorKind, EngineInfo, Event,
    ExecRequest, ExecSession, ProgressFn, Selector, bounded,
};
use crate::error::Error;
use convert::{engine_error, report_of_inspect, report_of_summary};

/// How long connecting may take in all before the engine counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often, and how often at most, a removal that another client has begun is looked at again.
const REMOVAL_CHECK: Duration = Duration::from_millis(10);

/// A Docker engine, reached by `DOCKER_HOST` or on its default socket. Cheap to clone; dropping it ends nothing.
#[derive(Clone, Debug)]
pub struct DockerEngine {
    docker: Docker,
}

impl DockerEngine {
    /// Connects to the engine named by `DOCKER_HOST`, or else to the one on the default socket, and agrees with it on
    /// a version of the API. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] with [`EngineErrorKind::Unreachable`] or [`EngineErrorKind::Timeout`] (after ten seconds).
    pub async fn connect() -> Result<Self, Error> {
        let docker = Docker::connect_with_defaults().map_err(|error| {
            Error::engine(
                "reach the Docker engine",
                None,
                engine_error("the engine cannot be reached", error),
            )
        })?;
        Self::from_bollard(docker).await
    }

    /// Uses a connection made by the caller, and agrees with the engine on a version of the API.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn from_bollard(docker: Docker) -> Result<Self, Error> {
        let negotiated = bounded("the version request", CONNECT_TIMEOUT, async {
            docker
                .negotiate_version()
                .await
                .map_err(|error| engine_error("the engine's version cannot be read", error))
        });
        match negotiated.await {
            Ok(docker) => Ok(Self { docker }),
            Err(error) => Err(Error::engine("reach the Docker engine", None, error)),
        }
    }

    /// The connection itself, for calls this library does not make.
    pub fn bollard(&self) -> &Docker {
        &self.docker
    }

    /// Waits until a removal begun by somebody else (automatic removal, another client) is done.
    async fn wait_until_removed(&self, id: &str) -> Result<(), EngineError> {
        // No event is awaited: the one that matters may have passed before a subscription stands. The caller's deadline
        // bounds the loop.
        loop {
            match self.inspect(id).await {
                Err(error) if error.kind() == EngineErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
                Ok(_) => tokio::time::sleep(REMOVAL_CHECK).await,
            }
        }
    }
}

impl Engine for DockerEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities::all()
    }

    fn check(&self) -> BoxFuture<'_, Result<EngineInfo, EngineError>> {
        Box::pin(async move {
            let version = self
                .docker
                .version()
                .await
                .map_err(|error| engine_error("the engine's version cannot be read", error))?;
            let part = |text: Option<String>| text.unwrap_or_default();
            Ok(EngineInfo::new(
                format!("Docker {}", part(version.version)),
                part(version.api_version),
                format!("{}/{}", part(version.os), part(version.arch)),
            ))
        })
    }

    fn prepare<'a>(
        &'a self,
        spec: &'a ContainerSpec,
        progress: &'a ProgressFn,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(image::prepare(self, spec, progress))
    }

    fn create<'a>(&'a self, name: &'a str, spec: &'a ContainerSpec) -> BoxFuture<'a, Result<String, EngineError>> {
        Box::pin(async move {
            let options = query::CreateContainerOptions {
                name: Some(name.to_owned()),
                platform: spec.platform.clone().unwrap_or_default(),
            };
            let created = self
                .docker
                .create_container(Some(options), convert::create_body(spec))
                .await
                .map_err(|error| engine_error("the engine did not create the container", error));
            match created {
                Ok(created) => Ok(created.id),
                // An earlier, abandoned call of ours may have made it: the name is ours alone.
                Err(error) if error.kind() == EngineErrorKind::Conflict => {
                    let there = self.inspect(name).await?;
                    let ours = spec
                        .labels()
                        .all(|(key, value)| there.labels.get(key).is_some_and(|found| found == value));
                    if ours { Ok(there.id) } else { Err(error) }
                }
                Err(error) => Err(error),
            }
        })
    }

    fn attach<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Attachment, EngineError>> {
        Box::pin(async move {
            let options = query::AttachContainerOptions {
                stream: true,
                stdin: true,
                stdout: true,
                stderr: true,
                ..Default::default()
            };
            let attached = self
                .docker
                .attach_container(id, Some(options))
                .await
                .map_err(|error| engine_error("the engine did not attach to the container", error))?;
            Ok(Attachment {
                stdin: Box::new(attached.input),
                output: exec::plain_frames(attached.output),
            })
        })
    }

    fn start<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            self.docker
                .start_container(id, None::<query::StartContainerOptions>)
                .await
                .map_err(|error| engine_error("the engine did not start the container", error))
        })
    }

    fn exec<'a>(&'a self, id: &'a str, request: &'a ExecRequest) -> BoxFuture<'a, Result<ExecSession, EngineError>> {
        Box::pin(exec::start(&self.docker, id, request))
    }

    fn inspect<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<ContainerReport, EngineError>> {
        Box::pin(async move {
            self.docker
                .inspect_container(id, None::<query::InspectContainerOptions>)
                .await
                .map(report_of_inspect)
                .map_err(|error| engine_error("the engine did not describe the container", error))
        })
    }

    fn list<'a>(&'a self, selector: &'a Selector) -> BoxFuture<'a, Result<Vec<ContainerReport>, EngineError>> {
        Box::pin(async move {
            let options = query::ListContainersOptions {
                all: true,
                filters: Some(convert::filters(selector, "id")),
                ..Default::default()
            };
            let found = self
                .docker
                .list_containers(Some(options))
                .await
                .map_err(|error| engine_error("the engine did not list containers", error))?;
            Ok(found.into_iter().map(report_of_summary).collect())
        })
    }

    fn kill<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let options = query::KillContainerOptions {
                signal: "SIGKILL".to_owned(),
            };
            match self.docker.kill_container(id, Some(options)).await {
                Ok(()) => Ok(()),
                Err(error) => match engine_error("the engine did not kill the container", error) {
                    error if error.says_gone() => Ok(()),
                    error => Err(error),
                },
            }
        })
    }

    fn stop<'a>(&'a self, id: &'a str, grace: Duration) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let options = query::StopContainerOptions {
                t: Some(i32::try_from(grace.as_secs()).unwrap_or(i32::MAX)),
                signal: None,
            };
            self.docker
                .stop_container(id, Some(options))
                .await
                .map_err(|error| engine_error("the engine did not stop the container", error))
        })
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            // Without `v` the anonymous volumes of the image would stay behind.
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
                    error => Err(error),
                },
            }
        })
    }

    fn pause<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            self.docker
                .pause_container(id)
                .await
                .map_err(|error| engine_error("the engine did not pause the container", error))
        })
    }

    fn unpause<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            self.docker
                .unpause_container(id)
                .await
                .map_err(|error| engine_error("the engine did not unpause the container", error))
        })
    }

    fn events(&self, selector: &Selector, since: Option<SystemTime>) -> BoxStream<'static, Result<Event, EngineError>> {
        events::subscribe(&self.docker, selector, since)
    }
}
