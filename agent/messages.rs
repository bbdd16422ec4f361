//! The messages of the library, see "To the agent" in PROTOCOL.md. Each function returns `None` if its message makes no
//! sense, which breaks the connection.

use crate::clean::Baseline;
use crate::kill;
use crate::picture::{Problem, Told};
use crate::protocol::{
    self, ANY_USER, BY_SOCKET, Cause, Fields, Header, READ_ONLY_ROOT, Reach, Size, Spawn, UNKNOWN, VERSION, Why,
};
use crate::protocol::{from_agent, to_agent};
use crate::socket;
use crate::sys::{self, Errno};
use crate::table::Start;
use crate::wipe::Wipe;
use crate::wire::Next;
use crate::{Agent, BROKEN, Cleaning, KillAll, Wiping};

/// After how many microseconds of messages everything else has its turn.
const TURN: u64 = 1000;

/// After how many microseconds of nothing but messages, each time, the library is given a sign of life: its questions wait
/// behind the other messages.
const SIGN: u64 = 100_000;

/// For how many turns of [`Agent::reap`] a count of the processes waits.
const COUNT_TURNS: u32 = 100;

/// The numbers of signals.
const SIGNALS: core::ops::RangeInclusive<u32> = 1..=64;

impl Agent {
    /// Obeys the messages that have come. The turn is short, since some of them take their time, and commands wait.
    pub fn take_frames(&mut self) {
        let begun = sys::now();
        let mut now = begun;
        let mut is_idle = true;
        while self.out.has_room() && now.saturating_sub(begun) <= TURN {
            match self.input.next() {
                Next::Wait => break,
                Next::Broken => sys::exit(BROKEN),
                Next::Frame(header) => {
                    if self.obey(header).is_none() {
                        sys::exit(BROKEN);
                    }
                    self.input.done(header);
                    is_idle = false;
                    now = sys::now();
                }
            }
        }
        if is_idle {
            self.sign_at = now + SIGN;
        } else if now >= self.sign_at && self.out.has_room() {
            self.out.frame(from_agent::PONG, 0, &UNKNOWN.to_le_bytes());
            self.sign_at = now + SIGN;
        }
    }

    fn obey(&mut self, header: Header) -> Option<()> {
        if !self.is_greeted && header.kind != to_agent::HELLO {
            return None;
        }
        match header.kind {
            to_agent::HELLO => self.hello(header),
            to_agent::SPAWN => self.spawn(header),
            to_agent::STDIN => self.stdin(header),
            to_agent::STDIN_END => self.stdin_end(header),
            to_agent::CREDIT => self.credit(header),
            to_agent::SIGNAL => self.signal(header),
            to_agent::KILL => self.kill(header),
            to_agent::CLOSE => self.close(header),
            to_agent::KILL_ALL => self.kill_all(header),
            to_agent::WIPE => self.wipe(header),
            to_agent::COUNT => self.count(header),
            to_agent::PING => self.ping(header),
            to_agent::PIPE => self.pipe(header),
            to_agent::LIMITS => self.limits(header),
            to_agent::RESIZE => self.resize(header),
            to_agent::CGROUPS => self.cgroups(header),
            to_agent::BASELINE => self.baseline(header),
            to_agent::CLEAN => self.clean(header),
            _ => None,
        }
    }

    fn fields(&self, header: Header) -> Fields<'_> {
        Fields(self.input.payload(header))
    }

    /// Answers with the abilities of the agent. The library judges the version, from the answer.
    fn hello(&mut self, header: Header) -> Option<()> {
        let mut fields = self.fields(header);
        protocol::hello_version(&mut fields)?;
        let socket = match fields.0 {
            // Nothing else has run in the container yet, and so nobody else can have connected.
            token if token.len() == protocol::TOKEN && !self.is_greeted => socket::connect(token).ok(),
            _ => None,
        };
        self.is_greeted = true;
        let mut hello = [0; 7];
        hello[..4].copy_from_slice(&protocol::MAGIC);
        hello[4..6].copy_from_slice(&VERSION.to_le_bytes());
        hello[6] |= if sys::can_become_user() { ANY_USER } else { 0 };
        hello[6] |= self.table.cgroups.version;
        hello[6] |= if socket.is_some() { BY_SOCKET } else { 0 };
        self.out.frame(from_agent::HELLO, header.id, &hello);
        if let Some(socket) = socket {
            let socket = socket.keep();
            self.out.switch(socket);
            self.input.switch(socket);
        }
        Some(())
    }

    fn spawn(&mut self, header: Header) -> Option<()> {
        let is_alone = self.is_alone();
        let spawn = Spawn::decode(self.input.payload(header))?;
        let oom_before = self.table.cgroups.oom_kills().count();
        if self.own.hold().is_err() {
            sys::exit(BROKEN);
        }
        let start = Start {
            given: &self.given,
            own: &self.own,
            oom_before,
            is_alone,
        };
        if let Err(failure) = self.table.spawn(start, header.id, &spawn)? {
            self.out.cannot_start(header.id, failure);
        }
        Some(())
    }

    fn stdin(&mut self, header: Header) -> Option<()> {
        match self.table.find(header.id) {
            Some(command) => command.stdin.take(self.input.payload(header)),
            None => Some(()),
        }
    }

    fn stdin_end(&mut self, header: Header) -> Option<()> {
        if let Some(command) = self.table.find(header.id) {
            command.stdin.end();
        }
        Some(())
    }

    fn credit(&mut self, header: Header) -> Option<()> {
        let credit = self.fields(header).u32()?;
        match self.table.find(header.id) {
            Some(command) => command.outputs.add_credit(credit),
            None => Some(()),
        }
    }

    fn signal(&mut self, header: Header) -> Option<()> {
        let mut fields = self.fields(header);
        let signal = fields.u32().filter(|signal| SIGNALS.contains(signal))? as i32;
        let reach = Reach::decode(fields.u8()?)?;
        if reach == Reach::First {
            if let Some(command) = self.table.find(header.id) {
                command.signal(signal);
            }
            return Some(());
        }
        if reach == Reach::End
            && let Some(command) = self.table.find(header.id)
        {
            command.begin_stop();
        }
        self.table.signal_all(self.proc, header.id, signal);
        Some(())
    }

    fn kill(&mut self, header: Header) -> Option<()> {
        if let Some(command) = self.table.find(header.id) {
            command.begin_kill(self.proc, Cause::Kill);
        }
        Some(())
    }

    fn close(&mut self, header: Header) -> Option<()> {
        if let Some(command) = self.table.find(header.id) {
            command.outputs.discard();
        }
        Some(())
    }

    /// Begins to kill everything. One answer is for all requests until it is given, and is of a look after the last of them.
    fn kill_all(&mut self, header: Header) -> Option<()> {
        let since = self.kill_all.as_ref().map_or_else(sys::now, |kill_all| kill_all.since);
        self.kill_all = Some(KillAll { id: header.id, since });
        for command in self.table.commands_mut() {
            command.begin_kill(self.proc, Cause::Kill);
        }
        Some(())
    }

    fn wipe(&mut self, header: Header) -> Option<()> {
        let wipe = Wipe::begin(header.id, self.fields(header), sys::now())?;
        match wipe {
            Ok(wipe) if self.wipe.is_none() => self.wipe = Some(Wiping::GoesOn(wipe)),
            Ok(_) => self.out.wiped(header.id, Err((Errno::BUSY, 0))),
            Err(error) => self.out.wiped(header.id, Err((error, 0))),
        }
        Some(())
    }

    fn count(&mut self, header: Header) -> Option<()> {
        // Children that have ended by now do not count. Those that end without end are not waited for.
        for _ in 0..COUNT_TURNS {
            self.reap();
            if !self.to_reap {
                break;
            }
        }
        let count = kill::count(self.proc);
        self.out.frame(from_agent::COUNTED, header.id, &count.to_le_bytes());
        Some(())
    }

    fn ping(&mut self, header: Header) -> Option<()> {
        let kills = self.table.cgroups.oom_kills().count();
        self.out.frame(from_agent::PONG, header.id, &kills.to_le_bytes());
        Some(())
    }

    fn pipe(&mut self, header: Header) -> Option<()> {
        let mut fields = self.fields(header);
        let (stream, taken) = (fields.u8()?, fields.u8()?);
        match self.table.find(header.id) {
            Some(command) => command.answer_pipe(stream.into(), taken != 0),
            None => Some(()),
        }
    }

    fn limits(&mut self, header: Header) -> Option<()> {
        self.given.set_limits(Fields(self.input.payload(header)))
    }

    fn resize(&mut self, header: Header) -> Option<()> {
        let size = Size::decode(&mut self.fields(header))?;
        if let Some(command) = self.table.find(header.id) {
            command.outputs.resize(size);
        }
        Some(())
    }

    /// Makes control groups. That must be before any command, since all of them are to have one.
    fn cgroups(&mut self, header: Header) -> Option<()> {
        if self.table.commands().next().is_some() || self.table.cgroups.are_made() {
            return None;
        }
        let (step, error) = self.table.cgroups.make().err().unwrap_or((0, Errno(0)));
        self.out.step_failed(from_agent::CGROUPS_MADE, header.id, step, error);
        Some(())
    }

    /// Looks at the container before any command.
    #[inline(never)]
    fn baseline(&mut self, header: Header) -> Option<()> {
        if self.table.commands().next().is_some() || self.baseline.is_some() {
            return None;
        }
        let told = Told::new(self.fields(header))?;
        let too_much = |errno| Problem::new(Why::TooMuch, errno, b"");
        let taken = match kill::count(self.proc) {
            0 => told.map_err(too_much).and_then(Baseline::take),
            left => Err(Problem::new(Why::Processes, Errno(left as i32), b"")),
        };
        let outcome = match taken {
            Ok(baseline) => {
                let flags = if baseline.root_is_read_only() {
                    READ_ONLY_ROOT
                } else {
                    0
                };
                self.baseline = Some(baseline);
                Ok(flags)
            }
            Err(problem) => Err(problem),
        };
        self.out.proven(from_agent::BASELINE_TAKEN, header.id, &outcome);
        Some(())
    }

    /// Begins to clean. The library asks for one at a time.
    #[inline(never)]
    fn clean(&mut self, header: Header) -> Option<()> {
        let limit = self.fields(header).u32()?;
        let problem = match (&self.baseline, &self.clean) {
            (Some(_), None) => {
                self.clean = Some(Cleaning::Waits(header.id, limit));
                return Some(());
            }
            (None, _) => Problem::new(Why::NoBaseline, Errno(0), b""),
            (_, Some(_)) => Problem::new(Why::Failed, Errno::BUSY, b""),
        };
        self.out.proven(from_agent::CLEANED, header.id, &Err(problem));
        Some(())
    }
}
