//! The network that containers are attached to: [`Network`].

use std::collections::BTreeMap;

use crate::values::labels;

/// Names the network of a pool's containers.
///
/// Containers on one network reach each other, by address and by name, and (unless the network is
/// [`internal`](NewNetwork::internal)) the outside world. Containers on other networks do not reach them.
///
/// # Examples
///
/// ```
/// use dockerpool::{Network, Pool};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// let network = Network::create("workers").internal(true).remove_on_shutdown();
/// assert_eq!(network.name, "workers");
/// let builder = Pool::builder("workers").image("busybox:1.36").network(network);
/// # let builder = builder.engine(engine.clone());
/// let pool = builder.build().await?;
/// # assert!(engine.networks().contains(&"workers".to_owned()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// No network: only the loopback interface, and no route. The default.
    #[default]
    None,
    /// An existing network, by name.
    Existing(String),
    /// A network that the engine creates if it is missing.
    Create(NewNetwork),
}

/// Describes a network that the engine creates if none of its name exists. An existing network is used unchanged, whichever
/// program created it; one that is not [`internal`](Self::internal) where that is asked for is refused. Made by
/// [`Network::create`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a network is created for a pool that names it"]
pub struct NewNetwork {
    /// The name.
    pub name: String,
    /// The driver. `None`: the engine's default, `bridge`.
    pub driver: Option<String>,
    /// Labels, beside the library's own.
    pub labels: BTreeMap<String, String>,
    /// Whether the network has no route to the outside world.
    pub internal: bool,
    /// Whether the network is removed when the pool is shut down. A network that containers of others are on stays, and no later
    /// shutdown of a pool that did not make it removes it.
    pub remove_on_shutdown: bool,
}

impl Network {
    /// Names no network: containers have only the loopback interface, and no route. The default.
    pub fn none() -> Self {
        Self::None
    }

    /// Names an existing network; without it `build()` fails. `bridge` is Docker's default network, on which all containers
    /// of the engine reach each other.
    pub fn existing(name: impl Into<String>) -> Self {
        Self::Existing(name.into())
    }

    /// Names a network that the engine creates if it is missing; an existing one is used unchanged, whichever program
    /// created it. If the network has been removed by the time a container needs it, the engine creates it again.
    pub fn create(name: impl Into<String>) -> NewNetwork {
        NewNetwork {
            name: name.into(),
            driver: None,
            labels: BTreeMap::new(),
            internal: false,
            remove_on_shutdown: false,
        }
    }

    /// Returns the network's name; `None` for [`Network::none`].
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Existing(name) => Some(name),
            Self::Create(new) => Some(&new.name),
        }
    }

    /// Returns whether the network is to be removed when the pool is shut down.
    pub(crate) fn is_removed(&self) -> bool {
        matches!(self, Self::Create(new) if new.remove_on_shutdown)
    }

    pub(crate) fn check(&self, bad: &mut impl FnMut(&str, &str)) {
        if let Some(name) = self.name() {
            let first = |c: char| c.is_ascii_alphanumeric();
            let other = |c: char| first(c) || matches!(c, '_' | '.' | '-');
            if !name.starts_with(first) || !name.chars().all(other) {
                bad(
                    "network",
                    "a name must begin with a letter or digit, and have no other characters than those and '_', '.', '-'",
                );
            }
        }
        match self {
            Self::Create(new) => new.check(bad),
            Self::Existing(name) if name == "none" => bad("network", "use none()"),
            Self::None | Self::Existing(_) => {}
        }
    }
}

impl NewNetwork {
    /// Sets the driver. Default: the engine's, `bridge`.
    pub fn driver(mut self, driver: impl Into<String>) -> Self {
        self.driver = Some(driver.into());
        self
    }

    /// Adds a label. Labels that begin with [`labels::PREFIX`](crate::labels::PREFIX) are the library's own and are refused.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Sets whether the network has no route to the outside world. Default: `false`.
    pub fn internal(mut self, internal: bool) -> Self {
        self.internal = internal;
        self
    }

    /// Removes the network when the pool is shut down, if a pool of this name created it (its labels tell) and no other
    /// container is on it. The network of a process that was killed is removed by the next pool of the name. Default: the network
    /// stays.
    pub fn remove_on_shutdown(mut self) -> Self {
        self.remove_on_shutdown = true;
        self
    }

    fn check(&self, bad: &mut impl FnMut(&str, &str)) {
        if matches!(self.name.as_str(), "none" | "host" | "bridge" | "default" | "container") {
            bad("network", "this name is the engine's own: use existing() or none()");
        }
        let is_bad = |driver: &String| driver.is_empty() || driver.contains('\0');
        if self.driver.as_ref().is_some_and(is_bad) {
            bad("network", "the driver must not be empty nor contain NUL");
        }
        for (name, value) in &self.labels {
            if name.is_empty() || name.contains('\0') || value.contains('\0') {
                bad("network", "a label must not be empty nor contain NUL");
            }
            if name.starts_with(labels::PREFIX) {
                bad("network", "labels that begin with `dockerpool.` are reserved");
            }
        }
    }
}

impl From<NewNetwork> for Network {
    fn from(new: NewNetwork) -> Self {
        Self::Create(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(network: impl Into<Network>) -> Vec<String> {
        let mut found = Vec::new();
        network.into().check(&mut |_, problem| found.push(problem.to_owned()));
        found
    }

    #[test]
    fn impossible_networks_are_refused() {
        assert_eq!(problems(Network::none()), [""; 0]);
        assert_eq!(problems(Network::existing("bridge")), [""; 0]);
        let full = Network::create("a.b-c_1")
            .driver("bridge")
            .label("a", "b")
            .internal(true);
        assert_eq!(problems(full.remove_on_shutdown()), [""; 0]);
        let create = Network::create;
        for (network, word) in [
            (Network::existing(""), "begin with"),
            (Network::existing("none"), "none()"),
            (create("a/b").into(), "begin with"),
            (create("container:x").into(), "begin with"),
            (create("host").into(), "engine's own"),
            (create("a").driver("").into(), "driver"),
            (create("a").label("", "b").into(), "label"),
            (create("a").label("dockerpool.pool", "b").into(), "reserved"),
        ] {
            let found = problems(network.clone());
            assert!(found.len() == 1 && found[0].contains(word), "{network:?}: {found:?}");
        }
    }
}
