//! Reads the raw configuration of a spec: JSON in Docker's own terms, or bollard's types.

use bollard::models::{ContainerCreateBody, HostConfig};
use serde_json::{Value, json};

use super::container_spec::ContainerSpec;
use crate::error::FieldError;

/// The name of the setter, with which the fields of its problems begin.
const FIELD: &str = "raw_config";

/// Returns the raw configuration of a spec, and its problems.
pub(super) fn of(spec: &ContainerSpec) -> (ContainerCreateBody, Vec<FieldError>) {
    let (mut body, problems) = read(spec);
    body.cmd.take_if(|words| words.is_empty());
    body.entrypoint.take_if(|words| words.is_empty());
    if let (Some(host), Some(_)) = (&mut body.host_config, &spec.raw_config) {
        // A client that writes all fields writes these for limits of which it says nothing.
        host.memory.take_if(|bytes| *bytes == 0);
        host.pids_limit.take_if(|count| *count == 0);
    }
    (body, problems)
}

/// Takes empty values for values that were not given. The engine does so too, and would take a default of its own.
pub(super) fn forget_empty(host: &mut HostConfig) {
    host.network_mode.take_if(|mode| mode.is_empty());
    host.memory_swap.take_if(|bytes| *bytes == 0);
    host.log_config
        .take_if(|log| log.typ.as_deref().unwrap_or_default().is_empty());
}

/// Reads the raw configuration as it was given.
fn read(spec: &ContainerSpec) -> (ContainerCreateBody, Vec<FieldError>) {
    let mut problems = Vec::new();
    let Some(raw) = &spec.raw_config else {
        return (spec.docker_config.clone(), problems);
    };
    if spec.docker_config != ContainerCreateBody::default() || spec.host_config.is_some() {
        let problem = "docker_config() or host_config() was given too: use one of them";
        problems.push(FieldError::new(FIELD, problem));
    }
    if !raw.is_object() {
        problems.push(FieldError::new(FIELD, "must be a JSON object"));
        return (ContainerCreateBody::default(), problems);
    }
    match serde_json::from_value::<ContainerCreateBody>(raw.clone()) {
        Ok(body) => {
            // No type in a body fails to serialize.
            let understood = serde_json::to_value(&body).unwrap_or_default();
            find_lost(FIELD, raw, &understood, &mut problems);
            (body, problems)
        }
        Err(_) => {
            let known = problems.len();
            find_wrong(FIELD, raw, &|field| field, &mut problems);
            if problems.len() == known {
                problems.push(FieldError::new(
                    FIELD,
                    "is no body of Docker's call to create a container",
                ));
            }
            (ContainerCreateBody::default(), problems)
        }
    }
}

/// Names every field, and every field of `HostConfig`, that makes no sense where it is. Their values are not quoted, as the
/// client's error does: they may be secrets. `put` makes a body of a field.
fn find_wrong(path: &str, fields: &Value, put: &dyn Fn(Value) -> Value, problems: &mut Vec<FieldError>) {
    for (name, value) in fields.as_object().into_iter().flatten() {
        let body = put(json!({ name: value }));
        if serde_json::from_value::<ContainerCreateBody>(body).is_ok() {
            continue;
        }
        let path = format!("{path}.{name}");
        if name == "HostConfig" && value.is_object() {
            find_wrong(&path, value, &|inner| json!({ name: inner }), problems);
        } else {
            let problem =
                "is not what Docker's call to create a container takes there: see its documentation for the type";
            problems.push(FieldError::new(path, problem));
        }
    }
}

/// Adds a problem for every given field that the client does not know, since the client would not send it.
fn find_lost(path: &str, given: &Value, understood: &Value, problems: &mut Vec<FieldError>) {
    if let (Value::Array(given), Value::Array(understood)) = (given, understood) {
        for (i, (given, understood)) in given.iter().zip(understood).enumerate() {
            find_lost(&format!("{path}[{i}]"), given, understood, problems);
        }
    }
    let Some(given) = given.as_object() else { return };
    for (name, value) in given {
        let path = format!("{path}.{name}");
        match understood.get(name) {
            _ if value.is_null() => {}
            Some(understood) if !understood.is_null() => find_lost(&path, value, understood, problems),
            _ => problems.push(FieldError::new(
                &path,
                "is not known to the library's Docker client, and would not be sent",
            )),
        }
    }
}

/// Returns the problem with the field's name as in JSON: `raw_config.HostConfig.PidsLimit` for `host_config.pids_limit`.
pub(super) fn renamed(problem: &FieldError) -> Option<FieldError> {
    let (part, name) = problem.field().split_once('.')?;
    let parent = match part {
        "docker_config" => FIELD.to_owned(),
        "host_config" => format!("{FIELD}.HostConfig"),
        _ => return None,
    };
    let words = name.split('_').map(|word| match word.split_at_checked(1) {
        Some((first, rest)) => first.to_ascii_uppercase() + rest,
        None => String::new(),
    });
    Some(FieldError::new(
        format!("{parent}.{}", words.collect::<String>()),
        problem.problem(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(spec: &ContainerSpec) -> Vec<String> {
        spec.problems()
            .iter()
            .map(|problem| problem.field().to_owned())
            .collect()
    }

    #[test]
    fn json_does_the_same_as_types() {
        let raw = json!({
            "Hostname": "raw",
            "Env": ["A=1"],
            "Volumes": {"/v": {}},
            "Entrypoint": ["sleep", "60"],
            "HostConfig": {"Memory": 64 << 20, "Sysctls": {"a": "b"}, "Binds": null, "CgroupnsMode": "private"},
        });
        let spec = ContainerSpec::new("any").raw_config(raw.clone());
        assert_eq!(problems(&spec), [""; 0]);
        assert!(!spec.has_lifeline());
        let plan = spec.plan().unwrap();
        assert_eq!(plan.limits.memory, Some(64 << 20));
        assert_eq!(plan.env, [("A".to_owned(), "1".to_owned())]);
        assert_eq!(plan.engine_config["Hostname"], "raw");
        assert_eq!(
            plan.engine_config["HostConfig"]["Sysctls"],
            raw["HostConfig"]["Sysctls"]
        );
        assert_eq!(ContainerSpec::new("").raw_config(json!({"Image": "x"})).image(), "x");
        assert!(!format!("{spec:?}").contains("A=1"), "{spec:?}");
    }

    #[test]
    fn unknown_and_conflicting_fields_are_named_as_in_json() {
        let of = |raw: Value| {
            problems(
                &ContainerSpec::new("any")
                    .memory(64 << 20)
                    .cap_drop_all()
                    .raw_config(raw),
            )
        };
        assert_eq!(
            of(json!({"HostConfig": {"Memory": 1}})),
            ["raw_config.HostConfig.Memory"]
        );
        assert_eq!(
            of(json!({"HostConfig": {"CapDrop": []}})),
            ["raw_config.HostConfig.CapDrop"]
        );
        assert_eq!(of(json!({"Tty": true})), ["raw_config.Tty"]);
        assert_eq!(of(json!({"HostConfig": {"Memry": 1}})), ["raw_config.HostConfig.Memry"]);
        assert_eq!(of(json!({"hostname": "x"})), ["raw_config.hostname"]);
        assert_eq!(
            of(json!({"HostConfig": {"Mounts": [{}, {"Readonly": true}]}})),
            ["raw_config.HostConfig.Mounts[1].Readonly"]
        );
        assert_eq!(of(json!({"Hostname": 1, "Env": ["A=1"]})), ["raw_config.Hostname"]);
        assert_eq!(
            of(json!({"Env": "A=1", "HostConfig": {"CpuShares": "1", "Init": true, "Mounts": [{"Type": "x"}]}})),
            [
                "raw_config.Env",
                "raw_config.HostConfig.CpuShares",
                "raw_config.HostConfig.Mounts"
            ]
        );
        assert_eq!(of(json!({"HostConfig": 1})), ["raw_config.HostConfig"]);
        assert_eq!(of(json!([1])), ["raw_config"]);
    }
}
