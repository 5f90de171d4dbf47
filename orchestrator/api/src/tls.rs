//! Mutual TLS for both ends of the API: PEM files in, tonic's settings out.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, DnsName, ServerName};
use rustls::server::ParsedCertificate;
use thiserror::Error;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig};

/// Where an end's own certificate, its key and the authority that signs the other ends' certificates are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// This end's certificate chain, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authority that the other end's certificate must be signed by, PEM.
    pub ca: PathBuf,
}

impl TlsFiles {
    /// Settings for an appliance or a serving node.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn client(&self) -> Result<ClientTlsConfig, TlsError> {
        install_provider();
        Ok(ClientTlsConfig::new().identity(self.identity()?).ca_certificate(self.authority()?))
    }

    /// Settings for an orchestrator: the other end must show a certificate of the authority.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn server(&self) -> Result<ServerTlsConfig, TlsError> {
        install_provider();
        Ok(ServerTlsConfig::new().identity(self.identity()?).client_ca_root(self.authority()?))
    }

    fn identity(&self) -> Result<Identity, TlsError> {
        Ok(Identity::from_pem(read(&self.cert)?, read(&self.key)?))
    }

    fn authority(&self) -> Result<Certificate, TlsError> {
        Ok(Certificate::from_pem(read(&self.ca)?))
    }
}

/// Refuses to speak in the clear beyond this host.
///
/// # Errors
/// The address is not loopback, there is no TLS, and `insecure` doesn't allow that.
pub fn check_plaintext(address: SocketAddr, tls: bool, insecure: bool) -> Result<(), TlsError> {
    if tls || insecure || address.ip().is_loopback() { Ok(()) } else { Err(TlsError::Plaintext(address)) }
}

/// Whether a certificate (DER) is for this name: one of its subject alternative names, as DNS name (RFC 5280
/// §4.2.1.6).
#[must_use]
pub fn is_certificate_for(certificate: &[u8], name: &str) -> bool {
    let Ok(name) = DnsName::try_from(name) else { return false };
    ParsedCertificate::try_from(&CertificateDer::from(certificate))
        .is_ok_and(|parsed| verify_server_name(&parsed, &ServerName::DnsName(name)).is_ok())
}

/// Where an appliance or a serving node finds its orchestrator.
///
/// # Errors
/// The address is no `http` or `https` URI, it is plaintext beyond this host, or a file can't be read.
pub fn endpoint(uri: &str, tls: Option<&TlsFiles>, insecure: bool) -> Result<Endpoint, TlsError> {
    let bad = || TlsError::Endpoint(uri.to_owned());
    let endpoint = Endpoint::from_shared(uri.to_owned()).map_err(|_| bad())?;
    let host = endpoint.uri().host().ok_or_else(bad)?;
    let endpoint = match (endpoint.uri().scheme_str(), tls) {
        (Some("https"), Some(files)) => endpoint.tls_config(files.client()?).map_err(TlsError::Config)?,
        (Some("https"), None) => return Err(TlsError::NoCertificate(uri.to_owned())),
        (Some("http"), None) => {
            let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
            let loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
            if !(loopback || insecure) {
                return Err(TlsError::PlaintextEndpoint(uri.to_owned()));
            }
            endpoint
        }
        _ => return Err(bad()),
    };
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true))
}

/// An orchestrator on the same continent answers a SYN well within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why an end can't be secured.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A PEM file can't be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Plaintext beyond loopback.
    #[error(
        "{0} is not a loopback address: give a certificate, a key and an authority, or allow plaintext explicitly"
    )]
    Plaintext(SocketAddr),
    /// Plaintext to another host.
    #[error(
        "{0} is plaintext to another host: use https with a certificate, a key and an authority, or allow plaintext explicitly"
    )]
    PlaintextEndpoint(String),
    /// `https` needs this end's own certificate too.
    #[error("{0} needs a certificate, a key and an authority")]
    NoCertificate(String),
    /// Not an address that can be called.
    #[error("{0:?} is not an address of the form http://HOST:PORT, or https:// with a certificate")]
    Endpoint(String),
    /// A certificate or key that TLS can't use.
    #[error("the certificate, key or authority can't be used: {0}")]
    Config(tonic::transport::Error),
}

/// Chooses ring for the whole process, once. rustls would choose for itself only as long as no dependency brings a
/// second provider, and panics when one does.
pub fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that somebody has chosen already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Read { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_stays_on_this_host() {
        let loopback = "[::1]:7443".parse().unwrap();
        let outside = "192.0.2.1:7443".parse().unwrap();
        assert!(check_plaintext(loopback, false, false).is_ok());
        assert!(check_plaintext(outside, true, false).is_ok());
        assert!(check_plaintext(outside, false, true).is_ok());
        assert!(matches!(check_plaintext(outside, false, false), Err(TlsError::Plaintext(_))));
        let any = "0.0.0.0:7443".parse().unwrap();
        assert!(matches!(check_plaintext(any, false, false), Err(TlsError::Plaintext(_))));
    }

    #[test]
    fn an_endpoint_is_refused_with_its_reason() {
        assert!(endpoint("http://127.0.0.1:7443", None, false).is_ok());
        assert!(endpoint("http://[::1]:7443", None, false).is_ok());
        assert!(endpoint("http://192.0.2.1:7443", None, true).is_ok());
        let refusal = |uri| endpoint(uri, None, false).unwrap_err();
        assert!(matches!(refusal("http://192.0.2.1:7443"), TlsError::PlaintextEndpoint(_)));
        assert!(matches!(refusal("https://192.0.2.1:7443"), TlsError::NoCertificate(_)));
        assert!(matches!(refusal("192.0.2.1:7443"), TlsError::Endpoint(_)));
        assert!(matches!(refusal("ftp://192.0.2.1"), TlsError::Endpoint(_)));
    }

    #[test]
    fn a_missing_file_is_named() {
        let files = TlsFiles { cert: "/nowhere/a.pem".into(), key: "b".into(), ca: "c".into() };
        let error = files.server().unwrap_err().to_string();
        assert!(error.contains("/nowhere/a.pem"), "{error}");
    }
}
