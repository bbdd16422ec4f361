//! The table of commands. The standard library starts the processes.

// The table reaps them.
#![allow(clippy::zombie_processes)]

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, Stdio};
use std::sync::MutexGuard;
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::alone;
use crate::buffers::frames_of;
use crate::cgroups::Cgroups;
use crate::kill::{Proc, Progress};
use crate::protocol::{
    Cause, Exit, Fields, MAX_COMMANDS, PIPE_AFTER, STDIN_WINDOW, Size, Spawn, Stage, UNKNOWN, from_agent,
};
use crate::sys::{self, Errno, OwnedFd};
use crate::table::{Command, Outputs, Report, Started, Stdin, Table};
use crate::wire::Out;

/// A number of no process: the kernel's numbers are below 2^22.
const NO_PID: i32 = 1 << 30;

const WINDOW: u32 = 64 * 1024;

/// A table, and the pipe to the library.
struct Fixture {
    table: Table,
    proc: Proc,
    out: Out,
    writer: PipeWriter,
    reader: PipeReader,
    /// The limit of processor time of commands, 0 for none.
    cpu_time: Duration,
    _alone: MutexGuard<'static, ()>,
}

impl Fixture {
    fn new() -> Self {
        let _alone = alone();
        let (reader, writer) = std::io::pipe().unwrap();
        sys::set_nonblocking(writer.as_raw_fd());
        Self {
            table: Table::new(Cgroups::find()).unwrap(),
            proc: Proc::open().unwrap(),
            out: Out::of(writer.as_raw_fd()).unwrap(),
            writer,
            reader,
            cpu_time: Duration::ZERO,
            _alone,
        }
    }

    /// Runs a script by a shell as a command, with `window` bytes of credit.
    fn shell(&mut self, id: u32, script: &str, window: u32, deadline: Duration) -> Child {
        let ((stdout, to_stdout), (stderr, to_stderr)) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
        let child = std::process::Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(to_stdout)
            .stderr(to_stderr)
            .spawn()
            .unwrap();
        let spawn = Spawn {
            cpu_time: self.cpu_time.as_micros() as u64,
            ..spawn(deadline)
        };
        let started = Started {
            pid: child.id() as i32,
            stdin: Stdin::new(None),
            outputs: outputs([&stdout, &stderr], window),
            slave: None,
            oom_before: 0,
        };
        self.admit(Command::new(id, &spawn, started));
        child
    }

    /// Adds a command without a process.
    fn without_process(&mut self, id: u32) {
        let started = Started {
            pid: NO_PID + id as i32,
            stdin: Stdin::new(None),
            outputs: Outputs::new([None, None], false, WINDOW),
            slave: None,
            oom_before: UNKNOWN,
        };
        self.admit(Command::new(id, &spawn(Duration::ZERO), started));
    }

    fn admit(&mut self, command: Command) {
        let place = self.table.free_place().unwrap();
        self.table.admit(place, command, true);
    }

    fn command(&mut self, id: u32) -> &mut Command {
        self.table.find(id).unwrap()
    }

    /// Waits until the child has ended, and then reaps it as PID 1 does. `oom_kills` is the container's count at that
    /// time.
    fn reap(&mut self, child: &Child, oom_kills: u32) {
        let pid = child.id() as i32;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_raw(pid).unwrap()), options)
            .unwrap()
            .unwrap();
        assert!(self.table.reap(self.proc, pid, || oom_kills));
        assert!(!self.table.reap(self.proc, pid, || oom_kills), "the child was reaped");
    }

    fn read_output(&mut self, id: u32) {
        let Self { table, out, .. } = self;
        (0..2).for_each(|stream| table.find(id).unwrap().read_output(stream, out));
        out.flush().unwrap();
    }

    fn report(&mut self, id: u32) -> Report {
        self.table.judge(self.proc);
        let (mut commands, cgroups) = self.table.ends();
        commands.find(|command| command.id == id).unwrap().report(cgroups)
    }

    fn exit(&mut self, id: u32) -> Exit {
        match self.report(id) {
            Report::Exit(exit) => exit,
            other => panic!("{other:?}"),
        }
    }

    /// Returns the frames that the library received.
    fn frames(mut self) -> Vec<(u8, u32, Vec<u8>)> {
        self.out.flush().unwrap();
        assert!(self.out.is_empty());
        drop((self.out, self.writer));
        frames_of(self.reader)
    }
}

fn spawn(deadline: Duration) -> Spawn<'static> {
    Spawn {
        flags: 0,
        window: WINDOW,
        deadline: deadline.as_millis() as u64,
        cpu_time: 0,
        memory: 0,
        file_size: 0,
        pids: 0,
        size: Size::default(),
        argc: 1,
        envc: 0,
        cwd: c"",
        user: c"",
        texts: Fields(b"sh\0"),
    }
}

/// Duplicates the descriptor for the agent.
fn duplicate(fd: &impl AsRawFd) -> OwnedFd {
    let copy = sys::duplicate(fd.as_raw_fd()).unwrap();
    sys::set_nonblocking(copy.fd());
    copy
}

fn outputs(ends: [&PipeReader; 2], window: u32) -> Outputs {
    Outputs::new(ends.map(|end| Some(duplicate(end))), false, window)
}

#[test]
fn an_exit_is_reported_after_the_output() {
    let mut fixture = Fixture::new();
    let child = fixture.shell(7, "echo out; echo err >&2; exit 3", 0, Duration::ZERO);
    assert_eq!(fixture.command(7).pid(), Some(child.id() as i32));
    assert_eq!(fixture.report(7), Report::None, "the process was not reaped yet");
    fixture.reap(&child, 0);
    assert_eq!(fixture.command(7).pid(), None);
    fixture.read_output(7);
    assert_eq!(fixture.report(7), Report::None, "there is no credit for its output");
    assert!(!fixture.command(7).waits_for_output());
    fixture.command(7).outputs.add_credit(WINDOW).unwrap();
    assert!(fixture.command(7).waits_for_output());
    fixture.read_output(7);
    let exit = fixture.exit(7);
    assert_eq!((exit.signal, exit.code, exit.cause), (0, 3, Cause::Own));
    assert!(exit.peak_kib > 0 && !exit.all_dead && !exit.for_memory);
    assert_eq!(fixture.report(7), Report::None, "once");
    fixture.table.free();
    assert!(fixture.table.find(7).is_none(), "both outputs have ended");
    let expected = [
        (from_agent::STDOUT, 7, b"out\n".to_vec()),
        (from_agent::STDOUT_END, 7, Vec::new()),
        (from_agent::STDERR, 7, b"err\n".to_vec()),
        (from_agent::STDERR_END, 7, Vec::new()),
    ];
    assert_eq!(fixture.frames(), expected);
}

#[test]
fn output_taken_by_another_process_does_not_delay_the_exit() {
    let mut fixture = Fixture::new();
    let (mut stdout, to_stdout) = std::io::pipe().unwrap();
    let child = std::process::Command::new("echo").stdout(to_stdout).spawn().unwrap();
    let started = Started {
        pid: child.id() as i32,
        stdin: Stdin::new(None),
        outputs: Outputs::new([Some(duplicate(&stdout)), None], false, WINDOW),
        slave: None,
        oom_before: UNKNOWN,
    };
    fixture.admit(Command::new(1, &spawn(Duration::ZERO), started));
    fixture.reap(&child, UNKNOWN);
    assert_eq!(fixture.report(1), Report::None);
    assert_eq!(stdout.read(&mut [0; 10]).unwrap(), 1);
    let exit = fixture.exit(1);
    assert_eq!((exit.code, exit.oom_kills), (0, UNKNOWN));
}

#[test]
fn a_killed_command_is_reported_once_all_of_it_is_dead() {
    let mut fixture = Fixture::new();
    let mut child = fixture.shell(1, "exec sleep 60", WINDOW, Duration::ZERO);
    let proc = fixture.proc;
    fixture.command(1).begin_kill(proc, Cause::Kill);
    assert!(fixture.command(1).is_being_killed());
    let killing = fixture.command(1).killing().unwrap();
    fixture.command(1).begin_kill(proc, Cause::Deadline);
    fixture.command(1).has_killed(killing, Progress::GoesOn);
    child.kill().unwrap();
    fixture.reap(&child, 0);
    assert_eq!(
        fixture.report(1),
        Report::None,
        "other processes of the command may live"
    );
    fixture.command(1).has_killed(killing, Progress::AllDead);
    let exit = fixture.exit(1);
    assert_eq!((exit.signal, exit.code, exit.cause), (9, 0, Cause::Kill));
    assert!(exit.all_dead);
}

#[test]
fn a_command_that_is_to_end_is_reported_once_nothing_is_left_of_it() {
    let mut fixture = Fixture::new();
    let child = fixture.shell(1, "exit 3", WINDOW, Duration::from_secs(1000));
    let proc = fixture.proc;
    fixture.command(1).begin_stop();
    assert_eq!(
        fixture.command(1).stop_due(),
        None,
        "the first process was not reaped yet"
    );
    fixture.reap(&child, 0);
    assert!(fixture.command(1).stop_due().is_some() && fixture.command(1).due().is_some());
    let now = sys::now();
    fixture.command(1).has_looked(true, now);
    fixture.read_output(1);
    assert_eq!(fixture.report(1), Report::None, "something is left");
    assert!(fixture.command(1).stop_due().is_some_and(|due| due > now));
    fixture.command(1).has_looked(false, now);
    assert!(fixture.command(1).is_being_killed() && fixture.command(1).stop_due().is_none());
    assert_eq!(fixture.report(1), Report::None, "that is not proven yet");
    let killing = fixture.command(1).killing().unwrap();
    fixture.command(1).has_killed(killing, Progress::AllDead);
    let exit = fixture.exit(1);
    assert_eq!((exit.signal, exit.code, exit.cause), (0, 3, Cause::Stop));
    assert!(exit.all_dead);

    // A kill does not wait for what is left.
    let child = fixture.shell(2, "exit 4", WINDOW, Duration::ZERO);
    fixture.command(2).begin_stop();
    fixture.reap(&child, 0);
    fixture.command(2).begin_kill(proc, Cause::Kill);
    let killing = fixture.command(2).killing().unwrap();
    fixture.command(2).has_killed(killing, Progress::GaveUp);
    let exit = fixture.exit(2);
    assert_eq!((exit.code, exit.cause, exit.all_dead), (4, Cause::Stop, false));
}

#[test]
fn a_command_that_does_not_die_is_reported_and_keeps_its_place() {
    let mut fixture = Fixture::new();
    let mut child = fixture.shell(1, "exec sleep 60", WINDOW, Duration::ZERO);
    let proc = fixture.proc;
    fixture.command(1).begin_kill(proc, Cause::Deadline);
    let killing = fixture.command(1).killing().unwrap();
    fixture.command(1).has_killed(killing, Progress::GaveUp);
    let exit = fixture.exit(1);
    assert_eq!((exit.signal, exit.cause, exit.oom_kills), (9, Cause::Deadline, UNKNOWN));
    assert!(!exit.all_dead);
    fixture.table.free();
    let command = fixture.command(1);
    assert!(command.is_reported() && !command.is_over());
    assert_eq!(command.pid(), Some(child.id() as i32), "the process is not reaped yet");
    command.begin_kill(proc, Cause::Kill);
    assert!(!command.is_being_killed() && command.due().is_none());
    child.kill().unwrap();
    fixture.reap(&child, 0);
    assert_eq!(fixture.report(1), Report::None);
    fixture.read_output(1);
    fixture.table.free();
    assert!(fixture.table.find(1).is_none());
}

#[test]
fn a_deadline_kills_a_running_command_and_reports_an_ended_one() {
    let mut fixture = Fixture::new();
    let child = fixture.shell(1, "echo unread", 0, Duration::from_secs(1000));
    let due = fixture.command(1).due().unwrap();
    assert!(due > sys::now() && fixture.table.due(sys::now()) == Some(due));
    fixture.reap(&child, 0);
    assert_eq!(fixture.command(1).due(), Some(due), "unread output is left");
    assert_eq!(fixture.report(1), Report::None);
    let proc = fixture.proc;
    fixture.command(1).begin_kill(proc, Cause::Deadline);
    assert_eq!(fixture.command(1).due(), None);
    let exit = fixture.exit(1);
    assert_eq!((exit.code, exit.cause), (0, Cause::Own), "the command ended by itself");

    let mut child = fixture.shell(2, "exec sleep 60", 0, Duration::from_secs(1000));
    assert!(fixture.command(2).due().is_some());
    fixture.command(2).begin_kill(proc, Cause::Deadline);
    assert!(fixture.command(2).due().is_none() && fixture.command(2).is_being_killed());
    child.kill().unwrap();
    fixture.reap(&child, 0);
}

#[test]
fn only_a_command_killed_for_memory_is_reported_as_such() {
    let mut fixture = Fixture::new();
    let mut running = fixture.shell(1, "exec sleep 60", WINDOW, Duration::ZERO);
    let victim = fixture.shell(2, "kill -9 $$", WINDOW, Duration::ZERO);
    let shell = fixture.shell(3, "exit 137", WINDOW, Duration::ZERO);
    // The kernel has killed one process so far. The signal tells whose process it was.
    fixture.reap(&victim, 1);
    let exit = fixture.exit(2);
    assert_eq!((exit.signal, exit.oom_kills, exit.for_memory), (9, 1, true));
    fixture.reap(&shell, 1);
    let exit = fixture.exit(3);
    assert_eq!(
        (exit.code, exit.oom_kills, exit.for_memory),
        (137, 1, false),
        "explained"
    );
    // The kernel has killed another process, and no child died of a signal: the shell reports that its last command
    // did.
    let shell = fixture.shell(4, "exit 137", WINDOW, Duration::ZERO);
    fixture.reap(&shell, 2);
    let exit = fixture.exit(4);
    assert_eq!((exit.oom_kills, exit.for_memory), (2, true));
    running.kill().unwrap();
    fixture.reap(&running, 2);
    let exit = fixture.exit(1);
    assert_eq!(
        (exit.signal, exit.for_memory),
        (9, true),
        "the second kill is unexplained"
    );
}

#[test]
fn a_command_begun_after_a_kill_for_memory_is_not_blamed_for_it() {
    let mut fixture = Fixture::new();
    let child = fixture.shell(1, "kill -9 $$", WINDOW, Duration::ZERO);
    fixture.reap(&child, 0);
    let exit = fixture.exit(1);
    assert_eq!((exit.signal, exit.oom_kills, exit.for_memory), (9, 0, false));
}

#[test]
fn the_table_has_a_fixed_size_and_unwanted_output_gives_its_place_up() {
    let mut fixture = Fixture::new();
    for id in 1..=MAX_COMMANDS as u32 {
        fixture.without_process(id);
    }
    let full = Err((Stage::Table, Errno::AGAIN));
    assert_eq!(fixture.table.free_place(), full);
    fixture.command(5).outputs.discard();
    assert_eq!(fixture.table.free_place(), full, "the end was not reported");
    let proc = fixture.proc;
    for id in [5, 6] {
        fixture.command(id).begin_kill(proc, Cause::Kill);
        let killing = fixture.command(id).killing().unwrap();
        fixture.command(id).has_killed(killing, Progress::GaveUp);
        assert_eq!(fixture.exit(id).cause, Cause::Kill);
    }
    assert_eq!(fixture.table.free_place(), Ok(4));
    assert!(fixture.table.find(5).is_none() && fixture.table.find(6).is_some());
    fixture.without_process(100);
    assert_eq!(fixture.table.free_place(), full);
}

#[test]
fn input_arrives_complete_and_within_its_credit() {
    let mut fixture = Fixture::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut stdin = Stdin::new(Some(duplicate(&writer)));
    drop(writer);
    assert_eq!(stdin.wants_to_write(), None);
    let input: Vec<u8> = (0..STDIN_WINDOW).map(|i| (i % 251) as u8).collect();
    stdin.take(&input[..1000]).unwrap();
    stdin.take(&input[1000..]).unwrap();
    assert_eq!(stdin.take(b"x"), None, "there was no credit for it");
    assert!(stdin.wants_to_write().is_some());
    stdin.end();
    let read = std::thread::spawn(move || {
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        read
    });
    while stdin.wants_to_write().is_some() {
        stdin.write(1, &mut fixture.out);
        std::thread::yield_now();
    }
    assert_eq!(read.join().unwrap(), input);
}

#[test]
fn credit_for_input_is_granted_for_written_bytes() {
    let mut fixture = Fixture::new();
    let (_reader, writer) = std::io::pipe().unwrap();
    let mut stdin = Stdin::new(Some(duplicate(&writer)));
    for _ in 0..2 {
        stdin.take(&[7; 5000]).unwrap();
        stdin.write(1, &mut fixture.out);
        stdin.write(1, &mut fixture.out);
    }
    let credit = (from_agent::STDIN_CREDIT, 1, 5000u32.to_le_bytes().to_vec());
    assert_eq!(fixture.frames(), [credit.clone(), credit]);
}

#[test]
fn a_closed_input_is_reported_once() {
    let mut fixture = Fixture::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut stdin = Stdin::new(Some(duplicate(&writer)));
    drop(reader);
    stdin.take(b"for nobody").unwrap();
    stdin.write(1, &mut fixture.out);
    stdin.take(b"on its way").unwrap();
    stdin.write(1, &mut fixture.out);
    assert_eq!(fixture.frames(), [(from_agent::STDIN_CLOSED, 1, Vec::new())]);
}

#[test]
fn large_output_is_offered_as_a_pipe_and_goes_on_in_frames_if_refused() {
    let _alone = alone();
    let (library, agent) = std::os::unix::net::UnixStream::pair().unwrap();
    sys::set_nonblocking(agent.as_raw_fd());
    let mut out = Out::of(agent.as_raw_fd()).unwrap();
    let frames = std::thread::spawn(move || frames_of(library));
    let ((reader, mut writer), (_stderr, _to_stderr)) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
    let mut outputs = outputs([&reader, &_stderr], u32::MAX);
    drop(reader);
    assert_eq!(outputs.answer_pipe(0, true), None, "no pipe was offered");
    assert_eq!(outputs.answer_pipe(2, true), None, "there is no such stream");
    let mut printed = 0;
    let mut print = |outputs: &mut Outputs, out: &mut Out, len: usize| {
        writer.write_all(&vec![7; len]).unwrap();
        printed += len;
        while !outputs.read(1, 0, out).is_empty && outputs.wants_to_read(0, true).is_some() {}
        while !out.is_empty() {
            out.flush().unwrap();
            std::thread::yield_now();
        }
    };
    while outputs.wants_to_read(0, true).is_some() {
        print(&mut outputs, &mut out, 32 * 1024);
    }
    assert!(outputs.waits_for_hang_up(0).is_none(), "there is no answer yet");
    assert_eq!(
        outputs.answer_pipe(1, true),
        None,
        "the other stream's pipe was offered"
    );
    outputs.answer_pipe(0, false).unwrap();
    print(&mut outputs, &mut out, 32 * 1024);
    drop(writer);
    assert!(outputs.read(1, 0, &mut out).is_empty && !outputs.are_closed());
    out.flush().unwrap();
    drop((out, agent));
    let frames = frames.join().unwrap();
    let offers = |frame: &&(u8, u32, Vec<u8>)| frame.0 == from_agent::STDOUT_PIPE;
    assert_eq!(frames.iter().filter(offers).count(), 1);
    let before = frames.iter().take_while(|frame| frame.0 == from_agent::STDOUT);
    assert!(before.map(|frame| frame.2.len()).sum::<usize>() >= PIPE_AFTER);
    assert_eq!(frames.iter().map(|frame| frame.2.len()).sum::<usize>(), printed);
    assert_eq!(frames.last().unwrap().0, from_agent::STDOUT_END);
}

#[test]
fn a_pipe_that_the_library_reads_is_held_open_and_not_read() {
    let mut fixture = Fixture::new();
    let (library, agent) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut out = Out::of(agent.as_raw_fd()).unwrap();
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let mut outputs = Outputs::new([Some(duplicate(&reader)), None], false, u32::MAX);
    let frames = std::thread::spawn(move || frames_of(library));
    while outputs.wants_to_read(0, true).is_some() {
        writer.write_all(&[7; 32 * 1024]).unwrap();
        outputs.read(1, 0, &mut out);
        out.flush().unwrap();
    }
    outputs.answer_pipe(0, true).unwrap();
    assert!(outputs.waits_for_hang_up(0).is_some());
    assert_eq!(outputs.unread(0), 0, "the library reads the pipe itself");
    writer.write_all(b"for the library").unwrap();
    assert_eq!(outputs.read(1, 0, &mut fixture.out).len, 0);
    assert!(!outputs.are_closed());
    drop((out, agent));
    frames.join().unwrap();
    let mut rest = Vec::new();
    drop(writer);
    reader.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(b"for the library"));
    outputs.read(1, 0, &mut fixture.out);
    assert!(outputs.are_closed());
    assert_eq!(fixture.frames(), [], "there is no frame for its end");
}

#[test]
fn discarded_output_is_read_and_dropped() {
    let mut fixture = Fixture::new();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut outputs = Outputs::new([Some(duplicate(&reader)), None], false, 0);
    drop(reader);
    writer.write_all(&[7; 10_000]).unwrap();
    assert_eq!(outputs.wants_to_read(0, true), None, "there is no credit");
    outputs.discard();
    assert!(outputs.wants_to_read(0, false).is_some());
    let read = outputs.read(1, 0, &mut fixture.out);
    assert!(read.len == 10_000 && read.is_empty, "{}", read.len);
    drop(writer);
    outputs.read(1, 0, &mut fixture.out);
    assert!(outputs.are_closed());
    assert_eq!(fixture.frames(), [(from_agent::STDOUT_END, 1, Vec::new())]);
}

#[test]
fn a_command_is_killed_when_its_processes_together_have_used_up_its_processor_time() {
    let mut fixture = Fixture::new();
    fixture.cpu_time = Duration::from_millis(60);
    let proc = fixture.proc;
    // Two processes, in which the shell waits. A command of others is not looked at.
    let script = "spin() { while :; do :; done; }; spin & spin & wait";
    let mut child = fixture.shell(1, script, WINDOW, Duration::ZERO);
    fixture.cpu_time = Duration::ZERO;
    fixture.without_process(2);
    assert_eq!(fixture.command(2).cpu_due(), None, "it has no limit");
    let mut looks = 0;
    while !fixture.command(1).is_being_killed() {
        let due = fixture.command(1).cpu_due().expect("the command runs");
        let now = sys::now();
        assert!(fixture.table.due(now) <= Some(due));
        std::thread::sleep(Duration::from_micros(due.saturating_sub(now)));
        fixture.table.look_at_cpu_time(proc, sys::now());
        looks += 1;
        assert!(looks < 10_000, "the time is never used up");
    }
    assert_eq!(fixture.command(1).cpu_due(), None, "it is being killed");
    assert!(!fixture.command(2).is_being_killed());
    let others = processes_below(child.id());
    assert_eq!(others.len(), 2);
    child.kill().unwrap();
    for pid in others {
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    }
    fixture.reap(&child, 0);
    let killing = fixture.command(1).killing().unwrap();
    fixture.command(1).has_killed(killing, Progress::AllDead);
    let exit = fixture.exit(1);
    assert_eq!((exit.signal, exit.cause, exit.all_dead), (9, Cause::CpuTime, true));
}

/// Returns the children of a process.
fn processes_below(pid: u32) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn a_command_that_ends_by_itself_says_whether_its_time_was_used_up() {
    for (limit, used_up) in [(Duration::from_micros(1), true), (Duration::from_secs(60), false)] {
        let mut fixture = Fixture::new();
        fixture.cpu_time = limit;
        let child = fixture.shell(1, "exit 3", WINDOW, Duration::ZERO);
        fixture.reap(&child, 0);
        let exit = fixture.exit(1);
        assert_eq!((exit.code, exit.cause, exit.cpu_time_used_up), (3, Cause::Own, used_up));
    }
}
