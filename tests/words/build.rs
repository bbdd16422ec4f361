//! A pool that is not built.

use dockerpool::testing::{Answer, Call, FakeEngine};
use dockerpool::{EngineErrorKind as Kind, Network, PoolBuilder};
use insta::assert_snapshot;

use crate::{builder, said};

/// Returns what is said of these settings.
async fn refused(change: impl FnOnce(PoolBuilder) -> PoolBuilder) -> String {
    said(&change(builder(&FakeEngine::new())).build().await.unwrap_err())
}

/// Returns what is said where the engine answers a call in this way.
async fn failed(call: Call, answer: Answer) -> String {
    let engine = FakeEngine::new();
    engine.answer(call, answer);
    said(&builder(&engine).build().await.unwrap_err())
}

#[tokio::test]
async fn a_bad_setting_is_named_with_its_unit() {
    assert_snapshot!(refused(|b| b.memory(64)).await, @r#"bad configuration of pool words: memory: must be at least 6 MiB, and is 64 bytes; a number is in bytes: write e.g. 64 << 20, or "64m""#);
    assert_snapshot!(refused(|b| b.memory("4m")).await, @"bad configuration of pool words: memory: must be at least 6 MiB, and is 4 MiB");
    assert_snapshot!(refused(|b| b.memory("64 megs")).await, @r#"bad configuration of pool words: memory: "64 megs" is not a size: write a number of bytes, or e.g. "64m", "1.5g" or "512MiB""#);
    assert_snapshot!(refused(|b| b.shm_size("much")).await, @r#"bad configuration of pool words: shm_size: "much" is not a size: write a number of bytes, or e.g. "64m", "1.5g" or "512MiB""#);
    assert_snapshot!(refused(|b| b.tmpfs("/tmp", None)).await, @"bad configuration of pool words: tmpfs: must be a size, and not None");
    assert_snapshot!(refused(|b| b.cpus(0)).await, @"bad configuration of pool words: cpus: must be a number of processors from 0.01 up");
    assert_snapshot!(refused(|b| b.max_idle(5).max_total(2)).await, @"bad configuration of pool words: max_idle: 5 is more than max_total, which is 2");
    assert_snapshot!(refused(|b| b.image("a b").max_total(0).pids_limit(0)).await, @"bad configuration of pool words: max_total: must be at least 1; image: `a b` may have only lower case letters, digits, and single `.`, `_`, `__` or `-` between them; pids_limit: must be at least 1");
}

#[tokio::test]
async fn the_last_of_two_sizes_counts() {
    let pool = builder(&FakeEngine::new())
        .memory("64 megs")
        .memory("64m")
        .tmpfs("/work", "many")
        .tmpfs("/work", "1m");
    pool.build().await.unwrap();
    assert_snapshot!(refused(|b| b.memory("64m").memory("64 megs")).await, @r#"bad configuration of pool words: memory: "64 megs" is not a size: write a number of bytes, or e.g. "64m", "1.5g" or "512MiB""#);
}

#[tokio::test]
async fn an_engine_that_is_not_reached_has_advice_by_the_cause() {
    let check = async |kind| failed(Call::Check, Answer::Fail(kind)).await;
    assert_snapshot!(check(Kind::Unreachable).await, @"could not reach the engine for pool words: Check was made to fail (is the engine running? see DOCKER_HOST)");
    assert_snapshot!(check(Kind::Untrusted).await, @"could not reach the engine for pool words: Check was made to fail (see ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH, or as given to Endpoint::tls())");
    assert_snapshot!(check(Kind::TooManyOpenFiles).await, @"could not reach the engine for pool words: Check was made to fail (close some files or connections, or raise the limit: ulimit -n)");
    assert_snapshot!(check(Kind::Internal).await, @"could not reach the engine for pool words: Check was made to fail");
}

#[tokio::test(start_paused = true)]
async fn a_silent_engine_is_told_with_the_time_that_has_passed() {
    assert_snapshot!(failed(Call::Check, Answer::Never).await, @"could not reach the engine for pool words: no answer to the check of the engine within 30 s");
    assert_snapshot!(failed(Call::Prepare, Answer::Never).await, @"could not prepare the image for pool words: no answer to the preparation of the image within 60 min");
    assert_snapshot!(failed(Call::Create, Answer::Never).await, @"could not create the first containers for pool words: no answer to the creation of a container within 30 s");
    assert_snapshot!(failed(Call::Start, Answer::Never).await, @"could not create the first containers for pool words: no answer to the start of a container within 30 s");
}

#[tokio::test]
async fn what_cannot_be_prepared_is_named_and_nothing_else() {
    let prepare = async |kind| failed(Call::Prepare, Answer::Fail(kind)).await;
    assert_snapshot!(prepare(Kind::ImageNotFound).await, @"could not prepare the image for pool words: Prepare was made to fail (is the name right? else pull the image: see pull() and Pool::refresh())");
    assert_snapshot!(prepare(Kind::LoginRefused).await, @"could not prepare the image for pool words: Prepare was made to fail (see registry_auth(), or `docker login`)");
    assert_snapshot!(prepare(Kind::RegistryUnreachable).await, @"could not prepare the image for pool words: Prepare was made to fail (can the engine's machine reach this registry? or load the image there)");
    assert_snapshot!(prepare(Kind::WrongPlatform).await, @"could not prepare the image for pool words: Prepare was made to fail (use an image for that platform, or set platform())");
    assert_snapshot!(prepare(Kind::PullInterrupted).await, @"could not prepare the image for pool words: Prepare was made to fail");
    assert_snapshot!(refused(|b| b.network(Network::existing("none-such"))).await, @"could not prepare the image and the network for pool words: there is no network none-such (create the network, or let Network::create do it)");
    assert_snapshot!(failed(Call::Image, Answer::Fail(Kind::Internal)).await, @"could not describe the image for pool words: Image was made to fail");
}

#[tokio::test]
async fn the_first_containers_are_named_with_the_reason() {
    assert_snapshot!(failed(Call::Create, Answer::Fail(Kind::Rejected)).await, @"could not create the first containers for pool words: Create was made to fail");
    assert_snapshot!(failed(Call::Start, Answer::Fail(Kind::CannotStart)).await, @"could not create the first containers for pool words: Start was made to fail (see cmd(), user() and working_dir())");

    let engine = FakeEngine::new();
    engine.lack_limits(["memory".to_owned()]);
    assert_snapshot!(said(&builder(&engine).build().await.unwrap_err()), @"could not create the first containers for pool words: limits that were asked for are not set: memory (has the engine's machine this limit, and, where the engine runs rootless, has systemd delegated it to its user?)");
    let engine = FakeEngine::new();
    engine.ignore_settings(["the runtime runsc".to_owned()]);
    assert_snapshot!(said(&builder(&engine).build().await.unwrap_err()), @"could not create the first containers for pool words: the engine ignored what was asked for: the runtime runsc");
}
