//! What `Debug` shows of values that may hold secrets: variables by their names, commands by their program, the raw
//! configuration by the fields that are set.

use std::fmt;

use serde::Serialize;

/// A command: its program, and how many arguments it has.
pub(crate) struct Argv<'a>(pub(crate) &'a [String]);

impl fmt::Debug for Argv<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("nothing"),
            [program] => write!(f, "{program:?}"),
            [program, arguments @ ..] => write!(f, "{program:?} and {} arguments", arguments.len()),
        }
    }
}

/// The name of a variable that is given as `NAME=value`.
pub(crate) fn variable(text: &str) -> &str {
    text.split_once('=').map_or(text, |(name, _)| name)
}

/// The fields that are set.
pub(crate) struct Fields<'a, T>(pub(crate) &'a T);

impl<T: Serialize> fmt::Debug for Fields<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = serde_json::to_value(self.0).unwrap_or_default();
        let fields = value.as_object().into_iter().flatten();
        let set = fields.filter(|(_, value)| !value.is_null()).map(|(name, _)| name);
        f.debug_set().entries(set).finish()
    }
}
