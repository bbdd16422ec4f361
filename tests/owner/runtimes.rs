//! A pool works from any runtime and any thread for its whole life, by each way to run commands.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{busybox, containers_of_instance, itself, own_test, pool};
use dockerpool::engine::Observation;
use dockerpool::testing::WithoutAgentSocket as _;
use dockerpool::testing::{Answer, Call, FakeEngine, FakeProcess};
use dockerpool::{
    Container, ContainerSpec, DockerEngine, Engine, EngineErrorKind, Error, ExecVia, ExitStatus, Pool, PoolBuilder,
    Stdio,
};
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Handle, Runtime};

/// Bounds each call far above its normal duration.
const LONG: Duration = Duration::from_secs(60);

/// Runs a future without tokio.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => thread::park(),
        }
    }
}

/// The flavors of runtimes that users have.
fn runtimes() -> [Runtime; 2] {
    [Builder::new_current_thread(), Builder::new_multi_thread()]
        .map(|mut builder| builder.enable_all().build().unwrap())
}

/// The ways to run commands, by name.
const WAYS: [&str; 3] = ["exec API", "agent", "agent, attached"];

fn by(way: &str, builder: PoolBuilder) -> PoolBuilder {
    match way {
        "exec API" => builder.exec_via(ExecVia::Docker),
        "agent" => builder.exec_via(ExecVia::Agent),
        _ => builder.exec_via(ExecVia::Agent).without_agent_socket(),
    }
}

/// Uses all calls of a pool that has one container.
async fn use_all(pool: &Pool, way: &str) {
    let c = pool.acquire().await.unwrap();
    let out = c.command("cat").stdin("hello").output().await.unwrap();
    assert_eq!(
        (out.status, &*out.stdout_lossy()),
        (ExitStatus::Exited(0), "hello"),
        "{way}"
    );
    let mut child = c.command("cat").stdin(Stdio::piped()).spawn().await.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"more").await.unwrap();
    stdin.shutdown().await.unwrap();
    let mut more = String::new();
    child.stdout.take().unwrap().read_to_string(&mut more).await.unwrap();
    assert_eq!(
        (&*more, child.wait().await.unwrap()),
        ("more", ExitStatus::Exited(0)),
        "{way}"
    );
    drop(child);
    assert_eq!(c.inspect().await.unwrap().name, c.name());
    if way != "exec API" {
        assert_eq!(c.process_count().await.unwrap(), 0);
    }
    drop(c);
    // A timeout holds in every runtime, and without one.
    let c = pool.acquire().await.unwrap();
    let mut forever = c.command("sleep");
    let status = forever.arg("1000").timeout(Duration::from_millis(100)).status().await;
    assert_eq!(status.unwrap(), ExitStatus::TimedOut, "{way}");
    // The only container is lent. The first acquire times out. The second one gets the container that replaces the
    // discarded one.
    let error = pool.acquire_timeout(Duration::from_millis(50)).await.unwrap_err();
    assert!(error.is_timeout(), "{way}: {error:?}");
    let (next, ()) = futures_util::join!(pool.acquire_timeout(LONG), async { c.discard() });
    assert!(next.unwrap().command("true").status().await.unwrap().success(), "{way}");
}

/// Waits, on a runtime made for it, until the engine has no container of this instance.
fn assert_all_gone(instance: &str) {
    let give_up = Instant::now() + LONG;
    let engine = block_on(DockerEngine::connect()).unwrap();
    while block_on(containers_of_instance(&engine, instance)) > 0 {
        assert!(Instant::now() < give_up, "containers are left");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_static_pool_is_shared_by_runtimes_that_come_and_go() {
    static POOLS: [OnceLock<Pool>; 3] = [const { OnceLock::new() }; 3];
    for (way, shared) in WAYS.iter().zip(&POOLS) {
        // Each runtime ends before the next one is made. The first one builds the pool.
        for runtime in runtimes().into_iter().chain(runtimes()) {
            runtime.block_on(async {
                if shared.get().is_none() {
                    let built = by(way, pool("static").min_idle(1).max_total(1)).build().await;
                    shared.set(built.unwrap()).unwrap();
                }
                use_all(shared.get().unwrap(), way).await;
            });
        }
        // The pool also works without any runtime.
        let pool = shared.get().unwrap();
        block_on(use_all(pool, way));
        assert_eq!(pool.status().total(), 1);
        let instance = pool.instance().to_owned();
        runtimes()[0].block_on(pool.shutdown()).unwrap();
        assert_all_gone(&instance);
    }
}

#[test]
fn pools_are_built_and_containers_created_in_tasks_of_any_thread() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for way in WAYS {
            let built = tokio::spawn(by(way, pool("task").max_total(1)).build()).await.unwrap();
            let pool = built.unwrap();
            use_all(&pool, way).await;
            let instance = pool.instance().to_owned();
            tokio::spawn(async move { pool.shutdown().await })
                .await
                .unwrap()
                .unwrap();
            tokio::task::spawn_blocking(move || assert_all_gone(&instance))
                .await
                .unwrap();
        }
        let engine: Arc<dyn Engine> = Arc::new(DockerEngine::connect().await.unwrap());
        let whole_life = tokio::spawn(async move {
            let c = Container::create(engine, ContainerSpec::new(busybox())).await?;
            let c = c.start().await?.pause().await?.unpause().await?;
            c.kill_all().await?;
            c.wipe(&["/tmp"]).await?;
            c.kill().await?.remove().await
        });
        whole_life.await.unwrap().unwrap();
    });
}

/// A waker that panics, and counts how often.
struct Panics(AtomicUsize);

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("a waker panics");
    }
}

/// Polls a future once with such a waker, and waits until the waker was called.
fn wake_in_panic(mut future: impl Future + Unpin, cause: impl FnOnce()) {
    let panics = Arc::new(Panics(AtomicUsize::new(0)));
    let waker = Waker::from(panics.clone());
    if future.poll_unpin(&mut Context::from_waker(&waker)).is_pending() {
        cause();
        let give_up = Instant::now() + LONG;
        while panics.0.load(Ordering::SeqCst) == 0 {
            assert!(Instant::now() < give_up, "the waker is not called");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_waker_that_panics_harms_no_other_call() {
    // A timer of the library's runtime calls the waker.
    let engine = FakeEngine::new();
    let builder = || Pool::builder("panics").image("any").min_idle(1).max_total(1);
    let builder = || builder().engine(Arc::new(engine.clone()));
    let fake = block_on(builder().build()).unwrap();
    let held = block_on(fake.acquire()).unwrap();
    wake_in_panic(Box::pin(fake.acquire_timeout(Duration::from_millis(50))), || ());
    // A container returned in this thread calls the waker.
    wake_in_panic(Box::pin(fake.acquire_timeout(LONG)), || drop(held));
    drop(block_on(fake.acquire_timeout(LONG)).unwrap());
    let other = block_on(builder().build()).unwrap();
    drop(block_on(other.acquire_timeout(LONG)).unwrap());
    block_on(other.shutdown()).unwrap();
    wake_in_panic(Box::pin(fake.shutdown()), || ());
    block_on(fake.shutdown()).unwrap();

    // The library's background tasks serve commands and streams, and call the waker.
    for way in WAYS {
        let pool = block_on(by(way, pool("panics").max_total(1)).build()).unwrap();
        let c = block_on(pool.acquire()).unwrap();
        wake_in_panic(Box::pin(c.command("true").spawn()), || ());
        wake_in_panic(Box::pin(c.inspect()), || ());
        drop(c);
        let c = block_on(pool.acquire()).unwrap();
        let mut child = block_on(c.command("cat").stdin(Stdio::piped()).spawn()).unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut byte = [0];
        wake_in_panic(Box::pin(stdout.read(&mut byte)), || {
            block_on(stdin.write_all(b"ab")).unwrap()
        });
        assert_eq!(block_on(stdout.read_u8()).unwrap(), b'a', "{way}");
        wake_in_panic(Box::pin(child.wait()), || block_on(stdin.shutdown()).unwrap());
        assert_eq!(block_on(child.wait()).unwrap(), ExitStatus::Exited(0), "{way}");
        drop(child);
        drop(c);
        block_on(use_all(&pool, way));
        block_on(pool.shutdown()).unwrap();
    }
}

#[test]
fn a_pool_works_without_a_runtime() {
    for way in WAYS {
        let pool = block_on(by(way, pool("plain").max_total(1)).build()).unwrap();
        block_on(use_all(&pool, way));
        block_on(pool.refresh()).unwrap();
        // Shuts down on yet another thread.
        let c = block_on(pool.acquire()).unwrap();
        thread::spawn(move || drop(c)).join().unwrap();
        assert_eq!(pool.status().idle, 1);
        block_on(pool.shutdown()).unwrap();
        assert!(block_on(pool.acquire()).unwrap_err().is_shutdown());
    }
}

#[test]
fn an_acquire_on_a_plain_thread_is_served_by_a_guard_dropped_on_another() {
    let pool = block_on(pool("wait").max_total(1).build()).unwrap();
    let c = block_on(pool.acquire()).unwrap();
    let id = c.id().to_owned();
    let waiter = thread::spawn({
        let pool = pool.clone();
        move || block_on(pool.acquire_timeout(LONG)).unwrap().id().to_owned()
    });
    while pool.status().waiting == 0 {
        thread::yield_now();
    }
    drop(c);
    assert_eq!(waiter.join().unwrap(), id);
    block_on(pool.shutdown()).unwrap();
}

#[test]
fn a_timeout_holds_though_the_runtime_of_the_build_is_not_driven() {
    for way in WAYS {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let pool = runtime
            .block_on(by(way, pool("undriven").max_total(1)).build())
            .unwrap();
        // The runtime exists, but no thread drives it.
        let c = block_on(pool.acquire()).unwrap();
        let mut command = c.command("sleep");
        let status = block_on(command.arg("1000").timeout(Duration::from_millis(100)).status());
        assert_eq!(status.unwrap(), ExitStatus::TimedOut, "{way}");
        drop(c);
        block_on(pool.shutdown()).unwrap();
        drop(runtime);
    }
}

#[test]
fn streams_work_in_another_runtime_than_their_command() {
    for way in WAYS {
        let [first, second] = runtimes();
        let pool = first.block_on(by(way, pool("streams")).build()).unwrap();
        let c = first.block_on(pool.acquire()).unwrap();
        let script = "read x; echo $x; exec dd if=/dev/zero bs=65536 count=64 status=none";
        let mut command = c.command("sh");
        let mut child = first
            .block_on(command.args(["-c", script]).stdin(Stdio::piped()).spawn())
            .unwrap();
        drop(first);
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        second.block_on(async {
            stdin.write_all(b"word\n").await.unwrap();
            let mut word = [0; 5];
            stdout.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"word\n", "{way}");
        });
        drop(second);
        let rest = thread::spawn(move || {
            let mut rest = Vec::new();
            block_on(stdout.read_to_end(&mut rest)).unwrap();
            rest
        });
        assert_eq!(rest.join().unwrap().len(), 64 * 65536, "{way}");
        assert_eq!(block_on(child.wait()).unwrap(), ExitStatus::Exited(0), "{way}");
        drop(child);
        drop(c);
        block_on(pool.shutdown()).unwrap();
    }
}

#[test]
fn a_container_without_a_pool_needs_no_runtime() {
    let engine = Arc::new(block_on(DockerEngine::connect()).unwrap());
    for via in [ExecVia::Docker, ExecVia::Agent] {
        block_on(async {
            let spec = ContainerSpec::new(busybox()).memory(64 << 20).exec_via(via);
            let created = Container::create(engine.clone(), spec).await.unwrap();
            let running = created.start().await.unwrap();
            let out = running.command("echo").arg("hello").output().await.unwrap();
            assert_eq!(out.stdout, b"hello\n");
            let running = running.pause().await.unwrap().unpause().await.unwrap();
            let name = running.name().to_owned();
            running.kill().await.unwrap().remove().await.unwrap();
            let error = engine.inspect(&name).await.unwrap_err();
            assert_eq!(error.kind(), EngineErrorKind::NotFound);
        });
    }
}

/// Starts a relay by TCP to the engine with this socket, and returns its address. The relay ends with this process.
fn relay(socket: String) -> String {
    use std::net::{Shutdown, TcpListener};
    use std::os::unix::net::UnixStream;

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let engine = UnixStream::connect(&socket).unwrap();
            let (mut from_client, mut to_client) = (client.try_clone().unwrap(), client);
            let (mut from_engine, mut to_engine) = (engine.try_clone().unwrap(), engine);
            thread::spawn(move || {
                drop(std::io::copy(&mut from_client, &mut to_engine));
                drop(to_engine.shutdown(Shutdown::Write));
            });
            thread::spawn(move || {
                drop(std::io::copy(&mut from_engine, &mut to_client));
                drop(to_client.shutdown(Shutdown::Write));
            });
        }
    });
    format!("http://{address}")
}

#[test]
fn an_engine_is_used_after_the_runtime_in_which_it_was_connected() {
    let mut engines = Vec::new();
    for runtime in runtimes() {
        let direct = runtime.block_on(DockerEngine::connect()).unwrap();
        let endpoint = direct.endpoint().unwrap().to_string();
        let socket = endpoint.strip_prefix("unix://").unwrap().to_owned();
        engines.push(direct);
        // The library makes the connections also for an engine made from bollard's client.
        let docker = bollard::Docker::connect_with_http(&relay(socket), 120, bollard::API_DEFAULT_VERSION).unwrap();
        engines.push(runtime.block_on(DockerEngine::from_bollard(docker)).unwrap());
    }
    for engine in engines {
        // Each runtime uses the kept connections.
        for runtime in runtimes() {
            let version = runtime.block_on(engine.check()).unwrap().version;
            assert_eq!(block_on(engine.check()).unwrap().version, version);
        }
        let runtime = runtimes().into_iter().next().unwrap();
        let pool = pool("engine").engine(Arc::new(engine));
        let pool = runtime.block_on(pool.build()).unwrap();
        drop(runtime);
        let c = block_on(pool.acquire()).unwrap();
        assert!(block_on(c.command("true").status()).unwrap().success());
        drop(c);
        block_on(pool.shutdown()).unwrap();
    }
}

/// Makes a call that must not wait for any timeout of the pool.
fn at_once<T>(what: &str, call: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = call();
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{what} waited for {:?}",
        begun.elapsed()
    );
    result
}

#[test]
fn all_calls_fail_at_once_when_the_given_runtime_has_ended() {
    for way in WAYS {
        let runtime = Runtime::new().unwrap();
        let builder = by(way, pool("ended").min_idle(1).max_total(3).acquire_timeout(LONG));
        let pool = runtime
            .block_on(builder.tokio_runtime(runtime.handle().clone()).build())
            .unwrap();
        let c = runtime.block_on(pool.acquire()).unwrap();
        let other = runtime.block_on(pool.acquire()).unwrap();
        let third = runtime.block_on(pool.acquire()).unwrap();
        let mut command = c.command("sleep");
        let mut child = runtime.block_on(command.arg("1000").spawn()).unwrap();
        let waiter = thread::spawn({
            let pool = pool.clone();
            move || block_on(pool.acquire())
        });
        while pool.status().waiting == 0 {
            thread::yield_now();
        }
        drop(third);
        drop(waiter.join().unwrap().unwrap());
        assert_eq!(pool.status().idle, 1);
        let waiter = thread::spawn({
            let pool = pool.clone();
            move || {
                let mut held = Vec::new();
                loop {
                    match block_on(pool.acquire()) {
                        Ok(c) => held.push(c),
                        Err(error) => return error,
                    }
                }
            }
        });
        while pool.status().waiting == 0 {
            thread::yield_now();
        }
        drop(runtime);

        let ended = |error: &Error| {
            assert!(matches!(error, Error::RuntimeEnded), "{way}: {error:?}");
            assert!(error.to_string().contains("tokio_runtime()"), "{way}: {error}");
        };
        ended(&at_once("a waiting acquire", || waiter.join().unwrap()));
        ended(&at_once("an acquire", || block_on(pool.acquire())).unwrap_err());
        ended(&pool.try_acquire().unwrap_err());
        ended(&at_once("a command that ran", || block_on(child.wait())).unwrap_err());
        ended(&at_once("a command", || block_on(other.command("true").status())).unwrap_err());
        ended(&at_once("an inspect", || block_on(other.inspect())).unwrap_err());
        ended(&at_once("a refresh", || block_on(pool.refresh())).unwrap_err());
        assert_eq!(pool.status().idle, 0, "{way}");
        let error = at_once("a shutdown", || block_on(pool.shutdown())).unwrap_err();
        let Error::ShutdownIncomplete {
            source: Some(source), ..
        } = error
        else {
            panic!("{way}: {error:?}")
        };
        assert_eq!(source.kind(), EngineErrorKind::RuntimeEnded, "{way}");
        drop(child);
        let instance = pool.instance().to_owned();
        drop((c, other, pool));
        assert_all_gone(&instance);
    }
}

#[test]
fn a_runtime_that_has_ended_is_refused_for_a_pool_or_a_container() {
    let runtime = Runtime::new().unwrap();
    let handle = runtime.handle().clone();
    drop(runtime);
    let engine = Arc::new(FakeEngine::new());
    let builder = Pool::builder("late").image("any").engine(engine.clone());
    let built = at_once("a build", || block_on(builder.tokio_runtime(handle.clone()).build()));
    assert!(matches!(built, Err(Error::RuntimeEnded)));
    let created = Container::create_on(handle, engine.clone(), ContainerSpec::new("any"));
    assert!(matches!(
        at_once("a creation", || block_on(created)),
        Err(Error::RuntimeEnded)
    ));
    assert_eq!(engine.calls(Call::Create), 0);
}

#[test]
fn a_given_runtime_does_the_work() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let engine = FakeEngine::new();
    // The engine in memory asks for processes on the thread of the task.
    let threads = Arc::new(Mutex::new(Vec::new()));
    engine.on_exec({
        let threads = threads.clone();
        move |_| {
            threads
                .lock()
                .unwrap()
                .push(thread::current().name().unwrap_or_default().to_owned());
            FakeProcess::exit(0)
        }
    });
    for handle in [None, Some(runtime.handle().clone())] {
        let mut builder = Pool::builder("given").image("any").engine(Arc::new(engine.clone()));
        if let Some(handle) = handle {
            builder = builder.tokio_runtime(handle);
        }
        runtime.block_on(async {
            let pool = builder.build().await.unwrap();
            let _ = pool.acquire().await.unwrap().command("any").status().await.unwrap();
            pool.shutdown().await.unwrap();
        });
    }
    let here = thread::current().name().unwrap().to_owned();
    assert_eq!(*threads.lock().unwrap(), ["dockerpool".to_owned(), here]);
}

#[test]
fn an_on_error_function_that_blocks_or_panics_delays_no_command_and_no_pool() {
    let engine = FakeEngine::new();
    let (told, tells) = mpsc::channel();
    let release = Arc::new(Barrier::new(2));
    let calls = Arc::new(AtomicUsize::new(0));
    let builder = Pool::builder("slow")
        .image("any")
        .engine(Arc::new(engine.clone()))
        .min_idle(0);
    let pool = block_on(
        builder
            .on_error({
                let (release, calls) = (release.clone(), calls.clone());
                move |error| {
                    told.send(error.to_string()).unwrap();
                    if calls.fetch_add(1, Ordering::Relaxed) == 0 {
                        release.wait();
                    }
                    panic!("on purpose");
                }
            })
            .build(),
    )
    .unwrap();
    engine.answer(Call::Create, Answer::Fail(EngineErrorKind::Internal));
    let error = block_on(pool.acquire_timeout(Duration::from_millis(10))).unwrap_err();
    assert!(error.is_timeout());
    tells.recv_timeout(LONG).expect("the function is called");
    // The function blocks now. Neither this pool nor another one does.
    engine.answer(Call::Create, Answer::Ok);
    let c = block_on(pool.acquire_timeout(LONG)).unwrap();
    assert!(block_on(c.command("any").status()).unwrap().success());
    drop(c);
    let other = Pool::builder("other").image("any").engine(Arc::new(FakeEngine::new()));
    let other = block_on(other.build()).unwrap();
    block_on(other.shutdown()).unwrap();
    // The function is called for later errors although it panicked.
    release.wait();
    engine.answer(Call::Create, Answer::Fail(EngineErrorKind::Internal));
    let _all: Vec<_> = std::iter::from_fn(|| pool.try_acquire().unwrap()).collect();
    block_on(pool.acquire_timeout(Duration::from_millis(10))).unwrap_err();
    tells.recv_timeout(LONG).expect("the function is called again");
    engine.answer(Call::Create, Answer::Ok);
    drop(_all);
    block_on(pool.shutdown()).unwrap();
}

#[test]
fn a_build_that_is_dropped_on_a_plain_thread_leaves_nothing() {
    let engine = FakeEngine::new();
    engine.answer(Call::Start, Answer::Hold);
    let builder = Pool::builder("dropped").image("any").engine(Arc::new(engine.clone()));
    // The engine's timeout bounds the start that is under way when the build is dropped.
    let builder = builder.engine_timeout(Duration::from_millis(100));
    {
        let mut build = pin!(builder.build());
        let waker = Waker::noop();
        let give_up = Instant::now() + LONG;
        while engine.containers().is_empty() {
            assert!(build.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
            assert!(Instant::now() < give_up, "no container was created");
            thread::yield_now();
        }
    }
    let give_up = Instant::now() + LONG;
    while !engine.containers().is_empty() {
        assert!(Instant::now() < give_up, "{:?}", engine.containers());
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_process_with_a_pool_can_exit() {
    // Another run of this test binary leaves its pool in a static and ends.
    if std::env::var_os("DOCKERPOOL_TEST_ENDS").is_some() {
        static POOL: OnceLock<Pool> = OnceLock::new();
        let pool = block_on(pool("ends").min_idle(1).build()).unwrap();
        println!("instance={}", POOL.get_or_init(|| pool).instance());
        return;
    }
    let output = itself(&own_test!("a_process_with_a_pool_can_exit"))
        .env("DOCKERPOOL_TEST_ENDS", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let instance = said.split("instance=").nth(1).expect(&said).split_whitespace().next();
    assert_all_gone(instance.unwrap());
}

#[test]
fn a_guard_that_outlives_its_runtimes_works_without_them() {
    let [first, second] = runtimes();
    let pool = first.block_on(pool("outlives").max_total(1).build()).unwrap();
    let c = second.block_on(pool.acquire()).unwrap();
    assert!(Handle::try_current().is_err());
    drop((first, second));
    assert!(block_on(c.command("true").status()).unwrap().success());
    let instance = pool.instance().to_owned();
    drop(pool);
    drop(c);
    assert_all_gone(&instance);
}
