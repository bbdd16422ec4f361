//! Commands that go on in the background of a lease: [`BackgroundCommand`].

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::child::{Child, LOST, OwnedChild, outcome_of};
use super::halt::Stop;
use super::merged::Merged;
use super::signals::{Reins, To};
use super::tail::{KEPT, Tail};
use super::verdict::Verdict;
use crate::container::{Container, Guard, Running, Shared};
use crate::error::Error;
use crate::values::outcome::ExitStatus;
use crate::values::signal::Signal;
use crate::values::waker::guarded;

/// The number of commands that have ended and are remembered, with their output, when another one is detached.
const ENDED: usize = 64;

/// Names a command that was detached, within one lease. `Display` is its number: 1, 2, 3 and so on, in the order in which the lease
/// has detached its commands. A later lease may count from 1 again, so an id of an earlier lease may name another command in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(u64);

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Tells whether a [`BackgroundCommand`] runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CommandState {
    /// The command runs, or is being started.
    Running,
    /// The command has ended with this status.
    Ended(ExitStatus),
    /// The command could not be started, or it is not known whether it was: [`BackgroundCommand::wait`] returns the error.
    Failed,
}

/// A command that goes on in the background of a lease, after [`Child::detach`]; found by [`Container::commands`].
///
/// The command ends with its lease: by the [cleaning](crate::Reuse::Clean), or with its container, which is replaced. What is known
/// of it ends with the lease too. After a lease with a [key](crate::Pool::acquire_for) both stay, and the next lease of the key finds
/// them.
///
/// The last [`KEPT_OUTPUT`](Self::KEPT_OUTPUT) bytes of its output are kept in memory, and everything that it prints passes through
/// the library. For a server that prints much, use [`Stdio::null`](crate::Stdio::null), or have it write to a file.
///
/// # Examples
///
/// ```
/// use dockerpool::CommandState;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # engine.on_exec(|_| FakeProcess::exit(1).stdout("starting\n").stderr("no such port\n"));
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine)).build().await?;
/// let c = pool.acquire().await?;
/// let id = c.command("server").arg("--port=x").spawn().await?.detach();
///
/// // Anywhere else in the same lease:
/// for command in c.commands() {
///     println!("{}: {} {:?}", command.id(), command.program(), command.state());
/// }
/// let server = c.background(id).expect("the lease has it");
/// assert!(!server.wait().await?.success());
/// assert!(matches!(server.state(), CommandState::Ended(_)));
/// assert_eq!(server.output_lossy(), "starting\nno such port\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct BackgroundCommand<'c> {
    job: Arc<Job>,
    lease: PhantomData<&'c Container<Running>>,
}

impl BackgroundCommand<'_> {
    /// How much of the output is kept, in bytes: the last 64 KiB.
    pub const KEPT_OUTPUT: usize = KEPT;

    /// Returns the id that [`Child::detach`] has returned.
    pub fn id(&self) -> CommandId {
        self.job.id
    }

    /// Returns the program.
    pub fn program(&self) -> &str {
        &self.job.program
    }

    /// Returns whether the command runs, as far as is known now.
    pub fn state(&self) -> CommandState {
        match &*self.job.verdict.borrow() {
            None => CommandState::Running,
            Some(verdict) => match self.job.outcome(verdict) {
                Ok(status) => CommandState::Ended(status),
                Err(_) => CommandState::Failed,
            },
        }
    }

    /// Returns the end of the output so far: of both streams together, in the order in which it came, at most
    /// [`KEPT_OUTPUT`](Self::KEPT_OUTPUT) bytes. Output from before [`Child::detach`] that was read then is not in it.
    pub fn output(&self) -> Vec<u8> {
        self.job.tail.lock().to_vec()
    }

    /// Returns the [`output`](Self::output) as text; bytes that are no UTF-8 are replaced, and so is the rest of a character whose
    /// beginning was not kept.
    pub fn output_lossy(&self) -> String {
        String::from_utf8_lossy(&self.output()).into_owned()
    }

    /// Returns how many bytes the command has printed since [`Child::detach`], whether they are kept or not.
    pub fn printed(&self) -> u64 {
        self.job.tail.lock().total()
    }

    /// Waits for the end of the command and of its output. Each call gives the same answer.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    ///
    /// # Cancel safety
    ///
    /// Safe: the command goes on.
    pub async fn wait(&self) -> Result<ExitStatus, Error> {
        let mut verdict = self.job.verdict.subscribe();
        let verdict = guarded(verdict.wait_for(Option::is_some)).await;
        // `self.job` holds the sender, so the wait cannot fail.
        match verdict.as_deref() {
            Ok(Some(verdict)) => self.job.outcome(verdict),
            Ok(None) | Err(_) => self.job.outcome(&LOST),
        }
    }

    /// Sends a [`Signal`], or one by number, to the command's first process: as [`Child::signal`].
    ///
    /// # Errors
    ///
    /// As [`Child::signal`].
    ///
    /// # Cancel safety
    ///
    /// Safe: the signal is sent or not.
    pub async fn signal(&self, signal: impl Into<Signal>) -> Result<(), Error> {
        self.job.reins.signal(signal.into(), To::First).await
    }

    /// Sends a [`Signal`], or one by number, to every process of the command: as [`Child::signal_group`].
    ///
    /// # Errors
    ///
    /// As [`Child::signal`].
    ///
    /// # Cancel safety
    ///
    /// Safe: the signal is sent or not.
    pub async fn signal_group(&self, signal: impl Into<Signal>) -> Result<(), Error> {
        self.job.reins.signal(signal.into(), To::All).await
    }

    /// Asks the command to end, kills it after `grace`, and waits for its end: as [`Child::stop`].
    ///
    /// # Errors
    ///
    /// As [`Child::stop`].
    ///
    /// # Cancel safety
    ///
    /// The stop goes on when the future is dropped.
    pub async fn stop(&self, signal: impl Into<Signal>, grace: Duration) -> Result<ExitStatus, Error> {
        self.job.reins.start_stop(signal.into(), grace)?;
        self.wait().await
    }

    /// Ends the command, by the exec API by killing its container, and waits until that is done.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    ///
    /// # Cancel safety
    ///
    /// The kill goes on when the future is dropped.
    pub async fn kill(&self) -> Result<ExitStatus, Error> {
        self.job.reins.halt.request(Stop::Killed);
        self.wait().await
    }
}

impl fmt::Debug for BackgroundCommand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundCommand")
            .field("id", &self.id())
            .field("program", &self.program())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Container<Running> {
    /// Returns the commands of this lease that went on in the background, in the order in which they were
    /// [detached](Child::detach): those that run, and those that have ended, of which each further `detach` forgets the oldest
    /// beyond 64.
    pub fn commands(&self) -> Vec<BackgroundCommand<'_>> {
        let jobs = self.shared().known_lease_value::<Jobs>();
        let jobs = jobs.map(|jobs| jobs.0.lock().list.clone()).unwrap_or_default();
        jobs.into_iter().map(BackgroundCommand::of).collect()
    }

    /// Returns the command in the background that [`Child::detach`] has given this id; `None` if this lease does not know it, or has
    /// forgotten it after its end.
    pub fn background(&self, id: CommandId) -> Option<BackgroundCommand<'_>> {
        self.commands().into_iter().find(|command| command.id() == id)
    }
}

impl<'c> Child<'c> {
    /// Lets the command go on in the background until the lease ends, and returns the id by which the lease finds it:
    /// [`Container::background`], [`Container::commands`]. Closes its standard input, unless [`stdin`](Self::stdin) was taken out
    /// before.
    ///
    /// The end of its output is [kept](BackgroundCommand::output). Its limits of time and of output still hold.
    ///
    /// The command counts among the 64 that the agent runs at once in a container. While so many run, another command
    /// waits in turn, and so does a call on files, until one has ended: give it a [`timeout`](crate::Command::timeout), or do not
    /// detach so many.
    ///
    /// An [`OwnedChild`] returns its guard too:
    ///
    /// ```
    /// use dockerpool::Command;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
    /// # let engine = dockerpool::testing::FakeEngine::new();
    /// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine)).build().await?;
    /// let lease = pool.acquire().await?;
    /// let (lease, id) = Command::new("server").spawn_owned(lease).await?.detach();
    /// assert_eq!(lease.background(id).expect("it is in this lease").program(), "server");
    /// # Ok(())
    /// # }
    /// ```
    pub fn detach(mut self) -> CommandId {
        self.move_to_background()
    }
}

impl<G: Guard> OwnedChild<G> {
    /// Lets the command go on in the background until the lease ends, and returns the guard, and the id by which the lease finds the
    /// command: see the `detach` of a borrowed [`Child`].
    #[must_use = "dropping the guard ends the lease, and the command with it"]
    pub fn detach(mut self) -> (G, CommandId) {
        let id = self.move_to_background();
        (self.take_guard(), id)
    }
}

impl<G> Child<'_, G> {
    /// Has the library's runtime read the output and wait for the end.
    fn move_to_background(&mut self) -> CommandId {
        self.detached = true;
        drop(self.stdin.take());
        let (_, nothing) = oneshot::channel();
        let outputs = self.take_outputs();
        let done = std::mem::replace(&mut self.done, nothing);
        let known = self.verdict.take();
        let (reins, program) = (self.reins(), self.program.clone());
        let job = Jobs::add(&self.shared, program, reins);
        let id = job.id;
        self.shared.runtime.spawn(follow(job, outputs, done, known));
        id
    }
}

/// Keeps the end of the output, and then tells of the command's end.
async fn follow(job: Arc<Job>, mut outputs: Merged, done: oneshot::Receiver<Verdict>, known: Option<Verdict>) {
    // Also where the runtime ends.
    let job = TellLost(job);
    while let Some((_, data)) = poll_fn(|cx| outputs.poll_next(cx)).await {
        job.0.tail.lock().push(&data);
    }
    let verdict = match known {
        Some(verdict) => verdict,
        None => done.await.unwrap_or(LOST),
    };
    job.0.verdict.send_replace(Some(verdict));
}

struct TellLost(Arc<Job>);

impl Drop for TellLost {
    fn drop(&mut self) {
        self.0.verdict.send_if_modified(|verdict| {
            let is_lost = verdict.is_none();
            verdict.get_or_insert(LOST);
            is_lost
        });
    }
}

/// A command in the background.
struct Job {
    id: CommandId,
    program: String,
    reins: Reins,
    tail: Mutex<Tail>,
    verdict: watch::Sender<Option<Verdict>>,
}

impl Job {
    fn outcome(&self, verdict: &Verdict) -> Result<ExitStatus, Error> {
        outcome_of(verdict, &self.reins.halt, self.reins.subject.clone()).map(|(status, _)| status)
    }

    fn has_ended(&self) -> bool {
        self.verdict.borrow().is_some()
    }
}

/// The commands in the background of one lease.
#[derive(Default)]
struct Jobs(Mutex<List>);

#[derive(Default)]
struct List {
    last_id: u64,
    list: Vec<Arc<Job>>,
}

impl Jobs {
    fn add(shared: &Shared, program: String, reins: Reins) -> Arc<Job> {
        let jobs = shared.lease_value::<Self>();
        let mut jobs = jobs.0.lock();
        let ended = jobs.list.iter().filter(|job| job.has_ended()).count();
        let mut to_forget = (ended + 1).saturating_sub(ENDED);
        jobs.list.retain(|job| {
            let is_forgotten = to_forget > 0 && job.has_ended();
            to_forget -= usize::from(is_forgotten);
            !is_forgotten
        });
        jobs.last_id += 1;
        let job = Arc::new(Job {
            id: CommandId(jobs.last_id),
            program,
            reins,
            tail: Mutex::default(),
            verdict: watch::Sender::new(None),
        });
        jobs.list.push(job.clone());
        job
    }
}

impl BackgroundCommand<'_> {
    fn of(job: Arc<Job>) -> Self {
        Self {
            job,
            lease: PhantomData,
        }
    }
}
