//! Starting a command: the background task, its pipes, and the [`Child`] that holds their other ends.

use std::marker::PhantomData;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::child::{Child, Release};
use super::driver::{self, Done, Driver, Started};
use super::halt::Halt;
use super::limit::Budget;
use super::pipe::pipe;
use super::setup::Setup;
use super::stdio::Source;
use super::streams::{ChildStderr, ChildStdin, ChildStdout, Reader};
use crate::container::Shared;
use crate::error::Error;
use crate::values::waker::{Guarded, guarded};

impl<G> Child<'_, G> {
    /// Starts a command in the background, and returns when it runs. `release` deals with the guard of a child that is dropped
    /// before its command has ended.
    pub(super) async fn start(guard: G, shared: Arc<Shared>, release: Release<G>, setup: Setup) -> Result<Self, Error> {
        let halt = Halt::new();
        let options = &setup.options;
        let budget = Budget::new(options.output_limit.flatten().unwrap_or(u64::MAX));
        let on_limit = options.on_limit.unwrap_or_default();
        let (stdout, stdout_pipe) = pipe(halt.clone());
        let (stderr, stderr_pipe) = pipe(halt.clone());
        let (started, is_started) = oneshot::channel();
        let (verdict, done) = oneshot::channel();
        let reader = |pipe, own_limit| Reader::new(pipe, own_limit, budget.clone(), on_limit, halt.clone());
        // From here on, dropping this future drops the child, which ends the command.
        let mut child = Self {
            stdin: None,
            stdout: setup
                .outputs
                .stdout
                .then(|| ChildStdout(reader(stdout_pipe, options.stdout_limit.flatten()))),
            stderr: setup
                .outputs
                .stderr
                .then(|| ChildStderr(reader(stderr_pipe, options.stderr_limit.flatten()))),
            program: setup.program().to_owned(),
            shared: shared.clone(),
            halt: halt.clone(),
            done,
            verdict: None,
            control: None,
            ends_alone: shared.ends_alone(&setup.request),
            detached: false,
            waker: Guarded::default(),
            limit_unset: options.output_limit.is_none(),
            timeout: options.timeout.flatten(),
            idle_timeout: options.idle_timeout.flatten(),
            guard: Some(guard),
            release,
            lease: PhantomData,
        };
        let now = shared.runtime.now();
        let (timeout, idle_timeout) = (options.timeout.flatten(), options.idle_timeout.flatten());
        let driver = Driver {
            shared: shared.clone(),
            begun: now,
            request: setup.request,
            role: setup.role,
            feed: match setup.stdin {
                Source::Bytes(data) => Some(data),
                Source::Null | Source::Piped => None,
            },
            deadline: timeout.and_then(|timeout| now.checked_add(timeout)),
            idle_timeout,
            halt,
            stdout,
            stderr,
            started,
        };
        shared
            .runtime
            .spawn(driver::run(driver, shared.begin_command(), Done::new(verdict)));

        match guarded(is_started).await {
            Ok(Started { stdin, control }) => {
                child.stdin = stdin.map(|stdin| ChildStdin::new(stdin, child.halt.finished(), shared.runtime.clone()));
                child.control = Some(control);
            }
            // The command ended without being started: by an error, which is returned here, or by its own limits, which is a
            // status.
            Err(_) => {
                child.verdict().await;
                child.outcome().map(drop)?;
            }
        }
        Ok(child)
    }
}
