//! Published ports, and the addresses by which this machine reaches them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bollard::models::{ContainerCreateBody, HostConfig, NetworkSettings, PortBinding};

use super::endpoint::Endpoint;
use crate::engine::{EngineError, EngineErrorKind, Publish, PublishedPort};

/// Returns the name of a TCP port, as the API writes it.
pub(super) fn name(port: u16) -> String {
    format!("{port}/tcp")
}

/// Adds the ports to a body. The engine chooses the ports of its machine.
pub(super) fn publish(ports: &[Publish], body: &mut ContainerCreateBody, host: &mut HostConfig) {
    for Publish { port, address } in ports {
        let name = name(*port);
        let exposed = body.exposed_ports.get_or_insert_default();
        if !exposed.contains(&name) {
            exposed.push(name.clone());
        }
        let binding = PortBinding {
            host_ip: Some(address.to_string()),
            host_port: Some(String::new()),
        };
        let bindings = host.port_bindings.get_or_insert_default();
        bindings.entry(name).or_insert_with(|| Some(vec![binding]));
    }
}

/// Refuses ports that are published where nobody but the engine's machine reaches them.
pub(super) fn refuse(ports: &[Publish], endpoint: Option<&Endpoint>) -> Result<(), EngineError> {
    let Some(machine) = endpoint.and_then(Endpoint::other_machine) else {
        return Ok(());
    };
    if ports.iter().all(|port| !port.address.is_loopback()) {
        return Ok(());
    }
    let message = format!(
        "the engine is on {machine}, and ports that are published on its loopback interface are not reached from here: name \
         another address of that machine with publish_address(), such as 0.0.0.0 for all"
    );
    Err(EngineError::new(EngineErrorKind::Unsupported, message))
}

/// Returns the published TCP ports of a container, with their addresses on the engine's machine.
pub(super) fn published(settings: &NetworkSettings) -> Vec<PublishedPort> {
    let mut published = Vec::new();
    for (name, bindings) in settings.ports.iter().flatten() {
        let Some(port) = name.strip_suffix("/tcp").and_then(|port| port.parse().ok()) else {
            continue;
        };
        published.extend(bindings.iter().flatten().filter_map(|binding| {
            let address = match binding.host_ip.as_deref().unwrap_or_default() {
                "" => Ipv4Addr::UNSPECIFIED.into(),
                address => address.parse::<IpAddr>().ok()?,
            };
            let on_machine = binding.host_port.as_deref()?.parse().ok()?;
            Some(PublishedPort::new(port, SocketAddr::new(address, on_machine)))
        }));
    }
    // The answer is a map. Version 4 of IP comes first.
    published.sort();
    published
}

/// Returns the container's address: by version 4 of IP if it has one, on the first of its networks by name.
pub(super) fn ip(settings: &NetworkSettings) -> Option<IpAddr> {
    let mut networks: Vec<_> = settings.networks.iter().flatten().collect();
    networks.sort_by_key(|(name, _)| *name);
    let parsed = |address: &Option<String>| address.as_deref()?.parse::<IpAddr>().ok();
    let of = |versions: fn(&bollard::models::EndpointSettings) -> &Option<String>| {
        networks.iter().find_map(|(_, network)| parsed(versions(network)))
    };
    of(|network| &network.ip_address).or_else(|| of(|network| &network.global_ipv6_address))
}

/// Replaces the addresses of the engine's machine by those by which this machine reaches them.
///
/// # Errors
///
/// The name of the engine's machine has no address.
pub(super) async fn reach(ports: &mut [PublishedPort], endpoint: Option<&Endpoint>) -> Result<(), EngineError> {
    if ports.iter().all(|port| !port.address.ip().is_unspecified()) {
        return Ok(());
    }
    let machine = match endpoint.and_then(Endpoint::other_machine) {
        Some(name) => Some(look_up(&name).await?),
        None => None,
    };
    for port in ports {
        let ip = port.address.ip();
        if ip.is_unspecified() {
            port.address
                .set_ip(machine.unwrap_or_else(|| crate::engine::loopback_of(ip)));
        }
    }
    Ok(())
}

async fn look_up(name: &str) -> Result<IpAddr, EngineError> {
    let message = || format!("published ports are reached by the address of {name}, which cannot be looked up");
    let found = tokio::net::lookup_host((name, 0)).await;
    let mut found = found.map_err(|error| EngineError::of_system(EngineErrorKind::Internal, message(), error))?;
    let first = found.next().map(|address| address.ip());
    first.ok_or_else(|| EngineError::new(EngineErrorKind::Internal, message()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use bollard::models::EndpointSettings;

    use super::*;

    fn binding(ip: &str, port: &str) -> PortBinding {
        PortBinding {
            host_ip: Some(ip.to_owned()),
            host_port: Some(port.to_owned()),
        }
    }

    #[test]
    fn the_ports_of_a_description_are_sorted_and_others_are_left_out() {
        let settings = NetworkSettings {
            ports: Some(
                [
                    ("80/tcp", Some(vec![binding("::", "1"), binding("0.0.0.0", "2")])),
                    ("53/udp", Some(vec![binding("0.0.0.0", "3")])),
                    ("22/tcp", None),
                    (
                        "8/tcp",
                        Some(vec![binding("127.0.0.1", "4"), binding("x", "5"), binding("", "")]),
                    ),
                ]
                .map(|(name, bindings)| (name.to_owned(), bindings))
                .into(),
            ),
            ..Default::default()
        };
        let found: Vec<_> = published(&settings)
            .iter()
            .map(|port| format!("{} {}", port.port, port.address))
            .collect();
        assert_eq!(found, ["8 127.0.0.1:4", "80 0.0.0.0:2", "80 [::]:1"]);
        assert!(published(&NetworkSettings::default()).is_empty());
    }

    #[test]
    fn the_address_of_a_container_is_that_of_its_first_network() {
        let network = |v4: &str, v6: &str| EndpointSettings {
            ip_address: Some(v4.to_owned()),
            global_ipv6_address: Some(v6.to_owned()),
            ..Default::default()
        };
        let ip_of = |networks: Vec<(&str, EndpointSettings)>| {
            let networks = networks.into_iter().map(|(name, network)| (name.to_owned(), network));
            ip(&NetworkSettings {
                networks: Some(networks.collect()),
                ..Default::default()
            })
        };
        let v6: IpAddr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).into();
        let v4: IpAddr = Ipv4Addr::new(172, 18, 0, 2).into();
        assert_eq!(ip_of(vec![("host", network("", ""))]), None);
        assert_eq!(ip_of(vec![("a", network("", "fd00::2"))]), Some(v6));
        let both = vec![
            ("b", network("172.17.0.2", "")),
            ("a", network("172.18.0.2", "fd00::2")),
        ];
        assert_eq!(ip_of(both), Some(v4));
    }

    #[tokio::test]
    async fn an_unspecified_address_is_that_of_the_engines_machine() {
        let all = |ip: &str| vec![PublishedPort::new(80, SocketAddr::new(ip.parse().unwrap(), 7))];
        let reached = async |ip: &str, endpoint: Option<&str>| {
            let endpoint = endpoint.map(|endpoint| endpoint.parse::<Endpoint>().unwrap());
            let mut ports = all(ip);
            reach(&mut ports, endpoint.as_ref()).await.unwrap();
            ports[0].address.to_string()
        };
        for endpoint in [None, Some("unix:///docker.sock"), Some("tcp://localhost:2375")] {
            assert_eq!(reached("0.0.0.0", endpoint).await, "127.0.0.1:7");
            assert_eq!(reached("::", endpoint).await, "[::1]:7");
            assert_eq!(reached("10.0.0.1", endpoint).await, "10.0.0.1:7");
        }
        // Addresses, which need no look-up.
        assert_eq!(reached("0.0.0.0", Some("ssh://root@192.0.2.7:22")).await, "192.0.2.7:7");
        assert_eq!(reached("::", Some("tcp://[2001:db8::7]:2376")).await, "[2001:db8::7]:7");
        assert_eq!(reached("10.0.0.1", Some("tcp://192.0.2.7:2376")).await, "10.0.0.1:7");
    }

    #[test]
    fn the_loopback_interface_of_another_machine_is_refused() {
        let refused = |ip: &str, endpoint: &str| {
            let ports = [Publish::new(80, ip.parse::<IpAddr>().unwrap())];
            refuse(&ports, Some(&endpoint.parse().unwrap())).is_err()
        };
        assert!(refused("127.0.0.1", "ssh://far"));
        assert!(refused("::1", "tcp://far:2376"));
        for (ip, endpoint) in [
            ("0.0.0.0", "ssh://far"),
            ("192.0.2.7", "tcp://far:2376"),
            ("127.0.0.1", "unix:///docker.sock"),
            ("127.0.0.1", "tcp://127.0.0.1:2375"),
        ] {
            assert!(!refused(ip, endpoint), "{ip} {endpoint}");
        }
        assert!(refuse(&[], Some(&Endpoint::ssh("far"))).is_ok());
        assert!(refuse(&[Publish::new(80, Ipv4Addr::LOCALHOST)], None).is_ok());
    }
}
