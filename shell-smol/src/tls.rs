//! TLS as a client speaks it: rustls with ring, and the certificates that are trusted.

use std::path::Path;
use std::sync::Arc;

use futures_rustls::TlsConnector;
use futures_rustls::rustls::pki_types::CertificateDer;
use futures_rustls::rustls::pki_types::pem::PemObject as _;
use futures_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::Error;

/// A connector that trusts Mozilla's certificates, the system's, and those in `file`.
///
/// # Errors
/// [`Error::Certificates`] for a file that cannot be read or holds none.
pub(crate) fn connector(file: Option<&Path>) -> Result<TlsConnector, Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // One of the system's that is broken is no reason not to use the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = file {
        let failed = |why: String| Error::Certificates { path: path.to_owned(), why };
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
        let mut found = 0;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
            found += 1;
        }
        if found == 0 {
            return Err(failed("there is none in it".to_owned()));
        }
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Io(std::io::Error::other(error)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
