//! A server's address.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A server's URL: `ws://host[:port][/path]` or `wss://…`. Shown as it was typed; two that mean the same address
/// (case, default port, closing slash) are equal.
#[derive(Clone)]
pub struct ServerUrl {
    text: String,
    secure: bool,
    host: String,
    port: u16,
    path: String,
}

/// What to say of a URL that [`ServerUrl::is_exposed`].
pub const EXPOSED: &str = "is not encrypted: everyone on the way can read and change what is sent, and act as this \
                           machine there; use wss:// where the server offers it";

/// Why a text is not a server's URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// It does not start with `ws://` or `wss://`.
    #[error("a server's URL starts with wss:// (or ws:// without encryption), as in wss://{0}")]
    Scheme(String),
    /// It names no host, or one that cannot be one.
    #[error("a server's URL names a host, as in wss://conclave.example")]
    Host,
    /// What follows the host's `:` is no port.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// It carries a user, a query, a fragment, or characters that stand in no URL.
    #[error("a server's URL has a host, a port and a path, nothing else")]
    Other,
}

impl ServerUrl {
    /// Whether the connection is encrypted (`wss`).
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether others may read along: the connection leaves this machine, and is not encrypted.
    pub fn is_exposed(&self) -> bool {
        let host = self.host.trim_end_matches('.');
        let named = host == "localhost" || host.ends_with(".localhost");
        let local = named || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        !self.secure && !local
    }

    /// The host: a name in lower case, or an address; IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 443 or 80 where none was typed.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path of the WebSocket, at least `/`.
    pub fn path(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }

    /// `host:port` as a `Host` header or a proxy wants it: the port only where it is not the default.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default_port(self.secure) { host } else { format!("{host}:{}", self.port) }
    }

    /// The URL as it was typed.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn key(&self) -> (&str, u16, bool, &str) {
        (&self.host, self.port, self.secure, &self.path)
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

impl FromStr for ServerUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| InvalidUrl::Scheme(text.into()))?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "ws" => false,
            "wss" => true,
            _ => return Err(InvalidUrl::Scheme(rest.into())),
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') || !path.bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#') {
            return Err(InvalidUrl::Other);
        }
        let (host, port) = split_authority(authority)?;
        let port = match port {
            None => default_port(secure),
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
                port.parse().ok().filter(|port| *port != 0).ok_or(InvalidUrl::Port)?
            }
            Some(_) => return Err(InvalidUrl::Port),
        };
        Ok(Self { text: text.into(), secure, host, port, path: path.trim_end_matches('/').into() })
    }
}

fn split_authority(authority: &str) -> Result<(String, Option<&str>), InvalidUrl> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(InvalidUrl::Host)?;
        let address: Ipv6Addr = host.parse().map_err(|_| InvalidUrl::Host)?;
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            None => return Err(InvalidUrl::Port),
            port => port,
        };
        return Ok((address.to_string(), port));
    }
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if host.is_empty() || host.len() > 253 || !host.bytes().all(valid) {
        return Err(InvalidUrl::Host);
    }
    Ok((host.to_ascii_lowercase(), port))
}

impl PartialEq for ServerUrl {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for ServerUrl {}

impl PartialOrd for ServerUrl {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ServerUrl {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl std::hash::Hash for ServerUrl {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> ServerUrl {
        text.parse().unwrap()
    }

    #[test]
    fn spellings_of_one_address_are_equal() {
        assert_eq!(url("wss://Conclave.example"), url("WSS://conclave.example:443/"));
        assert_eq!(url("ws://[::1]:4390"), url("ws://[0:0::1]:4390/"));
        for other in ["ws://conclave.example", "wss://conclave.example:80", "wss://conclave.example/a"] {
            assert_ne!(url("wss://conclave.example"), url(other));
        }
    }

    #[test]
    fn the_parts_are_what_a_dialer_needs() {
        let it = url("wss://conclave.example:4390/chat/");
        assert_eq!(
            (it.is_secure(), it.host(), it.port(), it.path()),
            (true, "conclave.example", 4390, "/chat")
        );
        assert_eq!(it.authority(), "conclave.example:4390");
        assert_eq!(url("ws://[::1]").authority(), "[::1]");
        assert_eq!(url("ws://127.0.0.1").path(), "/");
    }

    #[test]
    fn only_what_leaves_the_machine_in_the_clear_is_exposed() {
        for exposed in
            ["ws://conclave.example", "ws://10.0.0.1:4390", "ws://[2001:db8::1]", "ws://localhost.example"]
        {
            assert!(url(exposed).is_exposed(), "{exposed}");
        }
        for fine in
            ["wss://conclave.example", "ws://localhost:1", "ws://a.localhost", "ws://127.9.9.9", "ws://[::1]"]
        {
            assert!(!url(fine).is_exposed(), "{fine}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_for_its_reason() {
        for (text, why) in [
            ("conclave.example", InvalidUrl::Scheme("conclave.example".into())),
            ("https://conclave.example", InvalidUrl::Scheme("conclave.example".into())),
            ("wss://", InvalidUrl::Host),
            ("wss://:4390", InvalidUrl::Host),
            ("wss://a b", InvalidUrl::Host),
            ("wss://ä.example", InvalidUrl::Host),
            ("wss://[::1", InvalidUrl::Host),
            ("wss://a:", InvalidUrl::Port),
            ("wss://a:0", InvalidUrl::Port),
            ("wss://a:65536", InvalidUrl::Port),
            ("wss://a:+1", InvalidUrl::Port),
            ("wss://me@a", InvalidUrl::Other),
            ("wss://a/?q", InvalidUrl::Other),
            ("wss://a/b\r\nc", InvalidUrl::Other),
        ] {
            assert_eq!(text.parse::<ServerUrl>(), Err(why), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_a_url_reads_back_equal(text in "(ws|wss)://[a-z0-9.\\[\\]:]{1,12}(/[a-z/]{0,5})?") {
            if let Ok(url) = text.parse::<ServerUrl>() {
                prop_assert_eq!(url.to_string().parse::<ServerUrl>(), Ok(url));
            }
        }
    }
}
