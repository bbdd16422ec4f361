//! A sandbox for code that you do not trust: what it has, what it refuses, and what is given up by name.
//!
//! ```sh
//! cargo run --example sandbox
//! ```

use dockerpool::{DockerEngine, Engine, Error, HowSeen, Pool, PooledContainer, Sandbox, Seccomp};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let image = std::env::var("DOCKERPOOL_PYTHON_IMAGE").unwrap_or_else(|_| "python:3.12-alpine".to_owned());
    let mut sandbox = Sandbox::strict();
    let engine = DockerEngine::connect().await?.check().await;
    if engine.is_ok_and(|engine| engine.version.starts_with("Podman")) {
        // Podman can neither be given a profile of system calls nor limit inodes.
        sandbox = sandbox.seccomp(Seccomp::engine()).inodes(None);
    }
    let builder = |sandbox| {
        Pool::builder("untrusted")
            .image(image.clone())
            .sandbox(sandbox)
            .memory(256 << 20)
    };

    // The build looks at a first container from its inside. Whatever is not as it was asked for is an error.
    let pool = builder(sandbox.clone()).build().await?;
    let report = pool.security().expect("the pool has a sandbox");
    let inside = report.items.iter().filter(|item| item.how_seen == HowSeen::Inside);
    println!("seen from the inside: {}", inside.count() > 10);
    for name in ["user", "capabilities", "root file system", "network"] {
        let item = report.item(name).expect("every sandbox has it");
        println!("{name}: {}", item.found);
    }
    // Of versions of the engine, its runtime and its kernel that are older than a fix.
    for warning in &report.warnings {
        eprintln!("warning: {warning}");
    }

    // Code does its work in /work and /tmp.
    let c = pool.acquire().await?;
    println!(
        "{}",
        run(
            &c,
            "import os; open('result', 'w').write('42'); print(os.getcwd(), os.listdir())"
        )
        .await?
    );
    for attempt in [
        "open('/etc/passwd', 'a')",
        "import os; os.setuid(0)",
        "import socket; socket.create_connection(('192.0.2.1', 80))",
        "import ctypes; assert ctypes.CDLL(None).mount(b'none', b'/work', b'tmpfs', 0, None) == 0, 'mount is refused'",
    ] {
        println!("{}", run(&c, attempt).await?);
    }
    drop(c);
    pool.shutdown().await?;

    // What contradicts the sandbox is an error that names the field, and the method that gives it up.
    let refused = builder(sandbox.clone()).read_only_root(false).build().await;
    println!("{}", refused.expect_err("the sandbox's root is read-only"));
    let pool = builder(sandbox.writable_root()).build().await?;
    let root = pool.security().and_then(|report| report.item("root file system"));
    println!("with writable_root(): {}", root.map_or("", |root| &root.found));
    pool.shutdown().await
}

/// Runs a Python program. Returns the last line that it has printed.
async fn run(c: &PooledContainer, program: &str) -> Result<String, Error> {
    let output = c.command("python3").args(["-c", program]).output().await?;
    let printed = [output.stdout_lossy(), output.stderr_lossy()].concat();
    Ok(printed.lines().last().unwrap_or_default().to_owned())
}
