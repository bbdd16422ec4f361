//! Settings that contradict a sandbox are named, with the method that gives the item up.

use dockerpool::{ContainerSpec, Error, Network, Sandbox, Seccomp};
use serde_json::{Value, json};

/// Returns the problems of a spec, each as its field and its words.
fn problems(spec: ContainerSpec) -> Vec<(String, String)> {
    match spec.plan() {
        Ok(_) => Vec::new(),
        Err(Error::Config(problems)) => problems
            .iter()
            .map(|problem| (problem.field().to_owned(), problem.problem().to_owned()))
            .collect(),
        Err(error) => panic!("{error}"),
    }
}

fn spec() -> ContainerSpec {
    ContainerSpec::new("any").sandbox(Sandbox::strict())
}

#[test]
fn setters_that_contradict_are_named_in_either_order() {
    type Change = fn(ContainerSpec) -> ContainerSpec;
    type Loosening = fn(Sandbox) -> Sandbox;
    let cases: [(&str, Change, Loosening); 10] = [
        ("user", |s| s.user("root"), |s| s.run_as(0, 0)),
        ("read_only_root", |s| s.read_only_root(false), Sandbox::writable_root),
        ("memory", |s| s.memory(None), Sandbox::allow_unlimited_memory),
        ("pids_limit", |s| s.pids_limit(None), Sandbox::allow_unlimited_pids),
        (
            "network",
            |s| s.network(Network::existing("internal")),
            Sandbox::allow_network,
        ),
        ("cap_add", |s| s.cap_add("CHOWN"), |s| s.keep_capability("CAP_CHOWN")),
        ("tmpfs", |s| s.tmpfs("/tmp/", 1 << 20), |s| s),
        ("tmpfs", |s| s.tmpfs_with("/work", "size=7"), |s| s),
        (
            "writable_cgroups",
            |s| s.user("65534:65534").writable_cgroups(true),
            |s| s,
        ),
        (
            "read_only_root",
            |s| s.read_only_root(false).shm_size(1 << 20),
            Sandbox::writable_root,
        ),
    ];
    for (field, change, loosening) in cases {
        let first = problems(change(spec()));
        let last = problems(change(ContainerSpec::new("any")).sandbox(Sandbox::strict()));
        assert_eq!(first, last, "{field}");
        assert_eq!(first.len(), 1, "{first:?}");
        assert_eq!(first[0].0, field);
        let names_a_way = first[0].1.contains("Sandbox::");
        assert!(names_a_way || first[0].1 == "does not go with a sandbox", "{first:?}");
        let loosened = problems(change(spec()).sandbox(loosening(Sandbox::strict())));
        let has_loosening = loosening(Sandbox::strict()) != Sandbox::strict();
        let user_is_root = field == "user";
        // `root` is not the number that the sandbox has.
        assert_eq!(
            loosened.is_empty(),
            has_loosening && !user_is_root,
            "{field}: {loosened:?}"
        );
    }
}

#[test]
fn a_raw_configuration_that_contradicts_is_named_as_in_json() {
    let host = |name: &str, value: Value| json!({ "HostConfig": { name: value } });
    for (field, raw) in [
        ("User", json!({"User": "0"})),
        ("Healthcheck", json!({"Healthcheck": {"Test": ["CMD", "true"]}})),
        ("Volumes", json!({"Volumes": {"/v": {}}})),
        ("HostConfig.Privileged", host("Privileged", json!(true))),
        ("HostConfig.ReadonlyRootfs", host("ReadonlyRootfs", json!(false))),
        ("HostConfig.Binds", host("Binds", json!(["/:/host"]))),
        (
            "HostConfig.Mounts",
            host("Mounts", json!([{"Type": "bind", "Source": "/", "Target": "/host"}])),
        ),
        ("HostConfig.VolumesFrom", host("VolumesFrom", json!(["other"]))),
        ("HostConfig.PidMode", host("PidMode", json!("host"))),
        ("HostConfig.IpcMode", host("IpcMode", json!("container:x"))),
        ("HostConfig.UtsMode", host("UTSMode", json!("host"))),
        ("HostConfig.UsernsMode", host("UsernsMode", json!("host"))),
        ("HostConfig.CgroupnsMode", host("CgroupnsMode", json!("host"))),
        ("HostConfig.NetworkMode", host("NetworkMode", json!("host"))),
        (
            "HostConfig.Devices",
            host("Devices", json!([{"PathOnHost": "/dev/sda"}])),
        ),
        ("HostConfig.GroupAdd", host("GroupAdd", json!(["0"]))),
        ("HostConfig.MaskedPaths", host("MaskedPaths", json!([]))),
        ("HostConfig.ReadonlyPaths", host("ReadonlyPaths", json!([]))),
        ("HostConfig.CapAdd", host("CapAdd", json!(["SYS_ADMIN"]))),
        ("HostConfig.CapDrop", host("CapDrop", json!(["CHOWN"]))),
        (
            "HostConfig.SecurityOpt",
            host("SecurityOpt", json!(["seccomp=unconfined"])),
        ),
        (
            "HostConfig.SecurityOpt",
            host("SecurityOpt", json!(["apparmor:unconfined"])),
        ),
        ("HostConfig.SecurityOpt", host("SecurityOpt", json!(["label=disable"]))),
        (
            "HostConfig.SecurityOpt",
            host("SecurityOpt", json!(["no-new-privileges=false"])),
        ),
        (
            "HostConfig.SecurityOpt",
            host("SecurityOpt", json!(["systempaths=unconfined"])),
        ),
        ("HostConfig.MemorySwap", host("MemorySwap", json!(-1))),
        ("HostConfig.OomScoreAdj", host("OomScoreAdj", json!(-500))),
        ("HostConfig.LogConfig", host("LogConfig", json!({"Type": "json-file"}))),
        ("HostConfig.PidsLimit", host("PidsLimit", json!(-1))),
    ] {
        let found = problems(spec().raw_config(raw));
        let fields: Vec<_> = found.iter().map(|(field, _)| &**field).collect();
        assert_eq!(fields, [format!("raw_config.{field}")], "{found:?}");
    }
}

#[test]
fn settings_that_go_with_a_sandbox_are_kept() {
    let raw = json!({
        "Hostname": "box",
        "HostConfig": {
            "SecurityOpt": ["apparmor=mine", "no-new-privileges:true"],
            "IpcMode": "none",
            "Sysctls": {"net.core.somaxconn": "1024"},
            "OomScoreAdj": 900,
        },
    });
    let spec = spec()
        .raw_config(raw)
        .memory(128 << 20)
        .cpus(0.5)
        .pids_limit(10)
        .ulimit("nofile", 64, 64)
        .env("HOME", "/tmp")
        .working_dir("/tmp")
        .tmpfs("/cache", 1 << 20)
        .runtime("runsc")
        .cap_drop_all()
        .user("65534:65534")
        .read_only_root(true);
    let plan = spec.plan().unwrap();
    assert_eq!(plan.limits.memory_and_swap, Some(128 << 20));
    assert_eq!((plan.limits.nano_cpus, plan.limits.pids), (Some(500_000_000), Some(10)));
    assert_eq!(plan.limits.oom_score_adj, Some(900));
    assert_eq!(plan.working_dir.as_deref(), Some("/tmp"));
    assert!(plan.env.contains(&("HOME".to_owned(), "/tmp".to_owned())));
    assert!(plan.env.contains(&("TMPDIR".to_owned(), "/tmp".to_owned())));
    assert!(plan.tmpfs["/tmp"].contains("size=16777216,") && plan.tmpfs["/work"].contains("size=33554432,"));
    assert!(plan.security.no_new_privileges && plan.security.read_only_root);
    assert_eq!(plan.security.cap_drop, ["ALL"]);
    let nofile = plan.limits.ulimits.iter().find(|limit| limit.name == "nofile").unwrap();
    assert_eq!(nofile.soft, Some(64));
    let options = plan.engine_config["HostConfig"]["SecurityOpt"].as_array().unwrap();
    assert_eq!(options[0], "apparmor=mine");
    assert!(options[1].as_str().unwrap().starts_with("seccomp={"));
}

#[test]
fn values_that_cannot_be_used_are_named() {
    for sandbox in [
        Sandbox::strict().tmp_size(0),
        Sandbox::strict().work_size(u64::MAX),
        Sandbox::strict().work_size(ContainerSpec::DEFAULT_MEMORY + 1),
        Sandbox::strict().tmp_size(ContainerSpec::DEFAULT_MEMORY + 1),
        Sandbox::strict().inodes(0),
        Sandbox::strict().oom_score_adj(1001),
        Sandbox::strict().seccomp(Seccomp::profile(json!("/etc/profile.json"))),
    ] {
        let found = problems(ContainerSpec::new("any").sandbox(sandbox));
        assert!(
            !found.is_empty() && found.iter().all(|(field, _)| field == "sandbox"),
            "{found:?}"
        );
    }
}
