//! The attributes of PID 1 that other processes can change, and that its children would begin with: priorities, processors,
//! and how readily the kernel kills it for memory. They are held at their values of the container's start.

use core::ffi::CStr;

use crate::sys::{self, Errno, OwnedFd, Processors, Scheduling};

/// The difference between the `oom_score_adj` of a command and the agent's, in thousandths of all memory, and the kernel's
/// highest value.
const OOM_STEP: i32 = 100;
const OOM_MOST: i32 = 1000;

/// The least time between two looks, in microseconds, unless a command is about to be started or has ended.
const PAUSE: u64 = 1000;

/// Policies of the scheduler by which no process needs to have a slice of its own.
const FAIR: [u32; 3] = [0, 3, 5];

/// A small file of `/proc/self`, with its text at the start.
struct File {
    fd: OwnedFd,
    text: [u8; 16],
    len: usize,
    /// The text that must be written before the one that was read.
    prefix: &'static [u8],
}

/// The values of the start. A value is `None` if the kernel or a policy does not tell it. Then nobody can change it either.
pub struct Own {
    scheduling: Option<Scheduling>,
    /// All processors where the agent may run on all of the container's, whichever those are later.
    processors: Option<Processors>,
    io_priority: Option<usize>,
    timer_slack: Option<usize>,
    oom_score: Option<File>,
    dump_filter: Option<File>,
    is_root: bool,
    /// When the next look is due, in microseconds.
    next_look: u64,
}

impl Own {
    /// Takes the values of now. [`sys::hide`] must come later, since it gives the files to root.
    pub fn new() -> Self {
        let processors = sys::processors().ok().map(|given| {
            let all = sys::set_processors(&sys::ALL_PROCESSORS).and_then(|()| sys::processors());
            if all == Ok(given) {
                return sys::ALL_PROCESSORS;
            }
            let _ = sys::set_processors(&given);
            given
        });
        Self {
            scheduling: sys::scheduling().ok(),
            processors,
            io_priority: sys::io_priority().ok(),
            timer_slack: sys::timer_slack().ok(),
            oom_score: File::open(c"/proc/self/oom_score_adj", b""),
            dump_filter: File::open(c"/proc/self/coredump_filter", b"0x"),
            is_root: sys::uid() == 0,
            next_look: 0,
        }
    }

    /// Puts right what another process has changed, if a look is due. Fails if it cannot be put right.
    pub fn hold_if_due(&mut self, now: u64) -> sys::Result<()> {
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = now + PAUSE;
        self.hold()
    }

    /// Puts right what another process has changed. Fails if it cannot be put right.
    pub fn hold(&self) -> sys::Result<()> {
        self.hold_process()?;
        for file in [&self.oom_score, &self.dump_filter].into_iter().flatten() {
            file.hold()?;
        }
        Ok(())
    }

    /// Puts right the attributes of this process, be it the agent or a child of it.
    fn hold_process(&self) -> sys::Result<()> {
        if let Some(given) = &self.scheduling {
            hold_scheduling(given)?;
        }
        if let Some(given) = &self.processors {
            // Whatever they are now: the engine may have changed the container's processors, beyond which nobody can go, so that
            // the present ones do not tell whether a process has changed them, perhaps right after they were set.
            let _ = sys::set_processors(given);
        }
        if let Some(given) = self.io_priority
            && sys::io_priority() != Ok(given)
        {
            // Without one of its own, 0, it follows the niceness. Mostly that comes to the same.
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

    /// Gives this child, which still has the agent's user, the attributes of the agent's start, but an `oom_score_adj` by
    /// which the kernel kills it before the agent.
    pub fn begin_child(&self) -> sys::Result<()> {
        self.hold_process()?;
        if self.is_root
            && let Some(score) = self.childs_score()
            && let Ok(fd) = sys::open_both(c"/proc/self/oom_score_adj")
        {
            let _ = sys::write_at_start(fd.fd(), decimal(score, &mut [0; 12]));
        }
        Ok(())
    }

    /// Raises the agent's own `oom_score_adj` for the moment of the fork, where a child could not raise its own: the files
    /// of a hidden process belong to root.
    pub fn before_fork(&self) {
        if !self.is_root
            && let (Some(file), Some(score)) = (&self.oom_score, self.childs_score())
        {
            let _ = sys::write_at_start(file.fd.fd(), decimal(score, &mut [0; 12]));
        }
    }

    /// Undoes [`before_fork`](Self::before_fork) in the agent.
    pub fn after_fork(&self) {
        if !self.is_root
            && let Some(file) = &self.oom_score
        {
            // If this fails the next look fails too.
            let _ = file.hold();
        }
    }

    /// Returns the `oom_score_adj` of a child.
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

/// Puts right how this process is scheduled.
fn hold_scheduling(given: &Scheduling) -> sys::Result<()> {
    // The kernel gives a slice also where there is none of its own. It depends on the machine's settings, and so may change.
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

    /// Writes the text of the start if the file has another one.
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

/// Returns the digits of a number, with its sign.
fn decimal(number: i32, buf: &mut [u8; 12]) -> &[u8] {
    let mut digits = [0; 20];
    let digits = crate::users::decimal(number.unsigned_abs().into(), &mut digits);
    let sign = usize::from(number < 0);
    buf[0] = b'-';
    buf[sign..sign + digits.len()].copy_from_slice(digits);
    &buf[..sign + digits.len()]
}
