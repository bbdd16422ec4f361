//! Kills for memory during a command that the engine runs: [`Kills`].

use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::ending::{CONTAINER_END, is_gone};
use crate::agent::Client;
use crate::container::{KILLED, OomKills, Shared, Taint};
use crate::engine::{EventKind, Selector};

/// How long the start of a command waits for the agent's count of kills. The agent of a paused container does not answer.
const COUNT_BEFORE: Duration = Duration::from_millis(500);

/// How long after the end of a command the engine's event of a kill may come: the engine sends events on a stream of their own.
const KILL_REASON_GRACE: Duration = Duration::from_millis(300);

/// The largest difference between the engine's clock and ours.
const CLOCK_SKEW: Duration = Duration::from_secs(2);

/// The kernel's kills for memory in the container before a command that the engine runs.
///
/// There are two sources. The agent, where it is PID 1 and answers, reads the kernel's own count, which is up to date before the
/// command's end is known. The engine's events come after the end of the command, or never, so they have to be waited for. Which
/// source counts turns out after the command: a PID 1 that has ended meanwhile no longer counts.
pub(super) struct Kills {
    /// The time, for events.
    at: SystemTime,
    /// The kills that the engine had reported.
    told: OomKills,
    /// The kills that the agent had counted, where it can.
    counted: Option<u32>,
    /// The kills that the agent had told of by itself.
    told_by_agent: u32,
    /// Whether no other command ran, and none of an earlier lease had.
    alone: bool,
    /// Whether no other command ran.
    only: bool,
    /// The number of commands that had been begun.
    begun: usize,
}

impl Kills {
    pub(super) fn before(shared: &Shared) -> Self {
        Self {
            at: SystemTime::now(),
            told: shared.oom_kills(),
            counted: None,
            told_by_agent: told_by_agent(shared),
            alone: shared.runs_single_command(),
            only: shared.runs_only_command(),
            begun: shared.begun(),
        }
    }

    /// Reads the count of the agent.
    pub(super) async fn count(&mut self, shared: &Shared) {
        self.counted = Self::counted_by_agent(shared, COUNT_BEFORE).await;
    }

    async fn counted_by_agent(shared: &Shared, limit: Duration) -> Option<u32> {
        let agent = shared.agent()?;
        timeout(limit, agent.oom_kills()).await.ok().flatten()
    }

    /// Returns the time from which on events are of interest, by a clock that may differ a little from ours.
    pub(super) fn since(&self) -> SystemTime {
        self.at.checked_sub(CLOCK_SKEW).unwrap_or(self.at)
    }

    /// Returns whether a kill for memory in the container is known since then: by the engine's word, or by the last one of an agent
    /// that has ended.
    pub(super) fn any(&self, shared: &Shared) -> bool {
        shared.oom_kills().count > self.told.count || told_by_agent(shared) > self.told_by_agent
    }

    /// Returns whether no other command has run since then.
    pub(super) fn is_only(&self, shared: &Shared) -> bool {
        self.only && shared.begun() == self.begun
    }

    /// Returns whether a kill for memory ended a command, or one of its processes. `code` is its exit code, `wall` its duration.
    /// A kill taints the container.
    ///
    /// A shell goes on without a member of a pipeline that the kernel has killed, and may exit with 0. Then nothing but the
    /// absence of other commands shows whose process was killed.
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
            // The earlier of two estimates, since the clock may have been set meanwhile, and the engine's with it.
            let since = SystemTime::now().checked_sub(wall).unwrap_or(self.at);
            return saw_oom_kill(shared, since.min(self.at), self.told).await;
        }
        shared.oom_kills().of_single_command > self.told.of_single_command
    }
}

fn told_by_agent(shared: &Shared) -> u32 {
    shared.agent().map_or(0, Client::oom_kills_told)
}

/// Returns whether the engine reports a kill for memory in this container that is not in `before`. The exit code alone does not
/// tell, and the container's `OOMKilled` is about PID 1 only.
async fn saw_oom_kill(shared: &Shared, since: SystemTime, before: OomKills) -> bool {
    let is_new = || shared.oom_kills().count > before.count;
    let since = since.checked_sub(CLOCK_SKEW).unwrap_or(since);
    let mut events = shared.engine.events(&Selector::id(shared.id()), Some(since));
    // The kernel may have killed PID 1 in place of the command, or both. Then the event may come later than the one of the
    // container's end, which itself may come late.
    let latest = Instant::now() + CONTAINER_END;
    let mut until = Instant::now() + KILL_REASON_GRACE;
    let mut knows_of_end = false;
    while !is_new() {
        match timeout_at(until, events.next()).await {
            Ok(Some(Ok(event))) => match event.kind {
                EventKind::Died => {
                    shared.note_event(&event);
                    knows_of_end = true;
                    until = until.max(Instant::now() + KILL_REASON_GRACE).min(latest);
                }
                _ => shared.note_event(&event),
            },
            Ok(Some(Err(_)) | None) => {
                sleep_until(until).await;
                return is_new();
            }
            Err(_) if !knows_of_end && is_gone(shared).await => {
                knows_of_end = true;
                until = latest;
            }
            Err(_) => return is_new(),
        }
    }
    true
}
