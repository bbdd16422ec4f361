//! Containers without a pool: their life on the real engine, and that none leaks, however a transition ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{busybox, eventually, eventually_now};
use dockerpool::engine::{ContainerState, Lifecycle, Observation, Pausing, Selector};
use dockerpool::testing::{Answer, Call, FakeEngine};
use dockerpool::{
    Container, ContainerSpec, Created, DockerEngine, EngineErrorKind, Error, Exited, Paused, Running, State, labels,
};
use tokio::runtime::Handle;

/// The label by which a test finds its own containers.
const MARK: &str = "test-of-containers";

struct Bench {
    engine: Arc<DockerEngine>,
    mark: String,
}

impl Bench {
    async fn new(test: &str) -> Self {
        Self {
            engine: crate::support::engine().await,
            mark: format!("{test}-{}", std::process::id()),
        }
    }

    /// Returns a spec with the library's PID 1.
    fn spec(&self) -> ContainerSpec {
        ContainerSpec::new(busybox()).memory(64 << 20).label(MARK, &self.mark)
    }

    /// Returns a spec with a PID 1 that exits with 7 on SIGTERM.
    fn own_cmd(&self) -> ContainerSpec {
        let program = "trap 'exit 7' TERM; while :; do sleep 0.05; done";
        self.spec().cmd(["sh", "-c", program])
    }

    async fn created(&self, spec: ContainerSpec) -> Container<Created> {
        Container::create(self.engine.clone(), spec).await.unwrap()
    }

    async fn running(&self, spec: ContainerSpec) -> Container<Running> {
        self.created(spec).await.start().await.unwrap()
    }

    async fn count(&self) -> usize {
        let found = self.engine.list(&Selector::label(MARK, &self.mark)).await;
        found.unwrap().len()
    }

    async fn all_gone(&self) {
        eventually("nothing is left on the engine", async || self.count().await == 0).await;
    }
}

async fn state<S: State>(container: &Container<S>) -> ContainerState {
    container.inspect().await.unwrap().state
}

/// Asserts that an error names its container.
fn assert_names(error: &Error, name: &str) {
    assert_eq!(error.container(), Some(name), "{error:?}");
    assert!(error.to_string().contains(name), "{error}");
}

fn kind(error: &Error) -> EngineErrorKind {
    error.engine_error().unwrap().kind()
}

#[tokio::test]
async fn a_container_goes_through_its_whole_life() {
    let bench = Bench::new("life").await;
    let created = bench.created(bench.own_cmd()).await;
    assert_eq!(state(&created).await, ContainerState::Created);

    let running = created.start().await.unwrap();
    assert_eq!(state(&running).await, ContainerState::Running);
    assert_eq!(running.exec(["echo", "hello"]).await.unwrap().stdout, b"hello\n");

    let paused = running.pause().await.unwrap();
    assert_eq!(state(&paused).await, ContainerState::Paused);
    let running = paused.unpause().await.unwrap();
    assert!(running.command("true").status().await.unwrap().success());

    let exited = running.stop(Duration::from_secs(20)).await.unwrap();
    assert_eq!(state(&exited).await, ContainerState::Exited);
    assert_eq!(exited.exit_code().await.unwrap(), Some(7));

    let again = exited.start().await.unwrap();
    assert!(again.command("true").status().await.unwrap().success());
    let exited = again.kill().await.unwrap();
    assert_eq!(exited.exit_code().await.unwrap(), Some(137));

    let from_paused = exited
        .start()
        .await
        .unwrap()
        .pause()
        .await
        .unwrap()
        .kill()
        .await
        .unwrap();
    assert_eq!(state(&from_paused).await, ContainerState::Exited);
    from_paused.remove().await.unwrap();
    assert_eq!(bench.count().await, 0);
}

#[tokio::test]
async fn a_container_with_a_lifeline_is_removed_by_the_engine_when_it_ends() {
    let bench = Bench::new("lifeline").await;
    for stop in [true, false] {
        let running = bench.running(bench.spec()).await;
        let exited = if stop {
            running.stop(Duration::ZERO).await.unwrap()
        } else {
            running.kill().await.unwrap()
        };
        bench.all_gone().await;
        assert_eq!(exited.exit_code().await.unwrap(), None);
        let name = exited.name().to_owned();
        if stop {
            // A container that is gone counts as removed.
            exited.remove().await.unwrap();
        } else {
            let error = exited.start().await.unwrap_err();
            assert_names(&error, &name);
            assert_eq!(kind(&error), EngineErrorKind::NotFound);
        }
    }
}

#[tokio::test]
async fn a_container_reports_its_properties() {
    let bench = Bench::new("facts").await;
    let created = bench.created(bench.spec().label("mine", "yes")).await;
    let report = created.inspect().await.unwrap();
    assert_eq!(report.id, created.id());
    assert_eq!(report.name, created.name());
    assert!(created.name().starts_with("dockerpool-"));
    assert_eq!(created.image(), busybox());
    // Podman adds the registry it assumes.
    assert!(report.image.ends_with(&busybox()), "{}", report.image);
    assert_eq!(created.taint(), None);
    let expected = BTreeMap::from([
        (labels::MANAGED_BY, labels::MANAGED_BY_VALUE),
        (MARK, &bench.mark),
        ("mine", "yes"),
    ]);
    assert_eq!(created.labels().collect::<BTreeMap<_, _>>(), expected);
    for (name, value) in expected {
        assert_eq!(report.labels.get(name).map(String::as_str), Some(value));
    }
    let (id, name) = (created.id().to_owned(), created.name().to_owned());
    let words = format!("{created:?}");
    assert!(words.contains(&name) && words.contains("created"), "{words}");

    let running = created.start().await.unwrap();
    assert_eq!((running.id(), running.name()), (&*id, &*name));
    assert!(format!("{running:?}").contains("running"));
    running.remove().await.unwrap();
}

#[tokio::test]
async fn a_failed_creation_is_an_error_and_leaves_nothing() {
    let bench = Bench::new("bad").await;
    let bad = bench.spec().memory(1).working_dir("tmp").env("", "x");
    let Err(Error::Config(problems)) = Container::create(bench.engine.clone(), bad).await else {
        panic!("a bad spec was accepted");
    };
    let fields: Vec<_> = problems.iter().map(|problem| problem.field()).collect();
    assert_eq!(fields, ["memory", "working_dir", "env"]);

    let missing = ContainerSpec::new("dockerpool-test/no-such-image:1").label(MARK, &bench.mark);
    let error = Container::create(bench.engine.clone(), missing).await.unwrap_err();
    assert_eq!(kind(&error), EngineErrorKind::ImageNotFound);
    assert!(error.container().is_some_and(|name| name.starts_with("dockerpool-")));

    let created = bench.created(bench.spec().cmd(["/no/such/program"])).await;
    let name = created.name().to_owned();
    match created.start().await {
        Err(error) => {
            assert_names(&error, &name);
            assert_eq!(kind(&error), EngineErrorKind::CannotStart);
        }
        // The engine's init starts, and fails to start the program a little later, perhaps after the library's look
        // at the container.
        Ok(running) => {
            eventually("the container ends", async || match running.inspect().await {
                Ok(report) if report.state == ContainerState::Running => false,
                Ok(report) => {
                    assert!(matches!(report.exit_code, None | Some(127)), "{report:?}");
                    true
                }
                // The engine removes the container by itself.
                Err(error) => kind(&error) == EngineErrorKind::NotFound,
            })
            .await;
        }
    }
    bench.all_gone().await;
}

#[tokio::test]
async fn a_transition_of_a_container_removed_by_another_client_names_it() {
    let bench = Bench::new("removed").await;
    let removed = async |id: &str| bench.engine.remove(id).await.unwrap();
    let check = |error: Error, name: &str| {
        assert_names(&error, name);
        assert_eq!(kind(&error), EngineErrorKind::NotFound);
    };

    let created = bench.created(bench.spec()).await;
    let name = created.name().to_owned();
    removed(created.id()).await;
    check(created.start().await.unwrap_err(), &name);

    let running = bench.running(bench.spec()).await;
    let name = running.name().to_owned();
    removed(running.id()).await;
    check(running.inspect().await.unwrap_err(), &name);
    let error = running.command("true").status().await.unwrap_err();
    assert!(matches!(error, Error::ContainerGone { .. }), "{error:?}");
    assert_names(&error, &name);
    check(running.pause().await.unwrap_err(), &name);

    let running = bench.running(bench.spec()).await;
    let name = running.name().to_owned();
    removed(running.id()).await;
    check(running.stop(Duration::ZERO).await.unwrap_err(), &name);

    let paused = bench.running(bench.spec()).await.pause().await.unwrap();
    let name = paused.name().to_owned();
    removed(paused.id()).await;
    check(paused.unpause().await.unwrap_err(), &name);

    let exited = bench.running(bench.own_cmd()).await.kill().await.unwrap();
    let name = exited.name().to_owned();
    removed(exited.id()).await;
    assert_eq!(exited.exit_code().await.unwrap(), None);
    check(exited.start().await.unwrap_err(), &name);

    // Ending a container that is gone is a no-op.
    let running = bench.running(bench.spec()).await;
    removed(running.id()).await;
    running.kill().await.unwrap().remove().await.unwrap();
    assert_eq!(bench.count().await, 0);
}

#[tokio::test]
async fn a_pause_or_unpause_already_done_by_another_client_succeeds() {
    let bench = Bench::new("paused").await;
    let running = bench.running(bench.spec()).await;
    bench.engine.pause(running.id()).await.unwrap();
    let paused = running.pause().await.unwrap();
    bench.engine.unpause(paused.id()).await.unwrap();
    let running = paused.unpause().await.unwrap();
    assert!(running.command("true").status().await.unwrap().success());
    drop(running);
    bench.all_gone().await;
}

#[tokio::test]
async fn a_container_dropped_in_any_state_is_removed() {
    let bench = Bench::new("dropped").await;
    let created = bench.created(bench.spec()).await;
    assert_eq!(bench.count().await, 1);
    drop(created);
    bench.all_gone().await;

    drop(bench.running(bench.spec()).await);
    bench.all_gone().await;

    drop(bench.running(bench.spec()).await.pause().await.unwrap());
    bench.all_gone().await;

    let exited = bench.running(bench.own_cmd()).await.kill().await.unwrap();
    assert_eq!(bench.count().await, 1);
    drop(exited);
    bench.all_gone().await;
}

#[tokio::test]
async fn a_transition_dropped_half_way_leaves_nothing_on_the_engine() {
    let bench = Bench::new("half-way").await;
    for millis in [0, 1, 3, 10, 30, 100] {
        let moment = Duration::from_millis(millis);
        macro_rules! cut_off {
            ($transition:expr) => {
                drop(tokio::time::timeout(moment, $transition).await);
            };
        }
        cut_off!(Container::create(bench.engine.clone(), bench.spec()));
        cut_off!(bench.created(bench.spec()).await.start());
        let (a, b, c) = tokio::join!(
            bench.running(bench.own_cmd()),
            bench.running(bench.own_cmd()),
            bench.running(bench.own_cmd()),
        );
        cut_off!(a.pause());
        cut_off!(b.stop(Duration::from_secs(5)));
        cut_off!(c.remove());
    }
    bench.all_gone().await;
}

/// Creates a container on the in-memory engine, which can give every answer at every moment.
async fn fake_running(engine: &FakeEngine) -> Container<Running> {
    let spec = ContainerSpec::new("any").cmd(["sleep", "60"]);
    let created = Container::create_on(Handle::current(), Arc::new(engine.clone()), spec)
        .await
        .unwrap();
    created.start().await.unwrap()
}

/// Runs one transition from the state it needs. Only the engine call of the transition itself gets this answer.
async fn transition(engine: &FakeEngine, call: Call, answer: Answer, polls: usize) -> Option<Result<(), Error>> {
    async fn polled<T>(future: impl Future<Output = Result<T, Error>>, polls: usize) -> Option<Result<(), Error>> {
        let mut future = tokio_test::task::spawn(future);
        for _ in 0..polls {
            if let std::task::Poll::Ready(result) = future.poll() {
                return Some(result.map(drop));
            }
            tokio::task::yield_now().await;
        }
        None
    }
    async fn exited(engine: &FakeEngine) -> Container<Exited> {
        fake_running(engine).await.kill().await.unwrap()
    }
    async fn paused(engine: &FakeEngine) -> Container<Paused> {
        fake_running(engine).await.pause().await.unwrap()
    }
    match call {
        Call::Create => {
            engine.answer(call, answer);
            polled(
                Container::create_on(Handle::current(), Arc::new(engine.clone()), ContainerSpec::new("any")),
                polls,
            )
            .await
        }
        Call::Start => {
            let container = exited(engine).await;
            engine.answer(call, answer);
            polled(container.start(), polls).await
        }
        Call::Pause => {
            let container = fake_running(engine).await;
            engine.answer(call, answer);
            polled(container.pause(), polls).await
        }
        Call::Unpause => {
            let container = paused(engine).await;
            engine.answer(call, answer);
            polled(container.unpause(), polls).await
        }
        Call::Stop => {
            let container = fake_running(engine).await;
            engine.answer(call, answer);
            polled(container.stop(Duration::ZERO), polls).await
        }
        Call::Kill => {
            let container = paused(engine).await;
            engine.answer(call, answer);
            polled(container.kill(), polls).await
        }
        Call::Remove => {
            let container = fake_running(engine).await;
            // Only the first removal gets the answer, not its retries in the background.
            if polls > 0 {
                engine.answer_once(call, answer);
            }
            polled(container.remove(), polls).await
        }
        other => unreachable!("{other:?} is no transition"),
    }
}

const TRANSITIONS: [Call; 7] = [
    Call::Create,
    Call::Start,
    Call::Pause,
    Call::Unpause,
    Call::Stop,
    Call::Kill,
    Call::Remove,
];

#[tokio::test(start_paused = true)]
async fn a_transition_dropped_at_any_poll_under_any_answer_leaves_nothing() {
    let answers = [Answer::Ok, Answer::AfterPolls(3), Answer::Never, Answer::DoneButNever];
    for call in TRANSITIONS {
        for answer in answers {
            for polls in 0..8 {
                let engine = FakeEngine::new();
                let result = transition(&engine, call, answer, polls).await;
                assert!(!matches!(result, Some(Err(_))), "{call:?} {answer:?}: {result:?}");
                eventually_now(
                    &format!("{call:?} {answer:?} after {polls} polls leaves nothing"),
                    || engine.containers().is_empty(),
                )
                .await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_transition_names_its_container_which_is_then_removed() {
    for call in TRANSITIONS {
        let engine = FakeEngine::new();
        let result = transition(&engine, call, Answer::Fail(EngineErrorKind::Internal), 8).await;
        let error = result.expect("an answer").expect_err("a failure");
        assert_eq!(kind(&error), EngineErrorKind::Internal, "{call:?}");
        let name = error.container().unwrap_or_default().to_owned();
        assert!(name.starts_with("dockerpool-"), "{call:?}: {error:?}");
        assert_names(&error, &name);
        eventually_now(&format!("{call:?} that failed leaves nothing"), || {
            engine.containers().is_empty()
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_transition_on_an_engine_that_never_answers_times_out() {
    let engine = FakeEngine::new();
    let running = fake_running(&engine).await;
    engine.answer(Call::Pause, Answer::Never);
    let name = running.name().to_owned();
    let begun = tokio::time::Instant::now();
    let error = running.pause().await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert_names(&error, &name);
    assert!(begun.elapsed() < Duration::from_secs(60));
    eventually_now("the container is removed", || engine.containers().is_empty()).await;
}
