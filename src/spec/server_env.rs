//! Variables of the container's own command alone: [`ServerEnv`].

use std::collections::BTreeMap;
use std::fmt;

/// Variables that commands of leases get on request only. `Debug` shows their names.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct ServerEnv(pub(super) BTreeMap<String, String>);

impl ServerEnv {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets a variable. The last value for a name counts.
    pub(crate) fn set(&mut self, name: String, value: String) {
        self.0.insert(name, value);
    }

    /// Returns the variables, each as `NAME=value`, in the order of their names.
    pub(crate) fn variables(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(name, value)| format!("{name}={value}"))
    }
}

impl fmt::Debug for ServerEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}
