//! Names of the things that an error is about: [`Subject`].

use std::fmt;

use super::text;

/// Names the pool, the container and the program that an error is about, as far as there are any.
///
/// Nothing else of a command is kept: its arguments and its environment may be secrets.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # engine.on_exec(|_| FakeProcess::exit(3));
/// # let pool = dockerpool::Pool::builder("runner").image("any").engine(std::sync::Arc::new(engine)).build().await?;
/// # let c = pool.acquire().await?;
/// let error = c.exec(["python", "job.py"]).await?.check().unwrap_err();
/// let subject = error.subject().expect("it is about a command");
/// assert_eq!((subject.program(), subject.pool()), (Some("python"), Some("runner")));
/// assert_eq!(subject.to_string(), format!("`python` in container {} of pool runner", c.name()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject(Box<Names>);

/// Boxed, so that errors are small.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    pool: Option<String>,
    container: Option<String>,
    program: Option<String>,
    /// The call on files, such as `read /a`, in place of a program.
    call: Option<String>,
}

impl Subject {
    pub(crate) fn new(pool: Option<&str>, container: Option<&str>) -> Self {
        let owned = |name: Option<&str>| name.map(|name| text::clean(name).into_owned());
        Self(Box::new(Names {
            pool: owned(pool),
            container: owned(container),
            program: None,
            call: None,
        }))
    }

    /// Adds the program.
    #[must_use]
    pub(crate) fn program_is(mut self, program: &str) -> Self {
        self.0.program = Some(text::clean(program).into_owned());
        self
    }

    /// Names a call on files, as the words for what is done, in place of a program.
    pub(crate) fn set_call(&mut self, call: &str) {
        self.0.program = None;
        self.0.call = Some(text::clean(call).into_owned());
    }

    /// Returns the words for the call on files.
    pub(crate) fn call(&self) -> Option<&str> {
        self.0.call.as_deref()
    }

    /// Adds the pool, where none is named.
    pub(crate) fn set_pool(&mut self, pool: &str) {
        self.0.pool.get_or_insert_with(|| text::clean(pool).into_owned());
    }

    /// Returns the name of the pool.
    pub fn pool(&self) -> Option<&str> {
        self.0.pool.as_deref()
    }

    /// Returns the name of the container.
    pub fn container(&self) -> Option<&str> {
        self.0.container.as_deref()
    }

    /// Returns the program, as one line of at most 2 KiB in which control characters are escaped.
    pub fn program(&self) -> Option<&str> {
        self.0.program.as_deref()
    }

    /// Returns the words for the container and its pool.
    pub(crate) fn place(&self) -> impl fmt::Display {
        Place(self)
    }
}

/// Writes `` `program` in container X of pool Y ``, without the names that are not known.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.program(), self.container()) {
            (Some(program), Some(_)) => write!(f, "`{program}` in {}", self.place()),
            (Some(program), None) => write!(f, "`{program}`"),
            (None, _) => write!(f, "{}", self.place()),
        }
    }
}

struct Place<'a>(&'a Subject);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.container(), self.0.pool()) {
            (Some(container), Some(pool)) => write!(f, "container {container} of pool {pool}"),
            (Some(container), None) => write!(f, "container {container}"),
            (None, Some(pool)) => write!(f, "pool {pool}"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_have_the_names_that_are_known() {
        let words = |pool, container, program: Option<&str>| {
            let subject = Subject::new(pool, container);
            program
                .map_or(subject.clone(), |program| subject.program_is(program))
                .to_string()
        };
        assert_eq!(words(None, None, None), "");
        assert_eq!(words(Some("p"), None, None), "pool p");
        assert_eq!(words(None, Some("c"), None), "container c");
        assert_eq!(words(Some("p"), Some("c"), None), "container c of pool p");
        assert_eq!(words(None, Some("c"), Some("ls")), "`ls` in container c");
        assert_eq!(words(Some("p"), Some("c"), Some("ls")), "`ls` in container c of pool p");
    }

    #[test]
    fn each_name_is_one_harmless_line() {
        let mut subject = Subject::new(None, Some("c\x1b[31m")).program_is(&("a\nb".to_owned() + &"c".repeat(5000)));
        subject.set_pool("p\u{202e}");
        subject.set_pool("another");
        let words = subject.to_string();
        assert!(words.starts_with("`a\\nbc") && words.len() < 3000, "{words}");
        assert!(
            words.ends_with("` in container c\\u{1b}[31m of pool p\\u{202e}"),
            "{words}"
        );
    }
}
