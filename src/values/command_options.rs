//! The options that a command has of its own or from its pool: [`CommandOptions`].

use std::time::Duration;

/// Decides what happens when a command prints more than an output limit.
///
/// # Examples
///
/// ```
/// use dockerpool::{ExitStatus, OnLimit};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # engine.on_exec(|_| FakeProcess::exit(0).stdout("a long report"));
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// // The beginning of the output is enough, and the command should still work to its end.
/// let output = c.command("report").output_limit(6).on_limit(OnLimit::Truncate).output().await?;
/// assert_eq!(output.stdout, b"a long");
/// assert!(output.truncated);
/// assert_eq!(output.status, ExitStatus::Exited(0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnLimit {
    /// The command is ended, with [`ExitStatus::OutputLimit`](crate::ExitStatus::OutputLimit).
    #[default]
    Kill,
    /// The command goes on to its own end; output beyond the limit is read and dropped.
    Truncate,
}

/// A limit as it was set: `None` where nothing was set, and `Some(None)` for no limit.
pub(crate) type Asked<T> = Option<Option<T>>;

/// The options of a command, as far as they were set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandOptions {
    pub(crate) timeout: Asked<Duration>,
    pub(crate) idle_timeout: Asked<Duration>,
    /// The limit of both outputs together.
    pub(crate) output_limit: Asked<u64>,
    pub(crate) stdout_limit: Asked<u64>,
    pub(crate) stderr_limit: Asked<u64>,
    pub(crate) on_limit: Option<OnLimit>,
    pub(crate) cpu_time: Asked<Duration>,
    pub(crate) memory: Asked<u64>,
    pub(crate) processes: Asked<u32>,
    pub(crate) file_size: Asked<u64>,
}

impl CommandOptions {
    /// Takes what was not set from the defaults.
    pub(crate) fn or(self, defaults: &Self) -> Self {
        Self {
            timeout: self.timeout.or(defaults.timeout),
            idle_timeout: self.idle_timeout.or(defaults.idle_timeout),
            output_limit: self.output_limit.or(defaults.output_limit),
            stdout_limit: self.stdout_limit.or(defaults.stdout_limit),
            stderr_limit: self.stderr_limit.or(defaults.stderr_limit),
            on_limit: self.on_limit.or(defaults.on_limit),
            cpu_time: self.cpu_time.or(defaults.cpu_time),
            memory: self.memory.or(defaults.memory),
            processes: self.processes.or(defaults.processes),
            file_size: self.file_size.or(defaults.file_size),
        }
    }

    /// Returns the names of the limits that only the agent can apply, as far as they are set.
    pub(crate) fn for_agent(&self) -> impl Iterator<Item = &'static str> {
        let asked = [
            ("cpu_time", self.cpu_time.flatten().is_some()),
            ("memory", self.memory.flatten().is_some()),
            ("processes", self.processes.flatten().is_some()),
            ("file_size", self.file_size.flatten().is_some()),
        ];
        asked.into_iter().filter_map(|(name, is_set)| is_set.then_some(name))
    }

    /// Returns the first limit that no command can have, and why.
    pub(crate) fn problem(&self) -> Option<(&'static str, &'static str)> {
        if self.cpu_time.flatten().is_some_and(|time| time.is_zero()) {
            return Some(("cpu_time", "must be more than 0"));
        }
        let numbers = [
            ("memory", self.memory.flatten()),
            ("processes", self.processes.flatten().map(u64::from)),
            ("file_size", self.file_size.flatten()),
        ];
        numbers.into_iter().find_map(|(name, limit)| match limit? {
            0 => Some((name, "must be at least 1")),
            limit if i64::try_from(limit).is_err() => Some((name, "must fit in 63 bits")),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_has_set_wins_also_where_it_is_no_limit() {
        let defaults = CommandOptions {
            timeout: Some(Some(Duration::from_secs(1))),
            idle_timeout: Some(Some(Duration::from_secs(2))),
            on_limit: Some(OnLimit::Truncate),
            memory: Some(Some(3)),
            ..CommandOptions::default()
        };
        let own = CommandOptions {
            timeout: Some(None),
            idle_timeout: Some(Some(Duration::from_secs(5))),
            file_size: Some(Some(7)),
            ..CommandOptions::default()
        };
        let both = own.or(&defaults);
        assert_eq!((both.timeout, both.on_limit), (Some(None), Some(OnLimit::Truncate)));
        assert_eq!(both.idle_timeout, Some(Some(Duration::from_secs(5))));
        assert_eq!(both.for_agent().collect::<Vec<_>>(), ["memory", "file_size"]);
        assert_eq!(both.stdout_limit, None);
    }

    #[test]
    fn limits_that_no_command_can_have_are_named() {
        let of = |options: CommandOptions| options.problem().map(|(name, _)| name);
        assert_eq!(of(CommandOptions::default()), None);
        let cpu_time = Some(Some(Duration::ZERO));
        let timeout = cpu_time;
        assert_eq!(
            of(CommandOptions {
                cpu_time,
                ..Default::default()
            }),
            Some("cpu_time")
        );
        assert_eq!(
            of(CommandOptions {
                timeout,
                ..Default::default()
            }),
            None
        );
        let processes = Some(Some(0));
        assert_eq!(
            of(CommandOptions {
                processes,
                ..Default::default()
            }),
            Some("processes")
        );
        for (bytes, is_bad) in [(0, true), (1, false), (i64::MAX as u64, false), (u64::MAX, true)] {
            let (memory, file_size) = (Some(Some(bytes)), Some(Some(bytes)));
            assert_eq!(
                of(CommandOptions {
                    memory,
                    ..Default::default()
                }),
                is_bad.then_some("memory")
            );
            assert_eq!(
                of(CommandOptions {
                    file_size,
                    ..Default::default()
                }),
                is_bad.then_some("file_size")
            );
        }
    }
}
