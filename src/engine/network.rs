//! Which network containers are attached to: [`Network`].

use std::collections::BTreeMap;

use crate::values::labels;

/// The network of a pool's containers.
///
/// Containers of one pool on a network of their own reach each other, by address and by name, and (unless it is
/// [`internal`](Self::internal)) the world outside. Containers on other networks do not reach them.
///
/// # Examples
///
/// ```
/// use dockerpool::{Network, Pool};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// let network = Network::create("workers").internal(true).remove_on_shutdown();
/// assert_eq!(network.name(), Some("workers"));
/// let builder = Pool::builder("workers").image("busybox:1.36").network(network);
/// # let builder = builder.engine(engine.clone());
/// let pool = builder.build().await?;
/// # assert!(engine.networks().contains(&"workers".to_owned()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is given to a builder"]
pub struct Network {
    pub(crate) kind: NetworkKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NetworkKind {
    None,
    Existing(String),
    Create(NewNetwork),
    /// A [`Network::existing`] or [`none`](Network::none) was told what only a new one can be told.
    Misused(Box<NetworkKind>, &'static str),
}

/// A network that is created where it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewNetwork {
    pub(crate) name: String,
    pub(crate) driver: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) internal: bool,
    pub(crate) remove_on_shutdown: bool,
}

impl Network {
    /// None at all: no interface but the loopback one, and no route. The default.
    pub fn none() -> Self {
        Self {
            kind: NetworkKind::None,
        }
    }

    /// One that is there, by name; a pool is not built without it. `bridge` is Docker's default one, on which all
    /// containers of the engine reach each other.
    pub fn existing(name: impl Into<String>) -> Self {
        Self {
            kind: NetworkKind::Existing(name.into()),
        }
    }

    /// One that is created by this name where it is not there yet; one that is there is taken as it is, whoever made it.
    /// It is also created again if it has been removed by the time a container needs it.
    pub fn create(name: impl Into<String>) -> Self {
        Self {
            kind: NetworkKind::Create(NewNetwork {
                name: name.into(),
                driver: None,
                labels: BTreeMap::new(),
                internal: false,
                remove_on_shutdown: false,
            }),
        }
    }

    /// The driver of a network to be created. Default: the engine's, `bridge`.
    pub fn driver(self, driver: impl Into<String>) -> Self {
        self.change("driver", |new| new.driver = Some(driver.into()))
    }

    /// Adds a label to a network to be created. Names that begin with [`labels::PREFIX`](crate::labels::PREFIX) are the
    /// library's own and are refused.
    pub fn label(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.change("label", |new| {
            new.labels.insert(name.into(), value.into());
        })
    }

    /// Whether a network to be created has no way to the world outside. Default: `false`.
    pub fn internal(self, internal: bool) -> Self {
        self.change("internal", |new| new.internal = internal)
    }

    /// Removes the network when the pool is shut down, if a pool of this name has made it (its labels tell) and nobody
    /// else's container is on it. Default: it stays.
    pub fn remove_on_shutdown(self) -> Self {
        self.change("remove_on_shutdown", |new| new.remove_on_shutdown = true)
    }

    /// Its name; `None` for [`Network::none`].
    pub fn name(&self) -> Option<&str> {
        self.kind.name()
    }

    /// Whether it is to be removed when the pool is shut down.
    pub(crate) fn is_removed(&self) -> bool {
        matches!(&self.kind, NetworkKind::Create(new) if new.remove_on_shutdown)
    }

    fn change(mut self, setter: &'static str, change: impl FnOnce(&mut NewNetwork)) -> Self {
        match &mut self.kind {
            NetworkKind::Create(new) => change(new),
            NetworkKind::Misused(..) => {}
            NetworkKind::None | NetworkKind::Existing(_) => {
                self.kind = NetworkKind::Misused(Box::new(self.kind), setter);
            }
        }
        self
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
        match &self.kind {
            NetworkKind::Misused(_, setter) => bad(
                "network",
                &format!("{setter}() is only for a network that is to be created"),
            ),
            NetworkKind::Create(new) => {
                if matches!(new.name.as_str(), "none" | "host" | "bridge" | "default" | "container") {
                    bad("network", "this name is the engine's own: use existing() or none()");
                }
                if new
                    .driver
                    .as_deref()
                    .is_some_and(|driver| driver.is_empty() || driver.contains('\0'))
                {
                    bad("network", "the driver must not be empty nor contain NUL");
                }
                for (name, value) in &new.labels {
                    if name.is_empty() || name.contains('\0') || value.contains('\0') {
                        bad("network", "a label must not be empty nor contain NUL");
                    }
                    if name.starts_with(labels::PREFIX) {
                        bad("network", "labels that begin with `dockerpool.` are reserved");
                    }
                }
            }
            NetworkKind::Existing(name) if name == "none" => bad("network", "use none()"),
            NetworkKind::None | NetworkKind::Existing(_) => {}
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::none()
    }
}

impl NetworkKind {
    fn name(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Existing(name) => Some(name),
            Self::Create(new) => Some(&new.name),
            Self::Misused(kind, _) => kind.name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(network: Network) -> Vec<String> {
        let mut found = Vec::new();
        network.check(&mut |_, problem| found.push(problem.to_owned()));
        found
    }

    #[test]
    fn what_cannot_be_is_said() {
        assert_eq!(problems(Network::none()), [""; 0]);
        assert_eq!(problems(Network::existing("bridge")), [""; 0]);
        let full = Network::create("a.b-c_1")
            .driver("bridge")
            .label("a", "b")
            .internal(true);
        assert_eq!(problems(full.remove_on_shutdown()), [""; 0]);
        for (network, word) in [
            (Network::existing(""), "begin with"),
            (Network::existing("none"), "none()"),
            (Network::create("a/b"), "begin with"),
            (Network::create("container:x"), "begin with"),
            (Network::create("host"), "engine's own"),
            (Network::create("a").driver(""), "driver"),
            (Network::create("a").label("", "b"), "label"),
            (Network::create("a").label("dockerpool.pool", "b"), "reserved"),
            (Network::existing("a").driver("bridge"), "driver()"),
            (Network::none().remove_on_shutdown(), "remove_on_shutdown()"),
        ] {
            let found = problems(network.clone());
            assert!(found.len() == 1 && found[0].contains(word), "{network:?}: {found:?}");
        }
    }
}
