//! Why no container could be had in time: [`AcquireTimeout`].

use std::fmt;
use std::time::Duration;

use super::engine::EngineError;
use super::hint::Hint;
use super::words::Cause;
use crate::values::shown::Rounded;
use crate::values::status::Status;

/// Tells what was known when the deadline of an acquire passed.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use dockerpool::Error;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").max_total(1).engine(std::sync::Arc::new(engine.clone())).build().await?;
/// let only = pool.acquire().await?;
/// match pool.acquire_timeout(Duration::ZERO).await {
///     Err(Error::AcquireTimeout(timeout)) => {
///         // All of them are lent, and none failed to be created: the pool is too small for this load.
///         assert_eq!(timeout.status.in_use, timeout.status.max_total);
///         assert!(timeout.last_create_error.is_none());
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AcquireTimeout {
    /// The pool's name.
    pub pool: String,
    /// How long the acquire waited.
    pub waited: Duration,
    /// The pool at that moment.
    pub status: Status,
    /// Why the last attempt to create a container failed, if it did, or why the one under way is not there yet.
    ///
    /// The latter is an error of the kind [`NotReady`](crate::EngineErrorKind::NotReady) which says what the container waits for:
    /// a sign of [`Ready`](crate::Ready), or the end of [`on_create`](crate::PoolBuilder::on_create).
    pub last_create_error: Option<EngineError>,
    /// Whether the acquire waited for the end of another lease of the same key: see
    /// [`Pool::acquire_for`](crate::Pool::acquire_for).
    pub key_in_use: bool,
    /// Whether `last_create_error` is of a creation that is under way.
    pub(crate) is_under_way: bool,
}

/// Names the last failed creation with its cause, or what the one under way waits for. That failure is not the source of the
/// timeout: the wait is what failed.
impl fmt::Display for AcquireTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pool,
            waited,
            status,
            last_create_error,
            key_in_use,
            is_under_way,
        } = self;
        write!(f, "no container of pool {pool} within {} ({status})", Rounded(*waited))?;
        if *key_in_use {
            return f.write_str("; another lease of the same key did not end: give it back sooner");
        }
        if let Some(error) = last_create_error {
            let (cause, hint) = (Cause(error), Hint(error));
            if *is_under_way {
                return write!(f, "; the one being created is {cause}{hint}");
            }
            return write!(f, "; the last attempt to create one failed: {cause}{hint}");
        }
        if status.in_use >= status.max_total {
            f.write_str("; all are lent: give them back sooner, or raise max_total()")?;
        }
        Ok(())
    }
}
