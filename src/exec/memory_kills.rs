//! Whether the kernel killed a command that the engine ran because memory ran out: [`Kills`].

use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use tokio::time::timeout;

use super::ending::CONTAINER_END;
use crate::container::{OomKills, Shared, Taint};
use crate::engine::{EventKind, Selector};

/// How long a command waits for the agent's count of kills for memory. The agent of a paused container does not answer.
const COUNT_BEFORE: Duration = Duration::from_millis(500);

/// The engine tells of a kill for memory on a stream of its own, and knows of the end of a container later than of those of
/// the commands in it: this long after the end of a command both must have come.
const KILL_REASON_GRACE: Duration = Duration::from_millis(300);

/// The engine's clock may differ from ours by this much.
const CLOCK_SKEW: Duration = Duration::from_secs(2);

/// The engine's exit code of a process killed by SIGKILL.
pub(super) const KILLED: i64 = 137;

/// The kernel's kills for memory in the container of a command that the engine runs, as they were before it.
///
/// Told by one of two: by the agent, where it is PID 1 and answers. It reads the kernel's own count, which is there before the
/// command's end is. Else by the engine's events: an engine tells of a kill after the end of its command, or never, so that has to be
/// waited for. Which of the two it is turns out after the command, since a PID 1 that has ended meanwhile counts no more.
pub(super) struct Kills {
    /// By the clock, for events.
    at: SystemTime,
    /// Of how many the engine has told.
    told: OomKills,
    /// How many the agent has counted, where it can.
    counted: Option<u32>,
    /// No other command was there.
    alone: bool,
    /// How many commands had been begun.
    begun: usize,
}

impl Kills {
    pub(super) fn before(shared: &Shared) -> Self {
        Self {
            at: SystemTime::now(),
            told: shared.oom_kills(),
            counted: None,
            alone: shared.runs_single_command(),
            begun: shared.begun(),
        }
    }

    /// Has the agent count.
    pub(super) async fn count(&mut self, shared: &Shared) {
        self.counted = Self::counted_by_agent(shared, COUNT_BEFORE).await;
    }

    async fn counted_by_agent(shared: &Shared, limit: Duration) -> Option<u32> {
        let agent = shared.agent()?;
        timeout(limit, agent.oom_kills()).await.ok().flatten()
    }

    /// Whether a command that has ended with this code after this time did so for want of memory. A kill since then taints the
    /// container.
    ///
    /// A shell goes on without the member of a pipeline that the kernel took, and may end well. What one command has done is then
    /// not told from what another has, so it must have been alone.
    pub(super) async fn took_it(&self, shared: &Shared, code: i64, wall: Duration) -> bool {
        let now = match self.counted {
            Some(_) => Self::counted_by_agent(shared, CONTAINER_END).await,
            None => None,
        };
        if let (Some(before), Some(now)) = (self.counted, now) {
            let is_new = now > before;
            if is_new {
                shared.set_taint(Taint::OutOfMemory);
            }
            return is_new && (code == KILLED || self.alone && shared.begun() == self.begun);
        }
        if code == KILLED {
            // By what the clock says now, or by what it said: it may have been set, and the engine's with it.
            let since = SystemTime::now().checked_sub(wall).unwrap_or(self.at);
            return saw_oom_kill(shared, since.min(self.at), self.told).await;
        }
        shared.oom_kills().of_single_command > self.told.of_single_command
    }
}

/// Whether the engine tells of a kill for memory in this container that it had not told of `before`. The exit code alone
/// does not say, and the container's own `OOMKilled` is about its PID 1 only.
async fn saw_oom_kill(shared: &Shared, since: SystemTime, before: OomKills) -> bool {
    let is_new = || shared.oom_kills().count > before.count;
    let since = since.checked_sub(CLOCK_SKEW).unwrap_or(since);
    let mut events = shared.engine.events(&Selector::id(shared.id()), Some(since));
    let seen = async {
        while !is_new() {
            match events.next().await {
                Some(Ok(event)) if event.kind == EventKind::OutOfMemory => shared.note_oom_kill(event.at),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => std::future::pending().await,
            }
        }
    };
    timeout(KILL_REASON_GRACE, seen).await.is_ok() || is_new()
}
