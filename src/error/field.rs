//! One value that cannot be used: [`FieldError`].

use std::fmt;

use crate::values::text;

/// Names one value that cannot be used.
///
/// # Examples
///
/// ```
/// use dockerpool::{Error, Pool};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// let built = Pool::builder("runner").image("busybox:1.36").max_total(0).build().await;
/// let Err(Error::Config(problems)) = built else { panic!("it can have no containers") };
/// assert_eq!(problems[0].field(), "max_total");
/// assert_eq!(problems[0].problem(), "must be at least 1");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    field: String,
    problem: String,
    /// The pool that the value was for, in an error of its builder.
    pool: Option<String>,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            // Either may hold text from a file or from the environment.
            field: text::clean(&field.into()).into_owned(),
            problem: text::clean(&problem.into()).into_owned(),
            pool: None,
        }
    }

    /// Names the pool, where none is named.
    pub(super) fn set_pool(&mut self, pool: &str) {
        self.pool.get_or_insert_with(|| text::clean(pool).into_owned());
    }

    pub(super) fn pool(&self) -> Option<&str> {
        self.pool.as_deref()
    }

    /// Returns the name of the builder's method or of the environment's variable, or the position in a command, e.g. `arg 2`.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Returns the words for the problem with the value.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}
