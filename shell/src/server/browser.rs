//! Which web pages may open a WebSocket.
//!
//! A browser lets every page connect everywhere, also to servers that only its own machine reaches, and says in
//! `Origin` which page asks: pages of other origins than the server's own need the operator's word. A page whose name
//! was made to lead here (DNS rebinding) has the server's own origin, as far as it goes; only its `Host` gives it away.
//! Native clients send no `Origin`.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use hyper::header::{HOST, HeaderMap, ORIGIN};

/// Where a web page comes from, as in `https://app.example:8443`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: Host,
    port: Option<u16>,
}

/// A host's name or address, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(String);

/// Why a text is no origin or no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is no origin.
    #[error("an origin is a scheme, a host and perhaps a port, as in https://app.example:8443")]
    Origin,
    /// It is no host.
    #[error("a host is a name or an address without a port, as in conclave.example")]
    Host,
}

/// What a server goes by.
#[derive(Clone, Debug)]
pub(crate) struct Browsers {
    origins: Vec<Origin>,
    hosts: Vec<Host>,
    any_host: bool,
}

impl Browsers {
    /// Lets pages of `origins` in, beside the server's own. Where the server is `bound` to loopback and nothing stands
    /// before it (`proxied`), or `hosts` are named, those names and addresses are the server's and no others.
    /// Otherwise every name may be the server's: only an operator knows which are.
    pub(crate) fn new(
        origins: Vec<Origin>,
        hosts: Vec<Host>,
        bound: Option<SocketAddr>,
        proxied: bool,
    ) -> Self {
        let local = bound.is_some_and(|bound| bound.ip().to_canonical().is_loopback()) && !proxied;
        Self { origins, any_host: hosts.is_empty() && !local, hosts }
    }

    /// Refuses what a foreign page asks for, in words for whoever runs the page or the server.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), String> {
        let mut own = Vec::new();
        for value in headers.get_all(HOST) {
            let text = value.to_str().unwrap_or_default();
            match split(text) {
                Some((host, port)) if self.is_ours(&host) => own.push((host, port)),
                Some((Host(name), _)) => {
                    return Err(format!(
                        "This server is not known as {name}. Connect to it by its address, or start it with \
                         `conclave serve --allow-host {name}`."
                    ));
                }
                None => return Err("The Host header names no host.".to_owned()),
            }
        }
        for value in headers.get_all(ORIGIN) {
            let Some(origin) = value.to_str().ok().and_then(|text| text.parse::<Origin>().ok()) else {
                return Err("Web pages without an origin may not connect here.".to_owned());
            };
            let is_own = own.iter().any(|(host, port)| origin.is_at(host, *port));
            if !is_own && !self.origins.contains(&origin) {
                let Origin { scheme, host: Host(host), port } = origin;
                let port = port.map_or_else(String::new, |port| format!(":{port}"));
                return Err(format!(
                    "Web pages of {scheme}://{host}{port} may not connect here. The server's operator allows them with \
                     `conclave serve --allow-origin {scheme}://{host}{port}`."
                ));
            }
        }
        Ok(())
    }

    /// No page can have an address for its name unless it comes from there.
    fn is_ours(&self, host: &Host) -> bool {
        let Host(name) = host;
        self.any_host
            || name == "localhost"
            || name.ends_with(".localhost")
            || name.parse::<IpAddr>().is_ok()
            || self.hosts.contains(host)
    }
}

impl Origin {
    fn is_at(&self, host: &Host, port: Option<u16>) -> bool {
        let default = match self.scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        self.host == *host && self.port.or(default) == port.or(default)
    }
}

impl FromStr for Origin {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (scheme, rest) = text.trim_end_matches('/').split_once("://").ok_or(Invalid::Origin)?;
        let valid = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
        if scheme.is_empty() || !scheme.bytes().all(valid) {
            return Err(Invalid::Origin);
        }
        let (host, port) = split(rest).ok_or(Invalid::Origin)?;
        let scheme = scheme.to_ascii_lowercase();
        let default = matches!((&*scheme, port), ("http", Some(80)) | ("https", Some(443)));
        Ok(Self { scheme, host, port: port.filter(|_| !default) })
    }
}

impl FromStr for Host {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bracketed =
            if text.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{text}]") } else { text.into() };
        match split(&bracketed) {
            Some((host, None)) => Ok(host),
            _ => Err(Invalid::Host),
        }
    }
}

/// Reads `host[:port]`; IPv6 stands in brackets.
fn split(text: &str) -> Option<(Host, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let host: std::net::Ipv6Addr = host.parse().ok()?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port.parse().ok()?),
            None if rest.is_empty() => None,
            None => return None,
        };
        return Some((Host(host.to_string()), port));
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(port.parse().ok()?)),
        None => (text, None),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let fits = (1..=253).contains(&name.len()) && name.bytes().all(valid);
    fits.then(|| (Host(name.to_ascii_lowercase()), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn headers(host: Option<&str>, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [(HOST, host), (ORIGIN, origin)] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
        }
        headers
    }

    fn browsers(bound: &str, proxied: bool, origins: &[&str], hosts: &[&str]) -> Browsers {
        let origins = origins.iter().map(|origin| origin.parse().unwrap()).collect();
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        Browsers::new(origins, hosts, Some(bound.parse().unwrap()), proxied)
    }

    #[test]
    fn on_loopback_only_the_machines_own_names_are_the_servers() {
        let local = browsers("127.0.0.1:4390", false, &[], &["conclave.test"]);
        for ours in
            ["localhost:4390", "LOCALHOST", "a.localhost", "127.0.0.1:4390", "[::1]:4390", "Conclave.test:1"]
        {
            assert_eq!(local.check(&headers(Some(ours), None)), Ok(()), "{ours}");
        }
        assert_eq!(local.check(&headers(None, None)), Ok(()));
        for foreign in
            ["evil.example:4390", "localhost.evil.example", "127.0.0.1.evil.example", "", "a b", "[::1"]
        {
            // A page that was rebound has an origin that fits.
            for origin in [None, Some("http://evil.example:4390")] {
                assert!(local.check(&headers(Some(foreign), origin)).is_err(), "{foreign}");
            }
        }
        let said = local.check(&headers(Some("evil.example:4390"), None)).unwrap_err();
        assert!(said.contains("--allow-host evil.example`"), "{said}");
    }

    #[test]
    fn elsewhere_any_name_may_be_the_servers_unless_some_are_named() {
        for (bound, proxied) in [("0.0.0.0:4390", false), ("127.0.0.1:4390", true)] {
            let open = browsers(bound, proxied, &[], &[]);
            assert_eq!(open.check(&headers(Some("conclave.example"), None)), Ok(()));
            let named = browsers(bound, proxied, &[], &["conclave.example"]);
            assert_eq!(named.check(&headers(Some("conclave.example"), None)), Ok(()));
            assert!(named.check(&headers(Some("evil.example"), None)).is_err());
        }
    }

    #[test]
    fn a_page_is_the_servers_own_or_allowed() {
        let open = browsers("0.0.0.0:4390", false, &["https://App.example", "http://app.example:3000"], &[]);
        let check = |host: &str, origin: &str| open.check(&headers(Some(host), Some(origin)));
        for (host, origin) in [
            ("conclave.example", "https://conclave.example"),
            ("conclave.example:443", "https://conclave.example"),
            ("conclave.example:4390", "http://conclave.example:4390"),
            ("[2001:db8::1]:4390", "http://[2001:db8::1]:4390"),
            ("conclave.example", "https://app.example:443"),
            ("conclave.example", "http://app.example:3000"),
        ] {
            assert_eq!(check(host, origin), Ok(()), "{host} {origin}");
        }
        for (host, origin) in [
            ("conclave.example", "https://evil.example"),
            ("conclave.example", "https://conclave.example.evil.example"),
            ("localhost:4390", "http://localhost:3000"),
            ("conclave.example", "http://app.example"),
            ("conclave.example", "null"),
            ("conclave.example", "https://app.example/../"),
        ] {
            assert!(check(host, origin).is_err(), "{host} {origin}");
        }
        let said = check("a", "https://evil.example").unwrap_err();
        assert!(said.contains("--allow-origin https://evil.example`"), "{said}");
    }

    #[test]
    fn what_an_operator_types_is_read_or_refused() {
        for wrong in ["app.example", "https://", "https://a b", "https://a:x", "https://a/b", "null", "*"] {
            assert_eq!(wrong.parse::<Origin>(), Err(Invalid::Origin), "{wrong}");
        }
        for wrong in ["", "https://a", "a:1", "a/b", "*"] {
            assert_eq!(wrong.parse::<Host>(), Err(Invalid::Host), "{wrong}");
        }
        assert_eq!("::1".parse::<Host>(), "[0:0::1]".parse());
    }
}
