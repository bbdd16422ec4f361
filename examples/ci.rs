//! A CI runner: the steps of a pipeline run one after the other in one container, and both outputs of each are one log that is printed
//! as it comes. What the steps have made is copied out in every case: also after a failure, a timeout, or Ctrl-C.
//!
//! ```sh
//! cargo run --example ci                     # a pipeline that passes
//! cargo run --example ci -- wait             # one that waits for Ctrl-C; there are also: fail, slow
//! cargo run --example ci -- pass artifacts   # where the artifacts go: a directory that is not there yet
//! ```
//!
//! Exits with 0 if all steps have passed, with 130 after Ctrl-C, or with the exit code of the step that failed (1 if it has none).

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dockerpool::{Error, Event, ExecVia, ExitStatus, FileLimits, Pool, PooledContainer, Reuse, Signal};
use tokio::sync::watch;

/// The source tree, and where it is in the container.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/ci_source");
const WORKSPACE: &str = "/work";
/// The directory of the container that is copied out.
const ARTIFACTS: &str = "/work/out";
/// How long a step may take to end after Ctrl-C.
const GRACE: Duration = Duration::from_secs(10);
/// How many bytes a step may print.
const LOG_LIMIT: u64 = 16 << 20;

/// A step: its name, its script, and its limit of time.
type Step = (&'static str, &'static str, Option<Duration>);

/// Returns the steps of a built-in pipeline.
fn pipeline(name: &str) -> Option<[Step; 3]> {
    let second: Step = match name {
        "pass" => ("test", "sh test.sh fig", None),
        "fail" => ("test", "sh test.sh kiwi", None),
        "slow" => ("test", "sleep 600", Some(Duration::from_millis(200))),
        "wait" => (
            "serve",
            "trap 'echo stopping; exit 1' INT; echo ready; while true; do sleep 1; done",
            None,
        ),
        _ => return None,
    };
    Some([
        ("build", "sh build.sh", Some(Duration::from_secs(60))),
        second,
        ("package", "mkdir out/v1; mv out/words out/v1; echo unsigned >&2", None),
    ])
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let Some(steps) = pipeline(&args.next().unwrap_or_else(|| "pass".to_owned())) else {
        eprintln!("usage: ci [pass|fail|slow|wait [ARTIFACTS]]");
        return Ok(ExitCode::from(2));
    };
    let default = || std::env::temp_dir().join(format!("ci-artifacts-{}", std::process::id()));
    let target = args.next().map_or_else(default, PathBuf::from);
    // A target that cannot be used is told now, and not when there is something to lose.
    std::fs::create_dir(&target).map_err(|error| format!("{}: {error}", target.display()))?;

    let mut run = Run::begin();
    let image = std::env::var("DOCKERPOOL_BUSYBOX_IMAGE").unwrap_or_else(|_| "busybox:1.36".to_owned());
    let pool = Pool::builder("ci")
        .image(image)
        .working_dir(WORKSPACE)
        .min_idle(0) // none is made to replace the one that is used
        .max_total(1)
        .reuse(Reuse::Never)
        .exec_via(ExecVia::Agent); // the exec API would kill the container to end a step, and the artifacts with it
    let pool = tokio::select! {
        pool = pool.build() => pool?, // may have to pull the image
        Ok(()) = run.ctrl_c.changed() => return Ok(ExitCode::from(130)),
    };
    let c = pool.acquire().await?;
    let copied = c.files().upload_dir(SOURCE, WORKSPACE).await?;
    run.log("ci", '=', format_args!("copied in: {} files", copied.files));
    c.files().create_dir_all(ARTIFACTS).await?;

    let code = run.steps(&c, &steps).await;
    let is_exported = run.export(&c, &target).await;
    drop(c);
    pool.shutdown().await?;
    Ok(ExitCode::from(match code? {
        0 if !is_exported => 1,
        code => code,
    }))
}

/// The run of a pipeline.
struct Run {
    begun: Instant,
    /// How often Ctrl-C was typed.
    ctrl_c: watch::Receiver<u32>,
}

impl Run {
    /// Begins to count Ctrl-C, which no longer ends the program.
    fn begin() -> Self {
        let (sender, ctrl_c) = watch::channel(0);
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                sender.send_modify(|count| *count += 1);
            }
        });
        let begun = Instant::now();
        Self { begun, ctrl_c }
    }

    /// Prints a line with the time since the begin: `[  0.012] build | text`. The mark of standard error is `!`, that of a script `$`.
    fn log(&self, name: &str, mark: char, text: impl Display) {
        println!("[{:7.3}] {name} {mark} {text}", self.begun.elapsed().as_secs_f64());
    }

    /// Runs the steps until one does not pass, or Ctrl-C. Returns the exit code.
    async fn steps(&mut self, c: &PooledContainer, steps: &[Step]) -> Result<u8, Error> {
        for step in steps {
            let status = self.step(c, step).await?;
            self.log(step.0, '=', status);
            match status.code() {
                _ if *self.ctrl_c.borrow() > 0 => return Ok(130), // whatever came of the step
                Some(0) => {}
                code => return Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
            }
        }
        Ok(0)
    }

    /// Runs one step, and prints its lines as they come.
    async fn step(&mut self, c: &PooledContainer, (name, script, limit): &Step) -> Result<ExitStatus, Error> {
        self.log(name, '$', script);
        let mut command = c.command("sh");
        command.args(["-e", "-c", script]);
        command.timeout(*limit).output_limit(LOG_LIMIT);
        let mut lines = command.spawn().await?.events().lines();
        loop {
            let event = tokio::select! {
                event = lines.next() => event.transpose()?,
                Ok(()) = self.ctrl_c.changed() => {
                    // Sends SIGINT to all processes of the step, and kills those that are left after the grace; at the second Ctrl-C,
                    // at once. `stop` would wait for the end, and the last lines would not be read.
                    let grace = if *self.ctrl_c.borrow() > 1 { Duration::ZERO } else { GRACE };
                    self.log(name, '=', format_args!("Ctrl-C: it has {} s to end", grace.as_secs()));
                    lines.child().start_stop(Signal::INT, grace)?;
                    continue;
                }
            };
            match event {
                Some(Event::Stdout(line)) => self.log(name, '|', line),
                Some(Event::Stderr(line)) => self.log(name, '!', line),
                Some(Event::Exit(status)) => return Ok(status),
                Some(_) => {}                           // no other events so far
                None => return Ok(ExitStatus::Unknown), // never before the exit
            }
        }
    }

    /// Copies the artifacts out, and nothing outside of the target is written, whatever they are. Returns whether all were copied.
    async fn export(&self, c: &PooledContainer, target: &Path) -> bool {
        let mut limits = FileLimits::default();
        (limits.bytes, limits.entries) = (64 << 20, 1000);
        match c.files().limits(limits).download_dir(ARTIFACTS, target).await {
            Ok(done) => {
                let to = target.display();
                self.log("ci", '=', format_args!("copied out: {} files to {to}", done.files));
                for skipped in &done.skipped {
                    self.log("ci", '!', format_args!("not copied: {skipped:?}"));
                }
                done.skipped_count == 0
            }
            Err(error) => {
                self.log("ci", '!', format_args!("artifacts may be missing: {error}"));
                false
            }
        }
    }
}
