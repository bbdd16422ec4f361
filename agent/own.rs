//! What others can change of PID 1 from outside, and its children would begin with: its priorities, where it may run, how
//! readily the kernel takes its memory. Held at what it was at the container's start.

use core::ffi::CStr;

use crate::sys::{self, Errno, OwnedFd, Processors, Scheduling};

/// How much more readily than the agent a command is taken when memory is short, in thousandths of all memory; and the most
/// the kernel knows.
const OOM_STEP: i32 = 100;
const OOM_MOST: i32 = 1000;

/// Between two looks, in microseconds, unless a command is about to be started or has ended.
const PAUSE: u64 = 1000;

/// Policies of the scheduler in which no process has a slice of its own.
const FAIR: [u32; 3] = [0, 3, 5];

/// A small file of `/proc/self`, with what it said at the start.
struct File {
    fd: OwnedFd,
    text: [u8; 16],
    len: usize,
    /// What it takes before the text that it gives.
    prefix: &'static [u8],
}

/// The values of the start. `None` where the kernel or a policy does not tell: then nobody can change it either.
pub struct Own {
    scheduling: Option<Scheduling>,
    processors: Option<Processors>,
    /// All of the container's processors, whichever those are later.
    unbound: bool,
    io_priority: Option<usize>,
    timer_slack: Option<usize>,
    oom_score: Option<File>,
    dump_filter: Option<File>,
    root: bool,
    next_look: u64,
}

impl Own {
    /// Before [`sys::hide`]: the files are the agent's own until then.
    pub fn new() -> Self {
        let processors = sys::processors().ok();
        let unbound = processors.is_some_and(|given| {
            let all = sys::set_processors(&sys::ALL_PROCESSORS).and_then(|()| sys::processors());
            all == Ok(given) || {
                let _ = sys::set_processors(&given);
                false
            }
        });
        Self {
            scheduling: sys::scheduling().ok(),
            processors,
            unbound,
            io_priority: sys::io_priority().ok(),
            timer_slack: sys::timer_slack().ok(),
            oom_score: File::open(c"/proc/self/oom_score_adj", b""),
            dump_filter: File::open(c"/proc/self/coredump_filter", b"0x"),
            root: sys::uid() == 0,
            next_look: 0,
        }
    }

    /// Puts right what somebody has changed, if it is time to look. `Err`: it cannot be put right.
    pub fn hold_if_due(&mut self, now: u64) -> sys::Result<()> {
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = now + PAUSE;
        self.hold()
    }

    /// Puts right what somebody has changed. `Err`: it cannot be put right.
    pub fn hold(&mut self) -> sys::Result<()> {
        self.hold_process()?;
        for file in [&self.oom_score, &self.dump_filter].into_iter().flatten() {
            file.hold()?;
        }
        Ok(())
    }

    /// What is this process's own, be it the agent or a child of it.
    fn hold_process(&mut self) -> sys::Result<()> {
        if let Some(given) = &self.scheduling {
            hold_scheduling(given)?;
        }
        if let (Some(given), Ok(now)) = (&mut self.processors, sys::processors())
            && now != *given
        {
            // The engine may have changed the container's own, and nobody goes beyond those.
            let wanted = if self.unbound { sys::ALL_PROCESSORS } else { *given };
            let _ = sys::set_processors(&wanted);
            *given = sys::processors()?;
        }
        if let Some(given) = self.io_priority
            && sys::io_priority() != Ok(given)
        {
            // None of its own, where that comes to the same: it then goes by the other priority.
            let _ = sys::set_io_priority(0);
            if sys::io_priority() != Ok(given) {
                sys::set_io_priority(given)?;
            }
        }
        if let Some(given) = self.timer_slack
            && sys::timer_slack() != Ok(given)
        {
            sys::set_timer_slack(given)?;
        }
        Ok(())
    }

    /// In a child, as whom the agent is: begins as the agent did at its start, but that the kernel takes it first.
    pub fn begin_child(&mut self) -> sys::Result<()> {
        self.hold_process()?;
        if self.root
            && let Some(score) = self.childs_score()
            && let Ok(fd) = sys::open_both(c"/proc/self/oom_score_adj")
        {
            let _ = sys::write_at_start(fd.fd(), decimal(score, &mut [0; 12]));
        }
        Ok(())
    }

    /// Where a child cannot raise its own score, since the files of a hidden process are root's, it gets that of the
    /// agent's, which has a higher one meanwhile.
    pub fn before_fork(&self) {
        if !self.root
            && let (Some(file), Some(score)) = (&self.oom_score, self.childs_score())
        {
            let _ = sys::write_at_start(file.fd.fd(), decimal(score, &mut [0; 12]));
        }
    }

    pub fn after_fork(&self) {
        if !self.root
            && let Some(file) = &self.oom_score
        {
            // Where that fails the next look fails too.
            let _ = file.hold();
        }
    }

    fn childs_score(&self) -> Option<i32> {
        let text = self.oom_score.as_ref()?.text();
        let (sign, digits) = match text.strip_prefix(b"-") {
            Some(digits) => (-1, digits),
            None => (1, text),
        };
        let own = sign * crate::users::number(digits.trim_ascii())? as i32;
        Some((own + OOM_STEP).min(OOM_MOST))
    }
}

fn hold_scheduling(given: &Scheduling) -> sys::Result<()> {
    // The slice goes with the machine's settings, and is told of those who have none of their own too.
    let same = |now: &Scheduling| {
        let runtime = if FAIR.contains(&given.policy) {
            now.runtime
        } else {
            given.runtime
        };
        *now == Scheduling { runtime, ..*given }
    };
    let now = sys::scheduling()?;
    if now == *given {
        return Ok(());
    }
    let mut wanted = *given;
    if FAIR.contains(&given.policy) {
        wanted.runtime = 0;
    }
    if (now.least, now.most) != (given.least, given.most) {
        const SCHED_FLAG_UTIL_CLAMP: u64 = 0x60;
        wanted.flags |= SCHED_FLAG_UTIL_CLAMP;
    }
    let set = sys::set_scheduling(&wanted);
    match sys::scheduling()? {
        now if same(&now) => Ok(()),
        _ => Err(set.err().unwrap_or(Errno::PERM)),
    }
}

impl File {
    fn open(path: &CStr, prefix: &'static [u8]) -> Option<Self> {
        let mut file = Self {
            fd: sys::open_both(path).ok()?,
            text: [0; 16],
            len: 0,
            prefix,
        };
        file.len = sys::read_from_start(file.fd.fd(), &mut file.text).ok()?;
        Some(file)
    }

    fn text(&self) -> &[u8] {
        &self.text[..self.len]
    }

    fn hold(&self) -> sys::Result<()> {
        let mut now = [0; 16];
        let len = sys::read_from_start(self.fd.fd(), &mut now)?;
        if now[..len] == *self.text() {
            return Ok(());
        }
        let mut text = [0; 18];
        let (prefix, len) = (self.prefix, self.prefix.len() + self.len);
        text[..prefix.len()].copy_from_slice(prefix);
        text[prefix.len()..len].copy_from_slice(self.text());
        sys::write_at_start(self.fd.fd(), &text[..len]).map(drop)
    }
}

fn decimal(number: i32, buf: &mut [u8; 12]) -> &[u8] {
    let mut digits = [0; 20];
    let digits = crate::users::decimal(number.unsigned_abs().into(), &mut digits);
    let sign = usize::from(number < 0);
    buf[0] = b'-';
    buf[sign..sign + digits.len()].copy_from_slice(digits);
    &buf[..sign + digits.len()]
}
