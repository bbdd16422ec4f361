//! An online judge: submissions in C and in Python that nobody trusts, each compiled and then run on several cases.
//!
//! Each compilation and each case has a lease of its own, so that none finds what another has left, not even one of the same
//! submission. Between its leases a submission is bytes in this process.
//!
//! ```sh
//! ./dev server-images # makes dockerpool-local/judge:1; or name an image with cc and python3 in DOCKERPOOL_JUDGE_IMAGE
//! cargo run --example judge
//! ```

use std::sync::Arc;
use std::time::Duration;

use dockerpool::{CommandDefaults, Error, ExecVia, ExitStatus, Pool, PooledContainer, Reuse, Sandbox, Stdio};
use tokio::sync::{Mutex, mpsc, oneshot};

const WORKERS: usize = 3;

/// The task is to print the sum of two numbers.
const CASES: [(&str, &str); 3] = [("1 2", "3"), ("-7 7", "0"), ("2000000000 2000000000", "4000000000")];

const SUBMISSIONS: [Submission; 13] = [
    Submission("right.c", include_str!("judge/right.c")),
    Submission("right.py", include_str!("judge/right.py")),
    Submission("small_type.c", include_str!("judge/small_type.c")),
    Submission("endless_loop.py", include_str!("judge/endless_loop.py")),
    Submission("memory_hog.c", include_str!("judge/memory_hog.c")),
    Submission("fork_bomb.c", include_str!("judge/fork_bomb.c")),
    Submission("output_flood.py", include_str!("judge/output_flood.py")),
    Submission("large_file.c", include_str!("judge/large_file.c")),
    Submission("division_by_zero.py", include_str!("judge/division_by_zero.py")),
    Submission("bad_syntax.c", include_str!("judge/bad_syntax.c")),
    Submission("bad_syntax.py", include_str!("judge/bad_syntax.py")),
    Submission("leaves_files.c", include_str!("judge/leaves_files.c")),
    Submission("looks_for_files.py", include_str!("judge/looks_for_files.py")),
];

/// The name and the source.
struct Submission(&'static str, &'static str);

struct Language {
    source: &'static str,
    compile: &'static [&'static str],
    /// The file that goes from the compilation to the cases.
    program: &'static str,
    run: &'static [&'static str],
}

const C: Language = Language {
    source: "/work/main.c",
    compile: &["cc", "-o", "/work/main", "/work/main.c", "-lm"],
    program: "/work/main",
    run: &["/work/main"],
};

const PYTHON: Language = Language {
    source: "/work/main.py",
    compile: &["python3", "-m", "py_compile", "/work/main.py"],
    program: "/work/main.py",
    run: &["python3", "/work/main.py"],
};

#[derive(Default)]
struct Report {
    verdict: String,
    /// The most processor time of a case.
    time: Duration,
    /// The most memory of a process of a case.
    memory: u64,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Job = (Submission, oneshot::Sender<Result<Report, Failure>>);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let image = std::env::var("DOCKERPOOL_JUDGE_IMAGE").unwrap_or_else(|_| "dockerpool-local/judge:1".to_owned());
    // For the compiler too: the author of a program decides what its compiler does.
    let limits = CommandDefaults::new()
        .cpu_time(Duration::from_secs(2)) // whatever else the machine does meanwhile
        .timeout(Duration::from_secs(20)) // for a program that just waits
        .output_limit(64 * 1024)
        .file_size(4 << 20);
    let pool = Pool::builder("judge")
        .image(image)
        .sandbox(Sandbox::strict())
        .reuse(Reuse::Clean) // the default: nothing of a lease is left, or the container is replaced
        .exec_via(ExecVia::Agent) // which alone limits processor time; without it, building fails
        .command_defaults(limits)
        // These two limit the container, in which one command runs at a time. In a sandbox, `Command::memory` has allocations
        // fail, so that it is up to the program what follows; and `Command::processes` counts what the user of all sandboxes
        // runs on the machine, so that a fork bomb takes the processes of other submissions.
        .memory("128m")
        .pids_limit(32)
        .min_idle(WORKERS)
        .max_total(WORKERS)
        .build()
        .await?;

    let (queue, waiting) = mpsc::channel(100);
    let waiting = Arc::new(Mutex::new(waiting));
    for _ in 0..WORKERS {
        tokio::spawn(work(pool.clone(), waiting.clone()));
    }
    let mut answers = Vec::new();
    for submission in SUBMISSIONS {
        let (tell, told) = oneshot::channel();
        answers.push((submission.0, told));
        queue.send((submission, tell)).await?;
    }
    drop(queue); // the workers end when it is empty
    for (name, told) in answers {
        match told.await? {
            Ok(Report { verdict, time, memory }) => {
                let (time, memory) = (time.as_secs_f64(), memory >> 10);
                println!("{name:<19} | {verdict:<21} | {time:.2} s | {memory} KiB");
            }
            // The judge has failed, and not the submission.
            Err(error) => println!("{name:<19} | not judged: {error}"),
        }
    }
    let count = pool.status().lifetime;
    eprintln!("{} leases, {} containers", count.lent, count.created);
    Ok(pool.shutdown().await?)
}

async fn work(pool: Pool, waiting: Arc<Mutex<mpsc::Receiver<Job>>>) {
    loop {
        // A statement of its own, so that no lock is held while the worker judges.
        let next = waiting.lock().await.recv().await;
        let Some((submission, tell)) = next else { break };
        let report = judge(&pool, &submission).await;
        let _ = tell.send(report); // the caller may be gone
    }
}

/// Judges a submission, up to the first case that it fails.
async fn judge(pool: &Pool, Submission(name, source): &Submission) -> Result<Report, Failure> {
    let language = if name.ends_with(".c") { C } else { PYTHON };
    let mut report = Report::default();
    let Some(program) = compile(pool, &language, source).await? else {
        report.verdict = "Compile error".to_owned();
        return Ok(report);
    };
    for (i, (input, expected)) in CASES.iter().enumerate() {
        let c = lease_with(pool, language.program, &program).await?;
        let mut command = c.command(language.run[0]);
        command.args(&language.run[1..]).stdin(*input).stderr(Stdio::null());
        let verdict = match command.output().await {
            Ok(output) => {
                let usage = output.usage;
                report.time = report.time.max(usage.cpu_time().unwrap_or_default());
                report.memory = report.memory.max(usage.peak_memory.unwrap_or_default());
                match failure(output.status)? {
                    // White space does not matter.
                    None if output.stdout_lossy().split_whitespace().eq(expected.split_whitespace()) => continue,
                    None => "Wrong answer",
                    Some(verdict) => verdict,
                }
            }
            // The kernel refuses the program: a source can have a compiler make what is none.
            Err(Error::CannotStart { .. }) => "Runtime error",
            Err(error) => return Err(error.into()),
        };
        report.verdict = format!("{verdict}, case {}", i + 1);
        return Ok(report);
    }
    report.verdict = "Accepted".to_owned();
    Ok(report)
}

/// Returns the program, if the source compiles.
async fn compile(pool: &Pool, language: &Language, source: &str) -> Result<Option<Vec<u8>>, Failure> {
    let c = lease_with(pool, language.source, source.as_bytes()).await?;
    let mut compiler = c.command(language.compile[0]);
    let output = compiler.args(&language.compile[1..]).output().await?;
    match failure(output.status)? {
        None => Ok(Some(c.files().read_to_vec(language.program).await?)),
        Some(_) => Ok(None),
    }
}

/// Leases a container with a single file in it, which may be executed.
async fn lease_with(pool: &Pool, path: &str, data: &[u8]) -> Result<PooledContainer, Error> {
    let c = pool.acquire().await?;
    c.files().mode(0o755).write(path, data).await?;
    Ok(c)
}

/// Returns the verdict on a command that has failed. `Err`: its own end is not known, as where the container is gone.
fn failure(status: ExitStatus) -> Result<Option<&'static str>, Failure> {
    match status {
        ExitStatus::Exited(0) => Ok(None),
        ExitStatus::Exited(_) | ExitStatus::Signaled(_) => Ok(Some("Runtime error")),
        ExitStatus::CpuTime | ExitStatus::TimedOut => Ok(Some("Time limit")),
        ExitStatus::OutOfMemory { .. } => Ok(Some("Memory limit")),
        ExitStatus::OutputLimit { .. } | ExitStatus::FileSize => Ok(Some("Output limit")),
        other => Err(other.to_string().into()),
    }
}
