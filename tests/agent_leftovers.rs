//! What an owner that was killed leaves on this machine: a directory with the agent's program, for the next owner to remove.

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use dockerpool::{ActiveExec, ExecVia};
use support::{Owner, pool};

/// Makes a run of this binary, in a process of its own, an owner.
const OWNER: &str = "DOCKERPOOL_TEST_OWNER";

/// An owner that has a pool, and its files in that folder.
fn owner(folder: &Path) -> Owner {
    Owner::start(|command| command.env(OWNER, "1").env("TMPDIR", folder))
}

/// Not a test of its own: what the owners do.
#[tokio::test]
async fn an_owner() {
    if std::env::var_os(OWNER).is_none() {
        return;
    }
    let pool = pool("leftovers").exec_via(ExecVia::Agent).build().await.unwrap();
    assert_eq!(pool.status().exec, ActiveExec::Agent);
    println!("\nready");
    std::future::pending::<()>().await;
    drop(pool);
}

fn entries(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn directories_of_dead_owners_are_removed_by_the_next_one_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut dead = owner(folder);
    let of_dead = entries(folder).pop_first().unwrap();
    let living = owner(folder);
    let of_living = entries(folder).into_iter().find(|name| *name != of_dead).unwrap();
    dead.kill();
    assert_eq!(entries(folder), [of_dead.clone(), of_living.clone()].into());

    // Of the dead one by its name, but somebody else's, and a link to that; of another machine; of nobody.
    let foreign = format!("{of_dead}0");
    std::fs::create_dir(folder.join(&foreign)).unwrap();
    std::os::unix::fs::chown(folder.join(&foreign), Some(65534), None).expect("this test needs root");
    let elsewhere = "dockerpool-11111111-2222-3333-4444-555555555555.4026531836.1.1-0".to_owned();
    let link = format!("{of_dead}1");
    std::os::unix::fs::symlink(folder.join(&foreign), folder.join(&link)).unwrap();
    for name in [&elsewhere, "dockerpool-unknown-0", "dockerpool-engine-x", "dockerpool-"] {
        std::fs::create_dir(folder.join(name)).unwrap();
    }
    std::fs::write(folder.join(&foreign).join("file"), "kept").unwrap();

    let mut expected = entries(folder);
    let next = owner(folder);
    assert!(expected.remove(&of_dead) && expected.remove(&link));
    let left = entries(folder);
    assert!(left.is_superset(&expected), "{left:?}");
    assert!(!left.contains(&of_dead), "{left:?}");
    // Its own.
    assert_eq!(left.len(), expected.len() + 1, "{left:?}");
    assert!(folder.join(&foreign).join("file").exists());
    drop((living, next));
}
