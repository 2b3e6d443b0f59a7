//! How a server is named to an agent and by it.

use alloc::sync::Arc;
use core::fmt;

/// A server, known by the URL under which it is configured. Cloning counts a reference.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server(Arc<str>);

impl Server {
    /// Takes the URL as it is configured, without slashes at its end.
    pub fn new(url: &str) -> Self {
        Self(Arc::from(url.trim().trim_end_matches('/')))
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if `name` means this server and no other: its URL, or the host in it with the port that the URL has.
    pub fn is(&self, name: &str) -> bool {
        let name = name.trim().trim_end_matches('/');
        name == &*self.0 || name == self.host()
    }

    /// True if `name` may mean this server: as in [`Server::is`], or the host without the port.
    pub fn is_named(&self, name: &str) -> bool {
        self.is(name) || self.host().rsplit_once(':').is_some_and(|(bare, _)| name.trim() == bare)
    }

    fn host(&self) -> &str {
        let host = self.0.split_once("://").map_or(&*self.0, |(_, rest)| rest);
        host.split('/').next().unwrap_or(host)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_its_url_or_host() {
        let server = Server::new("wss://conclave.example:4390/");
        for name in ["wss://conclave.example:4390", "conclave.example:4390", "conclave.example"] {
            assert!(server.is_named(name), "{name}");
            assert_eq!(server.is(name), name.ends_with(":4390"), "{name}: another port is another server");
        }
        assert!(Server::new("wss://conclave.example").is("conclave.example"));
        assert!(!server.is_named("example"));
        assert!(!server.is_named(""));
    }
}
