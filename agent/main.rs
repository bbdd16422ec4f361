//! The agent: PID 1 of a warm container, which runs commands for the library that holds its standard streams. See
//! PROTOCOL.md.
//!
//! It has one thread and one loop around `poll`, and its memory is bounded by the protocol. An agent that cannot go on ends,
//! and with it the container: no result is better than a wrong one.
#![no_std]
#![no_main]
#![no_builtins]
#![deny(unsafe_code)]
#![deny(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]

mod ask;
mod buffer;
mod cgroups;
mod clean;
#[allow(dead_code)]
mod file_protocol;
mod files;
mod kill;
mod look;
mod messages;
mod own;
mod picture;
// Each side uses its half of it.
#[allow(dead_code)]
mod protocol;
mod sessions;
mod socket;
mod spawn;
#[allow(unsafe_code)]
mod start;
#[allow(unsafe_code)]
mod sys;
mod table;
mod tree;
mod users;
mod wipe;
mod wire;

use core::cell::Cell;

use cgroups::Cgroups;
use clean::Baseline;
use kill::Proc;
use own::Own;
use picture::Problem;
use protocol::{Cause, MAX_COMMANDS, UNKNOWN, Why, from_agent};
use spawn::Given;
use sys::{Child, Env, Errno, Fd, POLLIN, POLLOUT, Pid1, PollFd, SIGCHLD, SIGPIPE, SIGTERM};
use table::{Report, Table};
use wipe::Wipe;
use wire::{In, Next, Out, STDIN};

/// The exit code of an agent that could not be set up.
const CANNOT_RUN: i32 = 124;

/// The exit code where the library breaks the protocol, or something was taken from the agent that it needs.
const BROKEN: i32 = 123;

/// The time between two rounds of kills that go on, in microseconds.
const KILL_ROUND: u64 = 1000;

/// The most time that killing everything may take, in microseconds.
const KILL_ALL_LIMIT: u64 = 10_000_000;

/// The most time that the agent waits for children in one turn, in microseconds, and the number of children between two
/// looks at the clock.
const REAP_TURN: u64 = 1000;
const REAP_CLOCK_CHECK: u32 = 16;

/// The number of stopped children that the agent traces and lets go on in one turn. The others are killed: programs have
/// themselves traced once, if at all, and those that do so again and again would hide the ends of others.
const STOPS: u32 = 64;

/// The signals, the library's streams and socket, and three streams of each command.
const MAX_FDS: usize = 4 + 3 * MAX_COMMANDS;

struct Agent {
    pid1: Pid1,
    given: Given,
    own: Own,
    input: In,
    out: Out,
    signals: Fd,
    proc: Proc,
    table: Table,
    /// The library has said hello.
    is_greeted: bool,
    /// When the library is owed a sign of life.
    sign_at: u64,
    kill_all: Option<KillAll>,
    wipe: Option<Wiping>,
    baseline: Option<Baseline>,
    clean: Option<Cleaning>,
    /// There may be children to be waited for of which there is no signal any more.
    to_reap: bool,
    /// The container's count of kills for memory, as it was seen last, and as the library was told.
    kills_seen: Cell<u32>,
    kills_told: u32,
}

/// Everything is being killed.
struct KillAll {
    /// The last request. Its answer is that to all requests before it.
    id: u32,
    since: u64,
}

/// A wipe, from its request to its answer.
enum Wiping {
    GoesOn(Wipe),
    Over(u32, wipe::Outcome),
}

/// A cleaning, from its request to its answer.
enum Cleaning {
    /// Processes are still being killed. With the id of the request, and how many milliseconds the wipe may take.
    Waits(u32, u32),
    Wipes(Wipe),
    Over(u32, picture::Result<()>),
}

/// The events that [`Agent::wait`] has seen.
struct Ready {
    signals: bool,
    input: bool,
    /// Standard input has ended, through which no frames come.
    lifeline: bool,
}

fn run(pid1: Pid1, env: Env) -> ! {
    Agent::new(pid1, env).run()
}

/// Exits where something is missing at the start.
fn needed<T>(result: sys::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(_) => sys::exit(CANNOT_RUN),
    }
}

impl Agent {
    fn new(pid1: Pid1, env: Env) -> Self {
        let own = Own::new();
        sys::hide();
        let mask = sys::block_signals(&[SIGCHLD, SIGPIPE, SIGTERM]);
        let table = needed(Table::new(Cgroups::find()));
        let kills = table.cgroups.oom_kills().count();
        Self {
            pid1,
            given: needed(Given::new(env, mask)),
            own,
            input: needed(In::new()),
            out: needed(Out::new()),
            signals: needed(sys::signal_fd(&[SIGCHLD, SIGPIPE, SIGTERM])).keep(),
            proc: needed(Proc::open()),
            table,
            is_greeted: false,
            sign_at: 0,
            kill_all: None,
            wipe: None,
            baseline: None,
            clean: None,
            to_reap: false,
            kills_seen: Cell::new(kills),
            kills_told: kills,
        }
    }

    fn run(&mut self) -> ! {
        loop {
            let ready = self.wait();
            let held = match ready.signals {
                true => self.own.hold(),
                false => self.own.hold_if_due(sys::now()),
            };
            if held.is_err() {
                // No command is to run in the way that the one before has arranged.
                sys::exit(BROKEN);
            }
            if ready.signals {
                while let Some((signal, is_from_outside)) = sys::next_signal(self.signals) {
                    if signal == SIGTERM && is_from_outside {
                        sys::exit(0);
                    }
                }
            }
            if ready.signals || self.to_reap {
                self.reap();
            }
            if ready.lifeline {
                // The library has gone, even if its socket has not ended yet.
                sys::exit(0);
            }
            if ready.input {
                match self.input.fill() {
                    // The library has gone, and the container goes with it.
                    Ok(0) => sys::exit(0),
                    Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(_) => sys::exit(BROKEN),
                }
            }
            self.take_frames();
            self.look_after_kills();
            self.go_on_wiping();
            self.go_on_cleaning();
            self.move_data();
            self.tell_kills();
            self.report_ends();
            if self.out.flush().is_err() {
                sys::exit(0);
            }
            if let Some(offer) = self.out.take_withdrawn()
                && let Some(command) = self.table.find(offer.id)
            {
                let stream = usize::from(offer.kind == from_agent::STDERR_PIPE);
                let _ = command.answer_pipe(stream, false);
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&mut self) -> Ready {
        let mut fds = [PollFd {
            fd: -1,
            events: 0,
            revents: 0,
        }; MAX_FDS];
        let mut count = 0;
        let mut add = |fd, events| {
            fds[count] = PollFd { fd, events, revents: 0 };
            count += 1;
        };
        add(self.signals, POLLIN);
        // Without room for an answer no request is read.
        let accepts = self.out.has_room();
        add(if accepts { self.input.fd() } else { -1 }, POLLIN);
        // Where there is a socket only the end of standard input is waited for.
        add(if self.input.fd() == STDIN { -1 } else { STDIN }, POLLIN);
        add(if self.out.is_empty() { -1 } else { self.out.fd() }, POLLOUT);
        let output_fits = self.out.has_data_room();
        let mut is_idle = self.kill_all.is_none() && self.wipe.is_none() && self.clean.is_none();
        for command in self.table.commands() {
            is_idle = false;
            if let Some(fd) = command.stdin.wants_to_write() {
                add(fd, POLLOUT);
            }
            for stream in 0..2 {
                if let Some(fd) = command.outputs.wants_to_read(stream, output_fits) {
                    add(fd, POLLIN);
                } else if let Some(fd) = command.outputs.waits_for_hang_up(stream) {
                    add(fd, 0);
                }
            }
        }
        if is_idle {
            self.out.trim();
            self.input.trim();
        }
        // A whole frame may be there already, if there was no room for its answer or no time for it before.
        let has_frame = accepts && matches!(self.input.next(), Next::Frame(_));
        let is_wiping = matches!(self.wipe, Some(Wiping::GoesOn(_))) || matches!(self.clean, Some(Cleaning::Wipes(_)));
        let timeout = if has_frame || is_wiping {
            Some(0)
        } else {
            self.timeout()
        };
        if sys::poll(&mut fds[..count], timeout).is_err() {
            // A process of the container has lowered the agent's limit of file descriptors.
            sys::exit(BROKEN);
        }
        Ready {
            signals: fds[0].revents != 0,
            input: fds[1].revents != 0,
            lifeline: fds[2].revents != 0,
        }
    }

    /// Returns in how many microseconds there is something to do in any case.
    fn timeout(&self) -> Option<u64> {
        if self.to_reap {
            return Some(0);
        }
        if self.kill_all.is_some() || self.is_killing() {
            return Some(KILL_ROUND);
        }
        let now = sys::now();
        let next = self.table.due(now)?;
        Some(next.saturating_sub(now))
    }

    fn is_killing(&self) -> bool {
        self.table.commands().any(|command| command.is_being_killed())
    }

    /// Waits for children that have ended: first processes of commands, and orphans. The turn is short, since children that
    /// end or stop without end must not keep the agent from its other work.
    fn reap(&mut self) {
        let begun = sys::now();
        let (mut stops, mut turns) = (0, 0);
        self.to_reap = false;
        while let Some(child) = sys::next_child() {
            let is_taken = match child {
                Child::Ended(pid) => {
                    let Self {
                        table,
                        proc,
                        kills_seen,
                        ..
                    } = self;
                    let kills = table.cgroups.oom_kills();
                    table.reap(*proc, pid, || {
                        kills_seen.set(kills.count());
                        kills_seen.get()
                    })
                }
                Child::Stopped(pid) if stops == STOPS => sys::kill(pid, sys::SIGKILL).is_ok(),
                Child::Stopped(pid) => {
                    stops += 1;
                    sys::let_go(pid)
                }
            };
            if !is_taken {
                // A signal comes once it can be.
                return;
            }
            turns += 1;
            if turns % REAP_CLOCK_CHECK == 0 && sys::now().saturating_sub(begun) > REAP_TURN {
                self.to_reap = true;
                return;
            }
        }
    }

    /// Tells the library at once of processes that the kernel has killed for memory: the agent may be the next.
    fn tell_kills(&mut self) {
        let kills = self.kills_seen.get();
        if kills != self.kills_told && kills != UNKNOWN && self.is_greeted && self.out.has_room() {
            self.out.frame(from_agent::PONG, 0, &kills.to_le_bytes());
            self.kills_told = kills;
        }
    }

    /// Returns whether there is no process but the agent, not even a zombie that cannot be waited for.
    fn is_alone(&mut self) -> bool {
        let mut left = sys::kill_everything(&self.pid1, 0);
        if left != Err(Errno::SRCH) {
            self.reap();
            left = sys::kill_everything(&self.pid1, 0);
        }
        left == Err(Errno::SRCH)
    }

    fn look_after_kills(&mut self) {
        let now = sys::now();
        self.table.look_at_cpu_time(self.proc, now);
        for command in self.table.commands_mut() {
            if command.due().is_some_and(|due| due <= now) {
                command.begin_kill(self.proc, Cause::Deadline);
            }
        }
        self.table.look_after_stops(&self.pid1, self.proc, now);
        self.go_on_killing_all(now);
        if self.is_killing() {
            // Twice at once: the first round kills, and mostly the second sees that nothing is left.
            for _ in 0..2 {
                self.table.kill_round(&self.pid1, self.proc);
                self.reap();
            }
        }
    }

    fn go_on_killing_all(&mut self, now: u64) {
        let Some(KillAll { id, since }) = self.kill_all else {
            return;
        };
        let left = sys::kill_everything(&self.pid1, sys::SIGKILL);
        self.reap();
        let is_alone = left == Err(Errno::SRCH);
        if !is_alone && now.saturating_sub(since) <= KILL_ALL_LIMIT {
            return;
        }
        let count = match is_alone {
            true => 0,
            false => kill::count(self.proc).max(1),
        };
        self.table.sweep();
        if self.out.has_room() {
            self.out.frame(from_agent::ALL_KILLED, id, &count.to_le_bytes());
            self.kill_all = None;
        }
    }

    fn go_on_wiping(&mut self) {
        if let Some(Wiping::GoesOn(wipe)) = &mut self.wipe
            && let Some(outcome) = wipe.turn()
        {
            self.wipe = Some(Wiping::Over(wipe.id, outcome));
        }
        if let Some(Wiping::Over(id, outcome)) = self.wipe
            && self.out.has_room()
        {
            self.out.wiped(id, outcome);
            self.wipe = None;
        }
    }

    /// Cleans once everything is killed: empties the workspaces, and then compares with the baseline.
    #[inline(never)]
    fn go_on_cleaning(&mut self) {
        let Some(baseline) = &self.baseline else { return };
        match &mut self.clean {
            Some(Cleaning::Waits(id, limit)) if self.kill_all.is_none() && self.wipe.is_none() => {
                self.clean = Some(match baseline.wipe(*id, *limit, sys::now()) {
                    Ok(wipe) => Cleaning::Wipes(wipe),
                    Err(problem) => Cleaning::Over(*id, Err(problem)),
                });
            }
            Some(Cleaning::Wipes(wipe)) => {
                if let Some(outcome) = wipe.turn() {
                    let id = wipe.id;
                    // Nothing may change while it is looked at.
                    let left = kill::count(self.proc);
                    let proven = match left {
                        0 => baseline.prove(outcome),
                        left => Err(Problem::new(Why::Processes, Errno(left as i32), b"")),
                    };
                    self.clean = Some(Cleaning::Over(id, proven));
                }
            }
            _ => {}
        }
        if let Some(Cleaning::Over(id, outcome)) = &self.clean
            && self.out.has_room()
        {
            self.out.proven(from_agent::CLEANED, *id, &outcome.map(|()| 0));
            self.clean = None;
        }
    }

    fn move_data(&mut self) {
        for command in self.table.commands_mut() {
            command.stdin.write(command.id, &mut self.out);
            for stream in 0..2 {
                command.read_output(stream, &mut self.out);
            }
        }
    }

    /// Tells the library which commands have ended.
    fn report_ends(&mut self) {
        self.table.judge(self.proc);
        self.table.settle(&self.pid1, self.proc, sys::now());
        let out = &mut self.out;
        let (commands, cgroups) = self.table.ends();
        for command in commands {
            if !out.has_room() {
                return;
            }
            match command.report(cgroups) {
                Report::None => {}
                Report::CannotStart(failure) => out.cannot_start(command.id, failure),
                Report::Exit(exit) => out.frame(from_agent::EXIT, command.id, &exit.encode()),
            }
        }
        self.table.free();
    }
}
