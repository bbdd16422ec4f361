//! Ordinary work leaves containers that are lent again: the programs of the demo, with the defaults of `Clean`.

use std::path::PathBuf;
use std::time::Duration;

use dockerpool::{ExecVia, Pool, Reuse};

use crate::give_back;
use crate::support::python;

/// Enough for each program that ends by itself, on a busy machine too. The others are ended sooner or later.
const LIMIT: Duration = Duration::from_secs(4);

/// The number of pools, of one container each.
const POOLS: usize = 4;

/// The least number of the 51 programs after which the container is lent again.
const LEAST: usize = 45;

/// Returns the programs, in the order of their names.
fn programs() -> Vec<PathBuf> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/programs");
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut programs: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "py"))
        .collect();
    programs.sort();
    programs
}

/// Runs programs, each in a lease of one container. Returns why the container was replaced after some of them.
async fn run(pool: Pool, programs: Vec<PathBuf>) -> Vec<String> {
    let mut replaced = Vec::new();
    for program in programs {
        let name = program.file_stem().unwrap().to_string_lossy().into_owned();
        let c = pool.acquire().await.unwrap();
        let mut command = c.command("python3");
        command.args(["-c", &std::fs::read_to_string(&program).unwrap()]);
        command.stdin(std::fs::read(program.with_extension("in")).unwrap_or_default());
        let output = command.timeout(LIMIT).output_limit(64 << 10).output().await;
        let status = output.unwrap_or_else(|error| panic!("{name}: {error}")).status;
        let taint = c.taint();
        let before = pool.status().lifetime;
        give_back(&pool, c).await;
        let now = pool.status().lifetime;
        if now.unclean > before.unclean {
            replaced.push(format!("{name} ({status}): {}", pool.last_unclean().unwrap()));
        } else if now.cleaned == before.cleaned {
            replaced.push(format!("{name} ({status}): {taint:?}"));
        }
    }
    pool.shutdown().await.unwrap();
    replaced
}

#[tokio::test]
async fn containers_are_lent_again_after_the_programs_of_the_demo() {
    let programs = programs();
    assert_eq!(programs.len(), 51);
    let mut running = tokio::task::JoinSet::new();
    for part in 0..POOLS {
        let pool = Pool::builder("ordinary")
            .image(python())
            .min_idle(0)
            .max_total(1)
            .memory(64 << 20)
            .pids_limit(64)
            .cpus(1.0)
            .working_dir("/tmp")
            .exec_via(ExecVia::Auto)
            .reuse(Reuse::Clean);
        let mine = programs.iter().skip(part).step_by(POOLS).cloned().collect();
        running.spawn(async move { run(pool.build().await.unwrap(), mine).await });
    }
    let replaced = running.join_all().await.concat();
    for why in &replaced {
        println!("replaced after {why}");
    }
    assert!(programs.len() - replaced.len() >= LEAST, "{replaced:#?}");
}
