//! The raw configuration.

use dockerpool::{ContainerSpec, Error};
use serde_json::{Value, json};

fn refusal(raw: Value) -> String {
    match ContainerSpec::new("any").raw_config(raw).plan() {
        Err(Error::Config(problems)) => format!("{problems:?}"),
        other => panic!("{other:?}"),
    }
}

/// `"Env": "TOKEN=..."` for `"Env": ["TOKEN=..."]`: serde quotes the string.
#[test]
fn a_field_of_the_wrong_type_does_not_put_a_secret_into_the_error() {
    for raw in [
        json!({"Env": "TOKEN=hunter2"}),
        json!({"Cmd": "psql password=hunter2"}),
        json!({"Entrypoint": "psql password=hunter2"}),
        json!({"HostConfig": "hunter2"}),
        json!({"HostConfig": {"LogConfig": {"Config": "hunter2"}}}),
    ] {
        let words = refusal(raw.clone());
        assert!(!words.contains("hunter2"), "{raw}: {words}");
    }
}

/// The type that refuses a field does not name it.
#[test]
fn a_field_of_the_wrong_type_is_named() {
    let words = refusal(json!({"HostConfig": {"Memory": "64m"}}));
    assert!(words.contains("Memory"), "{words}");
}

/// A misspelt `ReadOnly` of a mount is dropped without a word: the mount is writable.
#[test]
fn an_unknown_field_in_a_list_is_named() {
    for raw in [
        json!({"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/srv", "Target": "/srv", "Readonly": true}]}}),
        json!({"HostConfig": {"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "Permissions": "r"}]}}),
        json!({"HostConfig": {"Ulimits": [{"Name": "nofile", "soft": 10, "Hard": 10}]}}),
    ] {
        let result = ContainerSpec::new("any").raw_config(raw.clone()).plan();
        assert!(result.is_err(), "{raw}: {:?}", result.unwrap().engine_config);
    }
}

/// JSON of Go programs has every field: its zero stands for "nothing was said".
#[test]
fn an_empty_value_does_not_take_a_default_of_the_sandbox_away() {
    let plan = |raw| ContainerSpec::new("any").raw_config(raw).plan();
    let Ok(plan) = plan(json!({"HostConfig": {"NetworkMode": "", "Memory": 0, "PidsLimit": 0, "MemorySwap": 0}}))
    else {
        return; // it is said
    };
    assert_eq!(plan.limits.memory, Some(ContainerSpec::DEFAULT_MEMORY));
    assert_eq!(plan.limits.pids, Some(u64::from(ContainerSpec::DEFAULT_PIDS)));
    assert!(plan.network.is_some(), "{:?}", plan.engine_config);
}

/// PID 1's output goes to the engine's disk then.
#[test]
fn an_empty_log_configuration_keeps_the_default() {
    let plan = ContainerSpec::new("any")
        .raw_config(json!({"HostConfig": {"LogConfig": {"Type": ""}}}))
        .plan()
        .unwrap();
    assert!(!plan.keep_output, "{:?}", plan.engine_config);
}

/// An empty `MemorySwap`: twice the memory.
#[test]
fn an_empty_swap_limit_keeps_the_default() {
    let plan = ContainerSpec::new("any")
        .raw_config(json!({"HostConfig": {"MemorySwap": 0}}))
        .plan()
        .unwrap();
    assert_eq!(
        plan.limits.memory_and_swap, plan.limits.memory,
        "{:?}",
        plan.engine_config
    );
}

#[test]
fn an_empty_command_is_no_command_of_ones_own() {
    for raw in [json!({"Cmd": []}), json!({"Entrypoint": []})] {
        let spec = ContainerSpec::new("any").raw_config(raw.clone());
        assert!(spec.plan().is_err() || spec.has_lifeline(), "{raw}");
    }
}

#[test]
fn long_and_odd_json_is_refused_shortly() {
    for raw in [
        json!({"Env": "x".repeat(1 << 24)}),
        json!({"x".repeat(1 << 22): 1}),
        json!({"\u{1b}[31m\n": 1}),
        json!({"HostConfig": {"Memory": 1e300}}),
        json!({"HostConfig": {"NetworkMode": "\u{1b}[31m"}, "Labels": {"dockerpool.x": "1"}}),
        json!("hunter2"),
    ] {
        let words = refusal(raw);
        assert!(words.len() < 10_000, "{}", words.len());
        assert!(!words.contains(char::is_control), "{words}");
    }
    let many: serde_json::Map<_, _> = (0..100_000).map(|i| (format!("x{i}"), json!(1))).collect();
    let words = refusal(Value::Object(many));
    println!("{} bytes of errors", words.len());
}
