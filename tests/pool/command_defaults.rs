//! Options that a pool gives to all of its commands, and limits that need the agent.

use std::sync::Arc;
use std::time::Duration;

use dockerpool::testing::{Call, FakeEngine, FakeProcess};
use dockerpool::{
    Command, CommandDefaults, Container, ContainerSpec, Error, ExecVia, ExitStatus, OnLimit, Pool, PoolBuilder, Stdio,
};

fn limit(limit: u64) -> ExitStatus {
    ExitStatus::OutputLimit {
        limit,
        is_default: false,
    }
}

fn builder(engine: &FakeEngine, defaults: CommandDefaults) -> PoolBuilder {
    let builder = Pool::builder("defaults").image("any").min_idle(0);
    builder.engine(Arc::new(engine.clone())).command_defaults(defaults)
}

#[tokio::test]
async fn a_commands_own_setter_wins_over_the_default_and_none_takes_it_back() {
    let engine = FakeEngine::new();
    engine.on_exec(|_| FakeProcess::exit(0).stdout("0123456789").stderr("abcdef"));
    let defaults = CommandDefaults::new().output_limit(8).stderr_limit(3);
    let pool = builder(&engine, defaults).build().await.unwrap();
    let status = async |own: for<'a, 'c> fn(&'a mut Command<'c>) -> &'a mut Command<'c>| {
        let c = pool.acquire().await.unwrap();
        let output = own(&mut c.command("report")).output().await.unwrap();
        (output.status, output.truncated)
    };
    // One limit at a time is reached.
    assert_eq!(status(|own| own.stderr(Stdio::null())).await, (limit(8), true));
    let of_9 = status(|own| own.stderr(Stdio::null()).output_limit(9));
    assert_eq!(of_9.await, (limit(9), true));
    // The default of the other limit stays.
    assert_eq!(status(|own| own.output_limit(None)).await, (limit(3), true));
    let unlimited = (ExitStatus::Exited(0), false);
    assert_eq!(status(|own| own.output_limit(None).stderr_limit(None)).await, unlimited);
    let cut = (ExitStatus::Exited(0), true);
    assert_eq!(status(|own| own.on_limit(OnLimit::Truncate)).await, cut);
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn times_have_defaults_too_and_those_of_owned_children_are_of_their_guards_pool() {
    let engine = FakeEngine::new();
    engine.on_exec(|_| FakeProcess::forever());
    let here = tokio::runtime::Handle::current();
    for (defaults, expected) in [
        (
            CommandDefaults::new().timeout(Duration::from_secs(3)),
            ExitStatus::TimedOut,
        ),
        (
            CommandDefaults::new().idle_timeout(Duration::from_secs(3)),
            ExitStatus::IdleTimedOut,
        ),
    ] {
        let builder = builder(&engine, defaults).tokio_runtime(here.clone());
        let pool = builder.build().await.unwrap();
        let lease = pool.acquire().await.unwrap();
        let mut child = Command::new("server").spawn_owned(lease).await.unwrap();
        assert_eq!(child.wait().await.unwrap(), expected);
        drop(child);
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_container_without_a_pool_has_defaults_too() {
    let engine = Arc::new(FakeEngine::new());
    engine.on_exec(|_| FakeProcess::exit(0).stdout("0123456789"));
    let defaults = CommandDefaults::new().stdout_limit(4).on_limit(OnLimit::Truncate);
    let spec = ContainerSpec::new("any").command_defaults(defaults);
    let c = Container::create(engine, spec).await.unwrap().start().await.unwrap();
    assert_eq!(c.command("report").output().await.unwrap().stdout, b"0123");
    c.remove().await.unwrap();
}

#[tokio::test]
async fn defaults_that_no_command_can_have_are_refused_before_anything_is_done() {
    let zero = CommandDefaults::new;
    for (defaults, name) in [
        (zero().cpu_time(Duration::ZERO), "cpu_time"),
        (zero().memory(0), "memory"),
        (zero().memory(u64::MAX), "memory"),
        (zero().processes(0), "processes"),
        (zero().file_size(0), "file_size"),
    ] {
        let engine = FakeEngine::new();
        let Err(Error::Config(problems)) = builder(&engine, defaults).build().await else {
            panic!("{name} was taken");
        };
        assert_eq!(problems[0].field(), "command_defaults");
        assert!(problems[0].to_string().contains(name), "{}", problems[0]);
        assert_eq!(engine.calls(Call::Check), 0);
    }
    let engine = FakeEngine::new();
    let defaults = CommandDefaults::new().cpu_time(Duration::from_secs(1));
    let by_engine = builder(&engine, defaults.clone()).exec_via(ExecVia::Docker);
    let Err(Error::Config(problems)) = by_engine.build().await else {
        panic!("the engine cannot limit commands");
    };
    assert!(problems[0].to_string().contains("exec_via()"), "{}", problems[0]);
    // A default of no limit needs nobody.
    let none = builder(&engine, defaults.cpu_time(None)).exec_via(ExecVia::Docker);
    none.build().await.unwrap().shutdown().await.unwrap();
}

#[tokio::test]
async fn a_limit_that_the_exec_api_cannot_apply_is_refused_before_the_command_begins() {
    let engine = FakeEngine::new();
    let pool = builder(&engine, CommandDefaults::new()).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let mut commands = [(); 4].map(|()| c.command("true"));
    commands[0].cpu_time(Duration::from_secs(1));
    commands[1].memory(1 << 20);
    commands[2].processes(3);
    commands[3].file_size(1);
    for (command, name) in commands
        .iter_mut()
        .zip(["cpu_time()", "memory()", "processes()", "file_size()"])
    {
        let error = command.output().await.unwrap_err();
        let Error::Unsupported { reason, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(reason.contains(name), "{reason}");
        assert_eq!((error.container(), error.program()), (Some(c.name()), Some("true")));
    }
    // A limit that was taken back is not asked for.
    commands[0].cpu_time(None);
    assert!(commands[0].status().await.unwrap().success());
    for (i, field) in ["cpu_time", "memory", "processes", "file_size"].into_iter().enumerate() {
        let mut command = c.command("true");
        match i {
            0 => command.cpu_time(Duration::ZERO),
            1 => command.memory(0),
            2 => command.processes(0),
            _ => command.file_size(u64::MAX),
        };
        let Err(Error::BadCommand { problem, .. }) = command.output().await else {
            panic!("{field} was taken");
        };
        assert_eq!(problem.field(), field);
    }
    assert_eq!(engine.calls(Call::Exec), 1);
    assert_eq!(c.taint(), None);
    drop(c);

    // The same holds for a default of the pool where the agent turns out not to run the commands.
    let defaults = CommandDefaults::new().processes(9);
    let pool = builder(&engine, defaults).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    assert!(matches!(
        c.command("true").status().await,
        Err(Error::Unsupported { .. })
    ));
    assert!(c.command("true").processes(None).status().await.unwrap().success());
}
