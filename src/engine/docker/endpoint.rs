//! The address of an engine: [`Endpoint`].

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use hyper::Uri;

use crate::error::{Error, FieldError};

/// The ports that Docker's documentation names for its two kinds of TCP socket.
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// Names a Docker engine's address and the way to reach it; for
/// [`DockerEngine::connect_to`](super::DockerEngine::connect_to).
///
/// A client of a Docker engine is root on the engine's machine. So a TCP socket without TLS is accepted on the loopback
/// interface only, unless [`insecure_tcp`](Self::insecure_tcp) names it.
///
/// `"tcp://127.0.0.1:2375".parse()` accepts the forms of `DOCKER_HOST`: `unix:///path`, `tcp://host:port` (without TLS;
/// `http://` is an alias), `ssh://user@host:port` and `npipe:////./pipe/name`. `Display` writes these four forms. The
/// default port is 2375 for TCP without TLS, 2376 for TLS, and that of the user's ssh configuration for ssh.
///
/// # Examples
///
/// ```
/// use dockerpool::Endpoint;
///
/// let endpoint: Endpoint = "unix:///run/user/1000/docker.sock".parse()?;
/// assert_eq!(endpoint, Endpoint::unix("/run/user/1000/docker.sock"));
/// # Ok::<(), dockerpool::Error>(())
/// ```
///
/// ```no_run
/// use dockerpool::{DockerEngine, Endpoint, Pool};
/// use std::sync::Arc;
///
/// # async fn example() -> Result<(), dockerpool::Error> {
/// let engine = DockerEngine::connect_to(Endpoint::tls("build-host:2376", "/etc/docker/certs")).await?;
/// let pool = Pool::builder("far").image("busybox").engine(Arc::new(engine)).build().await?;
/// # Ok(())
/// # }
/// ```
///
/// Neither `Debug` nor `Display` shows a password in an address, where it has no use.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(super) kind: Kind,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Unix(PathBuf),
    Pipe(PathBuf),
    Tcp { address: String, insecure: bool },
    Tls { address: String, certificates: PathBuf },
    Ssh(String),
}

impl Endpoint {
    /// Names a Unix socket, e.g. `/var/run/docker.sock`.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Kind::Unix(path.into()).into()
    }

    pub(super) fn is_unix(&self) -> bool {
        matches!(self.kind, Kind::Unix(_))
    }

    /// Names a named pipe, on Windows only, e.g. `//./pipe/docker_engine`.
    pub fn named_pipe(path: impl Into<PathBuf>) -> Self {
        Kind::Pipe(path.into()).into()
    }

    /// Names a TCP socket without TLS on the loopback interface, as `host:port`. Every user of this machine can become root
    /// through such a socket.
    pub fn tcp(address: impl Into<String>) -> Self {
        Kind::Tcp {
            address: address.into(),
            insecure: false,
        }
        .into()
    }

    /// Names a TCP socket without TLS anywhere, as `host:port`. Everyone who can reach the socket, or intercept the
    /// connection, can become root on the engine's machine and read the traffic.
    pub fn insecure_tcp(address: impl Into<String>) -> Self {
        Kind::Tcp {
            address: address.into(),
            insecure: true,
        }
        .into()
    }

    /// Names a TCP socket with TLS, as `host:port`. The directory holds PEM files under Docker's names: `ca.pem`, the only
    /// authority whose servers are trusted; and, if the engine asks its clients for a certificate, `cert.pem` and `key.pem`.
    /// Needs the feature `tls`, which is on by default.
    pub fn tls(address: impl Into<String>, certificates: impl Into<PathBuf>) -> Self {
        Kind::Tls {
            address: address.into(),
            certificates: certificates.into(),
        }
        .into()
    }

    /// Names an engine that is reached by ssh, as `[user@]host[:port]`. Each connection is one `ssh … docker system
    /// dial-stdio`, by the `ssh` on this process's `PATH` and with its user's keys, agent and configuration. ssh never asks
    /// anything on a terminal. The docker command line must be installed on the engine's machine.
    pub fn ssh(destination: impl Into<String>) -> Self {
        Kind::Ssh(destination.into()).into()
    }

    /// Returns a TCP socket with TLS added, and any other endpoint unchanged.
    pub(super) fn with_tls(self, folder: PathBuf) -> Self {
        match self.kind {
            Kind::Tcp { address, .. } => Self::tls(address, folder),
            _ => self,
        }
    }

    /// Returns the endpoint, allowed to be without TLS beyond loopback.
    pub(super) fn allow_insecure(self) -> Self {
        match self.kind {
            Kind::Tcp { address, .. } => Self::insecure_tcp(address),
            _ => self,
        }
    }

    /// Returns the reason why the endpoint cannot be used, if there is one.
    pub(super) fn problem(&self) -> Option<String> {
        let problem = match &self.kind {
            Kind::Unix(path) | Kind::Pipe(path) if path.as_os_str().is_empty() => "the path is empty".to_owned(),
            Kind::Unix(_) if !cfg!(unix) => "Unix sockets cannot be used on this system".to_owned(),
            Kind::Pipe(_) if !cfg!(windows) => "named pipes are Windows' own; use unix:// here".to_owned(),
            Kind::Unix(_) | Kind::Pipe(_) => return None,
            Kind::Tls { .. } if !cfg!(feature = "tls") => "TLS needs the feature `tls` of this crate".to_owned(),
            Kind::Tcp { address, .. } | Kind::Tls { address, .. } => match (host_and_port(address, 0), &self.kind) {
                (Err(problem), _) => problem,
                (Ok((host, _)), Kind::Tcp { insecure: false, .. }) if !is_loopback(&host) => format!(
                    "{address} is beyond this machine and without TLS: anyone who can intercept the connection can become root \
                     on the engine's machine; use TLS (DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH, or Endpoint::tls) or \
                     ssh://, or, in a network you trust, allow it explicitly (DOCKERPOOL_INSECURE_TCP=1, or \
                     Endpoint::insecure_tcp)"
                ),
                _ => return None,
            },
            Kind::Ssh(destination) => match Destination::parse(destination) {
                Ok(_) => return None,
                Err(problem) => problem,
            },
        };
        Some(problem)
    }

    /// Returns the name or address of the machine that the engine is on, where the endpoint names another one than this.
    pub(super) fn other_machine(&self) -> Option<String> {
        let host = match &self.kind {
            Kind::Tcp { address, .. } | Kind::Tls { address, .. } => host_and_port(address, 0).ok()?.0,
            Kind::Ssh(destination) => Destination::parse(destination).ok()?.host,
            Kind::Unix(_) | Kind::Pipe(_) => return None,
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        (!is_loopback(&host)).then(|| bare.to_owned())
    }

    /// Returns `host:port`, with the default port if none is given. For a TCP endpoint without a [`problem`](Self::problem)
    /// only.
    pub(super) fn authority(&self) -> Option<String> {
        let (address, port) = match &self.kind {
            Kind::Tcp { address, .. } => (address, PLAIN_PORT),
            Kind::Tls { address, .. } => (address, TLS_PORT),
            _ => return None,
        };
        let (host, port) = host_and_port(address, port).ok()?;
        Some(format!("{host}:{port}"))
    }
}

impl From<Kind> for Endpoint {
    fn from(kind: Kind) -> Self {
        Self { kind }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Unix(path) => write!(f, "unix://{}", path.display()),
            Kind::Pipe(path) => write!(f, "npipe://{}", path.display()),
            Kind::Tcp { address, .. } | Kind::Tls { address, .. } => write!(f, "tcp://{}", without_password(address)),
            Kind::Ssh(destination) => write!(f, "ssh://{}", without_password(destination)),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Endpoint");
        shown.field("address", &self.to_string());
        match &self.kind {
            Kind::Tcp { insecure, .. } => shown.field("insecure", insecure),
            Kind::Tls { certificates, .. } => shown.field("certificates", certificates),
            Kind::Unix(_) | Kind::Pipe(_) | Kind::Ssh(_) => &mut shown,
        };
        shown.finish()
    }
}

/// Returns an address that may be shown: `user:password@host` without the password.
fn without_password(address: &str) -> Cow<'_, str> {
    match address
        .rsplit_once('@')
        .and_then(|(user, host)| Some((user.split_once(':')?.0, host)))
    {
        Some((user, host)) => Cow::Owned(format!("{user}:…@{host}")),
        None => Cow::Borrowed(address),
    }
}

/// Parses the forms of `DOCKER_HOST`; fails with [`Error::Config`] for any other. Whether the endpoint can be used is
/// checked at the connection.
impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |problem: String| Error::Config(vec![FieldError::new("endpoint", problem)]);
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(bad(format!(
                "`{}` must begin with unix://, tcp://, ssh:// or npipe://",
                without_password(text)
            )));
        };
        // People copy a trailing slash, which means nothing.
        let address = || rest.strip_suffix('/').unwrap_or(rest);
        match scheme {
            "unix" => Ok(Self::unix(rest)),
            "npipe" => Ok(Self::named_pipe(rest)),
            "tcp" | "http" => Ok(Self::tcp(address())),
            "ssh" => Ok(Self::ssh(address())),
            _ => Err(bad(format!(
                "`{scheme}://` is not supported: use unix://, tcp://, ssh:// or npipe://"
            ))),
        }
    }
}

/// Splits `host[:port]`; an IPv6 address keeps its brackets.
fn host_and_port(address: &str, default: u16) -> Result<(String, u16), String> {
    let bad = || format!("`{}` is not host:port", without_password(address));
    let uri: Uri = format!("http://{address}/").parse().map_err(|_| bad())?;
    let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else {
        return Err(bad());
    };
    if host.is_empty() || uri.path() != "/" || authority.as_str().contains('@') {
        return Err(bad());
    }
    let port = match authority.as_str().strip_prefix(host).unwrap_or_default() {
        "" => default,
        port => port[1..].parse().map_err(|_| bad())?,
    };
    Ok((host.to_owned(), port))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Holds the parts of `[user@]host[:port]`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

impl Destination {
    pub(super) fn parse(destination: &str) -> Result<Self, String> {
        let (user, address) = match destination.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, destination),
        };
        let bad = || format!("`{}` is not [user@]host[:port]", without_password(destination));
        let (host, port) = host_and_port(address, 0).map_err(|_| bad())?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        // The parts become arguments of a program: none may be mistaken for an option.
        if host.starts_with('-') || user.is_some_and(|user| user.is_empty() || user.starts_with('-')) {
            return Err(bad());
        }
        // A password in an address would end up in logs and process lists, and ssh takes none.
        if user.is_some_and(|user| user.contains(':')) {
            return Err("a password has no place in an address; ssh uses keys".to_owned());
        }
        Ok(Self {
            user: user.map(str::to_owned),
            host,
            port: (port != 0).then_some(port),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    #[test]
    fn the_forms_of_docker_host_are_parsed() {
        assert_eq!(parsed("unix:///run/docker.sock"), Endpoint::unix("/run/docker.sock"));
        assert_eq!(parsed("tcp://localhost:2375"), Endpoint::tcp("localhost:2375"));
        assert_eq!(parsed("tcp://localhost:2375/"), Endpoint::tcp("localhost:2375"));
        assert_eq!(parsed("ssh://me@host:22"), Endpoint::ssh("me@host:22"));
        assert_eq!(
            parsed("npipe:////./pipe/docker_engine"),
            Endpoint::named_pipe("//./pipe/docker_engine")
        );
        for text in ["unix:///run/docker.sock", "tcp://[::1]:1", "ssh://me@host"] {
            assert_eq!(parsed(text).to_string(), text);
        }
    }

    #[test]
    fn an_invalid_address_is_refused_with_a_reason() {
        for text in ["localhost:2375", "/run/docker.sock", "fd://", "ftp://host"] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains("unix://"), "{error}");
        }
        for text in [
            "tcp://",
            "tcp://:2375",
            "tcp://host:port",
            "tcp://host:99999",
            "tcp://user@localhost:1",
            "tcp://localhost:1/base",
            "unix://",
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://-x@host",
            "ssh://@host",
            "ssh://me:secret@host",
            "ssh://host/path",
        ] {
            assert!(parsed(text).problem().is_some(), "{text}");
        }
        assert!(!parsed("ssh://me:secret@host").problem().unwrap().contains("secret"));
    }

    #[test]
    fn a_password_in_an_address_is_never_shown() {
        for text in [
            "tcp://me:s3cret@localhost:1",
            "ssh://me:s3cret@host",
            "ssh://me:s3cret@host/path",
            "ssh://a@b:s3cret@host",
            "https://me:s3cret@host",
            "me:s3cret@host",
        ] {
            let shown = match text.parse::<Endpoint>() {
                Ok(endpoint) => format!("{endpoint} {endpoint:?} {:?}", endpoint.problem()),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn plain_tcp_stays_on_this_machine_unless_insecure_tcp_is_named() {
        for host in ["localhost", "127.0.0.1:2375", "127.9.9.9", "[::1]:2375"] {
            assert_eq!(Endpoint::tcp(host).problem(), None, "{host}");
        }
        for host in [
            "10.0.0.1:2375",
            "example.com",
            "[2001:db8::1]:2375",
            "localhost.example.com",
        ] {
            let problem = Endpoint::tcp(host).problem().unwrap();
            assert!(
                problem.contains("DOCKER_TLS_VERIFY") && problem.contains("insecure_tcp"),
                "{problem}"
            );
            assert_eq!(Endpoint::insecure_tcp(host).problem(), None, "{host}");
        }
    }

    #[test]
    fn ports_have_the_usual_defaults() {
        assert_eq!(Endpoint::tcp("localhost").authority().unwrap(), "localhost:2375");
        assert_eq!(Endpoint::tls("[::1]", "/certs").authority().unwrap(), "[::1]:2376");
        assert_eq!(Endpoint::tls("host:80", "/certs").authority().unwrap(), "host:80");
    }
}
