//! Proofs by the type system: code that the types forbid does not compile, and code that they allow compiles and
//! runs.
//!
//! The test compiles each case in `tests/compile/fail` against the library that this test is linked with. It compares
//! the messages of the compiler with the `.stderr` file beside the case. To regenerate these files:
//! `DOCKERPOOL_COMPILE=overwrite cargo test --test compile`.
//!
//! The messages differ between compilers, so they are compared with one version only ([`WRITTEN_WITH`]). With any
//! other version, the cases must still fail, with the same error codes. So the tests pass with every supported
//! compiler, and a new one cannot silently change what is proven.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The compiler version that produced the `.stderr` files.
const WRITTEN_WITH: &str = "rustc 1.95.";

/// The directory of the cases.
const CASES: &str = "tests/compile/fail";

#[path = "compile/pass/lifecycle.rs"]
mod lifecycle;
mod support;

#[test]
fn code_the_types_allow_compiles_and_runs() {
    lifecycle::main().unwrap();
}

#[test]
fn code_the_types_forbid_does_not_compile() {
    if support::lacks(support::Capability::Toolchain) {
        return;
    }
    let overwrite = env::var("DOCKERPOOL_COMPILE").as_deref() == Ok("overwrite");
    let words = run(rustc().arg("--version")).1;
    let is_the_same = words.starts_with(WRITTEN_WITH);
    let library = library();
    // Not `/dev/null`: if a case compiles, the compiler replaces its output file, and as root the device of the whole machine.
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile.rmeta");
    for case in cases() {
        let (is_built, words) = run(rustc()
            .args(["--edition=2024", "--crate-type=bin", "--emit=metadata", "-Adead_code"])
            .arg("-o")
            .arg(&output)
            .arg(format!("--extern=dockerpool={}", library.display()))
            .arg(format!("-Ldependency={}", library.parent().unwrap().display()))
            .arg(&case));
        assert!(!is_built, "{} compiles", case.display());
        let (words, file) = (plain(&words), case.with_extension("stderr"));
        if overwrite {
            fs::write(file, words).unwrap();
            continue;
        }
        let expected = plain(&fs::read_to_string(&file).unwrap());
        if is_the_same {
            assert_eq!(words, expected, "{}", case.display());
        } else {
            assert_eq!(errors(&words), errors(&expected), "{}", case.display());
        }
    }
}

/// Returns the compiler, run in the repository, so that it names files as under cargo.
fn rustc() -> Command {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or(OsString::from("rustc")));
    rustc.current_dir(env!("CARGO_MANIFEST_DIR"));
    rustc
}

/// Runs a command. Returns whether it succeeded, and its output.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("the compiler runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// Returns the library that was built last. It belongs to this binary, or is newer.
fn library() -> PathBuf {
    let built = fs::read_dir(env::current_exe().unwrap().parent().unwrap()).unwrap();
    let built = built.map(|entry| entry.unwrap()).filter(|entry| {
        let name = entry.file_name().into_string().unwrap_or_default();
        name.starts_with("libdockerpool-") && name.ends_with(".rlib")
    });
    let last = built.max_by_key(|entry| entry.metadata().unwrap().modified().unwrap());
    last.expect("the library is built").path()
}

fn cases() -> Vec<PathBuf> {
    let folder = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(CASES)).unwrap();
    let names = folder.map(|entry| Path::new(CASES).join(entry.unwrap().file_name()));
    let mut cases: Vec<_> = names
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "there are no cases");
    cases
}

/// Returns the messages of the compiler without line numbers, which change with every comment, and without the
/// summary.
fn plain(words: &str) -> String {
    let mut plain = String::new();
    for line in words.trim_end().lines() {
        if line.starts_with("error: aborting due to") {
            break;
        }
        let marked = line.trim_start_matches([' ', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
        let line = match marked.strip_prefix("-->") {
            Some(place) => {
                let file = place.trim().split(':').next().unwrap();
                format!(" --> {file}")
            }
            None if marked.starts_with(['|', '=']) => format!("  {marked}"),
            None if marked.starts_with("...") => "...".to_owned(),
            None => line.to_owned(),
        };
        plain += line.trim_end();
        plain.push('\n');
    }
    plain.trim_end().to_owned() + "\n"
}

/// Returns the heads of the errors: `error[E0599]`, or `error` if the compiler has no code for it.
fn errors(words: &str) -> Vec<&str> {
    let heads = words.lines().filter(|line| line.starts_with("error"));
    heads.filter_map(|line| line.split(':').next()).collect()
}
