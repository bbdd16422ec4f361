//! A proxy on loopback between the tests and the real engine, with or without TLS. It counts its connections and can
//! cut them.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::support::engine;

/// Forwards to the real engine until it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    connections: Arc<Mutex<JoinSet<()>>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn plain() -> Self {
        Self::start("127.0.0.1:0", None, None).await
    }

    /// Starts a proxy that delays the output of commands as the relay says.
    pub async fn slow(relay: Relay) -> Self {
        Self::start("127.0.0.1:0", None, Some(relay)).await
    }

    pub async fn tls(config: ServerConfig) -> Self {
        Self::start("127.0.0.1:0", Some(TlsAcceptor::from(Arc::new(config))), None).await
    }

    /// Starts a proxy at the address of an earlier one.
    pub async fn plain_at(address: SocketAddr) -> Self {
        Self::start(&address.to_string(), None, None).await
    }

    async fn start(address: &str, tls: Option<TlsAcceptor>, relay: Option<Relay>) -> Self {
        let socket = real_socket().await;
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let accepting = tokio::spawn({
            let (accepted, connections) = (accepted.clone(), connections.clone());
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    accepted.fetch_add(1, Ordering::Relaxed);
                    stream.set_nodelay(true).unwrap();
                    let (tls, socket) = (tls.clone(), socket.clone());
                    connections.lock().spawn(async move {
                        match tls {
                            None if relay.is_some() => relay_slowly(stream, &socket, relay.unwrap()).await,
                            None => forward(stream, &socket).await,
                            // The client's test checks a failed handshake.
                            Some(tls) => {
                                if let Ok(stream) = tls.accept(stream).await {
                                    forward(stream, &socket).await;
                                }
                            }
                        }
                    });
                }
            }
        });
        Self {
            address,
            accepted,
            connections,
            accepting,
        }
    }

    /// Returns the number of connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Ends all current connections.
    pub async fn cut(&self) {
        let mut connections = std::mem::take(&mut *self.connections.lock());
        connections.shutdown().await;
    }

    /// Stops the proxy and ends all its connections.
    pub async fn stop(self) {
        self.accepting.abort();
        self.cut().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(mut client: impl AsyncRead + AsyncWrite + Unpin, socket: &str) {
    let mut engine = UnixStream::connect(socket).await.unwrap();
    // An error means that the connection was cut.
    let _ = copy_bidirectional(&mut client, &mut engine).await;
}

/// The way to forward the output of a command. Bytes count from the request that starts the command, heads of answers
/// included.
#[derive(Clone, Copy, Debug)]
pub struct Relay {
    /// The number of bytes before the pause, which happens at most once.
    pub after: usize,
    /// The pause. With `None` nothing follows, not even the end.
    pub pause: Option<Duration>,
    /// The delay after each later piece of 4 KiB.
    pub then: Duration,
}

/// Forwards a connection. Delays the bytes after the start of a command as the relay says.
async fn relay_slowly(client: TcpStream, socket: &str, relay: Relay) {
    let (mut from_engine, mut to_engine) = UnixStream::connect(socket).await.unwrap().into_split();
    let (mut from_client, mut to_client) = client.into_split();
    let is_command = Arc::new(AtomicBool::new(false));
    let up = async {
        let mut data = vec![0; 16 << 10];
        loop {
            let read = from_client.read(&mut data).await?;
            if read == 0 {
                return to_engine.shutdown().await;
            }
            let head = String::from_utf8_lossy(&data[..read]);
            let line = head.lines().next().unwrap_or_default();
            if line.contains("/exec/") && line.contains("/start") {
                is_command.store(true, Ordering::Release);
            }
            to_engine.write_all(&data[..read]).await?;
        }
    };
    let down = async {
        let mut data = vec![0; 4 << 10];
        let mut passed = 0;
        loop {
            let read = from_engine.read(&mut data).await?;
            if read == 0 {
                return to_client.shutdown().await;
            }
            if is_command.load(Ordering::Acquire) {
                let before = passed;
                passed += read;
                if before < relay.after && passed >= relay.after {
                    match relay.pause {
                        Some(pause) => tokio::time::sleep(pause).await,
                        None => std::future::pending().await,
                    }
                } else if before >= relay.after {
                    tokio::time::sleep(relay.then).await;
                }
            }
            to_client.write_all(&data[..read]).await?;
        }
    };
    // An error means that the connection was cut.
    let _: (io::Result<()>, io::Result<()>) = tokio::join!(up, down);
}

/// Returns the path of the real engine's socket.
pub async fn real_socket() -> String {
    let endpoint = engine().await.endpoint().unwrap().to_string();
    endpoint
        .strip_prefix("unix://")
        .expect("these tests need an engine on a Unix socket")
        .to_owned()
}

/// A certificate authority and its certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate and its key, in PEM.
    fn signed(&self, names: &[&str], usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// Returns the configuration of a server with these names, which accepts only clients with a certificate of this
    /// authority.
    pub fn server(&self, names: &[&str]) -> ServerConfig {
        let provider = Arc::new(default_provider());
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
            .unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .unwrap();
        let (certificate, key) = self.signed(names, ExtendedKeyUsagePurpose::ServerAuth);
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap()
    }

    /// Writes Docker's file with the trusted authority.
    pub fn write_ca(&self, folder: &Path) {
        std::fs::write(folder.join("ca.pem"), &self.pem).unwrap();
    }

    /// Writes Docker's two files with the client's certificate and key.
    pub fn write_client(&self, folder: &Path) {
        let (certificate, key) = self.signed(&["client"], ExtendedKeyUsagePurpose::ClientAuth);
        std::fs::write(folder.join("cert.pem"), certificate).unwrap();
        std::fs::write(folder.join("key.pem"), key).unwrap();
    }
}
