//! The ways of running commands and the users by which each attack is tried.

use std::time::Duration;

use dockerpool::testing::WithoutAgentSocket as _;
use dockerpool::{Error, ExecVia, ExitStatus, Output, Pool, PoolBuilder, PooledContainer, Reuse};

use crate::support::{containers_of_instance, engine, is_podman, python};

/// The way by which a command reaches the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The engine's exec API.
    ExecApi,
    /// The agent, over the container's own socket.
    AgentSocket,
    /// The agent, over the attached streams of PID 1.
    AgentAttached,
}

pub const WAYS: [Way; 3] = [Way::ExecApi, Way::AgentSocket, Way::AgentAttached];

/// Root of the container, and a user that owns no files in it.
pub const USERS: [&str; 2] = ["root", "nobody"];

/// Bounds each attack far above its normal duration, also on a slow machine that is busy.
pub const HANG: Duration = Duration::from_secs(240);

impl Way {
    pub fn is_agent(self) -> bool {
        self != Self::ExecApi
    }

    /// Begins a pool of Python containers whose commands run this way.
    pub fn builder(self, name: &str) -> PoolBuilder {
        let builder = Pool::builder(format!("hostile-{name}-{self:?}"))
            .image(python())
            .min_idle(0)
            .max_total(2)
            // What an attack leaves is to be there in the next lease.
            .reuse(Reuse::AsIs)
            .memory(128 << 20)
            .pids_limit(100);
        match self {
            Self::ExecApi => builder.exec_via(ExecVia::Docker),
            Self::AgentSocket => builder.exec_via(ExecVia::Agent),
            Self::AgentAttached => builder.exec_via(ExecVia::Agent).without_agent_socket(),
        }
    }
}

/// Runs an attack by each way and as each user, on one pool for each way. Asserts that no container of the pool is
/// left.
pub async fn each(name: &str, attack: impl AsyncFn(Way, &'static str, &Pool)) {
    for way in WAYS {
        let pool = way.builder(name).build().await.unwrap();
        for user in USERS {
            let attack = tokio::time::timeout(HANG, attack(way, user, &pool));
            attack.await.unwrap_or_else(|_| panic!("{way:?} {user}: hangs"));
        }
        let instance = pool.instance().to_owned();
        pool.shutdown_timeout(HANG).await.unwrap();
        assert_eq!(containers_of_instance(&*engine().await, &instance).await, 0, "{way:?}");
    }
}

/// Runs a Python program with a timeout of half a minute.
pub async fn run(c: &PooledContainer, user: &str, script: &str) -> Result<Output, Error> {
    run_for(c, user, script, Duration::from_secs(30)).await
}

/// Runs a Python program with this timeout.
pub async fn run_for(c: &PooledContainer, user: &str, script: &str, limit: Duration) -> Result<Output, Error> {
    let mut command = c.command("python3");
    command.args(["-c", script]).user(user).timeout(limit).output().await
}

/// Asserts the end of a command that may have left some of its input unread. By the exec API on Podman the end of its
/// output may be lost, which the status reports. Returns whether the output is complete.
pub async fn ended(way: Way, seen: ExitStatus, expected: ExitStatus, what: &str) -> bool {
    let incomplete = match expected {
        ExitStatus::Exited(code) => ExitStatus::Incomplete(code),
        ExitStatus::Signaled(signal) => ExitStatus::Incomplete(128 + signal),
        other => panic!("{other:?} does not say whether the output is complete"),
    };
    if seen == incomplete && way == Way::ExecApi && is_podman().await {
        return false;
    }
    assert_eq!(seen, expected, "{what}");
    true
}

/// Asserts the state after any attack: the lease's container works as before or is tainted, and the next lease works.
/// The next lease gets the same container only if that is not tainted. Ends the lease.
pub async fn lease_is_sound(pool: &Pool, c: PooledContainer, attack: &str) {
    let works = works(&c).await;
    let (id, taint) = (c.id().to_owned(), c.taint());
    assert!(works || taint.is_some(), "{attack}: neither works nor tainted");
    drop(c);
    let next = pool.acquire().await.unwrap();
    assert!(self::works(&next).await, "{attack}: the next lease does not work");
    assert!(
        taint.is_none() || next.id() != id,
        "{attack}: a tainted container was lent again ({taint:?})"
    );
}

/// Returns whether the container runs a command exactly as it should.
pub async fn works(c: &PooledContainer) -> bool {
    let mut command = c.command("sh");
    let out = command
        .args(["-c", "echo out; echo err >&2; read x; echo $x; exit 7"])
        .stdin("in\n")
        .timeout(Duration::from_secs(10))
        .output()
        .await;
    out.is_ok_and(|out| {
        out.status.code() == Some(7) && out.stdout_lossy() == "out\nin\n" && out.stderr_lossy() == "err\n"
    })
}
