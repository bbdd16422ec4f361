//! The rooms of `src/`. Each room may use only the rooms before it. This is the one place that defines their order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const ROOMS: [&str; 9] = [
    "values",
    "error",
    "runtime",
    "engine",
    "agent",
    "spec",
    "container",
    "exec",
    "pool",
];

/// Files outside of the order: the public interface, and the entry points of the fuzz targets.
const OUTSIDE: [&str; 2] = ["lib", "fuzzing"];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// Returns the rooms that the code of a file names. Comments do not count.
fn named(code: &str) -> Vec<String> {
    let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let after = code.split("crate::").skip(1);
    let names = after.map(|rest| {
        rest.split(|c: char| c != '_' && !c.is_ascii_lowercase())
            .next()
            .unwrap()
    });
    names.map(str::to_owned).collect()
}

#[test]
fn no_room_uses_a_later_room() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let place = |room: &str| ROOMS.iter().position(|known| *known == room);
    let mut found = Vec::new();
    files(&src, &mut found);
    let mut against = BTreeMap::<_, Vec<_>>::new();
    for file in &found {
        let inside = file.strip_prefix(&src).unwrap();
        let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if OUTSIDE.contains(&room) {
            continue;
        }
        let own = place(room).unwrap_or_else(|| panic!("{room} is not in ROOMS"));
        for other in named(&std::fs::read_to_string(file).unwrap()) {
            if place(&other).is_some_and(|other| other > own) {
                let arrow = (room.to_owned(), other);
                against.entry(arrow).or_default().push(inside.display().to_string());
            }
        }
    }
    assert!(against.is_empty(), "{against:#?}");
}

/// The files of the pool's room. Each file may use only the files before it.
const POOL: [&str; 35] = [
    "reuse",
    "idle",
    "item",
    "identity",
    "backend",
    "report",
    "roster",
    "creations",
    "pace",
    "ending",
    "lifetime",
    "kept",
    "watchdog",
    "hooks",
    "core",
    "deaths",
    "creating",
    "cleaning",
    "removing",
    "reclaim",
    "adopt",
    "sweep",
    "maintainer",
    "guard",
    "lease",
    "pool",
    "refresh",
    "error_callback",
    "engine_checks",
    "prepared",
    "builder",
    "lifetime_settings",
    "hook_settings",
    "build",
    "mod",
];

#[test]
fn no_file_of_the_pool_uses_a_later_file() {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pool");
    let place = |file: &str| POOL.iter().position(|known| *known == file);
    let mut found = Vec::new();
    files(&room, &mut found);
    for file in &found {
        let inside = file.strip_prefix(&room).unwrap();
        let name = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        let own = place(name).unwrap_or_else(|| panic!("{name} is not in POOL"));
        let code = std::fs::read_to_string(file).unwrap().replace("super::", "crate::");
        for other in named(&code) {
            assert!(place(&other).is_none_or(|other| other <= own), "{name} uses {other}");
        }
    }
}
