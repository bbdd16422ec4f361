//! Reads the raw configuration of a spec: JSON in Docker's own terms, or bollard's types.

use bollard::models::ContainerCreateBody;
use serde_json::Value;

use super::container_spec::ContainerSpec;
use crate::error::FieldError;

/// The name of the setter, with which the fields of its problems begin.
const FIELD: &str = "raw_config";

/// Returns the raw configuration of a spec, and its problems.
pub(super) fn of(spec: &ContainerSpec) -> (ContainerCreateBody, Vec<FieldError>) {
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
        Err(error) => {
            let problem = format!("is no body of Docker's call to create a container: {error}");
            problems.push(FieldError::new(FIELD, problem));
            (ContainerCreateBody::default(), problems)
        }
    }
}

/// Adds a problem for every given field that the client does not know, since the client would not send it.
fn find_lost(path: &str, given: &Value, understood: &Value, problems: &mut Vec<FieldError>) {
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
    use serde_json::json;

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
        assert_eq!(of(json!({"Hostname": 1})), ["raw_config"]);
        assert_eq!(of(json!([1])), ["raw_config"]);
    }
}
