//! Why a server was not reached, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use conclave_core::text::visible;

/// Where a dial stood when its time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Looking the host's name up.
    Resolve,
    /// Opening the connection.
    Connect,
    /// Asking the proxy.
    Proxy,
    /// Agreeing on encryption.
    Tls,
    /// Opening the WebSocket.
    WebSocket,
}

/// Why a certificate was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// Nobody who is trusted signed it.
    #[error("nobody that this machine trusts signed its certificate")]
    Issuer,
    /// It may issue certificates, and is no server's own (RFC 5280, 4.2.1.9).
    #[error("its certificate is an authority's (CA:TRUE), which is not to be a server's")]
    Authority,
    /// It is for other names.
    #[error("its certificate is for another name")]
    Name,
    /// Its time is over.
    #[error("its certificate has expired")]
    Expired,
    /// Its time has not come.
    #[error("its certificate is not valid yet")]
    Early,
    /// Its issuer took it back.
    #[error("its certificate was revoked")]
    Revoked,
    /// Anything else.
    #[error("its certificate is not acceptable ({0})")]
    Other(String),
}

/// Why a server was not reached. `Display` says what is wrong, [`DialError::advice`] what to do.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The server does not take the subprotocol that was asked for: it speaks version 1 only.
    #[error("the server speaks version 1 of the protocol only")]
    NoSubprotocol,
    /// The host's name is not known.
    #[error("the host {host} is not known: {source}")]
    Resolve {
        /// The host.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// The connection was not made.
    #[error("{address} cannot be reached: {source}")]
    Connect {
        /// `host:port`.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The proxy would not.
    #[error("the proxy {proxy} {what}")]
    Proxy {
        /// `host:port` of the proxy.
        proxy: String,
        /// What it did.
        what: String,
    },
    /// A proxy setting cannot be used.
    #[error("{variable} names no proxy that can be used: {what}")]
    ProxySetting {
        /// The environment variable.
        variable: &'static str,
        /// What is wrong with its value.
        what: String,
    },
    /// A file of certificates cannot be used.
    #[error("{} cannot be used: {what}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The server's certificate is not accepted.
    #[error("{host} cannot be trusted: {fault}")]
    Certificate {
        /// The host.
        host: String,
        /// Why not.
        fault: CertificateFault,
    },
    /// Encryption could not be agreed on.
    #[error("{host} does not speak TLS as it should: {what}")]
    Tls {
        /// The host.
        host: String,
        /// What went wrong.
        what: String,
    },
    /// The server takes no more connections for now.
    #[error("{address} takes no more connections from here for now: {}", visible(what))]
    Busy {
        /// `host:port`.
        address: String,
        /// What it said.
        what: String,
    },
    /// What answers is no conclave server.
    #[error("{address} answers, but not as a conclave server: {what}")]
    WebSocket {
        /// `host:port`.
        address: String,
        /// What it did.
        what: String,
    },
    /// The time ran out.
    #[error("{address} did not {} within {}", verb(*stage), seconds(*after))]
    Timeout {
        /// `host:port`.
        address: String,
        /// What was waited for.
        stage: Stage,
        /// How long.
        after: Duration,
    },
}

impl DialError {
    /// The name is known, but nothing stands behind it.
    pub fn no_address(host: &str) -> Self {
        let source = io::Error::new(io::ErrorKind::NotFound, "DNS has no address for it");
        Self::Resolve { host: host.into(), source }
    }

    /// What to type or look at next.
    pub fn advice(&self) -> String {
        match self {
            Self::NoSubprotocol => "update the server, or leave out what needs version 2".into(),
            Self::Resolve { .. } => "check the URL's spelling and this machine's network".into(),
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
                "check the port, and that the server runs there (`conclave serve` starts one)".into()
            }
            Self::Connect { .. } => "check the network, firewalls and the URL".into(),
            Self::Proxy { .. } => {
                "check HTTPS_PROXY and HTTP_PROXY, or list the host in NO_PROXY to go there directly".into()
            }
            Self::ProxySetting { variable, .. } => {
                format!("set it like {variable}=http://proxy.example:3128")
            }
            Self::Roots { .. } => "give a PEM file with the issuer's certificate: --ca FILE".into(),
            Self::Certificate { fault, .. } => match fault {
                CertificateFault::Issuer => {
                    "if it is a private server, trust its issuer: --ca FILE (or CONCLAVE_CA=FILE)".into()
                }
                CertificateFault::Authority => {
                    "the server needs one with CA:FALSE: `openssl req -x509 … -addext basicConstraints=critical,CA:FALSE` \
                     makes it"
                        .into()
                }
                CertificateFault::Name => "use the host name that the certificate is for".into(),
                CertificateFault::Expired | CertificateFault::Early => {
                    "check this machine's clock (`date`); if it is right, tell the server's operator".into()
                }
                CertificateFault::Revoked | CertificateFault::Other(_) => "tell the server's operator".into(),
            },
            Self::Tls { .. } => "if the server runs without TLS, its URL starts with ws://".into(),
            Self::Busy { .. } => "wait a minute and try again".into(),
            Self::WebSocket { .. } => {
                "check the URL's host, port and path; a server that takes no more connections from here hangs up, too: \
                 if it was one before, try again in a minute"
                    .into()
            }
            Self::Timeout { stage: Stage::Resolve | Stage::Connect, .. } => {
                "check the network, firewalls and the URL, or wait longer with --timeout".into()
            }
            Self::Timeout { .. } => {
                "check that a conclave server runs there, or wait longer with --timeout".into()
            }
        }
    }
}

fn verb(stage: Stage) -> &'static str {
    match stage {
        Stage::Resolve => "get an address from DNS",
        Stage::Connect => "accept a connection",
        Stage::Proxy => "answer through the proxy",
        Stage::Tls => "answer the TLS handshake",
        Stage::WebSocket => "answer the WebSocket handshake",
    }
}

fn seconds(span: Duration) -> String {
    if span.subsec_millis() == 0 {
        format!("{} s", span.as_secs())
    } else {
        format!("{} ms", span.as_millis())
    }
}
