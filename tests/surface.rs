//! What the types of the public interface are, beside what they do: which threads they may go to, and what they can be
//! made from.

use std::fmt::Debug;
use std::sync::Arc;

use dockerpool::engine::{
    Attachment, Capabilities, ContainerReport, EngineInfo, Event, ExecReport, ExecRequest, ExecSession, Frame,
};
use dockerpool::testing::{FakeEngine, FakeProcess};
use dockerpool::*;

/// Of what may be shared, and printed in an error.
fn shared<T: Debug + Send + Sync>() {}

/// Of what is plain data.
fn plain<T: Debug + Clone + PartialEq + Send + Sync + Unpin + 'static>() {}

/// Of what is an error anywhere.
fn error<T: std::error::Error + Send + Sync + 'static>() {}

fn sent<T: Send>(future: T) -> T {
    future
}

#[test]
fn types_go_to_other_threads_and_plain_ones_compare() {
    shared::<Pool>();
    shared::<PooledContainer>();
    shared::<Container<Created>>();
    shared::<Container<Exited>>();
    shared::<DockerEngine>();
    shared::<Command<'_>>();
    shared::<RegistryAuth>();
    plain::<ContainerSpec>();
    plain::<Network>();
    plain::<Endpoint>();
    plain::<Output>();
    plain::<ExitStatus>();
    plain::<Usage>();
    plain::<Status>();
    plain::<Counters>();
    plain::<Taint>();
    plain::<Reuse>();
    plain::<Adopt>();
    plain::<ExecVia>();
    plain::<ActiveExec>();
    plain::<PullPolicy>();
    plain::<OnLimit>();
    plain::<Progress>();
    plain::<FieldError>();
    plain::<CommandError>();
    plain::<LimitReached>();
    plain::<Capabilities>();
    plain::<ContainerReport>();
    plain::<EngineInfo>();
    plain::<Event>();
    plain::<ExecRequest>();
    plain::<ExecReport>();
    plain::<Frame>();
    error::<Error>();
    error::<EngineError>();
    error::<LimitReached>();
    // Streams are read by one task at a time, which may be any.
    fn streamed<T: Debug + Send>() {}
    streamed::<Child<'_>>();
    streamed::<OutputLines<'_>>();
    streamed::<ChildStdin>();
    streamed::<ChildStdout>();
    streamed::<ChildStderr>();
    streamed::<Attachment>();
    streamed::<ExecSession>();
}

#[tokio::test]
async fn arguments_and_input_are_taken_in_any_form_of_text() {
    let engine = FakeEngine::new();
    engine.on_exec(|request| FakeProcess::exit(0).stdout(request.argv.join(" ")));
    let cmd: &[&str] = &["sleep", "60"];
    let pool = Pool::builder("surface").image("any").cmd(cmd).engine(Arc::new(engine));
    let pool = pool.build().await.unwrap();
    let c = sent(pool.acquire()).await.unwrap();

    let owned = String::from("c");
    let slice: &[&str] = &["a", "b"];
    let mut command = c.command("echo");
    command
        .args(slice)
        .arg(&owned)
        .arg(owned.clone())
        .args(vec![owned.clone()])
        .args([&owned]);
    let output = sent(command.output()).await.unwrap();
    assert_eq!(output.stdout_lossy(), "echo a b c c c c");
    assert_eq!(c.exec(slice).await.unwrap().stdout_lossy(), "a b");
    assert_eq!(c.exec([owned]).await.unwrap().stdout_lossy(), "c");

    let borrowed = String::from("input");
    for stdin in [
        Stdio::from(&borrowed),
        Stdio::from(borrowed.as_str()),
        Stdio::from(borrowed.as_bytes()),
        Stdio::from(b"input"),
        Stdio::from(&borrowed.clone().into_bytes()),
        Stdio::from(borrowed.clone()),
    ] {
        // All are the same bytes.
        assert_eq!(format!("{stdin:?}"), format!("{:?}", Stdio::bytes("input")));
    }
    drop(c);
    pool.shutdown().await.unwrap();
}
