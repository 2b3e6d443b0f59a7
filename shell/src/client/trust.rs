//! TLS to a server: who is trusted, and why somebody is not.

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use rustls::ClientConfig as TlsConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, RootCertStore};

use super::{CertificateFault, DialError};

/// Who is trusted: the system's roots, those bundled with this program, and the certificates in `extra`. Reads
/// files.
///
/// # Errors
/// [`DialError::Roots`] when `extra` cannot be read or holds no certificate.
pub fn trust(extra: Option<&Path>) -> Result<Arc<TlsConfig>, DialError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // A damaged certificate of the system's makes no other one worse.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = extra {
        let wrong = |what: String| DialError::Roots { path: path.to_owned(), what };
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
        let mut any = false;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            any = true;
        }
        if !any {
            return Err(wrong("it holds no certificate".into()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = TlsConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| DialError::Tls { host: "this machine".into(), what: error.to_string() })?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// The name that the server's certificate has to be for.
///
/// # Errors
/// [`DialError::Tls`] for what no certificate can be for.
pub fn server_name(host: &str) -> Result<ServerName<'static>, DialError> {
    ServerName::try_from(host.to_owned()).map_err(|_| DialError::Tls {
        host: host.into(),
        what: "no certificate can be for such a name".into(),
    })
}

/// Why no encryption was agreed on with `host`: [`DialError::Certificate`] or [`DialError::Tls`].
pub fn describe(host: &str, error: &io::Error) -> DialError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(why)) = inner {
        return DialError::Certificate { host: host.into(), fault: fault(why) };
    }
    let what = match inner {
        Some(rustls::Error::InvalidMessage(_)) => "what it sends is not TLS".into(),
        _ if error.kind() == io::ErrorKind::UnexpectedEof => "it ended the connection".into(),
        _ => error.to_string(),
    };
    DialError::Tls { host: host.into(), what }
}

fn fault(why: &CertificateError) -> CertificateFault {
    match why {
        CertificateError::UnknownIssuer => CertificateFault::Issuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            CertificateFault::Name
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => CertificateFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            CertificateFault::Early
        }
        CertificateError::Revoked => CertificateFault::Revoked,
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            CertificateFault::Authority
        }
        other => CertificateFault::Other(other.to_string()),
    }
}
