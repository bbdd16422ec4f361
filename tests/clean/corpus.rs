//! Every plant of the corpus in leases of one container after the other: nothing of it is found by the next lease.

use std::time::Duration;

use dockerpool::{ExecVia, Pool, PoolBuilder, PooledContainer, Reuse};

use crate::give_back;
use crate::plants::{self, Plant, Promise};
use crate::scan::Scan;
use crate::support::{is_podman, python, unique_mark};

const PROGRAM: &str = include_str!("plant.py");

const ROOT: &str = "root";
const NOBODY: &str = "65534";

const PLANTED: &str = "planted";

/// A pool of one container, with a real Python and two workspaces.
async fn builder(name: &str) -> PoolBuilder {
    // Podman has no limit of inodes.
    let inodes = if is_podman().await { "" } else { "nr_inodes=3000," };
    Pool::builder(name)
        .image(python())
        .min_idle(0)
        .max_total(1)
        .memory(96 << 20)
        .pids_limit(100)
        .tmpfs_with("/work", format!("size=8m,{inodes}mode=1777"))
        .reuse(Reuse::Clean)
}

/// What the next lease must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The container, cleaned by the agent, unless its root file system has changed.
    Writable,
    /// The container, cleaned by the agent.
    ReadOnly,
    /// The container, cleaned by the agent unless its `/run` has changed, which Podman makes writable.
    ReadOnlyButRun,
    /// The container, cleaned by the agent after commands by the exec API, unless its root file system has changed.
    Exec,
    /// The container, cleaned by an agent without the rights of root, which some plants are too much for.
    Few,
    /// A new container each time.
    Replaced,
}

impl Way {
    /// Returns whether the same container must be lent again, if that is promised.
    fn keeps(self, plant: &Plant, planted: bool) -> Option<bool> {
        match (self, plant.promise) {
            (Self::Replaced, _) => Some(false),
            // Some plants end a container that has no agent to run its commands.
            (Self::Exec | Self::Few, Promise::Cleaned | Promise::Either) => None,
            (_, Promise::Cleaned) => Some(true),
            (_, Promise::Either) => None,
            (Self::ReadOnly, _) => Some(true),
            (Self::ReadOnlyButRun, _) => None,
            (Self::Writable | Self::Exec | Self::Few, Promise::Root) => Some(!planted),
            (Self::Writable | Self::Exec | Self::Few, Promise::NotShown) => None,
        }
    }
}

/// The way of a pool whose root file system is read-only.
async fn read_only() -> Way {
    match is_podman().await {
        true => Way::ReadOnlyButRun,
        false => Way::ReadOnly,
    }
}

/// Runs a plant. Returns what it says last: "planted", or "refused" and why.
async fn run(c: &PooledContainer, plant: &Plant, user: &str, mark: &str) -> String {
    let mut command = c.command("python3");
    command.args(["-ISB", "-c", PROGRAM, mark, plant.code]).user(user);
    let output = command.timeout(Duration::from_secs(60)).output().await;
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", plant.name));
    if output.status.is_container_gone() && plant.promise == Promise::Either {
        return PLANTED.to_owned();
    }
    let said = output.stdout_lossy().lines().last().unwrap_or_default().to_owned();
    let is_over = said == PLANTED || said.starts_with("refused: ");
    assert!(is_over, "{}: {output:?}", plant.name);
    said
}

/// A container, and what was found in it at first.
struct Ground {
    id: String,
    first: Scan,
}

/// Runs plants in one lease after the other.
async fn sow(pool: PoolBuilder, way: Way, user: &str, plants: impl Iterator<Item = Plant>) {
    let pool = pool.build().await.unwrap();
    let mut ground: Option<Ground> = None;
    let mut faults = Vec::new();
    for plant in plants {
        let mark = unique_mark();
        let c = pool.acquire().await.unwrap();
        let known = match ground.take().filter(|ground| ground.id == c.id()) {
            Some(known) => known,
            None => Ground {
                id: c.id().to_owned(),
                first: Scan::take(&c, looker(way, user), &mark).await,
            },
        };
        let said = run(&c, &plant, user, &mark).await;
        let planted = said == PLANTED;
        let before = pool.status().lifetime;
        // In this lease it must be seen, or else the next look would show nothing either.
        if planted && way == Way::Writable && user == ROOT && plant.is_seen && is_same(&c, &known, &mark).await {
            faults.push(format!("{}: the look does not see it", plant.name));
        }
        let taint = c.taint();
        give_back(&pool, c).await;
        if !planted && way.keeps(&plant, planted) == Some(true) && pool.status().lifetime.cleaned > before.cleaned {
            // If something was left all the same, the look after the next plant finds it.
            ground = Some(known);
            continue;
        }

        let c = pool.acquire().await.unwrap();
        let scan = Scan::take(&c, looker(way, user), &mark).await;
        let keeps = c.id() == known.id;
        let mut found: Vec<_> = scan.marks().into_iter().map(str::to_owned).collect();
        if keeps {
            found.extend(known.first.differences(&scan));
        }
        let outcome = match keeps {
            true => "cleaned".to_owned(),
            false if pool.status().lifetime.unclean > before.unclean => {
                format!("replaced: {}", pool.last_unclean().unwrap())
            }
            false => format!("replaced: {taint:?}"),
        };
        println!("{way:?}, {user}: {}: {said}, {outcome}", plant.name);
        // A slow machine may not empty a workspace in the agent's time.
        let is_late = !keeps && outcome.contains("was not emptied in time");
        if !is_late && way.keeps(&plant, planted).is_some_and(|expected| expected != keeps) {
            faults.push(format!("{}: {outcome}", plant.name));
        }
        ground = Some(match keeps {
            true => known,
            false => Ground {
                id: c.id().to_owned(),
                first: scan,
            },
        });
        if found.is_empty() {
            give_back(&pool, c).await;
        } else {
            c.discard();
            let is_documented =
                matches!(way, Way::Writable | Way::Exec | Way::Few) && plant.promise == Promise::NotShown;
            match is_documented {
                true => println!("    not shown: {found:#?}"),
                false => faults.push(format!("{}: the next lease finds {found:#?}", plant.name)),
            }
        }
    }
    pool.shutdown().await.unwrap();
    assert!(faults.is_empty(), "{way:?}, {user}:\n{}", faults.join("\n"));
}

/// Returns who looks at a container: root, where the agent can run a command as root.
fn looker(way: Way, user: &str) -> &str {
    if way == Way::Few { user } else { ROOT }
}

/// Returns whether a container can be looked at and is as at first.
async fn is_same(c: &PooledContainer, known: &Ground, mark: &str) -> bool {
    let scan = Scan::try_take(c, ROOT, mark).await;
    scan.is_ok_and(|scan| scan.marks().is_empty() && known.first.differences(&scan).is_empty())
}

#[tokio::test]
async fn root_leaves_nothing_in_memory() {
    let pool = builder("clean-memory-root").await.exec_via(ExecVia::Auto);
    sow(pool, Way::Writable, ROOT, plants::in_memory()).await;
}

#[tokio::test]
async fn root_leaves_nothing_on_a_writable_root() {
    let pool = builder("clean-writable-root").await.exec_via(ExecVia::Auto);
    sow(pool, Way::Writable, ROOT, plants::elsewhere()).await;
}

#[tokio::test]
async fn a_user_leaves_nothing_in_memory() {
    let pool = builder("clean-memory-user").await.exec_via(ExecVia::Auto);
    sow(pool, Way::Writable, NOBODY, plants::in_memory()).await;
}

#[tokio::test]
async fn a_user_leaves_nothing_on_a_writable_root() {
    let pool = builder("clean-writable-user").await.exec_via(ExecVia::Auto);
    sow(pool, Way::Writable, NOBODY, plants::elsewhere()).await;
}

#[tokio::test]
async fn root_leaves_nothing_in_memory_beside_a_read_only_root() {
    let pool = builder("clean-memory-read-only")
        .await
        .exec_via(ExecVia::Auto)
        .read_only_root(true);
    sow(pool, read_only().await, ROOT, plants::in_memory()).await;
}

#[tokio::test]
async fn root_leaves_nothing_beside_a_read_only_root() {
    let pool = builder("clean-read-only-root")
        .await
        .exec_via(ExecVia::Auto)
        .read_only_root(true);
    sow(pool, read_only().await, ROOT, plants::elsewhere()).await;
}

#[tokio::test]
async fn a_user_leaves_nothing_beside_a_read_only_root() {
    let pool = builder("clean-read-only-user")
        .await
        .exec_via(ExecVia::Auto)
        .read_only_root(true);
    sow(pool, read_only().await, NOBODY, plants::some(2)).await;
}

#[tokio::test]
async fn root_without_capabilities_leaves_nothing() {
    let pool = builder("clean-no-capabilities")
        .await
        .exec_via(ExecVia::Auto)
        .cap_drop_all();
    sow(pool, Way::Few, ROOT, plants::some(3)).await;
}

#[tokio::test]
async fn the_user_of_a_container_leaves_nothing() {
    let pool = builder("clean-user").await.exec_via(ExecVia::Auto).user(NOBODY);
    sow(pool, Way::Few, NOBODY, plants::some(3)).await;
}

#[tokio::test]
async fn commands_by_the_exec_api_leave_nothing() {
    let pool = builder("clean-exec").await.exec_via(ExecVia::Docker);
    sow(pool, Way::Exec, ROOT, plants::some(7)).await;
}

#[tokio::test]
async fn where_the_agent_is_not_pid_1_every_container_is_replaced() {
    let pool = builder("clean-own").await.cmd(["sleep", "100000"]);
    sow(pool, Way::Replaced, ROOT, plants::some(20)).await;
}

#[tokio::test]
async fn never_replaces_every_container() {
    let pool = builder("clean-never").await.exec_via(ExecVia::Auto).reuse(Reuse::Never);
    sow(pool, Way::Replaced, ROOT, plants::some(20)).await;
}

#[tokio::test]
async fn two_looks_at_an_untouched_container_are_the_same() {
    let pool = builder("clean-looks")
        .await
        .exec_via(ExecVia::Auto)
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    let first = Scan::take(&c, ROOT, "").await;
    for _ in 0..3 {
        assert_eq!(first.differences(&Scan::take(&c, ROOT, "").await), [""; 0]);
    }
    drop(c);
    pool.shutdown().await.unwrap();
}
