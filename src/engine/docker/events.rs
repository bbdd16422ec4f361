//! The engine's stream of events.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::DockerEngine;
use super::convert::{checked, engine_error, filters};
use crate::engine::{EngineError, Event, EventKind, Selector};

pub(super) fn subscribe(
    engine: &DockerEngine,
    selector: &Selector,
    since: Option<SystemTime>,
) -> BoxStream<'static, Result<Event, EngineError>> {
    let mut filters = filters(selector, "container");
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    // Each exec makes three events, which no caller needs. `remove` is Podman's word for `destroy`.
    let wanted = ["oom", "kill", "die", "died", "destroy", "remove", "pause"];
    filters.insert("event".to_owned(), wanted.map(str::to_owned).to_vec());
    let since = since.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let options = EventsOptions {
        since: since.map(|time| format!("{}.{:09}", time.as_secs(), time.subsec_nanos())),
        until: None,
        filters: Some(filters),
    };
    // A stream ends with its connection: another engine may have taken the place of this one.
    let agreed = engine.agreed.clone();
    let end = stream::once(async move { agreed.note_change() }).filter_map(async |()| None);
    engine
        .lines(|docker| docker.events(Some(options)))
        .filter_map(async |message| match message {
            Ok(message) => event(message),
            Err(error) => Some(Err(engine_error("the stream of events broke", error))),
        })
        .chain(end)
        .boxed()
}

fn event(message: EventMessage) -> Option<Result<Event, EngineError>> {
    let kind = match message.action?.as_str() {
        "oom" => EventKind::OutOfMemory,
        "kill" => EventKind::Killed,
        "die" | "died" => EventKind::Died,
        "destroy" | "remove" => EventKind::Removed,
        "pause" => EventKind::Paused,
        _ => return None,
    };
    let actor = message.actor?;
    // The second is Podman's.
    let attributes = actor.attributes.unwrap_or_default();
    let code = ["exitCode", "containerExitCode"]
        .iter()
        .find_map(|name| attributes.get(*name)?.parse().ok());
    let id = match checked(actor.id?) {
        Ok(id) => id,
        Err(error) => return Some(Err(error)),
    };
    let mut event = Event::new(id, kind);
    let since_epoch = message.time_nano.and_then(|nanos| u64::try_from(nanos).ok());
    event.at = since_epoch.map(|nanos| UNIX_EPOCH + Duration::from_nanos(nanos));
    event.exit_code = code.filter(|_| kind == EventKind::Died);
    Some(Ok(event))
}
