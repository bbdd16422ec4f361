//! Watching files and directories.

use std::io::ErrorKind;
use std::time::Duration;

use dockerpool::{FileChange, FileEvent, FileWatch};

use crate::{kind, pool, sh, support, with_agent};

/// Reads events until one has this change and name, and returns all of them.
async fn until(watch: &mut FileWatch<'_>, change: FileChange, name: &str) -> Vec<FileEvent> {
    let mut events = Vec::new();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(60), watch.next()).await;
        let event = next.expect("the event comes").unwrap().expect("the watch goes on");
        let is_last = event.change == change && event.name == name;
        events.push(event);
        if is_last {
            return events;
        }
    }
}

/// Returns each change with its name, without what is said of attributes.
fn short(events: &[FileEvent]) -> Vec<(FileChange, String)> {
    let events = events.iter().filter(|event| event.change != FileChange::Attributes);
    events
        .map(|event| (event.change, event.name_lossy().into_owned()))
        .collect()
}

#[tokio::test]
async fn all_changes_of_a_directory_are_told_in_order() {
    use FileChange::*;

    with_agent(async |c| {
        c.files().create_dir_all("/tmp/dir/inner").await.unwrap();
        let mut watch = c.files().watch("/tmp/dir").await.unwrap();
        sh(
            c,
            "cd /tmp/dir; echo 1 >a; mv a b; chmod 600 b; rm b; mkdir sub; echo 1 >inner/unseen; touch last",
        )
        .await;
        let events = until(&mut watch, Written, "last").await;
        let name = str::to_owned;
        assert_eq!(
            short(&events),
            [
                (Created, name("a")),
                (Modified, name("a")),
                (Written, name("a")),
                (RenamedFrom, name("a")),
                (RenamedTo, name("b")),
                (Removed, name("b")),
                (Created, name("sub")),
                (Created, name("last")),
                (Written, name("last")),
            ]
        );
        let of = |change| events.iter().find(|event| event.change == change).unwrap();
        assert_eq!(of(RenamedFrom).rename, of(RenamedTo).rename);
        assert!(of(RenamedFrom).rename.is_some() && of(Created).rename.is_none());
        assert!(
            events
                .iter()
                .any(|event| event.change == Attributes && event.name == "b")
        );
        assert!(events.iter().all(|event| event.is_dir == (event.name == "sub")));

        // The directory itself.
        sh(c, "mv /tmp/dir /tmp/moved; rm -r /tmp/moved").await;
        until(&mut watch, WatchedRenamed, "").await;
        until(&mut watch, WatchedRemoved, "").await;
        assert_eq!(watch.next().await.unwrap(), None);
        assert_eq!(watch.next().await.unwrap(), None);
        assert_eq!(c.process_count().await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_file_of_any_name_is_watched() {
    with_agent(async |c| {
        c.files().write("/tmp/file", "1").await.unwrap();
        let mut of_file = c.files().watch("/tmp/file").await.unwrap();
        let mut of_dir = c.files().watch("/tmp").await.unwrap();
        sh(c, r#"echo 2 >/tmp/file; cd /tmp; : >"$(printf 'a\nb\377\033')""#).await;
        until(&mut of_file, FileChange::Written, "").await;
        let odd = b"a\nb\xff\x1b";
        loop {
            let event = of_dir.next().await.unwrap().unwrap();
            if event.name == odd[..] {
                assert_eq!(event.change, FileChange::Created);
                assert!(!format!("{event:?}").contains(['\n', '\x1b']), "{event:?}");
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_watched_is_an_error() {
    support::with_container(pool("watch").user("65534:65534"), async |c| {
        let files = c.files();
        assert_eq!(kind(files.watch("/nowhere").await), ErrorKind::NotFound);
        assert_eq!(kind(files.watch("tmp").await), ErrorKind::InvalidInput);
        sh(c, "mkdir -m 700 /tmp/closed && chmod 0 /tmp/closed").await;
        assert_eq!(kind(files.watch("/tmp/closed").await), ErrorKind::PermissionDenied);
        // Another process of the same user ends the watch.
        let mut watch = files.watch("/tmp").await.unwrap();
        sh(c, "kill -9 -1 || true; exit 0").await;
        let ended = loop {
            match watch.next().await {
                Ok(Some(_)) => {}
                ended => break ended,
            }
        };
        assert_eq!(kind(ended), ErrorKind::ConnectionAborted);
        assert_eq!(watch.next().await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_watch_that_is_dropped_ends_and_one_that_nobody_reads_loses_events_and_no_memory() {
    with_agent(async |c| {
        let mut watch = c.files().watch("/tmp").await.unwrap();
        // More than the pipes and the kernel hold.
        let many = "i=0; while [ $i -lt 60000 ]; do : >/tmp/f; rm /tmp/f; i=$((i+1)); done; : >/tmp/last";
        sh(c, many).await;
        let mut events = 0;
        loop {
            let event = watch.next().await.unwrap().unwrap();
            events += 1;
            if event.change == FileChange::Lost {
                break;
            }
        }
        assert!(events > 1000, "{events}");
        drop(watch);
        support::eventually("the process has ended", async || c.process_count().await.unwrap() == 0).await;
        assert_eq!(c.taint(), None);
    })
    .await;
}
