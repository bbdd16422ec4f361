//! TLS to an engine, with Docker's three files.

use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use tokio_rustls::{Connect, TlsConnector};

use super::files;

/// Holds the server's name, the trusted authority, and this client's certificate.
pub(super) struct Tls {
    connector: TlsConnector,
    server: ServerName<'static>,
}

impl Tls {
    /// Reads the files. An error names the bad file, and the reason.
    pub(super) fn new(authority: &str, folder: &Path) -> Result<Self, String> {
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let server = ServerName::try_from(host.clone()).map_err(|_| format!("`{host}` is not a valid server name"))?;

        let (ca, cert, key) = (folder.join("ca.pem"), folder.join("cert.pem"), folder.join("key.pem"));
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&ca)? {
            roots
                .add(certificate)
                .map_err(|error| format!("{}: {error}", ca.display()))?;
        }
        let settings = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let config = if cert.exists() || key.exists() {
            let private =
                PrivateKeyDer::from_pem_slice(&read(&key)?).map_err(|error| format!("{}: {error}", key.display()))?;
            settings
                .with_client_auth_cert(certificates(&cert)?, private)
                .map_err(|error| format!("{} and {}: {error}", cert.display(), key.display()))?
        } else {
            settings.with_no_client_auth()
        };
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            server,
        })
    }

    pub(super) fn handshake(&self, stream: TcpStream) -> Connect<TcpStream> {
        self.connector.connect(self.server.clone(), stream)
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    match files::read(file) {
        Ok(Some(content)) => Ok(content),
        Ok(None) => Err(format!("{} cannot be read: there is no such file", file.display())),
        Err(problem) => Err(format!("{} {problem}", file.display())),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(&read(file)?)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{}: {error}", file.display()))?;
    if found.is_empty() {
        return Err(format!("{} has no certificate in it", file.display()));
    }
    Ok(found)
}

/// Returns whether an error comes from TLS itself, on either side.
pub(super) fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    error.is::<rustls::Error>()
        || error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .is_some_and(|inner| inner.is::<rustls::Error>())
}
