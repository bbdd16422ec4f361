//! A code runner. It runs Python programs, each in a container that is as fresh: without a network, with a read-only root file
//! system, and with limits of time, output, memory, cpu and processes. Between two programs the pool cleans a container, and proves
//! that nothing is left. At the end the runner compares the costs of the defaults with those of a fresh container for each command.
//!
//! ```sh
//! cargo run --release --example code_runner -- examples/programs   # a folder: every .py in it
//! cargo run --release --example code_runner -- my.py other.py      # any files
//! echo 'print(6 * 7)' | cargo run --release --example code_runner -- -
//! ```
//!
//! `NAME.py` may have `NAME.in` (its standard input), `NAME.out` (the expected output) and `NAME.json` (the expected
//! end) beside it: see `examples/programs/README.md`. The runner exits with 1 if a program ended otherwise than
//! expected, and with 2 for wrong arguments.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dockerpool::{
    Container, ContainerSpec, DockerEngine, Engine, Error, ExecVia, ExitStatus, Output, Pool, Progress, Reuse,
};
use serde::Deserialize;
use tokio::task::JoinSet;

/// The limit of both outputs together.
const OUTPUT_LIMIT: u64 = 64 * 1024;
const TIME_LIMIT: Duration = Duration::from_secs(5);
const MEMORY: u64 = 64 << 20;
const PIDS: u32 = 64;
const CPUS: f64 = 1.0;

/// The number of programs that run at once.
const JOBS: usize = 4;

/// The number of leases by which costs are compared.
const COMPARED: usize = 20;

const USAGE: &str = "\
usage: code_runner FILE|FOLDER|- ...

Runs Python programs, each in a container that is as fresh. A folder means every .py file in it, - a program on standard input.
DOCKERPOOL_PYTHON_IMAGE names the image (default: python:3.12-alpine).";

type Failure = Box<dyn std::error::Error>;

struct Program {
    name: String,
    code: String,
    input: Vec<u8>,
    expected: Expected,
}

/// The expected end of a program.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Expected {
    outcome: OneOrMore,
    first_line: Option<String>,
    stdout_bytes: Option<usize>,
    stderr_contains: Option<String>,
    #[serde(skip)]
    stdout: Option<Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Default for OneOrMore {
    fn default() -> Self {
        Self::More(Vec::new())
    }
}

impl OneOrMore {
    fn all(&self) -> &[String] {
        match self {
            Self::One(outcome) => std::slice::from_ref(outcome),
            Self::More(outcomes) => outcomes,
        }
    }
}

/// One line of the table.
struct Row {
    name: String,
    outcome: String,
    time: Duration,
    bytes: usize,
    first_line: String,
    /// The first difference from the expectation.
    wrong: Option<String>,
    /// How long the acquire took, and whether a container was ready at once.
    acquired: (Duration, bool),
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "-h" || arg == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let programs = match read_programs(&args) {
        Ok(programs) => programs,
        Err(error) => {
            eprintln!("code_runner: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run_all(programs).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("code_runner: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

/// Runs all programs. Returns whether all ended as expected.
async fn run_all(programs: Vec<Program>) -> Result<bool, Failure> {
    let image = std::env::var("DOCKERPOOL_PYTHON_IMAGE").unwrap_or_else(|_| "python:3.12-alpine".to_owned());
    let engine: Arc<dyn Engine> = Arc::new(DockerEngine::connect().await?);
    let spec = ContainerSpec::new(image)
        .memory(MEMORY)
        .pids_limit(PIDS)
        .cpus(CPUS)
        // Files of a program are in memory: in /tmp, which the pool empties.
        .read_only_root(true)
        .working_dir("/tmp")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let jobs = JOBS.min(programs.len());
    let pool = Pool::builder("code-runner")
        .engine(engine.clone())
        .spec(spec.clone())
        .min_idle(jobs)
        .max_total(2 * jobs)
        .on_progress(show_progress)
        .build()
        .await?;
    clear_progress();

    // Without a pool, each program would have to wait this long.
    let begun = Instant::now();
    let container = Container::create(engine.clone(), spec.clone()).await?.start().await?;
    let cold = begun.elapsed();
    container.remove().await?;

    let begun = Instant::now();
    let mut waiting = programs.into_iter();
    let mut running = JoinSet::new();
    let mut rows = Vec::new();
    loop {
        while running.len() < jobs
            && let Some(program) = waiting.next()
        {
            running.spawn(run(pool.clone(), program));
        }
        match running.join_next().await {
            Some(row) => rows.push(row??),
            None => break,
        }
    }
    let took = begun.elapsed();
    let cleaned = pool.status().lifetime.cleaned;
    pool.shutdown().await?;

    rows.sort_by(|a, b| a.name.cmp(&b.name));
    print_table(&rows)?;
    let passed = rows.iter().filter(|row| row.wrong.is_none()).count();
    let (mut warm, mut waited) = (Vec::new(), 0);
    for row in &rows {
        match row.acquired {
            (time, true) => warm.push(time),
            (_, false) => waited += 1,
        }
    }
    let warm = match median(&mut warm) {
        Some(time) => format!("warm acquire {time:.1?} (median of {}; {waited} waited)", warm.len()),
        None => "no warm acquire".to_owned(),
    };
    println!(
        "\n{passed} of {} passed; {warm}, cold create {cold:.1?}; {:.1} commands/s; {cleaned} containers cleaned and lent again",
        rows.len(),
        rows.len() as f64 / took.as_secs_f64()
    );
    compare(&engine, &spec).await?;
    Ok(passed == rows.len())
}

/// Prints what one short command costs with the defaults, and in a fresh container by the engine's exec API.
async fn compare(engine: &Arc<dyn Engine>, spec: &ContainerSpec) -> Result<(), Failure> {
    println!("\n{COMPARED} leases with one `true` each     acquire        true  commands/s");
    for (words, via, reuse) in [
        ("the defaults: the agent, cleaned", ExecVia::default(), Reuse::default()),
        ("exec API, a fresh container each", ExecVia::Docker, Reuse::Never),
    ] {
        let pool = Pool::builder("compared")
            .engine(engine.clone())
            .spec(spec.clone())
            .exec_via(via)
            .reuse(reuse)
            .min_idle(2)
            .build()
            .await?;
        let (mut acquires, mut commands) = (Vec::new(), Vec::new());
        let begun = Instant::now();
        for _ in 0..COMPARED {
            let asked = Instant::now();
            let c = pool.acquire().await?;
            acquires.push(asked.elapsed());
            let started = Instant::now();
            let _ = c.command("true").status().await?;
            commands.push(started.elapsed());
        }
        let took = begun.elapsed();
        pool.shutdown().await?;
        let (acquire, command) = (median(&mut acquires), median(&mut commands));
        println!(
            "{words}  {:>9.1?}  {:>10.2?}  {:>10.1}",
            acquire.unwrap_or_default(),
            command.unwrap_or_default(),
            COMPARED as f64 / took.as_secs_f64()
        );
    }
    Ok(())
}

/// Runs one program. Only a failed acquire is an error.
async fn run(pool: Pool, program: Program) -> Result<Row, Error> {
    let begun = Instant::now();
    let (container, at_once) = match pool.try_acquire()? {
        Some(container) => (container, true),
        None => (pool.acquire().await?, false),
    };
    let acquired = (begun.elapsed(), at_once);

    let result = container
        .command("python3")
        .args(["-c", &program.code])
        .stdin(program.input)
        .timeout(TIME_LIMIT)
        .output_limit(OUTPUT_LIMIT)
        .output()
        .await;
    Ok(match result {
        Ok(output) => Row {
            outcome: outcome(output.status),
            time: output.usage.wall,
            bytes: output.stdout.len() + output.stderr.len(),
            first_line: first_line(&output),
            wrong: program.expected.difference(&output),
            name: program.name,
            acquired,
        },
        // The program could not be run: its text is too long for a command line, or the engine failed.
        Err(error) => Row {
            outcome: "error".to_owned(),
            time: begun.elapsed(),
            bytes: 0,
            first_line: String::new(),
            wrong: Some(error.to_string()),
            name: program.name,
            acquired,
        },
    })
}

/// Names the end of a program in the words of the JSON files: an output limit without its size.
fn outcome(status: ExitStatus) -> String {
    match status {
        ExitStatus::OutputLimit { .. } => "output limit".to_owned(),
        status => status.to_string(),
    }
}

impl Expected {
    /// Returns the first difference from the expectation.
    fn difference(&self, output: &Output) -> Option<String> {
        let outcome = outcome(output.status);
        let outcomes = self.outcome.all();
        if !outcomes.is_empty() && !outcomes.contains(&outcome) {
            return Some(format!("expected {}", outcomes.join(" or ")));
        }
        if let Some(bytes) = self.stdout_bytes
            && output.stdout.len() != bytes
        {
            return Some(format!("expected {bytes} bytes, not {}", output.stdout.len()));
        }
        if let Some(stdout) = &self.stdout
            && output.stdout != *stdout
        {
            return Some("printed something else than expected".to_owned());
        }
        if let Some(line) = &self.first_line
            && output.stdout_lossy().lines().next() != Some(line)
        {
            return Some(format!("expected the first line {line:?}"));
        }
        if let Some(words) = &self.stderr_contains
            && !output.stderr_lossy().contains(words)
        {
            return Some(format!("expected {words:?} on standard error"));
        }
        None
    }
}

/// Returns the first line of standard output, or else the last line of standard error, which holds Python's error.
/// Programs are not trusted, so control characters are escaped.
fn first_line(output: &Output) -> String {
    const WIDTH: usize = 60;
    let (stdout, stderr) = (output.stdout_lossy(), output.stderr_lossy());
    let line = stdout.lines().next().or_else(|| stderr.lines().next_back());
    let mut shown = String::new();
    for (i, c) in line.unwrap_or_default().chars().enumerate() {
        if i == WIDTH {
            shown.push('…');
            break;
        }
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

fn print_table(rows: &[Row]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let name_width = rows
        .iter()
        .map(|row| row.name.chars().count())
        .max()
        .unwrap_or(0)
        .max(7);
    writeln!(
        out,
        "   {:name_width$}  {:<13}  {:>7}  {:>7}  first line",
        "program", "outcome", "time", "bytes"
    )?;
    for row in rows {
        let mark = if row.wrong.is_none() { "ok" } else { "XX" };
        let time = format!("{:.2} s", row.time.as_secs_f64());
        writeln!(
            out,
            "{mark} {:name_width$}  {:<13}  {time:>7}  {:>7}  {}",
            row.name, row.outcome, row.bytes, row.first_line
        )?;
        if let Some(wrong) = &row.wrong {
            writeln!(out, "   {:name_width$}  ^ {wrong}", "")?;
        }
    }
    Ok(())
}

fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort();
    times.get(times.len() / 2).copied()
}

/// Shows the progress of pulling and warming: in one line at a terminal, and otherwise in one line for each step.
fn show_progress(progress: Progress) {
    let text = match progress {
        Progress::Pulling { image, status } => format!("pulling {image}: {status}"),
        Progress::ImageReady { image } => format!("image {image} is there"),
        Progress::Warming { ready, wanted } => format!("warming: {ready} of {wanted} containers ready"),
        _ => return,
    };
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
    } else {
        eprintln!("{text}");
    }
}

fn clear_progress() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

/// Reads all programs before the first one runs.
fn read_programs(args: &[String]) -> Result<Vec<Program>, Failure> {
    let mut programs = Vec::new();
    for arg in args {
        if arg == "-" {
            let mut code = String::new();
            std::io::stdin()
                .read_to_string(&mut code)
                .map_err(|error| format!("standard input cannot be read: {error}"))?;
            programs.push(Program {
                name: "-".to_owned(),
                code,
                input: Vec::new(),
                expected: Expected::default(),
            });
        } else if arg.starts_with('-') {
            return Err(format!("unknown option {arg}").into());
        } else if Path::new(arg).is_dir() {
            let mut files: Vec<PathBuf> = std::fs::read_dir(arg)
                .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
                .map_err(|error| format!("{arg} cannot be read: {error}"))?;
            files.retain(|file| file.extension().is_some_and(|extension| extension == "py"));
            files.sort();
            if files.is_empty() {
                return Err(format!("there is no .py file in {arg}").into());
            }
            for file in files {
                programs.push(read_program(&file)?);
            }
        } else {
            programs.push(read_program(Path::new(arg))?);
        }
    }
    if programs.is_empty() {
        return Err("no program is given".into());
    }
    Ok(programs)
}

fn read_program(file: &Path) -> Result<Program, Failure> {
    let said = |file: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let code = std::fs::read_to_string(file).map_err(|error| said(file, &error))?;
    // A missing file means no expectation.
    let beside = |extension| {
        let file = file.with_extension(extension);
        match std::fs::read(&file) {
            Ok(data) => Ok(Some(data)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(said(&file, &error)),
        }
    };
    let mut expected: Expected = match beside("json")? {
        Some(text) => serde_json::from_slice(&text).map_err(|error| said(&file.with_extension("json"), &error))?,
        None => Expected::default(),
    };
    expected.stdout = beside("out")?;
    Ok(Program {
        name: file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        code,
        input: beside("in")?.unwrap_or_default(),
        expected,
    })
}
