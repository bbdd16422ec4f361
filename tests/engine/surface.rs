//! Properties of the public types: which of them can go to other threads, which compare, and what they can be made
//! from.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};
use dockerpool::engine::{
    Attachment, Capabilities, ContainerReport, EngineInfo, Event, ExecReport, ExecRequest, ExecSession, Frame,
};
use dockerpool::testing::{FakeEngine, FakeProcess};
use dockerpool::*;

/// Accepts types that can be shared between threads and printed in an error.
fn shared<T: Debug + Send + Sync>() {}

/// Accepts plain data.
fn plain<T: Debug + Clone + PartialEq + Send + Sync + Unpin + 'static>() {}

/// Accepts error types.
fn error<T: std::error::Error + Send + Sync + 'static>() {}

fn sent<T: Send>(future: T) -> T {
    future
}

#[test]
fn public_types_are_send_and_plain_data_compares() {
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
    plain::<Lifeline>();
    plain::<PullPolicy>();
    plain::<OnLimit>();
    plain::<Progress>();
    plain::<FieldError>();
    plain::<CommandError>();
    plain::<Subject>();
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
    // A stream is read by one task at a time, on any thread.
    fn streamed<T: Debug + Send>() {}
    streamed::<Child<'_>>();
    streamed::<OutputLines<'_>>();
    streamed::<OwnedChild<PooledContainer>>();
    streamed::<OwnedChild<Arc<PooledContainer>>>();
    streamed::<OwnedChild<Container<Running>>>();
    streamed::<Events<'_>>();
    streamed::<EventLines<'_>>();
    shared::<BackgroundCommand<'_>>();
    plain::<CommandId>();
    plain::<CommandState>();
    plain::<CheckedOutput>();
    plain::<Signal>();
    plain::<dockerpool::Event>();
    plain::<dockerpool::Event<String>>();
    owned_by_nobody();
    streamed::<ChildStdin>();
    streamed::<ChildStdout>();
    streamed::<ChildStderr>();
    streamed::<Attachment>();
    streamed::<ExecSession>();
}

/// Accepts what can be stored anywhere, and be the body of a response.
fn body<T: futures_util::Stream + Send + Unpin + 'static>() {}

/// An owned child and its streams borrow nothing, whatever guard they keep.
fn owned_by_nobody() {
    fn stored<T: Send + 'static>() {}
    stored::<OwnedChild<PooledContainer>>();
    stored::<OwnedChild<Arc<PooledContainer>>>();
    stored::<OwnedChild<Box<dyn Guard>>>();
    body::<Events<'static, PooledContainer>>();
    body::<Events<'static, Arc<PooledContainer>>>();
    body::<EventLines<'static, PooledContainer>>();
    body::<EventLines<'static, Arc<PooledContainer>>>();
}

/// Never called: the test is that this compiles.
#[allow(dead_code)]
fn every_future_is_send(builder: PoolBuilder, engine: Arc<dyn Engine>, runtime: tokio::runtime::Handle) {
    fn made<T>() -> T {
        unreachable!()
    }

    drop(sent(builder.build()));
    drop(sent(DockerEngine::connect()));
    drop(sent(DockerEngine::connect_to(made())));
    drop(sent(DockerEngine::from_bollard(made())));
    drop(sent(Container::create(engine.clone(), made())));
    drop(sent(Container::create_on(runtime, engine, made())));

    let pool: Pool = made();
    drop(sent(pool.acquire()));
    drop(sent(pool.acquire_timeout(made())));
    drop(sent(pool.refresh()));
    drop(sent(pool.shutdown()));
    drop(sent(pool.shutdown_timeout(made())));

    let created: Container<Created> = made();
    drop(sent(created.inspect()));
    drop(sent(created.remove()));
    drop(sent(made::<Container<Created>>().start()));
    let running: Container<Running> = made();
    drop(sent(running.inspect()));
    drop(sent(running.process_count()));
    drop(sent(running.kill_all()));
    drop(sent(running.wipe(&["/tmp"])));
    drop(sent(running.wipe(&[String::new()])));
    drop(sent(made::<Container<Running>>().pause()));
    drop(sent(made::<Container<Running>>().stop(made())));
    drop(sent(made::<Container<Running>>().kill()));
    drop(sent(made::<Container<Running>>().remove()));
    drop(sent(made::<Container<Paused>>().unpause()));
    drop(sent(made::<Container<Paused>>().kill()));
    drop(sent(made::<Container<Exited>>().exit_code()));
    drop(sent(made::<Container<Exited>>().start()));

    drop(sent(running.exec(["true"])));
    let mut command: Command<'_> = running.command("true");
    drop(sent(command.output()));
    drop(sent(command.status()));
    drop(sent(command.output_string()));
    drop(sent(command.lines()));
    drop(sent(command.run_to(&mut Vec::new(), &mut tokio::io::sink())));
    drop(sent(command.spawn()));
    drop(sent(command.spawn_owned(made::<PooledContainer>())));
    drop(sent(Command::new("true").spawn_owned(Arc::new(running))));
    let mut child: OwnedChild<PooledContainer> = made();
    drop(sent(child.wait()));
    drop(sent(child.wait_with_output()));
    let mut child: Child<'_> = made();
    drop(sent(child.wait()));
    drop(sent(child.signal(made::<i32>())));
    drop(sent(child.signal_group(Signal::HUP)));
    drop(sent(child.stop(Signal::INT, made())));
    drop(sent(child.resize(made(), made())));
    drop(sent(child.kill()));
    drop(sent(child.wait_with_output()));
    let mut lines: OutputLines<'_> = made();
    drop(sent(lines.next_line()));
    drop(sent(lines.wait()));
}

#[tokio::test]
async fn arguments_and_input_can_have_any_text_type() {
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

    let real_pool = crate::support::pool("surface").build().await.unwrap();
    let real = real_pool.acquire().await.unwrap();
    let borrowed = String::from("input");
    for stdin in [
        Stdio::from(&borrowed),
        Stdio::from(borrowed.as_str()),
        Stdio::from(borrowed.as_bytes()),
        Stdio::from(b"input"),
        Stdio::from(&borrowed.clone().into_bytes()),
        Stdio::from(borrowed.clone()),
    ] {
        let mut cat = real.command("cat");
        assert_eq!(cat.stdin(stdin).output_string().await.unwrap(), "input");
    }
    drop((c, real));
    pool.shutdown().await.unwrap();
    real_pool.shutdown().await.unwrap();
}

/// A text that must not appear anywhere.
const SECRET: &str = "s3cret-marker";

/// All traces of this test binary.
static TRACED: Mutex<String> = Mutex::new(String::new());

struct Recorder;

impl tracing::field::Visit for Recorder {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
        let mut traced = TRACED.lock().unwrap();
        traced.push_str(&format!("{field}={value:?}\n"));
    }
}

impl tracing::Subscriber for Recorder {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        span.record(&mut Recorder);
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut Recorder);
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Recorder);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// Returns the text of an error and of all its causes.
fn all_words(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    chain.map(|error| format!("{error}\n{error:?}\n")).collect()
}

fn with_secrets(spec: ContainerSpec) -> ContainerSpec {
    let raw = ContainerCreateBody {
        env: Some(vec![format!("RAW={SECRET}")]),
        host_config: Some(HostConfig {
            log_config: Some(HostConfigLogConfig {
                typ: Some("none".into()),
                config: Some([("token".to_owned(), SECRET.to_owned())].into()),
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    spec.env("TYPED", SECRET).docker_config(raw)
}

#[tokio::test]
async fn secrets_appear_in_no_debug_output_error_or_trace() {
    let _ = tracing::subscriber::set_global_default(Recorder);
    tracing::info!("recorded");
    let mut seen = Vec::new();
    macro_rules! look {
        ($value:expr) => {
            let value = &$value;
            seen.push((stringify!($value), format!("{value:?}\n{value:#?}")));
        };
    }

    for auth in [
        RegistryAuth::password("me", SECRET),
        RegistryAuth::identity_token(SECRET),
    ] {
        look!(auth);
        look!(ContainerSpec::new("any").registry_auth(auth.clone()));
        look!(Pool::builder("any").registry_auth(auth));
    }
    let spec = with_secrets(ContainerSpec::new("any").cmd(["serve", SECRET]));
    look!(spec);
    look!(Pool::builder("any").spec(spec.clone()));
    look!(spec.clone().host_config(HostConfig {
        annotations: Some([("key".to_owned(), SECRET.to_owned())].into()),
        ..Default::default()
    }));
    let mut request = ExecRequest::new(["program", SECRET]);
    request.env.push(format!("NAME={SECRET}"));
    look!(request);
    look!(Stdio::bytes(SECRET));
    let shown = format!("{spec:?}");
    for part in ["TYPED", "\"serve\" and 1 arguments", "\"Env\""] {
        assert!(shown.contains(part), "{part}: {shown}");
    }

    // A contradiction is reported by names, without values.
    let contradictory = Pool::builder("any")
        .image("any")
        .env("NAME", SECRET)
        .label("label", SECRET)
        .cmd(["typed", SECRET])
        .docker_config(ContainerCreateBody {
            env: Some(vec![format!("NAME=other {SECRET}")]),
            labels: Some([("label".to_owned(), format!("other {SECRET}"))].into()),
            entrypoint: Some(vec!["raw".into(), SECRET.into()]),
            cmd: Some(vec!["raw".into(), SECRET.into()]),
            ..Default::default()
        });
    let error = contradictory.build().await.unwrap_err();
    let words = all_words(&error);
    assert!(words.contains("NAME") && words.contains("\"raw\""), "{words}");
    seen.push(("a conflict", words));

    // Once for each way to run commands.
    for via in [ExecVia::Docker, ExecVia::Agent] {
        let spec = with_secrets(
            ContainerSpec::new(crate::support::busybox())
                .exec_via(via)
                .memory(64 << 20),
        );
        let pool = Pool::builder("secrets").spec(spec).build().await.unwrap();
        look!(pool);
        let c = pool.acquire().await.unwrap();
        look!(c);
        let mut command = c.command("sh");
        command
            .args(["-c", "read x; echo $x", SECRET])
            .env("NAME", SECRET)
            .stdin(SECRET);
        look!(command);
        let child = command.spawn().await.unwrap();
        look!(child);
        assert_eq!(child.wait_with_output().await.unwrap().stdout_lossy().trim(), SECRET);
        for program in ["/not/there", "/"] {
            let mut command = c.command(program);
            let error = command
                .arg(SECRET)
                .env("NAME", SECRET)
                .stdin(SECRET)
                .output()
                .await
                .unwrap_err();
            seen.push(("a start", all_words(&error)));
        }
        let mut nul = c.command("true");
        let error = nul.env("NAME", format!("{SECRET}\0")).output().await.unwrap_err();
        seen.push(("a refusal", all_words(&error)));
        drop(c);
        pool.shutdown().await.unwrap();
    }
    let traced = TRACED.lock().unwrap().clone();
    assert!(traced.contains("recorded"), "{traced}");
    seen.push(("the trace", traced));
    for (what, text) in seen {
        assert!(!text.contains(SECRET), "{what}: {text}");
    }
}
