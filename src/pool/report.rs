//! Errors and warnings that no call returns: [`Reporter`].

use std::collections::HashSet;

use parking_lot::Mutex;

use crate::container::GiveUp;
use crate::engine::{EngineError, EngineErrorKind};
use crate::error::{Error, ErrorFn};
use crate::values::text;

/// How many warnings about one container are reported.
const MAX_WARNINGS_OF_ONE: usize = 16;

/// How many texts of warnings are remembered. The last one is replaced by the word that there are no more.
const MAX_WARNINGS: usize = 256;
const MAX_WARNING_BEFORE_LAST: usize = MAX_WARNINGS - 1;
const NO_MORE_WARNINGS: &str = "the engine has given too many warnings; no more of them are reported";

/// Calls the function that was given to [`on_error`](crate::PoolBuilder::on_error).
pub(super) struct Reporter {
    pool: String,
    /// Neither panics nor blocks, whatever the user's function does.
    on_error: ErrorFn,
    /// The texts of the warnings that were reported. Never more than [`MAX_WARNINGS`].
    warned: Mutex<HashSet<String>>,
}

impl Reporter {
    /// `on_error` must neither panic nor block.
    pub(super) fn new(pool: String, on_error: ErrorFn) -> Self {
        Self {
            pool,
            on_error,
            warned: Mutex::default(),
        }
    }

    /// Reports an error of a background task.
    pub(super) fn report(&self, error: Error) {
        (self.on_error)(error);
    }

    /// Reports what the engine says of a container: each text once, and a bounded number of texts.
    pub(super) fn warn(&self, container: &str, warnings: Vec<String>) {
        self.warn_of("create the container without a warning", Some(container), warnings);
    }

    /// Reports what is to be known about the image, in the same way.
    pub(super) fn warn_of_image(&self, warnings: Vec<String>) {
        self.warn_of("use the image without a warning", None, warnings);
    }

    fn warn_of(&self, op: &'static str, container: Option<&str>, mut warnings: Vec<String>) {
        warnings.truncate(MAX_WARNINGS_OF_ONE);
        for warning in warnings {
            let warning = {
                let mut warned = self.warned.lock();
                match warned.len() {
                    MAX_WARNINGS.. => return,
                    _ if !warned.insert(text::clean(&warning).into_owned()) => continue,
                    MAX_WARNING_BEFORE_LAST => NO_MORE_WARNINGS.to_owned(),
                    _ => warning,
                }
            };
            let warning = EngineError::new(EngineErrorKind::Warning, warning);
            tracing::warn!(pool = self.pool, container, %warning, "a warning");
            self.report(Error::engine(op, container, warning));
        }
    }

    /// Returns the function that reports a removal which was given up.
    pub(super) fn give_up(&self) -> GiveUp {
        GiveUp(Some(self.on_error.clone()))
    }
}
