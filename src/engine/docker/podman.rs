//! Differences between Docker's API and Podman's version of it, translated so that Podman does the same.

use bollard::models::{ContainerCreateBody, HealthConfig, Mount, MountType};

use crate::engine::{EngineError, EngineErrorKind};

/// Options of a tmpfs that Docker sets by default, and Podman does not: programs on it cannot be executed, and the image's
/// files in the directory are not copied to it. Each with its opposite.
const DEFAULTS: [(&str, &str); 2] = [("noexec", "exec"), ("notmpcopyup", "tmpcopyup")];

/// Where Podman mounts empty file systems in memory if the root file system is read-only. Its `/run` has a file in it.
pub(super) const READ_ONLY_TMPFS: [&str; 2] = ["/tmp", "/var/tmp"];

/// The files and directories that Podman's list of changes never names: it makes or mounts most of them itself. Without a network
/// it does not, and they are files of the root file system (`libpod/diff.go`).
pub(super) const UNLISTED: [&str; 9] = [
    "/etc/hostname",
    "/etc/hosts",
    "/etc/mtab",
    "/etc/resolv.conf",
    "/run",
    "/run/.containerenv",
    "/run/notify",
    "/run/podman-init",
    "/run/secrets",
];

/// Translates a body for Docker into one for Podman.
pub(super) fn adapt(body: &mut ContainerCreateBody) {
    // A health check without a command inherits the image's; Podman expects no check in that case.
    if body.healthcheck.as_ref().is_some_and(says_nothing) {
        body.healthcheck = None;
    }
    let Some(host) = &mut body.host_config else { return };
    // Podman ignores the options of a mount, and accepts those of an entry of `Tmpfs`.
    let mut tmpfs = host.tmpfs.take().unwrap_or_default();
    if let Some(mounts) = &mut host.mounts {
        mounts.retain(|mount| {
            let (true, Some(target)) = (mount.typ == Some(MountType::TMPFS), &mount.target) else {
                return true;
            };
            if tmpfs.contains_key(target) {
                // Two mounts on one path are left for the engine to refuse.
                return true;
            }
            tmpfs.insert(target.clone(), options_of(mount));
            false
        });
    }
    let user = body.user.as_deref().and_then(|user| user.split_once(':'));
    for options in tmpfs.values_mut() {
        if let Some((uid, gid)) = user {
            own(options, uid, gid);
        }
        for (default, opposite) in DEFAULTS {
            if !options.split(',').any(|option| option == default || option == opposite) {
                if !options.is_empty() {
                    options.push(',');
                }
                options.push_str(default);
            }
        }
    }
    host.tmpfs = Some(tmpfs).filter(|tmpfs| !tmpfs.is_empty());
}

/// Refuses what Podman cannot do: a profile of system calls that is given as JSON, which it would take for the path of a file,
/// and a limit of the inodes of a tmpfs.
pub(super) fn refuse(body: &ContainerCreateBody) -> Result<(), EngineError> {
    let host = body.host_config.as_ref();
    let mut tmpfs = host.and_then(|host| host.tmpfs.as_ref()).into_iter().flatten();
    if tmpfs.any(|(_, options)| options.split(',').any(|option| option.starts_with("nr_inodes="))) {
        let message = "Podman has no limit of the inodes of a tmpfs: leave nr_inodes out. In a sandbox, Sandbox::inodes(None) does";
        return Err(EngineError::new(EngineErrorKind::Unsupported, message));
    }
    let mut options = host.and_then(|host| host.security_opt.as_ref()).into_iter().flatten();
    let is_profile = |option: &String| {
        let profile = option
            .strip_prefix("seccomp")
            .and_then(|rest| rest.strip_prefix(['=', ':']));
        profile.is_some_and(|profile| profile.trim_start().starts_with('{'))
    };
    if !options.any(is_profile) {
        return Ok(());
    }
    let message = "Podman cannot be given a seccomp profile as JSON: for its version of Docker's interface it is the path of a \
                   file on Podman's machine. In a sandbox, Seccomp::engine() takes Podman's own profile; elsewhere \
                   host_config.security_opt can name a file";
    Err(EngineError::new(EngineErrorKind::Unsupported, message))
}

/// Gives a tmpfs to the container's user in Podman's way, if it is to be that user's. Podman knows no other owner.
fn own(options: &mut String, uid: &str, gid: &str) {
    let owner = [format!("uid={uid}"), format!("gid={gid}")];
    let has = |option: &String| options.split(',').any(|other| other == option);
    if owner.iter().all(has) {
        let others = options
            .split(',')
            .filter(|option| !owner.iter().any(|of_owner| of_owner == option));
        *options = others.chain(["U"]).collect::<Vec<_>>().join(",");
    }
}

fn says_nothing(check: &HealthConfig) -> bool {
    let is_zero = |number: Option<i64>| number.unwrap_or(0) == 0;
    check.test.as_ref().is_none_or(Vec::is_empty)
        && is_zero(check.interval)
        && is_zero(check.timeout)
        && is_zero(check.retries)
        && is_zero(check.start_period)
        && is_zero(check.start_interval)
}

/// Translates the options of a tmpfs mount into those of an entry of `Tmpfs`.
fn options_of(mount: &Mount) -> String {
    let tmpfs = mount.tmpfs_options.clone().unwrap_or_default();
    let mut options = Vec::new();
    options.extend(
        tmpfs
            .size_bytes
            .filter(|size| *size > 0)
            .map(|size| format!("size={size}")),
    );
    options.extend(tmpfs.mode.filter(|mode| *mode > 0).map(|mode| format!("mode={mode:o}")));
    options.extend(tmpfs.options.into_iter().flatten().map(|words| words.join("=")));
    if mount.read_only == Some(true) {
        options.push("ro".to_owned());
    }
    options.join(",")
}

#[cfg(test)]
mod tests {
    use bollard::models::{HostConfig, MountTmpfsOptions};

    use super::*;

    #[test]
    fn a_tmpfs_has_dockers_default_options() {
        let mount = |target: &str, typ| Mount {
            target: Some(target.to_owned()),
            typ: Some(typ),
            read_only: Some(true),
            tmpfs_options: Some(MountTmpfsOptions {
                size_bytes: Some(7),
                mode: Some(0o1777),
                options: Some(vec![vec!["exec".to_owned()], vec!["uid".to_owned(), "7".to_owned()]]),
            }),
            ..Default::default()
        };
        let plain = Mount {
            target: Some("/plain".to_owned()),
            typ: Some(MountType::TMPFS),
            ..Default::default()
        };
        let entries = [
            ("/none", ""),
            ("/said", "size=7,exec"),
            ("/all", "tmpcopyup,noexec"),
            ("/twice", "size=8,noexec,notmpcopyup"),
        ];
        let mut body = ContainerCreateBody {
            host_config: Some(HostConfig {
                tmpfs: Some(
                    entries
                        .map(|(path, options)| (path.to_owned(), options.to_owned()))
                        .into(),
                ),
                mounts: Some(vec![
                    mount("/bound", MountType::BIND),
                    plain,
                    mount("/full", MountType::TMPFS),
                    mount("/twice", MountType::TMPFS),
                ]),
                ..Default::default()
            }),
            ..Default::default()
        };
        adapt(&mut body);
        let once = body.clone();
        adapt(&mut body);
        assert_eq!(body, once);
        let host = body.host_config.unwrap();
        let targets: Vec<_> = host
            .mounts
            .iter()
            .flatten()
            .map(|mount| mount.target.as_deref())
            .collect();
        assert_eq!(targets, [Some("/bound"), Some("/twice")]);
        let tmpfs = host.tmpfs.unwrap();
        assert_eq!(tmpfs.len(), 6);
        for (path, options) in [
            ("/none", "noexec,notmpcopyup"),
            ("/said", "size=7,exec,notmpcopyup"),
            ("/all", "tmpcopyup,noexec"),
            ("/twice", "size=8,noexec,notmpcopyup"),
            ("/plain", "noexec,notmpcopyup"),
            ("/full", "size=7,mode=1777,exec,uid=7,ro,notmpcopyup"),
        ] {
            assert_eq!(tmpfs[path], options, "{path}");
        }
    }

    #[test]
    fn a_tmpfs_of_the_containers_user_is_given_to_it() {
        for (asked, given) in [
            ("size=7,uid=1,gid=2,mode=0700", "size=7,mode=0700,U,noexec,notmpcopyup"),
            ("uid=1,gid=3", "uid=1,gid=3,noexec,notmpcopyup"),
            ("uid=1", "uid=1,noexec,notmpcopyup"),
        ] {
            let mut body = ContainerCreateBody {
                user: Some("1:2".to_owned()),
                host_config: Some(HostConfig {
                    tmpfs: Some([("/work".to_owned(), asked.to_owned())].into()),
                    ..Default::default()
                }),
                ..Default::default()
            };
            adapt(&mut body);
            let once = body.clone();
            adapt(&mut body);
            assert_eq!(body, once);
            assert_eq!(body.host_config.unwrap().tmpfs.unwrap()["/work"], given);
        }
    }

    #[test]
    fn a_profile_is_refused_and_a_path_is_not() {
        let refused = |option: &str| {
            let body = ContainerCreateBody {
                host_config: Some(HostConfig {
                    security_opt: Some(vec!["label=disable".to_owned(), option.to_owned()]),
                    ..Default::default()
                }),
                ..Default::default()
            };
            refuse(&body).err().map(|error| error.kind())
        };
        for option in [r#"seccomp={"defaultAction": "x"}"#, "seccomp:{}", "seccomp= {}"] {
            assert_eq!(refused(option), Some(EngineErrorKind::Unsupported), "{option}");
        }
        for option in ["seccomp=/etc/profile.json", "seccomp=unconfined", "no-new-privileges"] {
            assert_eq!(refused(option), None, "{option}");
        }
        assert!(refuse(&ContainerCreateBody::default()).is_ok());
        let body = ContainerCreateBody {
            host_config: Some(HostConfig {
                tmpfs: Some([("/work".to_owned(), "size=7,nr_inodes=8".to_owned())].into()),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert!(refuse(&body).unwrap_err().to_string().contains("Sandbox::inodes(None)"));
    }

    #[test]
    fn only_an_empty_health_check_is_left_out() {
        let after = |healthcheck: HealthConfig| {
            let mut body = ContainerCreateBody {
                healthcheck: Some(healthcheck),
                ..Default::default()
            };
            adapt(&mut body);
            body.healthcheck
        };
        assert_eq!(after(HealthConfig::default()), None);
        assert_eq!(
            after(HealthConfig {
                test: Some(Vec::new()),
                interval: Some(0),
                ..Default::default()
            }),
            None
        );
        for said in [
            HealthConfig {
                test: Some(vec!["NONE".to_owned()]),
                ..Default::default()
            },
            HealthConfig {
                interval: Some(1_000_000),
                ..Default::default()
            },
        ] {
            assert_eq!(after(said.clone()), Some(said));
        }
    }
}
