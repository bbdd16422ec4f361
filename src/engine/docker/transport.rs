//! The connections to an engine: kept alive, and made in whatever way its [`Endpoint`] says.

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

/// How long an unused connection is kept, and how many. Proxies and firewalls forget them sooner or later; one behind ssh
/// is a process.
const KEEP_FOR: Duration = Duration::from_secs(30);
const KEEP: usize = 16;

/// After this long of silence the kernel asks whether the other end is still there.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Bollard's own deadline for the head of a response. Every call here has one of ours, which is shorter.
const RESPONSE_TIMEOUT: u64 = 120;

/// A client of the engine there; nothing is sent yet. `named_by` is the setting that errors about it name. Its requests are
/// in the version of the API that is agreed on.
///
/// Bollard's own transports open a connection for each request, without TCP_NODELAY under TLS; so it is given another.
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
    // It reads the files of TLS.
    let route = files::off_the_runtime({
        let endpoint = endpoint.clone();
        move || Route::to(&endpoint)
    });
    let route = route.await.map_err(|error| bad(error.to_string()))?;
    let connector = Connector(Arc::new(route.map_err(bad)?));
    // The name in each request's Host header, and what a TCP connector connects to.
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
            // The request as it is before it says its version.
            let mut spare = copy(&mut request);
            loop {
                let mut spoken = agreed.put_into(&mut request);
                let answer = match kept.request(request).await {
                    // A kept connection that ended just now, with the engine or a proxy before it. hyper itself tries again
                    // only if it had not begun to send.
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
                    // An older engine ignores in silence what it does not know: what is sent must be looked at again.
                    Some(again) if spoken < Some(version) || is_empty(&again) => request = again,
                    _ => return Err(BollardError::from(io::Error::other(Replaced))),
                }
            }
        };
        // A connection lives in the runtime it is made in. The task that gives it back runs there: a request that is sent
        // from another thread would mostly find it not back yet, and open another.
        let request = AbortOnDropHandle::new(runtime.spawn(request));
        async move {
            let answer = request.await;
            let mut answer = answer.unwrap_or_else(|lost| Err(BollardError::from(std::io::Error::other(lost))))?;
            // In the task of the caller, who has said where the connection goes.
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

/// The engine has been replaced by one that speaks another version of the API, and has not done what it was asked. The next
/// request is in a version that it takes.
#[derive(Debug)]
struct Replaced;

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the engine was replaced by one that speaks another version of its API, which is spoken from now on",
        )
    }
}

impl StdError for Replaced {}

/// Whether an error is that the engine was replaced, and has done nothing.
pub(super) fn is_replaced(error: &BollardError) -> bool {
    let BollardError::IOError { err } = error else {
        return false;
    };
    err.get_ref().is_some_and(|wrapped| wrapped.is::<Replaced>())
}

/// How much of an answer that says what failed is read, in bytes: less than [a line may have](super::budget).
const MAX_FAILURE: usize = 256 << 10;

/// What bollard takes for an answer that says what failed.
fn is_failure(status: StatusCode) -> bool {
    !status.is_success() && status != StatusCode::NOT_MODIFIED && status != StatusCode::SWITCHING_PROTOCOLS
}

/// Reads an answer that says what failed, as bollard does, but no more of it than anybody looks at.
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
                // The connection ends with the rest of it.
                if read.len() == MAX_FAILURE {
                    break;
                }
            }
            Some(Err(error)) => return error.into(),
            None => break,
        }
    }
    let message = message_in(&read).or_else(|| {
        // What is cut within its words is made whole: within an escape, too, of which two may belong together.
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

/// The longest of JSON's escapes: two of six bytes for one character.
const LONGEST_ESCAPE: usize = 12;

fn message_in(json: &[u8]) -> Option<String> {
    match serde_json::from_slice::<Value>(json).ok()?.get_mut("message")?.take() {
        Value::String(message) => Some(message),
        _ => None,
    }
}

/// Whether a request was refused for its version alone.
fn is_of_version(failure: &BollardError) -> bool {
    matches!(failure, BollardError::DockerResponseServerError { message, .. } if versions::is_refusal(message))
}

fn is_empty(request: &BollardRequest) -> bool {
    request.body().size_hint().exact() == Some(0)
}

/// The same request, unless what is sent with it is made while it is sent.
fn copy(request: &mut BollardRequest) -> Option<BollardRequest> {
    let size = request.body().size_hint().exact()?;
    let mut data = Bytes::new();
    if size != 0 {
        // What has a size is there as a whole, and is put back.
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

/// Returns whether doing a request twice is the same as doing it once (RFC 9110, 9.2.2), with nothing to be sent with it.
fn is_repeatable(request: &BollardRequest) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::DELETE) && is_empty(request)
}

/// Registry credentials are in a header in base64, of which bollard uses the plain alphabet and the engine reads the one
/// for URLs: some passwords (those with `~`, `?` or `>` in certain places) would not arrive, and the pull go on without.
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

/// Has hyper's tasks, which move what comes and goes over the connections, spawned on the library's own runtime.
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
            // Those of another system or without their feature have a problem, and do not come here.
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
    // Else a request in two packets waits for the acknowledgement of the first, which comes after 40 ms.
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

/// Connects to a Unix socket. The kernel says of a file or folder in its place no more than "connection refused".
#[cfg(unix)]
async fn dial_unix(path: &std::path::Path) -> io::Result<tokio::net::UnixStream> {
    use std::os::unix::fs::FileTypeExt;

    let error = match tokio::net::UnixStream::connect(path).await {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    let is_other = error.kind() == io::ErrorKind::ConnectionRefused
        && std::fs::metadata(path).is_ok_and(|found| !found.file_type().is_socket());
    match is_other {
        true => Err(io::Error::new(error.kind(), format!("{} is no socket", path.display()))),
        false => Err(error),
    }
}

#[cfg(windows)]
async fn open_pipe(path: &std::path::Path) -> io::Result<tokio::net::windows::named_pipe::NamedPipeClient> {
    /// Windows' word for a pipe all of whose instances are taken at the moment.
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
        // In the extensions of each answer that comes over it.
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
