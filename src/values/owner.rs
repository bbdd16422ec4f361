//! The process that owns a container, in a form by which another process can prove that the owner is dead: [`Owner`].
//!
//! A pid alone is not enough: pids are used again, and every pid namespace and every machine has its own. With the kernel's boot
//! id, the pid namespace and the start time, a pid names one process for ever. Source: proc(5) of Linux. On other systems no
//! process is ever proven dead.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::str::FromStr;

use parking_lot::Mutex;

/// One process, of one boot of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    boot: String,
    pid_namespace: u64,
    pid: u32,
    /// The start time, in clock ticks since boot.
    start: u64,
}

/// Returns the value of the label [`OWNER`](crate::labels::OWNER) for this process: "unknown" where the system does not tell.
///
/// # Errors
///
/// The system could not be asked now, e.g. because no file descriptor is left.
pub(crate) fn label() -> io::Result<String> {
    Ok(Owner::this()?.map_or("unknown".to_owned(), |owner| owner.to_string()))
}

impl Owner {
    /// Returns this process; `None` where the system does not tell. The answer is remembered; a failure is not.
    pub(crate) fn this() -> io::Result<Option<Self>> {
        static THIS: Mutex<Option<Owner>> = Mutex::new(None);

        let mut this = THIS.lock();
        // A child made by `fork` alone is another process.
        if this.as_ref().is_none_or(|this| this.pid != std::process::id()) {
            *this = Self::read_this()?;
        }
        Ok(this.clone())
    }

    fn read_this() -> io::Result<Option<Self>> {
        let told = Self::ask();
        match told {
            // The system has no such `/proc`, and never will.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            told => told,
        }
    }

    fn ask() -> io::Result<Option<Self>> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let namespace = std::fs::read_link("/proc/self/ns/pid")?;
        let (Ok(stat), Some(pid_namespace)) = (stat.parse::<Stat>(), namespace_number(&namespace)) else {
            return Ok(None);
        };
        let pid = std::process::id();
        // With another pid, `/proc` shows another pid namespace, and its pids prove nothing.
        Ok((stat.pid == pid).then(|| Self {
            boot: boot.trim().to_owned(),
            pid_namespace,
            pid,
            start: stat.start,
        }))
    }

    /// Returns whether it is certain that the process has ended. That is only known of processes of the same boot and the same pid
    /// namespace as this process.
    pub(crate) fn is_proven_dead(&self) -> bool {
        let Ok(Some(this)) = Self::this() else { return false };
        if self.boot != this.boot || self.pid_namespace != this.pid_namespace {
            return false;
        }
        // A mount option of `/proc` (hidepid) can hide the processes of other users. Without it, pid 1 is visible.
        if Stat::read(Path::new("/proc/1")).is_none() {
            return false;
        }
        let dir = format!("/proc/{}", self.pid);
        match Stat::read(Path::new(&dir)) {
            None => matches!(Path::new(&dir).try_exists(), Ok(false)),
            Some(stat) if stat.start != self.start => true,
            // A zombie has ended. A process whose first thread ended alone looks the same, but has other threads.
            Some(stat) => {
                let threads = std::fs::read_dir(format!("{dir}/task")).map_or(usize::MAX, Iterator::count);
                matches!(stat.state, 'Z' | 'X') && threads <= 1
            }
        }
    }
}

fn namespace_number(link: &Path) -> Option<u64> {
    let number = link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?;
    number.parse().ok()
}

/// The fields of `/proc/PID/stat` that are used here.
pub(crate) struct Stat {
    pid: u32,
    state: char,
    start: u64,
}

impl Stat {
    fn read(dir: &Path) -> Option<Self> {
        std::fs::read_to_string(dir.join("stat")).ok()?.parse().ok()
    }
}

impl FromStr for Stat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        // The program's name is in parentheses, and may have parentheses and spaces in it.
        let (pid, rest) = text.split_once(" (").ok_or(())?;
        let (_, rest) = rest.rsplit_once(") ").ok_or(())?;
        let mut fields = rest.split(' ');
        let state = fields.next().and_then(|state| state.chars().next()).ok_or(())?;
        // The state is the third field, the start time the 22nd.
        let start = fields.nth(18).and_then(|start| start.parse().ok()).ok_or(())?;
        Ok(Self {
            pid: pid.parse().map_err(|_| ())?,
            state,
            start,
        })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            boot,
            pid_namespace,
            pid,
            start,
        } = self;
        write!(f, "{boot}.{pid_namespace}.{pid}.{start}")
    }
}

impl FromStr for Owner {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let parts: Vec<_> = text.split('.').collect();
        let [boot, pid_namespace, pid, start] = parts[..] else {
            return Err(());
        };
        if boot.is_empty() {
            return Err(());
        }
        Ok(Self {
            boot: boot.to_owned(),
            pid_namespace: pid_namespace.parse().map_err(|_| ())?,
            pid: pid.parse().map_err(|_| ())?,
            start: start.parse().map_err(|_| ())?,
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn this() -> Owner {
        Owner::this().unwrap().expect("Linux tells")
    }

    #[test]
    fn an_owner_is_the_same_after_it_was_written_and_read() {
        assert_eq!(this().to_string().parse(), Ok(this()));
        for bad in ["", "unknown", "a.1.2", "a.1.2.x", ".1.2.3", "a.1.2.3.4"] {
            assert!(bad.parse::<Owner>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_program_name_may_have_spaces_and_parentheses() {
        let rest = "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 777 19";
        let stat: Stat = format!("42 (a) S (b c) Z {rest}").parse().unwrap();
        assert_eq!((stat.pid, stat.state, stat.start), (42, 'Z', 777));
    }

    #[test]
    fn only_a_process_of_this_boot_and_namespace_is_proven_dead() {
        assert!(!this().is_proven_dead());
        // The pid was used again since.
        let earlier = Owner {
            start: this().start - 1,
            ..this()
        };
        assert!(earlier.is_proven_dead());
        // Of another machine, another boot or another namespace nothing is known.
        assert!(
            !Owner {
                boot: "another".into(),
                ..earlier.clone()
            }
            .is_proven_dead()
        );
        assert!(
            !Owner {
                pid_namespace: 1,
                ..earlier
            }
            .is_proven_dead()
        );
    }

    #[test]
    fn a_process_that_has_ended_is_dead_before_and_after_it_is_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let start = Stat::read(Path::new(&format!("/proc/{}", child.id()))).unwrap().start;
        let owner = Owner {
            pid: child.id(),
            start,
            ..this()
        };
        assert!(!owner.is_proven_dead());
        child.kill().unwrap();
        let begun = std::time::Instant::now();
        while !owner.is_proven_dead() {
            assert!(begun.elapsed().as_secs() < 30, "a zombie is dead");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(owner.is_proven_dead());
    }
}
