//! Creates and removes the network of containers.

use std::time::Duration;

use bollard::models::{ContainerCreateBody, NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptions};

use super::DockerEngine;
use super::convert::{checked, engine_error};
use crate::engine::{EngineError, EngineErrorKind, Network, NewNetwork, Plan};
use crate::values::labels;
use crate::values::owner::Owner;

/// How often a network is created anew if others create one of the same name at the same time.
const ATTEMPTS: usize = 20;

/// The pause before each such attempt, and before the next query about a network whose last container is just leaving.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a network without containers may still count as in use.
const LEAVING: Duration = Duration::from_secs(3);

/// The value of [`labels::REMOVE_ON_SHUTDOWN`].
const TRUE: &str = "true";

/// Makes sure that the network exists, and returns its id. Called before every creation of a container too, because anyone
/// may remove a network without containers.
pub(super) async fn ensure(engine: &DockerEngine, plan: &Plan) -> Result<Option<String>, EngineError> {
    match &plan.network {
        None | Some(Network::None) => Ok(None),
        Some(Network::Existing(name)) => match find(engine, name).await? {
            Some(found) => Ok(found.id),
            None => Err(EngineError::new(
                EngineErrorKind::NetworkNotFound,
                format!("the network {name} is not on the engine"),
            )),
        },
        Some(Network::Create(new)) => create(engine, plan, new).await,
    }
}

/// Creates the network, and removes it again if another one of its name exists. Names are not unique to the engine, which
/// may not even check them (its `CheckDuplicate` came late and takes no lock). Each creator looks after its own creation,
/// and removes its own network if it sees another one. The last network to become visible sees all others, so two never
/// remain.
async fn create(engine: &DockerEngine, plan: &Plan, new: &NewNetwork) -> Result<Option<String>, EngineError> {
    for _ in 0..ATTEMPTS {
        match find(engine, &new.name).await {
            Ok(Some(found)) => return fits(new, &found).map(|()| found.id),
            Ok(None) => {}
            Err(error) if is_ambiguous(&error) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => return Err(error),
        }
        let own_labels = [labels::MANAGED_BY, labels::POOL, labels::INSTANCE, labels::OWNER];
        let own_labels = own_labels
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), plan.labels.get(name)?.clone())));
        let removed = new
            .remove_on_shutdown
            .then(|| (labels::REMOVE_ON_SHUTDOWN.to_owned(), TRUE.to_owned()));
        let own_labels = own_labels.chain(removed);
        let request = NetworkCreateRequest {
            name: new.name.clone(),
            driver: new.driver.clone(),
            internal: Some(new.internal),
            labels: Some(new.labels.clone().into_iter().chain(own_labels).collect()),
            ..Default::default()
        };
        let what = format!("the engine did not create the network {}", new.name);
        let id = match engine.docker.create_network(request).await {
            Ok(created) => checked(created.id)?,
            Err(error) => match engine_error(&what, error) {
                error if error.kind() == EngineErrorKind::Conflict => continue,
                // The missing object is the driver.
                error if error.kind() == EngineErrorKind::NotFound => {
                    return Err(EngineError::new(EngineErrorKind::Rejected, error.to_string()));
                }
                error => return Err(error),
            },
        };
        let alike = ids_of(engine, &new.name).await?;
        if alike.iter().all(|found| *found == id) {
            return Ok(Some(id));
        }
        remove(engine, &id).await?;
        tokio::time::sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await;
    }
    Err(EngineError::new(
        EngineErrorKind::Conflict,
        format!("other clients keep creating and removing the network {}", new.name),
    ))
}

/// Accepts an existing network, unless it contradicts the request.
fn fits(new: &NewNetwork, found: &NetworkInspect) -> Result<(), EngineError> {
    let is = match &new.driver {
        Some(driver) if found.driver.as_ref() != Some(driver) => {
            format!(
                "its driver is {}, not {driver}",
                found.driver.as_deref().unwrap_or("unknown")
            )
        }
        _ if new.internal && found.internal != Some(true) => "it is not internal".to_owned(),
        _ => return Ok(()),
    };
    Err(EngineError::new(
        EngineErrorKind::Rejected,
        format!("the network {} exists already, and {is}", new.name),
    ))
}

/// Removes the network if the spec asks for that, a pool of this name created it, and no other container uses it.
pub(super) async fn release(engine: &DockerEngine, plan: &Plan) -> Result<(), EngineError> {
    let Some(Network::Create(new)) = &plan.network else {
        return Ok(());
    };
    if !new.remove_on_shutdown {
        return Ok(());
    }
    let begun = tokio::time::Instant::now();
    while let Some(found) = find(engine, &new.name).await? {
        let labels = found.labels.unwrap_or_default();
        let ours = [labels::MANAGED_BY, labels::POOL]
            .iter()
            .all(|name| labels.contains_key(*name) && labels.get(*name) == plan.labels.get(*name));
        let used_by_others = found.containers.is_some_and(|containers| !containers.is_empty());
        if !ours || used_by_others {
            tracing::debug!(network = new.name, ours, used_by_others, "the network stays");
            return Ok(());
        }
        match remove(engine, &found.id.unwrap_or_default()).await {
            Ok(()) => return Ok(()),
            // "Has active endpoints": a container has just joined, or the last one is about to leave.
            Err(error) if begun.elapsed() > LEAVING => return Err(error),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    Ok(())
}

/// Removes the networks that dead owners of pools of this plan's name were to remove. A network that has a container stays, and so
/// does the plan's own, which an earlier owner may have made.
pub(super) async fn sweep(engine: &DockerEngine, plan: &Plan) -> Result<(), EngineError> {
    let wanted: Vec<_> = [labels::MANAGED_BY, labels::POOL]
        .into_iter()
        .filter_map(|name| Some((name, plan.labels.get(name)?.as_str())))
        .chain([(labels::REMOVE_ON_SHUTDOWN, TRUE)])
        .collect();
    let filters = wanted.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let options = ListNetworksOptions {
        filters: Some([("label".to_owned(), filters)].into()),
    };
    let found = engine
        .docker
        .list_networks(Some(options))
        .await
        .map_err(|error| engine_error("the engine did not list networks", error))?;
    let own = plan.network.as_ref().and_then(Network::name);
    for network in found {
        let labels = network.labels.unwrap_or_default();
        // An engine that does not know the filter lists all networks.
        let is_of_pool = wanted
            .iter()
            .all(|(name, value)| labels.get(*name).is_some_and(|is| is == value));
        let owner = labels.get(labels::OWNER).and_then(|owner| owner.parse::<Owner>().ok());
        let is_left = is_of_pool && owner.is_some_and(|owner| owner.is_proven_dead());
        if !is_left || network.name.is_none() || network.name.as_deref() == own {
            continue;
        }
        remove_unused(engine, &checked(network.id.unwrap_or_default())?).await?;
    }
    Ok(())
}

/// Removes the network of this id, unless it has a container also after [`LEAVING`].
async fn remove_unused(engine: &DockerEngine, id: &str) -> Result<(), EngineError> {
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < LEAVING {
        let Some(found) = find(engine, id).await? else { break };
        // A container may join between the two calls.
        if found.containers.is_none_or(|users| users.is_empty()) && remove(engine, id).await.is_ok() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Attaches a container to the network of this id, even if others have its name: a second one may exist until its creator
/// notices that it was not the first.
pub(super) fn pin(body: &mut ContainerCreateBody, name: &str, id: String) {
    let networking = body.networking_config.get_or_insert_default();
    let endpoints = networking.endpoints_config.get_or_insert_default();
    let endpoint = endpoints.entry(name.to_owned()).or_default();
    endpoint.network_id.get_or_insert(id);
}

/// Returns whether several networks of the name exist, which happens briefly.
fn is_ambiguous(error: &EngineError) -> bool {
    error.to_string().contains("is ambiguous")
}

/// Finds a network by its name or full id. The engine would also accept the beginning of an id, and so return a different
/// network.
async fn find(engine: &DockerEngine, name: &str) -> Result<Option<NetworkInspect>, EngineError> {
    match engine.docker.inspect_network(name, None::<InspectNetworkOptions>).await {
        Ok(found) => {
            let exactly = [&found.name, &found.id].iter().any(|is| is.as_deref() == Some(name));
            if exactly {
                checked(found.id.clone().unwrap_or_default())?;
            }
            Ok(exactly.then_some(found))
        }
        Err(error) => match engine_error("the engine did not describe the network", error) {
            error if error.kind() == EngineErrorKind::NotFound => Ok(None),
            error => Err(error),
        },
    }
}

/// Returns the ids of all networks of this name.
async fn ids_of(engine: &DockerEngine, name: &str) -> Result<Vec<String>, EngineError> {
    // The filter also matches parts of a name.
    let filters = [("name".to_owned(), vec![name.to_owned()])];
    let options = ListNetworksOptions {
        filters: Some(filters.into()),
    };
    let found = engine
        .docker
        .list_networks(Some(options))
        .await
        .map_err(|error| engine_error("the engine did not list networks", error))?;
    let alike = found
        .into_iter()
        .filter(|network| network.name.as_deref() == Some(name));
    Ok(alike.filter_map(|network| network.id).collect())
}

async fn remove(engine: &DockerEngine, id: &str) -> Result<(), EngineError> {
    match engine.docker.remove_network(id).await {
        Ok(()) => Ok(()),
        Err(error) => match engine_error("the engine did not remove the network", error) {
            error if error.kind() == EngineErrorKind::NotFound => Ok(()),
            error => Err(error),
        },
    }
}
