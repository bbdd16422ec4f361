//! The agent: PID 1 of a warm container, which runs commands for the library that holds its standard streams. See
//! PROTOCOL.md.
//!
//! One thread, one loop around `poll`, no memory but what is bounded by the protocol. What it cannot go on from ends it,
//! and with it the container: nothing is better than a wrong result.
#![no_std]
#![no_main]
#![no_builtins]
#![deny(unsafe_code)]
#![deny(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]

mod cgroups;
mod kill;
mod own;
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

use cgroups::Cgroups;
use kill::Proc;
use own::Own;
use protocol::{
    ANY_USER, BY_SOCKET, Fields, Header, MAX_COMMANDS, Size, Stage, UNKNOWN, VERSION, from_agent, to_agent,
};
use spawn::Given;
use sys::{Child, Env, Errno, Fd, POLLIN, POLLOUT, Pid1, PollFd, SIGCHLD, SIGPIPE, SIGTERM};
use table::Table;
use wipe::Wipe;
use wire::{In, Next, Out, STDIN};

/// How the agent ends when its own start fails.
const CANNOT_RUN: i32 = 124;
/// ...and when the library says what it does not understand, or what it needs was taken from it.
const BROKEN: i32 = 123;

/// How often kills that go on are looked after, in microseconds.
const KILL_ROUND: u64 = 1000;

/// How long killing everything may take, in microseconds.
const KILL_ALL_LIMIT: u64 = 10_000_000;

/// After how many microseconds of frames everything else has its turn.
const FRAMES_TURN: u64 = 1000;

/// After so many microseconds of nothing but frames, each time, the library is given a sign of life: what it asks waits
/// behind them.
const SIGN: u64 = 100_000;

/// The same for children that have ended or stopped, and after how many of them the clock is looked at.
const REAP_TURN: u64 = 1000;
const REAP_CLOCK_CHECK: u32 = 16;

/// For how many such turns a count of the processes waits.
const COUNT_TURNS: u32 = 100;

/// How many children that are traced by the agent, and stopped, go on in one such turn. The others are killed.
const STOPS: u32 = 64;

/// Signals, streams and socket of the library's, and three streams of each command.
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
    greeted: bool,
    /// When a sign of life is due.
    sign_at: u64,
    /// Everything is to be killed: for which request at last, and since when.
    kill_all: Option<(u32, u64)>,
    /// The wipe that goes on, and what came of it once that is known.
    wipe: Option<(Wipe, Option<wipe::Outcome>)>,
    /// There may be children to be waited for of which there is no signal any more.
    to_reap: bool,
}

fn run(pid1: Pid1, env: Env) -> ! {
    match Agent::new(pid1, env) {
        Ok(mut agent) => agent.run(),
        Err(_) => sys::exit(CANNOT_RUN),
    }
}

impl Agent {
    fn new(pid1: Pid1, env: Env) -> sys::Result<Self> {
        let own = Own::new();
        sys::hide();
        let mask = sys::block_signals(&[SIGCHLD, SIGPIPE, SIGTERM]);
        Ok(Self {
            pid1,
            given: Given::new(env, mask)?,
            own,
            input: In::new()?,
            out: Out::new()?,
            signals: sys::signal_fd(&[SIGCHLD, SIGTERM])?,
            proc: Proc::open()?,
            table: Table::new(Cgroups::find())?,
            greeted: false,
            sign_at: 0,
            kill_all: None,
            wipe: None,
            to_reap: false,
        })
    }

    fn run(&mut self) -> ! {
        loop {
            let ready = self.wait();
            let held = match ready.signals {
                true => self.own.hold(),
                false => self.own.hold_if_due(sys::now()),
            };
            if held.is_err() {
                // No command is to run as the one before has arranged it.
                sys::exit(BROKEN);
            }
            if ready.signals {
                while let Some((signal, from_outside)) = sys::next_signal(self.signals) {
                    if signal == SIGTERM && from_outside {
                        sys::exit(0);
                    }
                }
            }
            if ready.signals || self.to_reap {
                self.reap();
            }
            if ready.lifeline {
                // The library has gone, also if its socket has not ended yet.
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
            self.move_data();
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

    /// Until there is something to do.
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
        // Without room for an answer nothing is asked.
        let accepts = self.out.has_room();
        add(if accepts { self.input.fd() } else { -1 }, POLLIN);
        // Nothing comes there any more when there is a socket, but its end.
        add(if self.input.fd() == STDIN { -1 } else { STDIN }, POLLIN);
        add(if self.out.is_empty() { -1 } else { self.out.fd() }, POLLOUT);
        let output_fits = self.out.has_data_room();
        let mut busy = false;
        for command in self.table.commands() {
            busy = true;
            if let Some(fd) = command.wants_to_write() {
                add(fd, POLLOUT);
            }
            for stream in 0..2 {
                if let Some(fd) = command.wants_to_read(stream, output_fits) {
                    add(fd, POLLIN);
                } else if let Some(fd) = command.waits_for_hang_up(stream) {
                    add(fd, 0);
                }
            }
        }
        if !busy && self.kill_all.is_none() && self.wipe.is_none() {
            self.out.trim();
            self.input.trim();
        }
        // A whole frame may be there already, if there was no room for its answer or no time for it before.
        let frame = accepts && matches!(self.input.next(), Next::Frame(_));
        let pending = frame || matches!(self.wipe, Some((_, None)));
        let timeout = if pending { Some(0) } else { self.timeout() };
        if sys::poll(&mut fds[..count], timeout).is_err() {
            // Somebody has taken its limit of descriptors down.
            sys::exit(BROKEN);
        }
        Ready {
            signals: fds[0].revents != 0,
            input: fds[1].revents != 0,
            lifeline: fds[2].revents != 0,
        }
    }

    fn timeout(&self) -> Option<u64> {
        if self.to_reap {
            return Some(0);
        }
        let killing = self.kill_all.is_some() || self.table.commands().any(|command| command.killing.is_some());
        if killing {
            return Some(KILL_ROUND);
        }
        let now = sys::now();
        let next = self.table.due(now)?;
        Some(next.saturating_sub(now))
    }

    /// Does what the library has asked for. Not for long: some of it takes its time, and commands wait.
    fn take_frames(&mut self) {
        let begun = sys::now();
        let mut now = begun;
        let mut none = true;
        while self.out.has_room() && now.saturating_sub(begun) <= FRAMES_TURN {
            match self.input.next() {
                Next::Wait => break,
                Next::Broken => sys::exit(BROKEN),
                Next::Frame(header) => {
                    if self.obey(header).is_none() {
                        sys::exit(BROKEN);
                    }
                    self.input.done(header);
                    none = false;
                    now = sys::now();
                }
            }
        }
        if none {
            self.sign_at = now + SIGN;
        } else if now >= self.sign_at && self.out.has_room() {
            self.out.frame(from_agent::PONG, 0, &UNKNOWN.to_le_bytes());
            self.sign_at = now + SIGN;
        }
    }

    /// `None`: it makes no sense.
    fn obey(&mut self, header: Header) -> Option<()> {
        let id = header.id;
        let is_alone = header.kind == to_agent::SPAWN && self.is_alone();
        let payload = self.input.payload(header);
        let mut fields = Fields(payload);
        if !self.greeted && header.kind != to_agent::HELLO {
            return None;
        }
        match header.kind {
            to_agent::HELLO => {
                // The version is the library's to judge, from the answer.
                protocol::hello_version(&mut fields)?;
                let socket = match fields.0 {
                    // Nothing else has run in the container yet: nobody else can have connected.
                    token if token.len() == protocol::TOKEN && !self.greeted => socket::connect(token).ok(),
                    _ => None,
                };
                self.greeted = true;
                let mut hello = [0; 7];
                hello[..4].copy_from_slice(&protocol::MAGIC);
                hello[4..6].copy_from_slice(&VERSION.to_le_bytes());
                hello[6] |= if sys::can_become_user() { ANY_USER } else { 0 };
                hello[6] |= self.table.cgroups.version;
                hello[6] |= if socket.is_some() { BY_SOCKET } else { 0 };
                self.out.frame(from_agent::HELLO, id, &hello);
                if let Some(socket) = socket {
                    self.out.switch(socket);
                    self.input.switch(socket);
                }
            }
            to_agent::SPAWN => {
                let spawn = protocol::Spawn::decode(payload)?;
                let oom = count_oom_kills(self.table.cgroups.oom);
                if self.own.hold().is_err() {
                    sys::exit(BROKEN);
                }
                if let Err((stage, Errno(errno))) =
                    self.table
                        .spawn((&self.given, &mut self.own), id, &spawn, (oom, is_alone))?
                {
                    cannot_start(&mut self.out, id, stage, errno);
                }
            }
            to_agent::STDIN => {
                if let Some(command) = self.table.find(id) {
                    command.take_stdin(payload)?;
                }
            }
            to_agent::STDIN_END => {
                if let Some(command) = self.table.find(id) {
                    command.end_stdin();
                }
            }
            to_agent::CREDIT => {
                let credit = fields.u32()?;
                if let Some(command) = self.table.find(id) {
                    command.credit = command.credit.checked_add(credit)?;
                }
            }
            to_agent::SIGNAL => {
                let signal = fields.u32().filter(|signal| (1..=64).contains(signal))?;
                if let Some(command) = self.table.find(id)
                    && command.runs()
                {
                    let _ = sys::kill(command.pid, signal as i32);
                }
            }
            to_agent::KILL => {
                if let Some(command) = self.table.find(id) {
                    command.begin_kill(self.proc, protocol::Cause::Kill);
                }
            }
            to_agent::CLOSE => {
                if let Some(command) = self.table.find(id) {
                    command.discards = true;
                }
            }
            to_agent::KILL_ALL => {
                // One answer for all that have come until it is given: it is of a look after the last of them.
                let since = self.kill_all.map_or_else(sys::now, |(_, since)| since);
                self.kill_all = Some((id, since));
                for command in self.table.commands_mut() {
                    command.begin_kill(self.proc, protocol::Cause::Kill);
                }
            }
            to_agent::WIPE => {
                let wipe = Wipe::begin(id, fields, sys::now())?;
                match wipe {
                    Ok(wipe) if self.wipe.is_none() => self.wipe = Some((wipe, None)),
                    Ok(wipe) => {
                        wipe.close();
                        wiped(&mut self.out, id, Err((Errno::BUSY, 0)));
                    }
                    Err(error) => wiped(&mut self.out, id, Err((error, 0))),
                }
            }
            to_agent::COUNT => {
                // What has ended by now is not to be counted. Children that end without end are not waited for.
                for _ in 0..COUNT_TURNS {
                    self.reap();
                    if !self.to_reap {
                        break;
                    }
                }
                let count = kill::count(self.proc);
                self.out.frame(from_agent::COUNTED, id, &count.to_le_bytes());
            }
            to_agent::PIPE => {
                let (stream, taken) = (fields.u8()?, fields.u8()?);
                if let Some(command) = self.table.find(id) {
                    command.answer_pipe(stream.into(), taken != 0)?;
                }
            }
            to_agent::CGROUPS => {
                // Before any command: all of them are to have one.
                if self.table.commands().next().is_some() || self.table.cgroups.are_made() {
                    return None;
                }
                let made = self.table.cgroups.make();
                let (step, Errno(errno)) = made.err().unwrap_or((0, Errno(0)));
                step_failed(&mut self.out, from_agent::CGROUPS_MADE, id, step, errno);
            }
            to_agent::LIMITS => self.given.set_limits(fields)?,
            to_agent::RESIZE => {
                let size = Size::decode(&mut fields)?;
                if let Some(command) = self.table.find(id) {
                    command.resize(size);
                }
            }
            to_agent::PING => {
                let kills = count_oom_kills(self.table.cgroups.oom);
                self.out.frame(from_agent::PONG, id, &kills.to_le_bytes());
            }
            _ => return None,
        }
        Some(())
    }

    /// Waits for what has ended: commands, and what they have left behind. Not for long: children that end or stop without
    /// end must not keep the agent from its other work.
    fn reap(&mut self) {
        let begun = sys::now();
        let (mut stops, mut turns) = (0, 0);
        self.to_reap = false;
        while let Some(child) = sys::next_child() {
            let taken = match child {
                Child::Ended(pid) => {
                    let oom = self.table.cgroups.oom;
                    self.table.reap(self.proc, pid, || count_oom_kills(oom))
                }
                // Programs have themselves traced once, if at all. Those that do so again and again would hide the ends of
                // others from the agent.
                Child::Stopped(pid) if stops == STOPS => sys::kill(pid, sys::SIGKILL).is_ok(),
                Child::Stopped(pid) => {
                    stops += 1;
                    sys::let_go(pid)
                }
            };
            if !taken {
                // There is a signal once it can be.
                return;
            }
            turns += 1;
            if turns % REAP_CLOCK_CHECK == 0 && sys::now().saturating_sub(begun) > REAP_TURN {
                self.to_reap = true;
                return;
            }
        }
    }

    /// Whether there is no process but the agent, those included that have ended and cannot be waited for.
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
        for command in self.table.commands_mut() {
            if command.due().is_some_and(|due| due <= now) {
                command.begin_kill(self.proc, protocol::Cause::Deadline);
            }
        }
        if let Some((id, since)) = self.kill_all {
            let left = sys::kill_everything(&self.pid1, sys::SIGKILL);
            self.reap();
            if left == Err(Errno::SRCH) || now.saturating_sub(since) > KILL_ALL_LIMIT {
                let count = match left {
                    Err(Errno::SRCH) => 0,
                    _ => kill::count(self.proc).max(1),
                };
                self.table.sweep();
                if self.out.has_room() {
                    self.out.frame(from_agent::ALL_KILLED, id, &count.to_le_bytes());
                    self.kill_all = None;
                }
            }
        }
        if self.table.commands().any(|command| command.killing.is_some()) {
            // Twice at once: the first round kills, and mostly the second sees that nothing is left.
            for _ in 0..2 {
                self.table.kill_round(&self.pid1, self.proc);
                self.reap();
            }
        }
    }

    fn go_on_wiping(&mut self) {
        if let Some((wipe, outcome)) = &mut self.wipe
            && outcome.is_none()
        {
            *outcome = wipe.turn();
        }
        if self.out.has_room()
            && let Some((wipe, outcome)) = self.wipe.take_if(|(_, outcome)| outcome.is_some())
        {
            wiped(&mut self.out, wipe.id, outcome.unwrap_or(Ok(())));
            wipe.close();
        }
    }

    fn move_data(&mut self) {
        let out = &mut self.out;
        for command in self.table.commands_mut() {
            let written = command.write_stdin();
            if written.credit > 0 && out.has_room() {
                out.frame(from_agent::STDIN_CREDIT, command.id, &written.credit.to_le_bytes());
                command.credited();
            }
            if written.closed && out.has_room() {
                out.frame(from_agent::STDIN_CLOSED, command.id, &[]);
                command.forget_stdin();
            }
            for stream in 0..2 {
                command.read_output(stream, out);
            }
        }
    }

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
                table::Report::None => {}
                table::Report::CannotStart(stage, Errno(errno)) => cannot_start(out, command.id, stage, errno),
                table::Report::Exit(exit) => out.frame(from_agent::EXIT, command.id, &exit.encode()),
            }
        }
        self.table.free();
    }
}

struct Ready {
    signals: bool,
    input: bool,
    lifeline: bool,
}

fn cannot_start(out: &mut Out, id: u32, stage: Stage, errno: i32) {
    step_failed(out, from_agent::CANNOT_START, id, stage as u8, errno);
}

fn step_failed(out: &mut Out, kind: u8, id: u32, step: u8, errno: i32) {
    let mut payload = [0; 5];
    payload[0] = step;
    payload[1..].copy_from_slice(&errno.to_le_bytes());
    out.frame(kind, id, &payload);
}

fn wiped(out: &mut Out, id: u32, outcome: wipe::Outcome) {
    let (Errno(errno), path) = outcome.err().unwrap_or((Errno(0), 0));
    let mut payload = [0; 9];
    payload[0] = u8::from(outcome.is_ok());
    payload[1..5].copy_from_slice(&errno.to_le_bytes());
    payload[5..].copy_from_slice(&path.to_le_bytes());
    out.frame(from_agent::WIPED, id, &payload);
}

/// How many processes of the container the kernel has killed for memory.
fn count_oom_kills(file: Option<Fd>) -> u32 {
    let mut text = [0; 512];
    let Some(Ok(len)) = file.map(|file| sys::read_from_start(file, &mut text)) else {
        return UNKNOWN;
    };
    text[..len]
        .split(|byte| *byte == b'\n')
        .find_map(|line| users::number(line.strip_prefix(b"oom_kill ")?))
        .unwrap_or(UNKNOWN)
}
