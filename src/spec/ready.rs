//! The signs that a container is ready to be lent: [`Ready`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::container_spec::ContainerSpec;
use super::raw_config;
use crate::values::shown::Argv;

/// The argument by which the agent's program is asked to ask a web server. `agent/ask.rs` has the other side.
pub(crate) const ASK: &str = "ask";

/// The longest path of a request, in bytes.
const LONGEST_PATH: usize = 1024;

/// Names a sign that a container is ready to be lent; for [`ready_when`](crate::ContainerSpec::ready_when).
///
/// The library looks for the sign from the inside of the container: a proxy of the engine accepts connections to a published port
/// before there is a server.
///
/// | | holds when | needs |
/// |---|---|---|
/// | [`tcp`](Self::tcp) | a socket of the container listens on the port | the [agent](crate::ExecVia), or `cat` in the image |
/// | [`http`](Self::http) | the answer to a request has this status | the agent; without it a [published](crate::ContainerSpec::publish) port |
/// | [`log`](Self::log) | the container's own command has printed the text | |
/// | [`command`](Self::command) | the command ends with exit code 0 | the program in the image |
/// | [`healthcheck`](Self::healthcheck) | the engine says that the container is healthy | a `HEALTHCHECK` of the image or of the raw configuration |
///
/// All but `command` and `healthcheck` are signs of a server. They need a container with a command of its own:
/// [`supervise_command`](crate::ContainerSpec::supervise_command) or [`cmd`](crate::ContainerSpec::cmd).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use dockerpool::{ContainerSpec, Network, Ready};
///
/// let redis = ContainerSpec::new("redis:7-alpine")
///     .supervise_command(true)
///     .network(Network::existing("bridge"))
///     .publish(6379)
///     .ready_when(Ready::tcp(6379))
///     .ready_timeout(Duration::from_secs(20));
/// assert!(redis.plan().is_ok());
///
/// // Nothing would ever listen in a container without a server.
/// let none = ContainerSpec::new("busybox:1.36").ready_when(Ready::tcp(6379));
/// assert!(none.plan().unwrap_err().to_string().contains("supervise_command"));
/// ```
///
/// `Debug` shows the program of a command, and the number of its arguments.
#[derive(Clone, PartialEq, Eq)]
#[must_use = "a sign does nothing until ready_when()"]
pub struct Ready(Sign);

/// The kinds of signs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Sign {
    /// A socket listens on this port.
    Tcp(u16),
    /// A server gives an answer with this status.
    Http {
        path: String,
        status: u16,
        /// `None`: the one port that is published.
        port: Option<u16>,
    },
    /// The container's own command has printed this text.
    Log(String),
    /// This command ends well.
    Command(Vec<String>),
    /// The engine's health check succeeds.
    Healthcheck,
}

impl Ready {
    /// Waits until a TCP socket listens on this port of the container, at any of its addresses. Looks into the kernel's list of
    /// sockets, and connects to nothing.
    pub fn tcp(port: u16) -> Self {
        Self(Sign::Tcp(port))
    }

    /// Waits until a web server of the container answers a request (`GET`, without TLS) for this path with this status. Redirections
    /// are not followed.
    ///
    /// The port is the [published](crate::ContainerSpec::publish) one, if there is one, or that of [`port`](Self::port). The
    /// request comes from within the container, by its loopback interface. Without the agent it comes from this machine, through
    /// the published port.
    pub fn http(path: impl Into<String>, status: u16) -> Self {
        Self(Sign::Http {
            path: path.into(),
            status,
            port: None,
        })
    }

    /// Sets the port of [`http`](Self::http) or [`tcp`](Self::tcp).
    pub fn port(mut self, number: u16) -> Self {
        if let Sign::Tcp(port) = &mut self.0 {
            *port = number;
        }
        if let Sign::Http { port, .. } = &mut self.0 {
            *port = Some(number);
        }
        self
    }

    /// Waits until the container's own command, or a process that it has started, has printed this text, on standard output or on
    /// standard error.
    pub fn log(text: impl Into<String>) -> Self {
        Self(Sign::Log(text.into()))
    }

    /// Waits until this command, run in the container as a command of a lease, ends with exit code 0. It is run again and again,
    /// with pauses of at most 200 milliseconds. By the agent, each run may take 10 seconds. What it leaves in the container counts
    /// as a change where containers are [cleaned](crate::Reuse::Clean).
    pub fn command<I, A>(command: I) -> Self
    where
        I: IntoIterator<Item = A>,
        A: AsRef<str>,
    {
        Self(Sign::Command(
            command.into_iter().map(|arg| arg.as_ref().to_owned()).collect(),
        ))
    }

    /// Waits until the engine says that the container is healthy. The image's `HEALTHCHECK` then runs, also where it would not
    /// otherwise. Engines run it for the first time after its interval, which is 30 seconds by default.
    pub fn healthcheck() -> Self {
        Self(Sign::Healthcheck)
    }

    pub(crate) fn sign(&self) -> &Sign {
        &self.0
    }

    /// Returns whether only a server gives this sign.
    fn is_of_server(&self) -> bool {
        matches!(self.0, Sign::Tcp(_) | Sign::Http { .. } | Sign::Log(_))
    }

    /// Returns what is wrong with the sign. `published` are the published ports.
    fn problem(&self, published: usize) -> Option<&'static str> {
        match &self.0 {
            Sign::Tcp(0) | Sign::Http { port: Some(0), .. } => Some("a port must be at least 1"),
            Sign::Http { port: None, .. } if published != 1 => {
                Some("name the port: Ready::http(..).port(8080). Only where one port is published is it that one")
            }
            Sign::Http { path, .. } if !path.starts_with('/') || path.len() > LONGEST_PATH => {
                Some("a path must begin with '/' and have at most 1024 bytes")
            }
            Sign::Http { path, .. } if !path.bytes().all(|byte| byte.is_ascii_graphic()) => Some(
                "a path must have no spaces, control characters and other characters than those of ASCII: write them as %20",
            ),
            Sign::Http { status, .. } if !(100..600).contains(status) => Some("a status must be from 100 to 599"),
            Sign::Log(text) if text.is_empty() => Some("the text must not be empty"),
            Sign::Command(words) if words.first().is_none_or(String::is_empty) => Some("the program must not be empty"),
            Sign::Command(words) if words.iter().any(|word| word.contains('\0')) => Some("must not contain NUL"),
            _ => None,
        }
    }
}

/// Says what is waited for, after "waited for".
impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Sign::Tcp(port) => write!(f, "a server that listens on port {port}"),
            Sign::Http { path, status, port } => {
                write!(f, "the status {status} in answer to a request for {path}")?;
                port.map_or(Ok(()), |port| write!(f, " on port {port}"))
            }
            Sign::Log(text) => write!(f, "the words {text:?} of its own command"),
            Sign::Command(words) => {
                write!(f, "exit code 0 of `{}`", words.first().map_or("", String::as_str))
            }
            Sign::Healthcheck => f.write_str("its health check to succeed"),
        }
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Sign::Tcp(port) => f.debug_tuple("Tcp").field(port).finish(),
            Sign::Http { path, status, port } => f
                .debug_struct("Http")
                .field("path", path)
                .field("status", status)
                .field("port", port)
                .finish(),
            Sign::Log(text) => f.debug_tuple("Log").field(text).finish(),
            Sign::Command(words) => f.debug_tuple("Command").field(&Argv(words)).finish(),
            Sign::Healthcheck => f.write_str("Healthcheck"),
        }
    }
}

/// When containers of a spec are ready.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Readiness {
    /// The signs, which must all hold, each with its port.
    pub(crate) signs: Arc<[Ready]>,
    /// How long they may take together.
    pub(crate) limit: Duration,
}

impl Readiness {
    /// Returns when containers of this spec are ready.
    pub(super) fn of(spec: &ContainerSpec) -> Self {
        let published = spec.ports().first().copied();
        let with_port = |ready: &Ready| {
            let mut ready = ready.clone();
            if let Sign::Http { port, .. } = &mut ready.0 {
                *port = port.or(published);
            }
            ready
        };
        Self {
            signs: spec.ready.iter().map(with_port).collect(),
            limit: spec.ready_timeout,
        }
    }

    /// Returns whether containers are ready when they have started.
    pub(crate) fn is_at_once(&self) -> bool {
        self.signs.is_empty()
    }

    /// Returns the texts that a container's own command is to print.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.signs.iter().filter_map(|ready| match &ready.0 {
            Sign::Log(text) => Some(text.as_str()),
            _ => None,
        })
    }
}

impl ContainerSpec {
    /// Returns everything that is wrong with the signs, by field.
    pub(super) fn check_ready(&self, bad: &mut impl FnMut(&str, &str)) {
        let (raw, _) = raw_config::of(self);
        let has_server = self.supervise || self.cmd.is_some() || raw.cmd.is_some() || raw.entrypoint.is_some();
        let published = self.ports().len();
        for ready in &self.ready {
            if let Some(problem) = ready.problem(published) {
                bad("ready_when", problem);
            }
            if ready.is_of_server() && !has_server {
                bad(
                    "ready_when",
                    "no server runs in the containers: see supervise_command(), for the image's own or cmd()",
                );
            }
        }
        if self.ready_timeout.is_zero() {
            bad("ready_timeout", "must be more than zero");
        }
    }

    /// Returns whether the image's health check is to run.
    pub(super) fn wants_health(&self) -> bool {
        self.ready.iter().any(|ready| ready.0 == Sign::Healthcheck)
    }

    /// Returns whether the output of the containers' own command is looked at.
    pub(crate) fn wants_output(&self) -> bool {
        self.ready.iter().any(|ready| matches!(ready.0, Sign::Log(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Network;

    fn server() -> ContainerSpec {
        ContainerSpec::new("any")
            .cmd(["serve"])
            .network(Network::existing("bridge"))
    }

    fn problems(spec: &ContainerSpec) -> Vec<String> {
        let problems = spec.problems();
        problems.iter().map(|problem| problem.field().to_owned()).collect()
    }

    #[test]
    fn impossible_signs_are_refused() {
        let all = server()
            .publish(80)
            .ready_when(Ready::tcp(80))
            .ready_when(Ready::http("/health?a=%20", 204))
            .ready_when(Ready::log("ready"))
            .ready_when(Ready::command(["true"]))
            .ready_when(Ready::healthcheck());
        assert_eq!(problems(&all), [""; 0]);
        for bad in [
            Ready::tcp(0),
            Ready::tcp(1).port(0),
            Ready::http("/", 200).port(0),
            Ready::http("health", 200),
            Ready::http("/a b", 200),
            Ready::http("/é", 200),
            Ready::http("/a\r\nHost: b", 200),
            Ready::http("/".repeat(1025), 200),
            Ready::http("/", 0),
            Ready::http("/", 600),
            Ready::log(""),
            Ready::command([""; 0]),
            Ready::command(["", "x"]),
            Ready::command(["a", "\0"]),
        ] {
            let spec = server().publish(80).ready_when(bad.clone());
            assert_eq!(problems(&spec), ["ready_when"], "{bad:?}");
        }
        assert_eq!(problems(&server().ready_timeout(Duration::ZERO)), ["ready_timeout"]);
    }

    #[test]
    fn a_request_goes_to_the_one_port_that_is_published_or_to_the_one_that_is_named() {
        let http = || Ready::http("/", 200);
        let port = |spec: &ContainerSpec| match Readiness::of(spec).signs[0].sign() {
            Sign::Http { port, .. } => *port,
            _ => None,
        };
        let one = server().publish(8080);
        assert_eq!(port(&one.clone().ready_when(http())), Some(8080));
        assert_eq!(port(&one.clone().ready_when(http().port(80))), Some(80));
        for none in [server(), one.publish(8081)] {
            assert_eq!(problems(&none.clone().ready_when(http())), ["ready_when"]);
            assert_eq!(problems(&none.ready_when(http().port(80))), [""; 0]);
        }
    }

    #[test]
    fn the_signs_of_a_server_need_one() {
        let none = || ContainerSpec::new("any");
        for of_server in [Ready::tcp(1), Ready::http("/", 200).port(1), Ready::log("x")] {
            assert_eq!(problems(&none().ready_when(of_server.clone())), ["ready_when"]);
            assert_eq!(problems(&none().cmd(["x"]).ready_when(of_server.clone())), [""; 0]);
            assert_eq!(problems(&none().supervise_command(true).ready_when(of_server)), [""; 0]);
        }
        for other in [Ready::command(["true"]), Ready::healthcheck()] {
            assert_eq!(problems(&none().ready_when(other)), [""; 0]);
        }
    }

    #[test]
    fn arguments_are_not_shown() {
        let ready = Ready::command(["psql", "secret"]);
        assert!(!format!("{ready:?} {ready}").contains("secret"), "{ready:?} {ready}");
        assert_eq!(ready.to_string(), "exit code 0 of `psql`");
    }
}
