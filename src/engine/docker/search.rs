//! The search for an engine that no setting names.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use super::discover::Candidate;
use super::{DockerEngine, REACH};
use crate::engine::{EngineError, EngineErrorKind};
use crate::error::{Error, FORBIDDEN, root_cause};

/// Holds the durations of the search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The delay before the next candidate is asked, if the ones before have not answered. A query starts Podman, so
    /// Podman is not asked if Docker answers.
    head_start: Duration,
    /// The time after which a silent candidate no longer blocks a later one. Podman can take three seconds to start.
    patience: Duration,
    /// The time after which the search ends if none has answered: before the deadline of connecting, so that the error can
    /// name what was tried.
    end: Duration,
}

impl Pace {
    pub(super) const USUAL: Self = Self {
        head_start: Duration::from_millis(250),
        patience: Duration::from_secs(4),
        end: Duration::from_secs(9),
    };
}

/// Describes the progress of one candidate.
#[allow(clippy::large_enum_variant)] // there are only a handful of them
enum Asked {
    Not(Candidate),
    Since(Instant),
    /// An engine answers, possibly with a failure: the search ends with it.
    Answered(Result<DockerEngine, Error>),
    /// No engine listens.
    Nobody(String),
}

/// Returns the first candidate, in their order, at which an engine answers. A later one that answers sooner is chosen only
/// after those before it have failed, or have had their time.
pub(super) async fn first_that_answers(
    candidates: Vec<Candidate>,
    pace: Pace,
    hint: Option<&str>,
) -> Result<DockerEngine, Error> {
    let names: Vec<_> = candidates
        .iter()
        .map(|candidate| candidate.endpoint.to_string())
        .collect();
    let mut all: Vec<_> = candidates.into_iter().map(Asked::Not).collect();
    let mut answers = FuturesUnordered::new();
    let (begun, mut asked_at) = (Instant::now(), Instant::now());
    let end = begun + pace.end;
    loop {
        // The next candidate to ask, if it is due.
        let now = Instant::now();
        let next = all.iter().position(|one| matches!(one, Asked::Not(_)));
        let wait = next.is_some() && all.iter().any(|one| matches!(one, Asked::Since(_)));
        if let Some(next) = next.filter(|_| !wait || now >= asked_at + pace.head_start) {
            let asked = std::mem::replace(&mut all[next], Asked::Since(now));
            if let Asked::Not(Candidate { endpoint, named_by }) = asked {
                answers.push(async move { (next, DockerEngine::open(endpoint, &named_by).await) });
            }
            asked_at = now;
            continue;
        }
        let mut wake = if wait { end.min(asked_at + pace.head_start) } else { end };
        let mut chosen = None;
        for (at, one) in all.iter().enumerate() {
            match one {
                Asked::Answered(_) => {
                    chosen = Some(at);
                    break;
                }
                Asked::Since(since) if now < *since + pace.patience => {
                    wake = wake.min(*since + pace.patience);
                    break;
                }
                Asked::Since(_) | Asked::Nobody(_) => {}
                Asked::Not(_) => break,
            }
        }
        if let Some(at) = chosen
            && let Asked::Answered(answer) = all.swap_remove(at)
        {
            if answer.is_ok() {
                for silent in all[..at]
                    .iter()
                    .zip(&names)
                    .filter(|(one, _)| matches!(one, Asked::Since(_)))
                {
                    tracing::warn!(socket = %silent.1, "a process listens on this socket and does not answer: skipping it");
                }
            }
            return answer;
        }
        if now >= end || all.iter().all(|one| matches!(one, Asked::Nobody(_))) {
            return Err(nobody(&all, &names, hint));
        }
        tokio::select! {
            Some((at, answer)) = answers.next() => {
                all[at] = match answer {
                    Err(Error::Engine { source, .. }) if source.kind() == EngineErrorKind::Unreachable => {
                        Asked::Nobody(root_cause(&source))
                    }
                    answer => Asked::Answered(answer),
                };
            }
            () = sleep_until(wake) => {}
        }
    }
}

/// Returns the error that names everything that was tried.
fn nobody(all: &[Asked], names: &[String], hint: Option<&str>) -> Error {
    let silent = all.iter().any(|one| !matches!(one, Asked::Nobody(_)));
    let kind = if silent {
        EngineErrorKind::Timeout
    } else {
        EngineErrorKind::Unreachable
    };
    let tried = all.iter().zip(names).map(|(one, name)| match one {
        Asked::Nobody(why) => format!("{name} ({why})"),
        _ => format!("{name} (it does not answer)"),
    });
    let mut words = format!(
        "DOCKER_HOST is not set, there is no docker context, and no engine answers at {}",
        tried.collect::<Vec<_>>().join(", ")
    );
    if let Some(hint) = hint {
        words = format!("{words}; {hint}");
    }
    let is_forbidden = |one: &Asked| matches!(one, Asked::Nobody(why) if why.contains("ermission denied"));
    let error = EngineError::new(kind, words);
    let error = match all.iter().any(is_forbidden) {
        true => error.advise(FORBIDDEN),
        false => error,
    };
    Error::engine(REACH, None, error)
}

#[cfg(all(test, unix))]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;
    use tokio::sync::Notify;
    use tokio_util::task::AbortOnDropHandle;

    use super::super::discover::Environment;
    use super::super::endpoint::Endpoint;
    use super::*;

    const PACE: Pace = Pace {
        head_start: Duration::from_millis(10),
        patience: Duration::from_secs(5),
        end: Duration::from_secs(60),
    };

    fn at(path: impl Into<PathBuf>) -> Candidate {
        Candidate {
            endpoint: Endpoint::unix(path),
            named_by: "a test".to_owned(),
        }
    }

    fn nowhere(name: &str) -> Candidate {
        at(format!("/nowhere/{name}.sock"))
    }

    /// Describes when a fake engine answers, and with which result.
    #[derive(Clone, Default)]
    struct When {
        after: Option<Arc<Notify>>,
        then: Arc<Notify>,
    }

    /// Starts a fake engine that only answers the query for its version.
    fn engine(path: &Path, when: When) -> AbortOnDropHandle<()> {
        let listener = UnixListener::bind(path).unwrap();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut head).await.unwrap();
            }
            if let Some(after) = when.after {
                after.notified().await;
            }
            let body = r#"{"ApiVersion":"1.41"}"#;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            when.then.notify_one();
            // The connection stays open.
            let _ = stream.read_buf(&mut head).await;
        }))
    }

    #[tokio::test]
    async fn the_first_engine_that_answers_is_taken() {
        let mut candidates = Environment::of_process().candidates().unwrap();
        let real = first_that_answers(candidates, PACE, None).await.unwrap();
        candidates = Environment::of_process().candidates().unwrap();
        candidates.insert(0, nowhere("first"));
        let engine = first_that_answers(candidates, PACE, None).await.unwrap();
        assert_eq!(engine.endpoint(), real.endpoint());
    }

    #[tokio::test]
    async fn a_preferred_engine_is_chosen_even_if_it_answers_later() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let answered = When::default();
        let slow = When {
            after: Some(answered.then.clone()),
            ..When::default()
        };
        let _engines = [engine(&first, slow), engine(&second, answered)];
        let found = first_that_answers(vec![at(&first), at(&second)], PACE, None)
            .await
            .unwrap();
        assert_eq!(found.endpoint(), Some(&Endpoint::unix(first)));
    }

    #[tokio::test]
    async fn a_silent_socket_does_not_block_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let never = || When {
            after: Some(Arc::default()),
            ..When::default()
        };
        let _engines = [
            engine(&path("silent"), never()),
            engine(&path("dumb"), never()),
            engine(&path("speaks"), When::default()),
        ];
        let candidates = ["silent", "dumb", "speaks"].map(|name| at(path(name)));
        let pace = Pace {
            patience: Duration::from_millis(100),
            ..PACE
        };
        let found = first_that_answers(candidates.into(), pace, None).await.unwrap();
        assert_eq!(found.endpoint(), Some(&Endpoint::unix(path("speaks"))));
    }

    #[tokio::test]
    async fn a_silent_engine_is_waited_for_if_it_is_the_only_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let lost = Arc::<Notify>::default();
        let late = When {
            after: Some(lost.clone()),
            ..When::default()
        };
        let _engine = engine(&path("late"), late);
        let pace = Pace {
            patience: Duration::from_millis(20),
            ..PACE
        };
        let search = first_that_answers(vec![at(path("late")), nowhere("other")], pace, None);
        // The patience of the search has run out by then.
        let wake = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            lost.notify_one();
        };
        let (found, ()) = tokio::join!(search, wake);
        assert_eq!(found.unwrap().endpoint(), Some(&Endpoint::unix(path("late"))));
    }

    #[tokio::test]
    async fn when_none_answers_all_that_was_tried_is_named() {
        let candidates = vec![nowhere("first"), nowhere("second")];
        let error = first_that_answers(candidates, PACE, Some("a hint")).await.unwrap_err();
        let source = error.engine_error().unwrap();
        assert_eq!(source.kind(), EngineErrorKind::Unreachable);
        let text = source.to_string();
        for part in [
            "unix:///nowhere/first.sock (No such file",
            "unix:///nowhere/second.sock",
            "; a hint",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[tokio::test]
    async fn when_only_silent_ones_are_there_the_error_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let silent = dir.path().join("silent");
        let never = When {
            after: Some(Arc::default()),
            ..When::default()
        };
        let _engine = engine(&silent, never);
        let pace = Pace {
            end: Duration::from_millis(100),
            ..PACE
        };
        let error = first_that_answers(vec![nowhere("first"), at(&silent)], pace, None)
            .await
            .unwrap_err();
        let source = error.engine_error().unwrap();
        assert_eq!(source.kind(), EngineErrorKind::Timeout);
        let text = source.to_string();
        assert!(
            text.contains("silent (it does not answer)") && text.contains("(No such file"),
            "{text}"
        );
    }
}
