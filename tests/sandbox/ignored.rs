//! An engine that says that it does everything, and does not: what is missing is seen from the inside, and named.

use std::sync::Arc;

use dockerpool::engine::*;
use dockerpool::{Engine, EngineError, EngineErrorKind, Pool};
use serde_json::json;

use crate::support::{engine, is_podman};
use crate::{builder, strict};

/// A change of a plan that the engine makes without a word.
type Change = fn(&mut Plan);

/// Passes calls on to the real engine, and changes each plan of a container. Tells that nothing was ignored.
#[derive(Debug)]
struct Liar {
    inner: Arc<dyn Engine>,
    change: Change,
    /// Tells the truth about settings.
    is_honest: bool,
}

type Answer<'a, T> = BoxFuture<'a, Result<T, EngineError>>;

impl Lifecycle for Liar {
    fn create<'a>(&'a self, identity: &'a Identity, plan: &'a Plan) -> Answer<'a, Creation> {
        Box::pin(async move {
            let mut plan = plan.clone();
            (self.change)(&mut plan);
            self.inner.create(identity, &plan).await
        })
    }

    crate::support::forward!(prepare, release, sweep, attach, start, kill, stop, remove);
}

impl Commands for Liar {
    crate::support::forward!(exec);
}

impl Observation for Liar {
    crate::support::forward!(image, inspect, list, events);

    fn missing_limits<'a>(&'a self, _: &'a str, _: &'a Plan) -> Answer<'a, Vec<String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn ignored_settings<'a>(&'a self, id: &'a str, plan: &'a Plan) -> Answer<'a, Vec<String>> {
        match self.is_honest {
            true => self.inner.ignored_settings(id, plan),
            false => Box::pin(async { Ok(Vec::new()) }),
        }
    }
}

impl Engine for Liar {
    crate::support::forward!(parts, capabilities, check);
}

/// Builds a pool on an engine that changes plans, and returns the kind and the words of the failure.
async fn refused(change: Change) -> (EngineErrorKind, String) {
    let liar = Liar {
        inner: engine().await,
        change,
        is_honest: false,
    };
    let built = builder("ignored", strict().await).engine(Arc::new(liar)).build().await;
    kind_of(built)
}

fn kind_of(built: Result<Pool, dockerpool::Error>) -> (EngineErrorKind, String) {
    let error = built.expect_err("the pool must not be built");
    let kind = error.engine_error().unwrap_or_else(|| panic!("{error}")).kind();
    (kind, error.to_string())
}

/// Has the container run as another user, and gives the workspaces to that one, as Podman cannot do otherwise.
fn run_as(plan: &mut Plan, user: &str, group: &str) {
    plan.user = Some(format!("{user}:{group}"));
    for options in plan.tmpfs.values_mut() {
        *options = options
            .replace("uid=65534", &format!("uid={user}"))
            .replace("gid=65534", &format!("gid={group}"));
    }
}

#[tokio::test]
async fn each_setting_that_is_not_in_force_is_named() {
    let cases: [(&str, Change); 11] = [
        ("user", |plan| run_as(plan, "1000", "65534")),
        ("group", |plan| run_as(plan, "65534", "1000")),
        ("capabilities", |plan| plan.security.cap_drop.clear()),
        ("new privileges", |plan| plan.security.no_new_privileges = false),
        ("root file system", |plan| plan.security.read_only_root = false),
        ("/work", |plan| {
            plan.tmpfs
                .insert("/work".to_owned(), "size=1g,uid=65534,gid=65534,exec".to_owned());
        }),
        ("/tmp", |plan| {
            plan.tmpfs.remove("/tmp");
        }),
        ("/dev/shm", |plan| plan.limits.shm_size = Some(128 << 20)),
        ("oom_score_adj", |plan| plan.limits.oom_score_adj = Some(0)),
        ("network", |plan| {
            plan.network = Some(dockerpool::Network::existing("bridge"))
        }),
        ("seccomp", |plan| {
            plan.engine_config = json!({"HostConfig": {"SecurityOpt": ["seccomp=unconfined"]}});
        }),
    ];
    for (name, change) in cases {
        if name == "network" && crate::support::lacks(crate::support::Capability::Iptables) {
            continue;
        }
        let (kind, words) = refused(change).await;
        assert_eq!(kind, EngineErrorKind::SettingIgnored, "{name}: {words}");
        let named = words.contains(&format!("{name} is ")) || name == "/tmp" && words.contains("/tmp is nothing");
        assert!(named, "{name}: {words}");
    }
}

#[tokio::test]
async fn each_limit_that_is_not_in_force_is_named() {
    let cases: [(&str, Change); 4] = [
        ("ulimit fsize", |plan| {
            plan.limits.ulimits.retain(|limit| limit.name != "fsize")
        }),
        ("memory", |plan| {
            plan.limits.memory = Some(512 << 20);
            plan.limits.memory_and_swap = Some(512 << 20);
        }),
        ("processes", |plan| plan.limits.pids = Some(1000)),
        ("processors", |plan| plan.limits.nano_cpus = None),
    ];
    let shows_groups = {
        let pool = builder("groups", strict().await).build().await.unwrap();
        let report = pool.security().unwrap().clone();
        pool.shutdown().await.unwrap();
        move |name: &str| report.item(name).unwrap().how_seen != dockerpool::HowSeen::NotSeen
    };
    for (name, change) in cases {
        // Without the kernel's files nothing is seen: then inspect alone decides.
        if !shows_groups(name) {
            continue;
        }
        let (kind, words) = refused(change).await;
        assert_eq!(kind, EngineErrorKind::LimitDiscarded, "{name}: {words}");
        assert!(words.contains(&format!("{name} is ")), "{name}: {words}");
    }
}

#[tokio::test]
async fn a_profile_that_refuses_too_little_is_seen_by_its_calls() {
    if is_podman().await {
        // The sandbox has Podman's profile, of which no call is asked for.
        return;
    }
    let (kind, words) = refused(|plan| {
        let profile = r#"seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}"#;
        plan.engine_config = json!({"HostConfig": {"SecurityOpt": [profile]}});
    })
    .await;
    assert_eq!(kind, EngineErrorKind::SettingIgnored, "{words}");
    for call in ["io_uring_setup", "clone3", "unshare_newuser", "keyctl"] {
        assert!(words.contains(&format!("call {call} is allowed")), "{call}: {words}");
    }
}

#[tokio::test]
async fn no_runtime_takes_the_place_of_the_one_that_was_asked_for() {
    let info = engine().await.bollard().info().await.unwrap();
    let default = info.default_runtime.unwrap_or_default();
    let known = info.runtimes.unwrap_or_default();
    for runtime in ["runsc", "kata", "crun", "youki"] {
        if known.contains_key(runtime) || default == runtime {
            continue;
        }
        let (kind, words) = kind_of(builder("runtime", strict().await).runtime(runtime).build().await);
        let kinds = [EngineErrorKind::Rejected, EngineErrorKind::Unsupported];
        assert!(
            kinds.contains(&kind) && words.contains(runtime),
            "{runtime}: {kind:?} {words}"
        );
    }
    if is_podman().await {
        // There is no choice of a runtime.
        return;
    }
    // An engine that takes the request and runs another one: its description shows it.
    let liar = Liar {
        inner: engine().await,
        change: |plan| plan.security.runtime = None,
        is_honest: true,
    };
    let other = known
        .keys()
        .find(|name| **name != default)
        .expect("engines name runc in two ways");
    let built = builder("runtime", strict().await)
        .runtime(other)
        .engine(Arc::new(liar))
        .build()
        .await;
    let (kind, words) = kind_of(built);
    assert_eq!(kind, EngineErrorKind::SettingIgnored, "{words}");
    assert!(
        words.contains("Runtime is") && words.contains(other.as_str()),
        "{words}"
    );
}
