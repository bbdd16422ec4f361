//! Volumes with programs, for an engine that does not see this machine's files.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bollard::body_full;
use bollard::models::{ContainerCreateBody, ContainerSummary, HostConfig, VolumeCreateRequest};
use bollard::query_parameters as query;
use parking_lot::Mutex;

use super::DockerEngine;
use super::convert::{checked, engine_error};
use super::create_body;
use crate::engine::{EngineError, EngineErrorKind, Lifecycle, Plan, ProgramVolume, Selector};
use crate::values::labels;
use crate::values::owner::Owner;

/// How long a volume may still count as used by a container that is just leaving, and the pause between two attempts.
const LEAVING: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);

/// The path of a volume in the container that fills it.
const FILLED_AT: &str = "/.dockerpool";

/// The requested volumes, by name, and whether each is known to be filled. Locked by the task that fills it.
#[derive(Debug, Default)]
pub(super) struct Filled(Mutex<HashMap<String, Arc<tokio::sync::Mutex<bool>>>>);

impl Filled {
    fn of(&self, volume: &ProgramVolume) -> Arc<tokio::sync::Mutex<bool>> {
        self.0.lock().entry(volume.name.clone()).or_default().clone()
    }

    fn forget(&self, volume: &ProgramVolume) {
        self.0.lock().remove(&volume.name);
    }
}

/// Makes sure that the plan's volumes exist, with their programs. Called before every creation of a container too, because
/// anyone may prune unused volumes, and the engine would then create an empty one.
pub(super) async fn ensure(engine: &DockerEngine, plan: &Plan) -> Result<(), EngineError> {
    for volume in plan.volumes() {
        let filled = engine.shared.volumes.of(volume);
        let mut filled = filled.lock().await;
        if *filled && is_there(engine, volume).await? {
            continue;
        }
        *filled = false;
        let request = VolumeCreateRequest {
            name: Some(volume.name.clone()),
            labels: Some(own_labels(plan)),
            ..Default::default()
        };
        // An existing volume of that name is a success.
        engine
            .docker
            .create_volume(request)
            .await
            .map_err(|error| engine_error("the engine did not create the volume of the library's program", error))?;
        fill(engine, plan, volume).await?;
        *filled = true;
    }
    Ok(())
}

/// Removes the plan's volumes. Fails with [`EngineErrorKind::Conflict`] if one is still in use after [`LEAVING`].
pub(super) async fn release(engine: &DockerEngine, plan: &Plan) -> Result<(), EngineError> {
    for volume in plan.volumes() {
        engine.remove(&filler(volume)).await?;
        let begun = tokio::time::Instant::now();
        loop {
            match remove(engine, &volume.name).await {
                Err(error) if error.kind() == EngineErrorKind::Conflict && begun.elapsed() < LEAVING => {
                    tokio::time::sleep(PAUSE).await;
                }
                removed => break removed?,
            }
        }
        engine.shared.volumes.forget(volume);
    }
    Ok(())
}

/// Removes the volumes of dead owners of pools of this plan's name, and the containers that still use them.
pub(super) async fn sweep(engine: &DockerEngine, plan: &Plan) -> Result<(), EngineError> {
    let of_pool: Vec<_> = [labels::MANAGED_BY, labels::POOL]
        .into_iter()
        .filter_map(|name| Some((name, plan.labels.get(name)?)))
        .collect();
    let filters = of_pool.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let options = query::ListVolumesOptions {
        filters: Some(HashMap::from([("label".to_owned(), filters)])),
    };
    let found = engine
        .docker
        .list_volumes(Some(options))
        .await
        .map_err(|error| engine_error("the engine did not list volumes", error))?;
    for volume in found.volumes.into_iter().flatten() {
        // Podman also returns volumes that carry only one of the labels.
        let is_of_pool = of_pool
            .iter()
            .all(|(name, value)| volume.labels.get(*name) == Some(*value));
        let owner = volume
            .labels
            .get(labels::OWNER)
            .and_then(|owner| owner.parse::<Owner>().ok());
        if !is_of_pool || !owner.is_some_and(|owner| owner.is_proven_dead()) {
            continue;
        }
        let name = checked(volume.name)?;
        // The same dead owner created these containers.
        let own = [labels::MANAGED_BY, labels::POOL, labels::OWNER];
        let own = own
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), volume.labels.get(name)?.clone())));
        let selector = Selector::Labels(own.collect());
        for user in users(engine, &name, &selector).await? {
            engine.remove(&user).await?;
        }
        remove(engine, &name).await?;
    }
    Ok(())
}

/// Returns the labels that identify a volume's owner.
fn own_labels(plan: &Plan) -> HashMap<String, String> {
    let labels = plan.own_labels();
    labels
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

async fn is_there(engine: &DockerEngine, volume: &ProgramVolume) -> Result<bool, EngineError> {
    match engine.docker.inspect_volume(&volume.name).await {
        Ok(_) => Ok(true),
        Err(error) => match engine_error("the engine did not describe the volume of the library's program", error) {
            error if error.kind() == EngineErrorKind::NotFound => Ok(false),
            error => Err(error),
        },
    }
}

/// Returns the name of the container that fills a volume.
fn filler(volume: &ProgramVolume) -> String {
    format!("{}-filler", volume.name)
}

/// Copies the program into the volume, through a container that is never started.
async fn fill(engine: &DockerEngine, plan: &Plan, volume: &ProgramVolume) -> Result<(), EngineError> {
    let name = filler(volume);
    // A leftover of an abandoned call.
    engine.remove(&name).await?;
    let body = ContainerCreateBody {
        image: Some(plan.image.name.clone()),
        // A container needs a command, whatever the image has.
        entrypoint: Some(vec![volume.file.clone()]),
        labels: Some(own_labels(plan)),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            mounts: Some(vec![create_body::volume_mount(volume, FILLED_AT.to_owned())]),
            ..Default::default()
        }),
        ..Default::default()
    };
    let options = query::CreateContainerOptions {
        name: Some(name.clone()),
        platform: plan.image.platform.clone().unwrap_or_default(),
    };
    let docker = &engine.docker;
    let archive = archive(&volume.file, &volume.content).map_err(|error| {
        EngineError::new(EngineErrorKind::Internal, "the library's program could not be archived").with_source(error)
    })?;
    let filled = async {
        docker.create_container(Some(options), body).await?;
        let options = query::UploadToContainerOptions {
            path: FILLED_AT.to_owned(),
            ..Default::default()
        };
        docker
            .upload_to_container(&name, Some(options), body_full(archive.into()))
            .await
    };
    let filled = filled
        .await
        .map_err(|error| engine_error("the library's program could not be put into its volume", error));
    let removed = engine.remove(&name).await;
    filled.and(removed)
}

/// Packs the program into a tar, as a file that every user can execute.
fn archive(name: &str, program: &[u8]) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_size(program.len() as u64);
    header.set_mode(0o555);
    let mut archive = tar::Builder::new(Vec::with_capacity(program.len() + 4096));
    archive.append_data(&mut header, name, program)?;
    archive.into_inner()
}

/// Returns the containers that mount a volume, in any state, and that carry these labels in the engine's answer.
async fn users(engine: &DockerEngine, volume: &str, selector: &Selector) -> Result<Vec<String>, EngineError> {
    let options = query::ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([("volume".to_owned(), vec![volume.to_owned()])])),
        ..Default::default()
    };
    let found = engine
        .docker
        .list_containers(Some(options))
        .await
        .or_else(super::convert::with_other_states)
        .map_err(|error| engine_error("the engine did not list containers", error))?;
    found
        .into_iter()
        .filter(|container| {
            let labels = container.labels.as_ref();
            selector.selects("", |name| labels?.get(name))
        })
        .filter(|container| mounts(container, volume))
        .filter_map(|container| container.id)
        .map(checked)
        .collect()
}

/// Returns whether the answer lists this volume among the container's mounts.
fn mounts(container: &ContainerSummary, volume: &str) -> bool {
    let mut mounts = container.mounts.iter().flatten();
    container.mounts.is_none() || mounts.any(|mount| mount.name.as_deref().is_none_or(|name| name == volume))
}

async fn remove(engine: &DockerEngine, name: &str) -> Result<(), EngineError> {
    match engine
        .docker
        .remove_volume(name, None::<query::RemoveVolumeOptions>)
        .await
    {
        Ok(()) => Ok(()),
        Err(error) => match engine_error("the engine did not remove the volume of the library's program", error) {
            error if error.kind() == EngineErrorKind::NotFound => Ok(()),
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn every_user_can_run_the_program_of_the_archive() {
        let bytes = archive("agent", b"program").unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut entries = archive.entries().unwrap();
        let mut entry = entries.next().unwrap().unwrap();
        assert_eq!(entry.path_bytes(), "agent".as_bytes());
        assert_eq!(entry.header().mode().unwrap(), 0o555);
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        assert_eq!(content, b"program");
        assert!(entries.next().is_none());
    }
}
