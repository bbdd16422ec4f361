//! Where a container is reached: [`Addresses`].

use std::net::{IpAddr, SocketAddr};

use parking_lot::RwLock;

use super::handle::Handle;
use super::shared::Shared;
use crate::engine::{EngineError, EngineErrorKind, Network, PublishedPort};
use crate::runtime::bounded;

/// Holds what the engine has reported after the last start.
#[derive(Debug, Default)]
pub(super) struct Addresses(RwLock<Reported>);

#[derive(Debug, Default)]
struct Reported {
    ip: Option<IpAddr>,
    ports: Vec<PublishedPort>,
}

impl Handle {
    /// Asks the engine where the container is reached, if it has a network. Fails if a port is not published.
    pub(super) async fn find_addresses(&self) -> Result<(), EngineError> {
        let shared = &**self.shared();
        let plan = &shared.spec.plan;
        if plan.network == Some(Network::None) {
            return Ok(());
        }
        let inspect = shared.engine.inspect(shared.id());
        let report = bounded("an inspect", shared.call_timeout, inspect).await?;
        let is_missing = |port: u16| !report.ports.iter().any(|published| published.port == port);
        let missing = plan.ports.iter().map(|asked| asked.port).find(|port| is_missing(*port));
        if let Some(port) = missing {
            let message =
                format!("port {port} was to be published, and the engine has not done so (is the network internal?)");
            return Err(EngineError::new(EngineErrorKind::SettingIgnored, message));
        }
        *shared.addresses.0.write() = Reported {
            ip: report.ip,
            ports: report.ports,
        };
        Ok(())
    }
}

impl Shared {
    /// Returns where a port is reached, for a look of the library's own.
    pub(super) fn look_at_port(&self, port: u16) -> Option<SocketAddr> {
        let reported = self.addresses.0.read();
        let published = reported.ports.iter().find(|published| published.port == port)?;
        Some(published.address)
    }

    /// Returns the container's address on its network. Who knows the address may change what a server in the container has, so
    /// that a lease counts as one with a command.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        let ip = self.addresses.0.read().ip;
        if ip.is_some() {
            self.commands().touch();
        }
        ip
    }

    /// Returns where a port is reached, as [`ip`](Self::ip), or else which ports are published.
    pub(super) fn port(&self, port: u16) -> Result<SocketAddr, Vec<u16>> {
        match self.look_at_port(port) {
            Some(address) => {
                self.commands().touch();
                Ok(address)
            }
            None => Err(self
                .addresses
                .0
                .read()
                .ports
                .iter()
                .map(|published| published.port)
                .collect()),
        }
    }
}
