//! The negotiated version of the engine's API.
//!
//! The version is the first part of each request's path. Without it an engine uses its newest version, in which the same
//! call may have another meaning. bollard 0.21 sends no version: it joins the path of a call to a base that has one, which
//! removes the version. So [the transport](super::transport) adds it.
//!
//! An engine silently ignores fields that are newer than the version of the request. Settings that need a newer version are
//! therefore refused in advance: see [`unknown`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bollard::API_DEFAULT_VERSION;
use bollard::models::{ContainerCreateBody, SystemVersion};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, StatusCode, Uri};
use serde_json::Value;

use crate::engine::{EngineError, EngineErrorKind};

/// Holds a version of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u16, u16);

/// The oldest supported version: the first that has all fields of every container that this library creates (`AutoRemove`,
/// `Init`, `Mounts` and `NanoCpus`). Docker 1.13 introduced it.
const OLDEST: Version = Version(1, 25);

/// The fields of the create call, each with the version that introduced it, by the version history in Docker's
/// documentation. `*` stands for each item of a list, or each value of a map.
const FIELDS: [(&str, Version); 13] = [
    ("HostConfig/DeviceRequests", Version(1, 40)),
    ("HostConfig/Mounts/*/BindOptions/NonRecursive", Version(1, 40)),
    ("HostConfig/CgroupnsMode", Version(1, 41)),
    ("HostConfig/Mounts/*/BindOptions/CreateMountpoint", Version(1, 42)),
    ("HostConfig/Annotations", Version(1, 43)),
    ("Healthcheck/StartInterval", Version(1, 44)),
    ("HostConfig/Mounts/*/BindOptions/ReadOnlyNonRecursive", Version(1, 44)),
    ("HostConfig/Mounts/*/BindOptions/ReadOnlyForceRecursive", Version(1, 44)),
    ("NetworkingConfig/EndpointsConfig/*/MacAddress", Version(1, 44)),
    ("HostConfig/Mounts/*/VolumeOptions/Subpath", Version(1, 45)),
    ("HostConfig/Mounts/*/TmpfsOptions/Options", Version(1, 46)),
    ("HostConfig/Mounts/*/ImageOptions", Version(1, 48)),
    ("NetworkingConfig/EndpointsConfig/*/GwPriority", Version(1, 48)),
];

/// The first version whose create call has a platform; older ones ignore it.
pub(super) const PLATFORM: Version = Version(1, 41);

/// The first version that describes an image for a platform: Docker 28.1.
pub(super) const IMAGE_PLATFORM: Version = Version(1, 49);

/// The first version whose commands have a directory.
pub(super) const EXEC_DIRECTORY: Version = Version(1, 35);

/// The first version whose commands have the size of their terminal.
pub(super) const EXEC_SIZE: Version = Version(1, 42);

impl Version {
    /// The newest version that bollard supports.
    fn newest() -> Self {
        let known = API_DEFAULT_VERSION;
        let part = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        Self(part(known.major_version), part(known.minor_version))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.trim().split_once('.').ok_or(())?;
        let part = |part: &str| {
            let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| part.parse().ok()).flatten().ok_or(())
        };
        Ok(Self(part(major)?, part(minor)?))
    }
}

/// Holds the negotiated version of a connection; all clones share it. At first there is no version: every engine answers a
/// request without one, which the query for the engine's versions needs.
#[derive(Clone, Debug, Default)]
pub(super) struct Agreed(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Both parts of the version; 0 for none.
    version: AtomicU32,
    /// How often another engine may have taken the place of this one.
    changes: AtomicU64,
}

impl Agreed {
    pub(super) fn get(&self) -> Option<Version> {
        match self.0.version.load(Ordering::Relaxed) {
            0 => None,
            both => Some(Version((both >> 16) as u16, both as u16)),
        }
    }

    pub(super) fn set(&self, version: Version) {
        let both = u32::from(version.0) << 16 | u32::from(version.1);
        self.0.version.store(both, Ordering::Relaxed);
    }

    /// Adds the version to a request, and returns it.
    pub(super) fn put_into<T>(&self, request: &mut Request<T>) -> Option<Version> {
        let version = self.get()?;
        let mut parts = request.uri().clone().into_parts();
        let path = parts.path_and_query.as_ref().map_or("/", PathAndQuery::as_str);
        parts.path_and_query = format!("/v{version}{path}").parse().ok();
        *request.uri_mut() = Uri::from_parts(parts).ok()?;
        Some(version)
    }

    /// Negotiates again if the engine has been replaced by one that does not support this version: the heads of its answers
    /// contain its version. Returns the new version, if it differs; the request has failed then.
    pub(super) fn heed<T>(&self, spoken: Option<Version>, answer: &Response<T>) -> Option<Version> {
        if answer.status() != StatusCode::BAD_REQUEST || spoken.is_none() {
            return None;
        }
        let told = answer.headers().get("api-version").and_then(|told| told.to_str().ok());
        let version = told?.parse::<Version>().ok()?.min(Version::newest());
        if version < OLDEST || Some(version) == spoken {
            return None;
        }
        tracing::warn!(%version, "the version of the engine's API has changed");
        self.set(version);
        self.note_change();
        Some(version)
    }

    /// Notes that another engine may have taken the place of this one: this one could not be reached, has broken a
    /// connection, or speaks another version.
    pub(super) fn note_change(&self) {
        self.0.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how often another engine may have taken the place of this one.
    pub(super) fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Relaxed)
    }
}

/// Returns whether an engine refuses a request for its version, before it has looked at the rest.
pub(super) fn is_refusal(message: &str) -> bool {
    message.contains("client version") && ["is too old", "is too new"].iter().any(|words| message.contains(words))
}

/// Returns the newest version that both sides support, from the engine's report.
pub(super) fn agree(said: &SystemVersion) -> Result<Version, EngineError> {
    let told = said.api_version.as_deref().unwrap_or_default();
    let Ok(newest) = told.parse::<Version>() else {
        let words = format!("the engine does not say which version of its API it speaks: it says `{told}`");
        return Err(EngineError::new(EngineErrorKind::Protocol, words));
    };
    let unsupported = |words| Err(EngineError::new(EngineErrorKind::Unsupported, words));
    if newest < OLDEST {
        return unsupported(format!(
            "the engine is too old: it speaks version {newest} of its API at most, but {OLDEST} is needed at least (Docker 1.13)"
        ));
    }
    let version = newest.min(Version::newest());
    // An engine that reports no oldest version, or an invalid one, refuses a version that it does not support.
    let oldest = said
        .min_api_version
        .as_deref()
        .and_then(|told| told.parse::<Version>().ok());
    if let Some(oldest) = oldest.filter(|oldest| *oldest > version) {
        return unsupported(format!(
            "this version of the library is too old for the engine, which speaks no version of its API before {oldest}: the \
             library speaks none after {version}"
        ));
    }
    Ok(version)
}

/// Returns the fields of a create call that an engine of this version would ignore, each in words.
pub(super) fn unknown(body: &ContainerCreateBody, version: Version) -> Vec<String> {
    let body = serde_json::to_value(body).unwrap_or_default();
    let is_unknown = |(field, since): &&(&str, Version)| *since > version && is_set(&body, field);
    let unknown = FIELDS.iter().filter(is_unknown);
    unknown
        .map(|(field, since)| format!("{} needs version {since}", field.replace("/*", "").replace('/', ".")))
        .collect()
}

/// Returns whether a value differs from the one of a field that is not set.
fn is_set(value: &Value, path: &str) -> bool {
    let Some((first, rest)) = path.split_once('/').or((!path.is_empty()).then_some((path, ""))) else {
        return match value {
            Value::Null => false,
            Value::Bool(value) => *value,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
        };
    };
    match (first, value) {
        ("*", Value::Array(items)) => items.iter().any(|item| is_set(item, rest)),
        ("*", Value::Object(fields)) => fields.values().any(|field| is_set(field, rest)),
        (name, value) => value.get(name).is_some_and(|field| is_set(field, rest)),
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::{HealthConfig, HostConfig, Mount, MountBindOptions, MountTmpfsOptions, MountVolumeOptions};

    use super::*;

    fn said(newest: Option<&str>, oldest: Option<&str>) -> SystemVersion {
        SystemVersion {
            api_version: newest.map(str::to_owned),
            min_api_version: oldest.map(str::to_owned),
            ..Default::default()
        }
    }

    #[test]
    fn the_newest_common_version_is_negotiated() {
        for minor in 25..=60 {
            let version = agree(&said(Some(&format!("1.{minor}")), Some("1.24"))).unwrap();
            assert_eq!(version, Version(1, minor).min(Version::newest()));
        }
        for oldest in [None, Some(""), Some("1"), Some("1.x"), Some("1.41")] {
            assert_eq!(
                agree(&said(Some("1.41"), oldest)).unwrap(),
                Version(1, 41),
                "{oldest:?}"
            );
        }
    }

    #[test]
    fn an_engine_without_a_common_version_is_refused_with_a_reason() {
        let kind_and_words = |newest, oldest| {
            let error = agree(&said(newest, oldest)).unwrap_err();
            (error.kind(), error.to_string())
        };
        let (kind, words) = kind_and_words(Some("1.24"), Some("1.12"));
        assert_eq!(kind, EngineErrorKind::Unsupported);
        assert!(words.contains("1.24") && words.contains("1.25"), "{words}");
        let (kind, words) = kind_and_words(Some("1.99"), Some("1.90"));
        assert_eq!(kind, EngineErrorKind::Unsupported);
        assert!(
            words.contains("1.90") && words.contains(&Version::newest().to_string()),
            "{words}"
        );
        for nonsense in [
            None,
            Some(""),
            Some("1"),
            Some("1.x"),
            Some("v1.41"),
            Some("+1.41"),
            Some("1.99999"),
            Some("1.41.1"),
        ] {
            let (kind, words) = kind_and_words(nonsense, None);
            assert_eq!(kind, EngineErrorKind::Protocol, "{nonsense:?}");
            assert!(words.contains(nonsense.unwrap_or("``")), "{words}");
        }
    }

    #[test]
    fn fields_that_an_older_engine_would_ignore_are_named() {
        let mount = Mount {
            bind_options: Some(MountBindOptions {
                non_recursive: Some(true),
                create_mountpoint: Some(true),
                read_only_force_recursive: Some(false),
                ..Default::default()
            }),
            volume_options: Some(MountVolumeOptions {
                subpath: Some("a".to_owned()),
                ..Default::default()
            }),
            tmpfs_options: Some(MountTmpfsOptions {
                options: Some(vec![vec!["noexec".to_owned()]]),
                ..Default::default()
            }),
            ..Default::default()
        };
        let body = ContainerCreateBody {
            healthcheck: Some(HealthConfig {
                start_interval: Some(1_000_000),
                ..Default::default()
            }),
            host_config: Some(HostConfig {
                annotations: Some([("a".to_owned(), "b".to_owned())].into()),
                mounts: Some(vec![Mount::default(), mount]),
                init: Some(true),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(
            unknown(&body, Version(1, 39)),
            [
                "HostConfig.Mounts.BindOptions.NonRecursive needs version 1.40",
                "HostConfig.Mounts.BindOptions.CreateMountpoint needs version 1.42",
                "HostConfig.Annotations needs version 1.43",
                "Healthcheck.StartInterval needs version 1.44",
                "HostConfig.Mounts.VolumeOptions.Subpath needs version 1.45",
                "HostConfig.Mounts.TmpfsOptions.Options needs version 1.46",
            ]
        );
        assert_eq!(unknown(&body, Version(1, 44)).len(), 2);
        assert_eq!(unknown(&body, Version::newest()), [""; 0]);
        assert_eq!(unknown(&ContainerCreateBody::default(), OLDEST), [""; 0]);
    }

    #[test]
    fn a_request_contains_the_version_once_negotiated() {
        let agreed = Agreed::default();
        let path = |agreed: &Agreed| {
            let mut request = Request::get("http://localhost/images/a%2Fb/json?x=/v1.2")
                .body(())
                .unwrap();
            agreed.put_into(&mut request);
            request.uri().to_string()
        };
        assert_eq!(path(&agreed), "http://localhost/images/a%2Fb/json?x=/v1.2");
        agreed.clone().set(Version(1, 44));
        assert_eq!(path(&agreed), "http://localhost/v1.44/images/a%2Fb/json?x=/v1.2");
    }

    #[test]
    fn the_version_is_negotiated_again_with_a_replaced_engine() {
        let answer = |status: u16, told: &str| {
            Response::builder()
                .status(status)
                .header("Api-Version", told)
                .body(())
                .unwrap()
        };
        let after = |answer: Response<()>| {
            let agreed = Agreed::default();
            agreed.set(Version(1, 41));
            agreed.heed(Some(Version(1, 41)), &answer);
            agreed.get().unwrap()
        };
        assert_eq!(after(answer(400, "1.52")), Version(1, 52));
        assert_eq!(after(answer(400, "1.99")), Version::newest());
        assert_eq!(after(answer(400, "1.30")), Version(1, 30));
        for (status, told) in [(200, "1.52"), (404, "1.52"), (400, "1.41"), (400, "1.24"), (400, "new")] {
            assert_eq!(after(answer(status, told)), Version(1, 41), "{status} {told}");
        }
    }
}
