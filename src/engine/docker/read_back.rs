//! Settings of isolation that a plan requests and a container does not have, by its description.
//!
//! An engine may silently ignore a field that it does not know. Podman's version of Docker's API ignores `Runtime`,
//! `MaskedPaths` and `ReadonlyPaths`; an older Docker ignores all later fields.

use bollard::models::{ContainerCreateBody, ContainerInspectResponse, HostConfig, SystemInfo};
use serde_json::Value;

use super::DockerEngine;
use super::convert::engine_error;
use crate::engine::{EngineError, EngineErrorKind};

/// Describes one setting: its place, which is the same in request and description, and the comparison of both values.
struct Row {
    at: &'static str,
    holds: fn(asked: &Value, found: &Value) -> bool,
    /// Whether Podman's description can be compared.
    in_podman: bool,
}

const fn row(at: &'static str, holds: fn(&Value, &Value) -> bool) -> Row {
    let in_podman = true;
    Row { at, holds, in_podman }
}

const fn of_docker(at: &'static str, holds: fn(&Value, &Value) -> bool) -> Row {
    let in_podman = false;
    Row { at, holds, in_podman }
}

const ROWS: [Row; 28] = [
    // Podman's runtime is checked by `check_runtime`.
    of_docker("/HostConfig/Runtime", same),
    row("/HostConfig/ReadonlyRootfs", same),
    row("/HostConfig/Privileged", not_privileged),
    row("/HostConfig/NetworkMode", no_network),
    // Podman 4.3 describes every private namespace, and `none`, as shareable.
    row("/HostConfig/IpcMode", not_of_host),
    of_docker("/HostConfig/IpcMode", apart),
    row("/HostConfig/PidMode", not_of_host),
    of_docker("/HostConfig/PidMode", apart),
    row("/HostConfig/UTSMode", same),
    // Podman 4.3 does not describe this field.
    row("/HostConfig/CgroupnsMode", same_if_told),
    of_docker("/HostConfig/CgroupnsMode", same),
    // Podman uses another word for the same mode, or none.
    of_docker("/HostConfig/UsernsMode", same),
    of_docker("/HostConfig/CgroupParent", same),
    // Podman describes only the capabilities that it would have given.
    of_docker("/HostConfig/CapDrop", dropped),
    of_docker("/HostConfig/CapAdd", not_added),
    row("/HostConfig/SecurityOpt", no_new_privileges),
    of_docker("/HostConfig/SecurityOpt", all_options),
    row("/HostConfig/MaskedPaths", all_of),
    row("/HostConfig/ReadonlyPaths", all_of),
    // Podman does not describe sysctls.
    of_docker("/HostConfig/Sysctls", sysctls),
    row("/HostConfig/Tmpfs", all_options_of_tmpfs),
    of_docker("/HostConfig/Tmpfs", all_of),
    row("/HostConfig/OomScoreAdj", at_least),
    row("/HostConfig/AutoRemove", same),
    // Podman has other names for its drivers.
    of_docker("/HostConfig/LogConfig/Type", no_log),
    of_docker("/Config/Healthcheck/Test", no_check),
    row("/Config/User", same),
    row("/Config/Labels", all_of),
];

/// The complaint about a description without limits and isolation.
const NOT_DESCRIBED_AT_ALL: &str =
    "the engine's description of the container has no HostConfig, so that neither limits nor isolation can be verified";

/// Returns the requested settings that the container does not have, each in words. `own` holds the paths of files that the
/// library mounts.
pub(super) fn ignored(
    asked: &ContainerCreateBody,
    found: &ContainerInspectResponse,
    own: &[&str],
    is_podman: bool,
) -> Vec<String> {
    let host = asked.host_config.clone().unwrap_or_default();
    let Some(found_host) = &found.host_config else {
        // No setting can be verified.
        return vec![NOT_DESCRIBED_AT_ALL.to_owned()];
    };
    let mut ignored = Vec::new();
    // The description has the top-level fields of the body in a part of their own.
    let wish = serde_json::json!({
        "HostConfig": host,
        "Config": {"User": asked.user, "Labels": asked.labels, "Healthcheck": asked.healthcheck},
    });
    let is = serde_json::to_value(found).unwrap_or_default();
    for Row { at, holds, in_podman } in ROWS {
        if is_podman && !in_podman {
            continue;
        }
        let [asked, found] = [&wish, &is].map(|value| value.pointer(at).unwrap_or(&Value::Null));
        if !holds(asked, found) {
            let name = at.rsplit('/').next().unwrap_or(at);
            ignored.push(format!(
                "{name} is {} where {} was asked for",
                shown(found),
                shown(asked)
            ));
        }
    }
    ignored.extend(ignored_profile(&wish["HostConfig"]["SecurityOpt"], &is));
    // Two rows may find the same difference.
    ignored.dedup();
    if !is_podman {
        ignored.extend(ignored_mounts(&host, found_host, own));
    }
    ignored.extend(writable(&host, &is["Mounts"]));
    ignored
}

/// Returns AppArmor's profile, or SELinux's label, if the container's options contain it but it is not in force: if the
/// kernel lacks the module, Docker silently accepts the option.
fn ignored_profile(asked: &Value, found: &Value) -> Vec<String> {
    let option = |name: &str| {
        let mut options = options(asked).into_iter().rev();
        options.find_map(|option| Some(option.strip_prefix(name)?.to_owned()))
    };
    let is_empty = |field: &str| found[field].as_str().is_some_and(str::is_empty);
    let mut ignored = Vec::new();
    if let Some(profile) = option("apparmor=").filter(|profile| profile != "unconfined")
        && is_empty("AppArmorProfile")
    {
        ignored.push(format!(
            "there is no AppArmor where its profile {profile} was asked for"
        ));
    }
    if let Some(label) = option("label=").filter(|label| label != "disable")
        && is_empty("ProcessLabel")
    {
        ignored.push(format!("there is no SELinux where its label {label} was asked for"));
    }
    ignored
}

/// Returns a value as text, cut off if it is long: an option may contain a whole seccomp profile.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 120;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

fn same(asked: &Value, found: &Value) -> bool {
    is_nothing(asked) || asked == found
}

fn same_if_told(asked: &Value, found: &Value) -> bool {
    is_nothing(found) || same(asked, found)
}

/// Accepts a privileged container only if the request asks for one.
fn not_privileged(asked: &Value, found: &Value) -> bool {
    found != &Value::Bool(true) || asked == found
}

/// Verifies only `none`: for any other network the name in the description may differ from the requested one.
fn no_network(asked: &Value, found: &Value) -> bool {
    asked != "none" || found == "none"
}

/// Verifies only `none`: other drivers are the user's choice.
fn no_log(asked: &Value, found: &Value) -> bool {
    asked != "none" || found == "none"
}

/// Verifies only that there is no health check, where none was asked for.
fn no_check(asked: &Value, found: &Value) -> bool {
    asked[0] != "NONE" || is_nothing(found) || found[0] == "NONE"
}

/// Accepts the machine's namespace only if the request asks for it.
fn not_of_host(asked: &Value, found: &Value) -> bool {
    found != "host" || asked == "host"
}

/// Accepts a private namespace, or none, but not the machine's or another container's.
fn apart(asked: &Value, found: &Value) -> bool {
    match asked.as_str() {
        Some("none" | "private") => asked == found,
        None | Some("") => found != "host",
        Some(_) => true,
    }
}

/// Returns the names of capabilities in upper case, without their prefix.
fn capabilities(value: &Value) -> Vec<String> {
    let bare = |name: &Value| {
        let name = name.as_str().unwrap_or_default().to_ascii_uppercase();
        name.trim_start_matches("CAP_").to_owned()
    };
    value.as_array().into_iter().flatten().map(bare).collect()
}

fn dropped(asked: &Value, found: &Value) -> bool {
    let found = capabilities(found);
    let is_dropped = |name: &String| found.contains(name) || found.iter().any(|found| found == "ALL");
    capabilities(asked).iter().all(is_dropped)
}

fn not_added(asked: &Value, found: &Value) -> bool {
    let asked = capabilities(asked);
    let is_asked = |name: &String| asked.contains(name) || asked.iter().any(|asked| asked == "ALL");
    capabilities(found).iter().all(is_asked)
}

/// Returns options as `name` or `name=value`; the old form `name:value` is translated.
fn options(value: &Value) -> Vec<String> {
    let one = |option: &Value| match option.as_str().unwrap_or_default() {
        "no-new-privileges:true" | "no-new-privileges=true" => "no-new-privileges".to_owned(),
        option => match option.find([':', '=']) {
            Some(at) => format!("{}={}", &option[..at], &option[at + 1..]),
            None => option.to_owned(),
        },
    };
    value.as_array().into_iter().flatten().map(one).collect()
}

fn no_new_privileges(asked: &Value, found: &Value) -> bool {
    let has = |value| options(value).iter().any(|option| option == "no-new-privileges");
    !has(asked) || has(found)
}

fn all_options(asked: &Value, found: &Value) -> bool {
    let found = options(found);
    options(asked).iter().all(|option| found.contains(option))
}

/// Returns whether a list or a map contains everything in another one.
fn all_of(asked: &Value, found: &Value) -> bool {
    match asked {
        Value::Array(items) => {
            let found = found.as_array();
            items.iter().all(|item| found.is_some_and(|found| found.contains(item)))
        }
        Value::Object(fields) => fields.iter().all(|(name, value)| found.get(name) == Some(value)),
        _ => true,
    }
}

/// Compares sysctls. From Docker 27 on, those of one interface are settings of its network instead.
fn sysctls(asked: &Value, found: &Value) -> bool {
    let mut all = asked.as_object().into_iter().flatten();
    all.all(|(name, value)| name.contains(".eth") || found.get(name) == Some(value))
}

fn bare(path: &str) -> &str {
    path.trim_end_matches('/')
}

/// Options of a tmpfs that Podman leaves out of its description, because they are its defaults, or because it has done them.
const NOT_DESCRIBED: [&str; 5] = ["rw", "notmpcopyup", "relatime", "defaults", "U"];

/// Returns whether each tmpfs has the requested options. Engines add others.
fn all_options_of_tmpfs(asked: &Value, found: &Value) -> bool {
    let options = |options: &Value| -> Vec<String> {
        let options = options.as_str().unwrap_or_default().split(',');
        options.filter(|option| !option.is_empty()).map(str::to_owned).collect()
    };
    let mut asked = asked.as_object().into_iter().flatten();
    asked.all(|(path, asked)| {
        let found = found.as_object().into_iter().flatten();
        let mut found = found.filter(|(other, _)| bare(other) == bare(path));
        found.next().is_some_and(|(_, found)| {
            let found = options(found);
            let is_there = |option: &String| NOT_DESCRIBED.contains(&&**option) || found.contains(option);
            options(asked).iter().all(is_there)
        })
    })
}

fn at_least(asked: &Value, found: &Value) -> bool {
    asked
        .as_i64()
        .is_none_or(|asked| found.as_i64().is_some_and(|found| found >= asked))
}

/// Returns the requested mounts that the container does not have. Podman describes mounts in other fields.
fn ignored_mounts(asked: &HostConfig, found: &HostConfig, own: &[&str]) -> Vec<String> {
    let mut ignored = Vec::new();
    for wish in asked.mounts.iter().flatten() {
        let target = wish.target.as_deref().unwrap_or_default();
        // The library's own program proves its mount by running. Under SELinux the library requests its mount in another
        // form.
        if own.contains(&target) {
            continue;
        }
        let is_this = |mount: &&bollard::models::Mount| mount.target.as_deref().map(bare) == Some(bare(target));
        let is = found.mounts.iter().flatten().find(is_this);
        let [wish, is] = [serde_json::to_value(wish), serde_json::to_value(is)].map(Result::unwrap_or_default);
        let mut wish = wish;
        if let Some(wish) = wish.as_object_mut() {
            // Docker Desktop describes a path as seen in its virtual machine.
            wish.remove("Source");
            wish.remove("Target");
        }
        if is.is_null() || !is_part(&wish, &is) {
            ignored.push(format!(
                "the mount on {target} is {} where {} was asked for",
                shown(&is),
                shown(&wish)
            ));
        }
    }
    ignored
}

/// Returns whether a value contains everything in another one.
fn is_part(value: &Value, of: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().all(|(name, value)| is_part(value, &of[name.as_str()])),
        value => is_nothing(value) || value == of || value.as_i64() == Some(0),
    }
}

/// Returns the read-only mounts that are writable.
fn writable(asked: &HostConfig, found: &Value) -> Vec<String> {
    let mounts = asked.mounts.iter().flatten();
    let mounts = mounts
        .filter(|mount| mount.read_only == Some(true))
        .filter_map(|mount| mount.target.as_deref());
    let binds = asked.binds.iter().flatten().filter_map(|bind| {
        let mut parts = bind.rsplitn(2, ':');
        let (options, rest) = (parts.next()?, parts.next()?);
        let (_, target) = rest.rsplit_once(':')?;
        options.split(',').any(|option| option == "ro").then_some(target)
    });
    let can_be_written = |target: &str| {
        let mut found = found.as_array().into_iter().flatten();
        found.any(|mount| mount["Destination"].as_str().map(bare) == Some(bare(target)) && mount["RW"] == true)
    };
    let writable = mounts.chain(binds).filter(|target| can_be_written(target));
    writable
        .map(|target| format!("the mount on {target} can be written to where a read-only one was asked for"))
        .collect()
}

/// Checks, before anything is created, that the engine has the requested runtime.
pub(super) async fn check_runtime(engine: &DockerEngine, asked: &ContainerCreateBody) -> Result<(), EngineError> {
    let wanted = asked.host_config.as_ref().and_then(|host| host.runtime.as_deref());
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else {
        return Ok(());
    };
    match engine.docker.info().await {
        Ok(info) => has_runtime(wanted, &info, engine.is_podman),
        // The creation of a container shows whether the runtime exists.
        Err(_) if !engine.is_podman => Ok(()),
        Err(error) => Err(engine_error("the engine did not report its runtimes", error)),
    }
}

fn has_runtime(wanted: &str, info: &SystemInfo, is_podman: bool) -> Result<(), EngineError> {
    if is_podman {
        let default = info.default_runtime.as_deref().unwrap_or_default();
        return match default == wanted {
            true => Ok(()),
            false => Err(EngineError::new(
                EngineErrorKind::Unsupported,
                format!(
                    "Podman ignores the runtime of a request through this API: its containers have `{default}`, not \
                     `{wanted}` (see `runtime` in its containers.conf)"
                ),
            )),
        };
    }
    let mut known: Vec<_> = info.runtimes.iter().flatten().map(|(name, _)| name.as_str()).collect();
    // A runtime named by its shim, or by its path, need not be registered.
    if known.is_empty() || known.contains(&wanted) || wanted.contains(['.', '/']) {
        return Ok(());
    }
    known.sort_unstable();
    let words = format!(
        "the engine has no runtime `{wanted}`; it has {}; others are added to its configuration (Docker: `runtimes` in daemon.json)",
        known.join(", ")
    );
    Err(EngineError::new(EngineErrorKind::Rejected, words))
}

#[cfg(test)]
mod tests {
    use bollard::models::{Mount, MountTmpfsOptions, MountType, Runtime};
    use serde_json::json;

    use super::*;
    use crate::engine::Plan;
    use crate::engine::docker::create_body;

    /// Returns a body with every setting.
    fn asked() -> ContainerCreateBody {
        let host = HostConfig {
            privileged: Some(false),
            ipc_mode: Some("private".to_owned()),
            uts_mode: Some("host".to_owned()),
            userns_mode: Some("host".to_owned()),
            cgroup_parent: Some("/group".to_owned()),
            masked_paths: Some(vec!["/proc/keys".to_owned()]),
            readonly_paths: Some(vec!["/proc/sys".to_owned()]),
            sysctls: Some([("kernel.shmmax".to_owned(), "7".to_owned())].into()),
            binds: Some(vec!["/x:/bound:z,ro".to_owned()]),
            mounts: Some(vec![Mount {
                target: Some("/mounted/".to_owned()),
                source: Some("/x".to_owned()),
                typ: Some(MountType::BIND),
                read_only: Some(true),
                ..Default::default()
            }]),
            ..Default::default()
        };
        let mut plan = Plan::new("any");
        plan.engine_config = json!({"HostConfig": host});
        plan.security.runtime = Some("runsc".to_owned());
        plan.security.read_only_root = true;
        plan.security.cap_drop = vec!["ALL".to_owned()];
        plan.security.cap_add = vec!["KILL".to_owned()];
        plan.security.no_new_privileges = true;
        plan.user = Some("7:7".to_owned());
        plan.labels.insert("team".to_owned(), "judges".to_owned());
        plan.tmpfs.insert("/tmp".to_owned(), "size=1048576".to_owned());
        plan.limits.oom_score_adj = Some(500);
        plan.auto_remove = true;
        plan.keep_output = false;
        plan.health_check = false;
        create_body::of(&plan).unwrap()
    }

    /// Returns the description of a container with every requested setting, after this change.
    fn described(change: impl FnOnce(&mut Value)) -> ContainerInspectResponse {
        let asked = asked();
        let mut found = json!({
            "HostConfig": asked.host_config,
            "Config": {"User": asked.user, "Labels": asked.labels, "Healthcheck": asked.healthcheck},
            "Mounts": [
                {"Destination": "/bound", "RW": false},
                {"Destination": "/mounted", "RW": false},
                {"Destination": "/other", "RW": true},
            ],
        });
        change(&mut found);
        serde_json::from_value(found).unwrap()
    }

    #[test]
    fn settings_in_force_are_not_ignored() {
        for is_podman in [false, true] {
            assert_eq!(ignored(&asked(), &described(|_| ()), &[], is_podman), [""; 0]);
        }
        // Engines use other words for the same values.
        let found = described(|found| {
            let host = &mut found["HostConfig"];
            host["CapDrop"] = json!(["CAP_CHOWN", "ALL"]);
            host["CapAdd"] = json!(["CAP_KILL"]);
            host["SecurityOpt"] = json!(["label=disable", "no-new-privileges:true"]);
            host["OomScoreAdj"] = json!(1000);
            host["Mounts"][0]["Source"] = json!("/host_mnt/x");
            host["Mounts"][0]["Target"] = json!("/mounted");
            found["Config"]["Labels"]["of"] = json!("the image");
        });
        assert_eq!(ignored(&asked(), &found, &[], false), [""; 0]);
    }

    #[test]
    fn an_empty_description_verifies_nothing() {
        let partly = described(|found| found["HostConfig"] = Value::Null);
        for found in [ContainerInspectResponse::default(), partly] {
            for is_podman in [false, true] {
                assert_eq!(ignored(&asked(), &found, &[], is_podman), [NOT_DESCRIBED_AT_ALL]);
            }
        }
    }

    #[test]
    fn each_ignored_setting_is_named() {
        let told = |at: &str, value: Value, is_podman| {
            let found = described(|found| {
                let (parent, name) = at.rsplit_once('/').unwrap();
                found.pointer_mut(parent).unwrap()[name] = value;
            });
            ignored(&asked(), &found, &[], is_podman)
        };
        for (at, value, in_podman) in [
            ("/HostConfig/Runtime", json!("runc"), false),
            ("/HostConfig/Runtime", json!(""), false),
            ("/HostConfig/ReadonlyRootfs", json!(false), true),
            ("/HostConfig/Privileged", json!(true), true),
            ("/HostConfig/NetworkMode", json!("default"), true),
            ("/HostConfig/IpcMode", json!("shareable"), false),
            ("/HostConfig/IpcMode", json!("host"), true),
            ("/HostConfig/PidMode", json!("host"), true),
            ("/HostConfig/UTSMode", json!(""), true),
            ("/HostConfig/UsernsMode", json!(""), false),
            ("/HostConfig/CgroupParent", json!(""), false),
            ("/HostConfig/CapDrop", json!(["CHOWN"]), false),
            ("/HostConfig/CapDrop", Value::Null, false),
            ("/HostConfig/CapAdd", json!(["KILL", "SYS_ADMIN"]), false),
            ("/HostConfig/SecurityOpt", Value::Null, true),
            ("/HostConfig/SecurityOpt", json!(["no-new-privileges=false"]), true),
            ("/HostConfig/MaskedPaths", json!(["/proc/kcore"]), true),
            ("/HostConfig/ReadonlyPaths", Value::Null, true),
            ("/HostConfig/Sysctls", json!({"kernel.shmmax": "8"}), false),
            ("/HostConfig/Tmpfs", json!({}), true),
            ("/HostConfig/Tmpfs", json!({"/tmp": "size=9"}), true),
            ("/HostConfig/OomScoreAdj", json!(0), true),
            ("/HostConfig/AutoRemove", json!(false), true),
            ("/HostConfig/LogConfig/Type", json!("json-file"), false),
            ("/Config/Healthcheck/Test", json!(["CMD", "true"]), false),
            ("/Config/User", json!(""), true),
            ("/Config/Labels", json!({"team": "others"}), true),
        ] {
            let name = at.rsplit('/').next().unwrap();
            let found = told(at, value.clone(), false);
            assert!(
                !found.is_empty() && found.iter().all(|words| words.starts_with(name)),
                "{at}: {found:?}"
            );
            assert_eq!(told(at, value.clone(), true).is_empty(), !in_podman, "{at} is {value}");
        }
        for is_podman in [false, true] {
            for (place, target) in [(0, "/bound"), (1, "/mounted/")] {
                let found = described(|found| found["Mounts"][place]["RW"] = json!(true));
                let words = format!("the mount on {target} can be written to where a read-only one was asked for");
                assert_eq!(ignored(&asked(), &found, &[], is_podman), [words]);
            }
        }
        for change in [json!([]), json!([{"Target": "/mounted", "Type": "bind"}])] {
            let found = told("/HostConfig/Mounts", change, false);
            assert!(
                found.len() == 1 && found[0].starts_with("the mount on /mounted/ is "),
                "{found:?}"
            );
        }
    }

    #[test]
    fn an_ignored_option_of_a_tmpfs_is_named() {
        let options = |options: Option<Vec<Vec<String>>>| HostConfig {
            mounts: Some(vec![Mount {
                target: Some("/m".to_owned()),
                typ: Some(MountType::TMPFS),
                tmpfs_options: Some(MountTmpfsOptions {
                    size_bytes: Some(7),
                    options,
                    ..Default::default()
                }),
                ..Default::default()
            }]),
            ..Default::default()
        };
        let asked = options(Some(vec![
            vec!["noexec".to_owned()],
            vec!["uid".to_owned(), "7".to_owned()],
        ]));
        assert_eq!(ignored_mounts(&asked, &asked, &[]), [""; 0]);
        // An older Docker.
        assert_eq!(ignored_mounts(&asked, &options(None), &[]).len(), 1);
    }

    #[test]
    fn podmans_description_of_a_tmpfs_is_compared() {
        let holds = |asked: &str, found: &str| all_options_of_tmpfs(&json!({"/m/": asked}), &json!({"/m": found}));
        for (asked, found) in [
            // 4.3 and 5.8.
            ("", "rw,rprivate,nosuid,nodev,tmpcopyup"),
            ("size=7,noexec,notmpcopyup", "size=7,noexec,rw,rprivate,nosuid,nodev"),
            ("size=7,noexec,notmpcopyup", "size=7,noexec,rprivate,nosuid,nodev"),
            ("rw,mode=700,exec", "mode=700,exec,rprivate,nosuid,nodev,tmpcopyup"),
            ("ro,,suid", "ro,suid,rprivate,nodev"),
        ] {
            assert!(holds(asked, found), "{asked}: {found}");
        }
        for asked in ["size=8", "noexec", "mode=700", "ro", "uid=7"] {
            assert!(!holds(asked, "size=7,rw,rprivate,nosuid,nodev"), "{asked}");
        }
        assert!(!all_options_of_tmpfs(&json!({"/m": ""}), &json!({"/other": ""})));
        assert!(all_options_of_tmpfs(&Value::Null, &Value::Null));
    }

    #[test]
    fn a_profile_or_label_that_is_not_in_force_is_ignored() {
        let told = |option: &str, found: Value| ignored_profile(&json!([option]), &found).len();
        let none = || json!({"AppArmorProfile": "", "ProcessLabel": ""});
        for option in [
            "apparmor=docker-default",
            "apparmor:mine",
            "label=type:svirt_t",
            "label:level:s0",
        ] {
            assert_eq!(told(option, none()), 1, "{option}");
            assert_eq!(told(option, json!({})), 0, "what says nothing is compared with nothing");
            let found = json!({"AppArmorProfile": "mine", "ProcessLabel": "system_u:system_r:svirt_t:s0"});
            assert_eq!(told(option, found), 0, "{option}");
        }
        for option in ["apparmor=unconfined", "label=disable", "seccomp=unconfined"] {
            assert_eq!(told(option, none()), 0, "{option}");
        }
    }

    #[test]
    fn a_long_value_is_cut() {
        let long = json!(["ä".repeat(1000)]);
        assert!(shown(&long).len() < 300 && shown(&long).ends_with("..."));
        assert_eq!(shown(&json!(["a"])), r#"["a"]"#);
    }

    #[test]
    fn a_missing_runtime_is_found_before_anything_is_created() {
        let info = SystemInfo {
            runtimes: Some(
                ["runc", "crun"]
                    .map(|name| (name.to_owned(), Runtime::default()))
                    .into(),
            ),
            default_runtime: Some("crun".to_owned()),
            ..Default::default()
        };
        let kind = |wanted, is_podman| has_runtime(wanted, &info, is_podman).err().map(|error| error.kind());
        for wanted in ["runc", "crun", "io.containerd.runsc.v1", "/usr/bin/crun"] {
            assert_eq!(kind(wanted, false), None, "{wanted}");
        }
        assert_eq!(kind("nope", false), Some(EngineErrorKind::Rejected));
        assert!(
            has_runtime("nope", &SystemInfo::default(), false).is_ok(),
            "it does not tell"
        );
        assert_eq!(kind("crun", true), None);
        for wanted in ["runc", "nope"] {
            assert_eq!(kind(wanted, true), Some(EngineErrorKind::Unsupported), "{wanted}");
        }
    }
}
