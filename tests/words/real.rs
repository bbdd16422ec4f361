//! Errors that only a real engine can cause. Its own words differ from version to version, and are replaced.

use dockerpool::engine::Lifecycle;
use dockerpool::{Error, ExecVia, Network, PoolBuilder, PooledContainer, PullPolicy};
use insta::assert_snapshot;
use serde_json::json;

use crate::support::{engine, is_podman, pool, unique_name};

/// Returns the text of an error, without names, ids and the engine's own words.
fn said(error: &Error) -> String {
    let words = crate::said(error);
    let Some(cause) = error.engine_error() else {
        return words;
    };
    let cause = crate::redacted(&cause.to_string());
    let Some((step, of_engine)) = cause
        .split_once(": ")
        .filter(|(step, _)| step.starts_with("the engine did not "))
    else {
        return words;
    };
    // What follows in parentheses is the library's advice.
    let advice = of_engine.rfind(" (see ").map_or("", |at| &of_engine[at..]);
    // At which of the two calls an engine looks at a setting is its own affair.
    let step = step.replace("create the container", "start the container");
    words.replace(&cause, &format!("{step}: [the engine's words]{advice}"))
}

async fn refused(change: impl FnOnce(PoolBuilder) -> PoolBuilder) -> String {
    said(&change(pool("words").min_idle(1)).build().await.unwrap_err())
}

async fn lease(via: ExecVia) -> PooledContainer {
    let pool = pool("words").exec_via(via).build().await.unwrap();
    pool.acquire().await.unwrap()
}

#[tokio::test]
async fn a_pool_that_a_real_engine_refuses_says_what_to_look_at() {
    if is_podman().await {
        // Its words, and the calls that fail, are others: `protocol/refusals.rs` has their kinds.
        assert!(refused(|b| b.user("nobody-of-this-name")).await.contains("(see user()"));
        return;
    }
    let user = |via| refused(move |b| b.exec_via(via).user("nobody-of-this-name"));
    let (by_docker, by_agent) = (user(ExecVia::Docker).await, user(ExecVia::Auto).await);
    assert_eq!(by_docker, by_agent);
    assert_snapshot!(by_agent, @"could not create the first containers for pool words: the engine did not start the container: [the engine's words] (see user(): the image has no such user or group, or its number is beyond the engine's range)");
    // The engine's init is PID 1, and starts the program.
    assert_snapshot!(refused(|b| b.cmd(["no-such-program"])).await, @"could not create the first containers for pool words: PID 1, `no-such-program`, ended right after the start, with exit code 127 (does the image have this program? see cmd())");
    assert_snapshot!(refused(|b| b.cmd(["no-such-program"]).raw_config(json!({"HostConfig": {"Init": false}}))).await, @"could not create the first containers for pool words: the engine did not start the container: [the engine's words] (does the image have this program? see cmd())");
    assert_snapshot!(refused(|b| b.cmd(["sh", "-c", "exit 3"])).await, @"could not create the first containers for pool words: PID 1, `sh`, ended right after the start, with exit code 3 (PID 1 must go on running: see cmd())");
    assert_snapshot!(refused(|b| b.network(Network::existing("no-such-network"))).await, @"could not prepare the network for pool words: the network no-such-network is not on the engine (create the network, or let Network::create do it)");
    assert_snapshot!(refused(|b| b.image("dockerpool-test/none:1").pull(PullPolicy::Never)).await, @"could not prepare the image for pool words: the image dockerpool-test/none:1 is not on the engine, and pulling it is forbidden (pull the image, or allow that with PullPolicy::IfMissing)");
    let runtime = refused(|b| b.runtime("no-such-runtime")).await;
    let begin = "could not use the runtime for pool words: the engine has no runtime `no-such-runtime`; it has ";
    assert!(runtime.starts_with(begin), "{runtime}");
}

/// What a container needs for its own start depends on the engine: it starts, or the error says what to look at.
#[tokio::test]
async fn a_container_with_too_few_processes_says_so() {
    for via in [ExecVia::Docker, ExecVia::Auto] {
        if let Err(error) = pool("words").exec_via(via).pids_limit(1).min_idle(1).build().await {
            let words = error.to_string();
            assert!(words.contains("pids_limit()"), "{words}");
            assert!(!words.contains("does the image have this program"), "{words}");
        }
    }
}

#[tokio::test]
async fn a_command_that_does_not_begin_has_the_same_words_by_each_way() {
    for via in [ExecVia::Docker, ExecVia::Agent] {
        let c = lease(via).await;
        let program = c.exec(["no-such-program"]).await.unwrap_err();
        let user = c
            .command("true")
            .user("nobody-of-this-name")
            .output()
            .await
            .unwrap_err();
        let dir = c.command("true").current_dir("/no/such").output().await.unwrap_err();
        for (error, program) in [(program, "no-such-program"), (user, "true"), (dir, "true")] {
            let begin = format!("cannot start `{program}` in container {} of pool words: ", c.name());
            assert!(error.to_string().starts_with(&begin), "{error}");
        }
    }
}

#[tokio::test]
async fn files_of_a_real_container() {
    let c = lease(ExecVia::Agent).await;
    let files = c.files();
    assert_snapshot!(said(&files.read_to_vec("/no/such").await.unwrap_err()), @"could not read /no/such in container dockerpool-words-[id]-[n] of pool words: No such file or directory (os error 2)");
    assert_snapshot!(said(&files.clone().user("nobody-of-this-name").read_to_vec("/etc/passwd").await.unwrap_err()), @"could not read /etc/passwd in container dockerpool-words-[id]-[n] of pool words: unable to find user nobody-of-this-name: no matching entries in passwd file");
    assert_snapshot!(said(&c.wipe(&["tmp"]).await.unwrap_err()), @r#"could not empty directories in container dockerpool-words-[id]-[n] of pool words: "tmp" cannot be wiped: it must be absolute, without `..` and NUL"#);
    engine().await.kill(c.id()).await.unwrap();
    let name = unique_name("/tmp/file");
    let gone = files.write(&name, "x").await.unwrap_err();
    let words = gone.to_string();
    let begin = format!(
        "could not write {name} in container {} of pool words: the container is gone: ",
        c.name()
    );
    assert!(words.starts_with(&begin) && words.ends_with("; use another"), "{words}");
}
