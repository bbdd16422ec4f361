//! What the types forbid does not compile, and what they allow does, and runs.
//!
//! The cases in `tests/compile/fail` are compiled by trybuild, which compares what the compiler says with the `.stderr`
//! file beside each. To write these anew: `TRYBUILD=overwrite cargo test --test compile`.
//!
//! The words differ from compiler to compiler, so they are compared on one version only ([`WRITTEN_WITH`]). On any other
//! the cases must still fail, and with the same error codes: there trybuild works on a copy of the cases, to which it may
//! write what that compiler says. So the tests pass with every compiler the crate builds with, and a new one cannot make
//! the proofs mean something else unseen.
//!
//! trybuild checks a package of its own with all that the package under test depends on, in a target folder of its own.
//! That package is a small one here, without what only the other tests and the benchmarks need. It is checked, not built, and
//! what was checked once is kept in `target/tmp/compile`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The compiler whose words are in the `.stderr` files.
const WRITTEN_WITH: &str = "rustc 1.95.";

/// Says to the process that trybuild runs in where the cases are.
const CASES: &str = "DOCKERPOOL_COMPILE_CASES";

const MANIFEST: &str = r#"
[package]
name = "dockerpool-compile"
version = "0.0.0"
edition = "2024"
publish = false

[dependencies]
dockerpool = { path = "REPOSITORY" }

[workspace]
"#;

#[path = "compile/pass/lifecycle.rs"]
mod lifecycle;
mod support;

#[test]
fn what_the_types_allow_compiles_and_runs() {
    lifecycle::main().unwrap();
}

#[test]
fn what_the_types_forbid_does_not_compile() {
    if let Some(cases) = env::var_os(CASES) {
        let pattern = Path::new(&cases).join("*.rs");
        trybuild::TestCases::new().compile_fail(pattern);
        return;
    }
    if support::lacks(support::Capability::Toolchain) {
        return;
    }
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile/fail");
    if compiler().starts_with(WRITTEN_WITH) {
        run_trybuild(&cases, None);
        return;
    }
    let copy = workspace().join("cases");
    let _ = fs::remove_dir_all(&copy);
    fs::create_dir_all(&copy).unwrap();
    for case in files(&cases, "rs") {
        fs::copy(&case, copy.join(case.file_name().unwrap())).unwrap();
    }
    run_trybuild(&copy, Some("overwrite"));
    for words in files(&cases, "stderr") {
        let theirs = copy.join(words.file_name().unwrap());
        assert_eq!(errors(&theirs), errors(&words), "{}", theirs.display());
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile")
}

fn compiler() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or(OsString::from("rustc"));
    let output = Command::new(rustc).arg("--version").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// In a process of its own, since trybuild takes its package and its mode from the environment.
fn run_trybuild(cases: &Path, mode: Option<&str>) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = workspace().join("package");
    fs::create_dir_all(package.join("src")).unwrap();
    fs::write(package.join("src/lib.rs"), "").unwrap();
    let manifest = MANIFEST.replace("REPOSITORY", repository.to_str().unwrap());
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    // The same versions as everywhere, so that nothing needs the network.
    fs::copy(repository.join("Cargo.lock"), package.join("Cargo.lock")).unwrap();

    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "what_the_types_forbid_does_not_compile", "--nocapture"])
        .current_dir(&package)
        .env(CASES, cases)
        .env("CARGO_MANIFEST_DIR", &package)
        .env("CARGO_TARGET_DIR", workspace().join("target"));
    if let Some(mode) = mode {
        command.env("TRYBUILD", mode);
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no .{extension} in {}", folder.display());
    found
}

/// `error[E0599]`, or `error` where the compiler has no code for it.
fn errors(words: &Path) -> Vec<String> {
    let words = fs::read_to_string(words).unwrap();
    let heads = words.lines().filter(|line| line.starts_with("error"));
    heads
        .filter_map(|line| line.split(':').next().map(str::to_owned))
        .collect()
}
