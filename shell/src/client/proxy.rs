//! Proxies: which the environment names for a server, and what is said to one (HTTP `CONNECT`).

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use conclave_store::config::ServerUrl;

use super::DialError;

/// An HTTP proxy. Its password is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    host: String,
    port: u16,
    credentials: Option<String>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({})", self.address())
    }
}

impl Proxy {
    /// The proxy that the environment names for `url`: `HTTPS_PROXY` for `wss`, `HTTP_PROXY` for `ws`, else
    /// `ALL_PROXY`, in lower case or upper case, unless `NO_PROXY` lists the host. This machine itself is never
    /// reached through one. `variable` reads the environment.
    ///
    /// # Errors
    /// [`DialError::ProxySetting`] for a value that cannot be used.
    pub fn for_url(
        url: &ServerUrl,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, DialError> {
        let read = |upper: &str| {
            let value = variable(&upper.to_ascii_lowercase()).or_else(|| variable(upper))?;
            if value.is_empty() { None } else { Some(value) }
        };
        if is_local(url.host()) || read("NO_PROXY").is_some_and(|list| is_listed(url, &list)) {
            return Ok(None);
        }
        let specific = if url.is_secure() { "HTTPS_PROXY" } else { "HTTP_PROXY" };
        for variable in [specific, "ALL_PROXY"] {
            if let Some(value) = read(variable) {
                let proxy = Self::parse(&value);
                return proxy.map(Some).map_err(|what| DialError::ProxySetting { variable, what });
            }
        }
        Ok(None)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            None => text,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) => return Err(format!("{scheme}:// is not spoken, only http://")),
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (credentials, address) = match rest.rsplit_once('@') {
            Some((credentials, address)) => (Some(credentials), address),
            None => (None, rest),
        };
        // A proxy's address is written like a server's.
        let url: ServerUrl = format!("ws://{address}").parse().map_err(|error| format!("{error}"))?;
        let credentials = credentials
            .map(|text| {
                let (user, password) = text.split_once(':').unwrap_or((text, ""));
                let mut plain = decode_percent(user)?;
                plain.push(b':');
                plain.extend(decode_percent(password)?);
                Some(STANDARD.encode(plain))
            })
            .map(|encoded| encoded.ok_or("its user or password is not percent-encoded"))
            .transpose()?;
        Ok(Self { host: url.host().into(), port: url.port(), credentials })
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        authority(&self.host, self.port)
    }

    /// The proxy's host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The proxy's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What asks the proxy for a connection to `host:port`.
    pub fn request(&self, host: &str, port: u16) -> String {
        let target = authority(host, port);
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(credentials) = &self.credentials {
            // Writing to a String cannot fail.
            let _ = write!(request, "Proxy-Authorization: Basic {credentials}\r\n");
        }
        request.push_str("\r\n");
        request
    }

    /// Reads what has come of the proxy's answer: `None` as long as it is not whole. What follows it is the
    /// server's: a caller must take it byte by byte.
    ///
    /// # Errors
    /// [`DialError::Proxy`], which says in what way the proxy refuses.
    pub fn answer(&self, head: &[u8], host: &str, port: u16) -> Option<Result<(), DialError>> {
        read_answer(head, host, port).map(|answer| answer.map_err(|what| self.error(what)))
    }

    /// The proxy ended the connection.
    pub fn broke(&self, error: &io::Error) -> DialError {
        self.error(format!("ended the connection ({error})"))
    }

    fn error(&self, what: String) -> DialError {
        DialError::Proxy { proxy: self.address(), what }
    }
}

fn read_answer(head: &[u8], host: &str, port: u16) -> Option<Result<(), String>> {
    if !head.ends_with(b"\r\n\r\n") {
        return (head.len() > MAX_HEAD).then(|| Err("answers without end".into()));
    }
    Some(match status(head) {
        Some(200..=299) => Ok(()),
        Some(407) => Err("wants another user and password (407)".into()),
        Some(status) => Err(format!("refuses a connection to {} ({status})", authority(host, port))),
        None => Err("does not answer as an HTTP proxy".into()),
    })
}

/// The largest answer of a proxy that is read.
const MAX_HEAD: usize = 16 * 1024;

fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|b| *b == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix("HTTP/1.")?;
    rest.split(' ').nth(1)?.parse().ok()
}

/// `host:port`, an IPv6 address in brackets (RFC 3986, 3.2.2).
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn is_local(host: &str) -> bool {
    let local = |address: IpAddr| address.is_loopback() || address.is_unspecified();
    host == "localhost" || host.ends_with(".localhost") || host.parse().is_ok_and(local)
}

/// Whether a `NO_PROXY` list names the server: `*`, a host, a domain with everything in it, an address or a
/// network such as `10.0.0.0/8`, each perhaps with a port.
fn is_listed(url: &ServerUrl, list: &str) -> bool {
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some((network, bits)) = entry.split_once('/') {
            let prefix = network.parse().ok().zip(bits.parse().ok());
            return prefix
                .zip(url.host().parse().ok())
                .is_some_and(|((network, bits), address)| is_in(network, bits, address));
        }
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
                (name, port.parse::<u16>().ok())
            }
            _ => (entry, None),
        };
        let name = name
            .trim_matches(['[', ']'])
            .trim_start_matches("*.")
            .trim_start_matches('.')
            .to_ascii_lowercase();
        let host = url.host();
        let in_domain = host.strip_suffix(&name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        !name.is_empty() && in_domain && port.is_none_or(|port| port == url.port())
    })
}

fn is_in(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let shift = 32 - bits.min(32);
            u64::from(network.to_bits()) >> shift == u64::from(address.to_bits()) >> shift
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

fn decode_percent(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            plain.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            plain.push(byte);
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(url: &str, variables: &[(&str, &str)]) -> Result<Option<String>, DialError> {
        let url: ServerUrl = url.parse().unwrap();
        let read =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Proxy::for_url(&url, read).map(|proxy| proxy.map(|proxy| proxy.address()))
    }

    fn address(url: &str, variables: &[(&str, &str)]) -> String {
        proxy(url, variables).unwrap().unwrap_or_else(|| "direct".into())
    }

    #[test]
    fn the_scheme_says_which_variable_counts() {
        let all = [("HTTPS_PROXY", "http://s:1"), ("http_proxy", "p:2"), ("ALL_PROXY", "http://a:3/")];
        assert_eq!(address("wss://x.example", &all), "s:1");
        assert_eq!(address("ws://x.example", &all), "p:2");
        assert_eq!(address("ws://x.example", &all[2..]), "a:3");
        assert_eq!(address("ws://x.example", &all[..1]), "direct");
        assert_eq!(address("wss://x.example", &[("https_proxy", "l:1"), all[0]]), "l:1");
        assert_eq!(address("wss://x.example", &[("HTTPS_PROXY", "")]), "direct");
        for local in ["ws://localhost", "ws://127.1.2.3:9", "ws://[::1]"] {
            assert_eq!(address(local, &all), "direct");
        }
    }

    #[test]
    fn listed_hosts_are_reached_directly() {
        for (list, direct) in [
            ("*", true),
            ("x.example", true),
            (".example", true),
            ("*.example", true),
            ("other, example", true),
            ("x.example:443", true),
            ("x.example:80", false),
            ("ample", false),
            ("y.x.example", false),
            ("", false),
            (",", false),
        ] {
            let shown = address("wss://x.example", &[("HTTPS_PROXY", "s:1"), ("NO_PROXY", list)]);
            assert_eq!(shown == "direct", direct, "{list}");
        }
        for (list, direct) in [
            ("10.0.0.0/8", true),
            ("10.2.0.0/16", false),
            ("0.0.0.0/0", true),
            ("10.1.2.3", true),
            ("::/0", false),
            ("10.0.0.0/99", false),
            ("10.0.0.0/x", false),
        ] {
            let shown = address("ws://10.1.2.3", &[("HTTP_PROXY", "s:1"), ("no_proxy", list)]);
            assert_eq!(shown == "direct", direct, "{list}");
        }
        let shown = address("ws://[fd00::1]", &[("HTTP_PROXY", "s:1"), ("NO_PROXY", "fd00::/8")]);
        assert_eq!(shown, "direct");
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_an_error_without_its_password() {
        for value in ["socks5://u:secret@p:1", "http://u:secret@:1", "https://p:1", "http://u:%zzsecret@p:1"]
        {
            let error = proxy("ws://x.example", &[("HTTP_PROXY", value)]).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("HTTP_PROXY") && !shown.contains("secret"), "{shown}");
        }
    }

    #[test]
    fn an_answer_is_read_to_its_end() {
        let answer = |head: &str| read_answer(head.as_bytes(), "x.example", 443);
        assert_eq!(answer("HTTP/1.1 200 OK\r\n"), None);
        assert_eq!(answer("HTTP/1.1 200 OK\r\nVia: x\r\n\r\n"), Some(Ok(())));
        for head in
            ["HTTP/1.1 407 No\r\n\r\n", "HTTP/1.1 502 No\r\n\r\n", "SSH-2.0\r\n\r\n", &"x".repeat(20_000)]
        {
            assert!(matches!(answer(head), Some(Err(_))), "{head:.20}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_not_shown() {
        let proxy = Proxy::parse("http://us%40er:p%3Aw@proxy:3128").unwrap();
        assert_eq!(proxy.credentials, Some(STANDARD.encode("us@er:p:w")));
        assert_eq!(format!("{proxy:?}"), "Proxy(proxy:3128)");
    }
}
