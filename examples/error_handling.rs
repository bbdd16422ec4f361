//! The errors of the library, and how a program distinguishes them: bad settings, a missing image, a missing program, a
//! command that fails or takes too long, no container in time, a pool that is shut down.
//!
//! ```sh
//! cargo run --example error_handling
//! ```

use std::time::Duration;

use dockerpool::{EngineErrorKind, Error, ExitStatus, Pool, PullPolicy};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let image = std::env::var("DOCKERPOOL_BUSYBOX_IMAGE").unwrap_or_else(|_| "busybox:1.36".to_owned());

    // One error lists all bad settings by name. The builder reports it before any other work.
    match Pool::builder("").image("").max_total(0).build().await {
        Err(Error::Config(problems)) => {
            for problem in problems {
                println!("bad setting: {problem}");
            }
        }
        other => println!("unexpected: {other:?}"),
    }

    let missing = Pool::builder("errors")
        .image("no-such-image:1")
        .pull(PullPolicy::Never)
        .build()
        .await;
    if let Err(error) = missing {
        let kind = error.engine_error().map(|error| error.kind());
        println!(
            "no image: {} (retry: {})",
            kind == Some(EngineErrorKind::ImageNotFound),
            error.is_retryable()
        );
    }

    let pool = Pool::builder("errors").image(image).max_total(1).build().await?;
    {
        let c = pool.acquire().await?;

        // A failed command is not an error. Its output and its status are kept.
        let output = c.exec(["sh", "-c", "echo half; echo why >&2; exit 3"]).await?;
        println!("failed: {}, printed {:?}", output.status, output.stdout_lossy());
        // `check` makes an error of it.
        if let Err(Error::Command(failed)) = output.check() {
            println!(
                "as an error: {} {:?}",
                failed.output.status,
                failed.output.stderr_lossy()
            );
        }

        // A missing program is an error: nothing ran, and the container stays usable.
        match c.command("no-such-program").output().await {
            Err(error @ Error::CannotStart { .. }) => println!("cannot start: {}", error.program().unwrap_or_default()),
            other => println!("unexpected: {other:?}"),
        }

        // The only container of the pool is lent.
        match pool.acquire_timeout(Duration::from_millis(50)).await {
            Err(error @ Error::AcquireTimeout(_)) => println!("no container in time (retry: {})", error.is_retryable()),
            other => println!("unexpected: {other:?}"),
        }

        let output = c
            .command("sh")
            .args(["-c", "echo before; sleep 60"])
            .timeout(Duration::from_secs(1))
            .output()
            .await?;
        println!(
            "too slow: {}, printed {:?}, the container goes on: {}",
            output.status,
            output.stdout_lossy(),
            c.command("true").status().await? == ExitStatus::Exited(0)
        );
    }

    // The pool has cleaned the container.
    let status = pool.acquire().await?.command("true").status().await?;
    println!("and on: {}", status == ExitStatus::Exited(0));

    pool.shutdown().await?;
    match pool.acquire().await {
        Err(error) if error.is_shutdown() => println!("after the end: {error}"),
        other => println!("unexpected: {other:?}"),
    }
    Ok(())
}
