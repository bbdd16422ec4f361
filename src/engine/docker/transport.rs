//! The connections to an engine, kept alive, and opened as the [`Endpoint`] says.

use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bollard::errors::Error as BollardError;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker, body_full};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::body::{Body, Incoming};
use hyper::header::HeaderValue;
use hyper::rt::Executor;
use hyper::{Method, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;
use tower_service::Service;

use super::budget::{Granted, Meter};
use super::endpoint::{Endpoint, Kind};
#[cfg(feature = "tls")]
use super::tls::Tls;
use super::versions::{self, Agreed};
use super::{files, ssh, upgrade};
use crate::error::{Error, FieldError};
use crate::runtime::Home;

/// How long an unused connection is kept, and how many are. Proxies and firewalls forget idle connections, and each
/// connection through ssh is a process.
const KEEP_FOR: Duration = Duration::from_secs(30);
const KEEP: usize = 16;

/// The words for another file in the place of a socket.
pub(super) const NO_SOCKET: &str = "is no socket";

/// How long a connection is silent before the kernel probes the other end.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Bollard's own deadline for the head of a response. Every call of the library has its own deadline, which is shorter.
pub(super) const RESPONSE_TIMEOUT: u64 = 120;

/// Makes a client of the engine at this endpoint; sends nothing yet. `named_by` is the setting that errors name. The
/// requests use the negotiated version of the API.
///
/// Bollard's own transports open a connection for each request, and set no TCP_NODELAY under TLS; so the client gets another
/// transport.
pub(super) async fn client(
    endpoint: &Endpoint,
    named_by: &str,
    runtime: &Home,
    agreed: Agreed,
) -> Result<Docker, Error> {
    let bad = |problem| Error::Config(vec![FieldError::new(named_by, problem)]);
    if let Some(problem) = endpoint.problem() {
        return Err(bad(problem));
    }
    // Making a connector reads the files of TLS.
    let route = files::off_the_runtime({
        let endpoint = endpoint.clone();
        move || Route::to(&endpoint)
    });
    let route = route.await.map_err(|error| bad(error.to_string()))?;
    let connector = Connector(Arc::new(route.map_err(bad)?));
    // The name in each request's Host header, and the address of a TCP connector.
    let host = endpoint.authority().unwrap_or_else(|| "localhost".to_owned());

    let mut settings = Client::builder(OnHome(runtime.clone()));
    settings
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(KEEP_FOR)
        .pool_max_idle_per_host(KEEP);
    let kept = settings.build(connector.clone());
    let fresh = settings.pool_max_idle_per_host(0).build(connector);
    let runtime = runtime.clone();

    let transport = move |mut request: BollardRequest| {
        encode_as_engines_read(&mut request);
        let (kept, fresh, agreed) = (kept.clone(), fresh.clone(), agreed.clone());
        let request = async move {
            let granted = Granted::to(&request);
            // A copy of the request without its version.
            let mut spare = copy(&mut request);
            loop {
                let mut spoken = agreed.put_into(&mut request);
                let answer = match kept.request(request).await {
                    // A kept connection ended just now, with the engine or a proxy in front of it. hyper itself retries only
                    // if it had not begun to send.
                    Err(error) if !error.is_connect() => {
                        agreed.note_change();
                        let again = spare.as_mut().filter(|spare| is_repeatable(spare)).and_then(copy);
                        let Some(mut again) = again else {
                            return Err(error.into());
                        };
                        spoken = agreed.put_into(&mut again);
                        fresh.request(again).await
                    }
                    answer => answer,
                };
                let answer = answer.inspect_err(|_| agreed.note_change())?;
                granted.clone().spend_on(&answer);
                let Some(version) = agreed.heed(spoken, &answer) else {
                    return if is_failure(answer.status()) {
                        Err(failure(answer).await)
                    } else {
                        Ok(answer)
                    };
                };
                let failure = failure(answer).await;
                match spare.take() {
                    _ if !is_of_version(&failure) => return Err(failure),
                    // An older engine silently ignores fields that it does not know: the request must be checked again.
                    Some(again) if spoken < Some(version) || is_empty(&again) => request = again,
                    _ => return Err(BollardError::from(io::Error::other(Replaced))),
                }
            }
        };
        // A connection lives in the runtime that opened it. The task that returns it to the pool runs there: a request sent
        // from another thread would mostly come too early, and open another connection.
        let request = AbortOnDropHandle::new(runtime.spawn(request));
        async move {
            let answer = request.await;
            let mut answer =
                answer.unwrap_or_else(|lost| Err(BollardError::from(io::Error::other(Lost::of(&lost)))))?;
            // Done in the caller's task, whose task-local holds the place of the connection.
            upgrade::take(&mut answer);
            Ok(answer)
        }
    };
    Docker::connect_with_custom_transport(
        transport,
        Some(format!("http://{host}")),
        RESPONSE_TIMEOUT,
        API_DEFAULT_VERSION,
    )
    .map_err(|error| bad(error.to_string()))
}

/// Reports that the task of a request is gone.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the library's thread has ended")]
    Thread,
    #[error("a task of the library panicked")]
    Panic,
}

impl Lost {
    fn of(lost: &JoinError) -> Self {
        match lost.is_panic() {
            true => Self::Panic,
            false => Self::Thread,
        }
    }
}

/// Reports that the engine was replaced by one of another version, which had no effect. The next request uses a version that
/// the new engine accepts.
#[derive(Debug)]
pub(super) struct Replaced;

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the engine was replaced by one that speaks another version of its API; later requests use that version",
        )
    }
}

impl StdError for Replaced {}

/// Returns whether an error says that the engine was replaced, and the request had no effect.
pub(super) fn is_replaced(error: &BollardError) -> bool {
    let BollardError::IOError { err } = error else {
        return false;
    };
    err.get_ref().is_some_and(|wrapped| wrapped.is::<Replaced>())
}

/// How many bytes of an answer about a failure are read: less than [the budget of a line](super::budget).
const MAX_FAILURE: usize = 256 << 10;

/// Returns whether bollard takes this answer as one about a failure.
fn is_failure(status: StatusCode) -> bool {
    !status.is_success() && status != StatusCode::NOT_MODIFIED && status != StatusCode::SWITCHING_PROTOCOLS
}

/// Reads an answer about a failure, as bollard does, up to a limit.
async fn failure(answer: Response<Incoming>) -> BollardError {
    let status_code = answer.status().as_u16();
    let mut body = answer.into_body();
    let mut read = Vec::new();
    loop {
        match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    read.extend_from_slice(&data[..data.len().min(MAX_FAILURE - read.len())]);
                }
                // The connection ends with the unread rest.
                if read.len() == MAX_FAILURE {
                    break;
                }
            }
            Some(Err(error)) => return error.into(),
            None => break,
        }
    }
    let message = message_in(&read).or_else(|| {
        // Truncated JSON is closed. A cut may be inside an escape, too, and two escapes may belong together.
        let whole = |less| {
            let mut whole = read[..read.len().checked_sub(less)?].to_vec();
            whole.extend_from_slice(b"\"}");
            message_in(&whole)
        };
        let is_cut = read.len() == MAX_FAILURE;
        is_cut.then(|| (0..=LONGEST_ESCAPE).find_map(whole)).flatten()
    });
    let message = message.unwrap_or_else(|| String::from_utf8_lossy(&read).into_owned());
    BollardError::DockerResponseServerError { status_code, message }
}

/// The longest escape of JSON: two of six bytes for one character.
const LONGEST_ESCAPE: usize = 12;

fn message_in(json: &[u8]) -> Option<String> {
    match serde_json::from_slice::<Value>(json).ok()?.get_mut("message")?.take() {
        Value::String(message) => Some(message),
        _ => None,
    }
}

/// Returns whether an engine refused a request for its version alone.
fn is_of_version(failure: &BollardError) -> bool {
    matches!(failure, BollardError::DockerResponseServerError { message, .. } if versions::is_refusal(message))
}

fn is_empty(request: &BollardRequest) -> bool {
    request.body().size_hint().exact() == Some(0)
}

/// Copies a request, unless its body is a stream that is produced while it is sent.
fn copy(request: &mut BollardRequest) -> Option<BollardRequest> {
    let size = request.body().size_hint().exact()?;
    let mut data = Bytes::new();
    if size != 0 {
        // A body with a size is buffered, and is put back.
        let body = request.body_mut();
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).now_or_never()??;
        data = frame.ok()?.into_data().ok()?;
        *body = body_full(data.clone());
    }
    let mut copy = BollardRequest::new(body_full(data));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// Returns whether a request is idempotent (RFC 9110, 9.2.2) and has no body.
fn is_repeatable(request: &BollardRequest) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::DELETE) && is_empty(request)
}

/// Rewrites the header with the registry credentials, in base64. bollard uses the plain alphabet, and the engine decodes the
/// one for URLs: without this, some passwords (those with `~`, `?` or `>` in certain places) would be lost, and the pull
/// would go on without a login.
fn encode_as_engines_read(request: &mut BollardRequest) {
    if let Some(value) = request.headers_mut().get_mut("x-registry-auth") {
        let encoded = value.as_bytes().iter().map(|byte| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => *other,
        });
        if let Ok(mut encoded) = HeaderValue::from_bytes(&encoded.collect::<Vec<_>>()) {
            encoded.set_sensitive(true);
            *value = encoded;
        }
    }
}

/// Spawns hyper's tasks, which move data over the connections, on the library's own runtime.
#[derive(Clone)]
struct OnHome(Home);

impl<F> Executor<F> for OnHome
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// Opens connections for hyper's client.
#[derive(Clone)]
struct Connector(Arc<Route>);

enum Route {
    #[cfg(unix)]
    Unix(std::path::PathBuf),
    #[cfg(windows)]
    Pipe(std::path::PathBuf),
    Tcp(HttpConnector),
    #[cfg(feature = "tls")]
    Tls(HttpConnector, Tls),
    Ssh(ssh::Tunnel),
}

impl Route {
    fn to(endpoint: &Endpoint) -> Result<Self, String> {
        Ok(match &endpoint.kind {
            #[cfg(unix)]
            Kind::Unix(path) => Self::Unix(path.clone()),
            #[cfg(windows)]
            Kind::Pipe(path) => Self::Pipe(path.clone()),
            Kind::Tcp { .. } => Self::Tcp(tcp()),
            #[cfg(feature = "tls")]
            Kind::Tls { certificates, .. } => {
                let authority = endpoint.authority().unwrap_or_default();
                Self::Tls(tcp(), Tls::new(&authority, certificates)?)
            }
            Kind::Ssh(destination) => Self::Ssh(ssh::Tunnel::to(destination)?),
            // An endpoint of another system, or without its feature, has been refused for its problem before.
            #[allow(unreachable_patterns)]
            _ => return Err("cannot be used in this build".to_owned()),
        })
    }

    async fn connect(&self, uri: Uri) -> io::Result<Wire> {
        Ok(match self {
            #[cfg(unix)]
            Self::Unix(path) => Wire::new(dial_unix(path).await?),
            #[cfg(windows)]
            Self::Pipe(path) => Wire::new(open_pipe(path).await?),
            Self::Tcp(tcp) => Wire::new(dial(tcp, uri).await?),
            #[cfg(feature = "tls")]
            Self::Tls(tcp, tls) => Wire::new(tls.handshake(dial(tcp, uri).await?).await?),
            Self::Ssh(tunnel) => Wire::new(tunnel.open()?),
        })
    }
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    // Otherwise a request in two packets waits for the acknowledgement of the first, up to 40 ms.
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(TCP_KEEPALIVE));
    tcp
}

async fn dial(tcp: &HttpConnector, uri: Uri) -> io::Result<TcpStream> {
    let mut tcp = tcp.clone();
    poll_fn(|cx| tcp.poll_ready(cx)).await.map_err(io::Error::other)?;
    let stream = tcp.call(uri).await.map_err(io::Error::other)?;
    Ok(stream.into_inner())
}

/// Connects to a Unix socket. For another kind of file the kernel only reports "connection refused", or that it may not be written
/// to, so the error names the real problem.
#[cfg(unix)]
async fn dial_unix(path: &std::path::Path) -> io::Result<tokio::net::UnixStream> {
    use std::os::unix::fs::FileTypeExt;

    let error = match tokio::net::UnixStream::connect(path).await {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    let is_other = matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::PermissionDenied
    ) && std::fs::metadata(path).is_ok_and(|found| !found.file_type().is_socket());
    match is_other {
        true => Err(io::Error::new(error.kind(), format!("{} {NO_SOCKET}", path.display()))),
        false => Err(error),
    }
}

#[cfg(windows)]
async fn open_pipe(path: &std::path::Path) -> io::Result<tokio::net::windows::named_pipe::NamedPipeClient> {
    /// Windows' error for a pipe whose instances are all in use.
    const PIPE_BUSY: i32 = 231;
    loop {
        match tokio::net::windows::named_pipe::ClientOptions::new().open(path) {
            Err(error) if error.raw_os_error() == Some(PIPE_BUSY) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            opened => return opened,
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Wire>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let route = self.0.clone();
        Box::pin(async move { route.connect(uri).await.map(TokioIo::new) })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// A connection of any kind.
struct Wire {
    stream: Pin<Box<dyn Stream>>,
    meter: Meter,
}

impl Wire {
    fn new(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::pin(stream),
            meter: Meter::default(),
        }
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        // Added to the extensions of each answer that arrives over this connection.
        Connected::new().extra(self.meter.clone())
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(self.stream.as_mut().poll_read(cx, buf))?;
        Poll::Ready(self.meter.count(buf.filled().len() - before))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.meter.reset();
        self.stream.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.meter.reset();
        self.stream.as_mut().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
