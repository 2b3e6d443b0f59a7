//! From a server's URL to an open WebSocket, within a deadline.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use conclave_shell::client::{
    DIAL_TIMEOUT, DialError, Greeting, Proxy, Stage, authority, describe, refused, request, server_name,
    share, trust, websocket,
};
use conclave_store::config::ServerUrl;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::proxy::tunnel;
use super::stream::Stream;

/// How to get to servers.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// How long the way there may take in all.
    pub timeout: Duration,
    /// A PEM file of certificates to trust beside the usual ones.
    pub ca: Option<PathBuf>,
    /// The subprotocol to ask for. A server that does not take it is [`DialError::NoSubprotocol`].
    pub subprotocol: Option<&'static str>,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self { timeout: DIAL_TIMEOUT, ca: None, subprotocol: None }
    }
}

/// A server that was reached.
pub struct Dialed {
    /// The WebSocket.
    pub socket: WebSocketStream<Stream>,
    /// What it said about itself.
    pub greeting: Greeting,
    /// How it was reached.
    pub route: Route,
}

/// How a server was reached, for whoever diagnoses.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// The address of the server, or of the proxy.
    pub peer: Option<SocketAddr>,
    /// The proxy on the way.
    pub proxy: Option<String>,
    /// The version of TLS, if there is any.
    pub tls: Option<String>,
}

/// Opens a WebSocket to the server at `url`, through the proxy that the environment names for it.
///
/// # Errors
/// [`DialError`]; no later than the options' timeout.
pub async fn dial(url: &ServerUrl, options: &DialOptions) -> Result<Dialed, DialError> {
    let dialer = Dialer { url, options, deadline: Instant::now() + options.timeout };
    let proxy = Proxy::for_url(url, |name| std::env::var(name).ok())?;
    let mut route = Route { proxy: proxy.as_ref().map(Proxy::address), ..Route::default() };

    let config = if url.is_secure() { Some(trust(options.ca.as_deref())?) } else { None };

    let mut stream = match &proxy {
        None => dialer.connect(url.host(), url.port()).await?,
        Some(proxy) => dialer.connect(proxy.host(), proxy.port()).await?,
    };
    // Frames are small and each is waited for.
    let _ = stream.set_nodelay(true);
    route.peer = stream.peer_addr().ok();
    if let Some(proxy) = &proxy {
        dialer.within(Stage::Proxy, tunnel(proxy, &mut stream, url.host(), url.port())).await?;
    }
    let stream = if let Some(config) = config {
        let name = server_name(url.host())?;
        let agreed = async {
            let stream = TlsConnector::from(config).connect(name, stream).await;
            stream.map_err(|error| describe(url.host(), &error))
        };
        let stream = dialer.within(Stage::Tls, agreed).await?;
        route.tls = stream.get_ref().1.protocol_version().map(|version| format!("{version:?}"));
        Stream::Tls(Box::new(stream))
    } else {
        Stream::Plain(stream)
    };
    let upgraded = async {
        let opened =
            client_async_with_config(request(url, options.subprotocol)?, stream, Some(websocket())).await;
        opened.map_err(|error| refused(url, error))
    };
    let (socket, response) = dialer.within(Stage::WebSocket, upgraded).await?;
    Ok(Dialed { socket, greeting: Greeting::read(&response), route })
}

struct Dialer<'a> {
    url: &'a ServerUrl,
    options: &'a DialOptions,
    deadline: Instant,
}

impl Dialer<'_> {
    fn address(&self) -> String {
        authority(self.url.host(), self.url.port())
    }

    async fn within<T>(
        &self,
        stage: Stage,
        work: impl Future<Output = Result<T, DialError>>,
    ) -> Result<T, DialError> {
        timeout_at(self.deadline, work).await.unwrap_or_else(|_| {
            Err(DialError::Timeout { address: self.address(), stage, after: self.options.timeout })
        })
    }

    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let unknown = |source| DialError::Resolve { host: host.into(), source };
        let lookup = async { lookup_host((host, port)).await.map(Vec::from_iter).map_err(unknown) };
        let addresses = self.within(Stage::Resolve, lookup).await?;
        let mut failure = DialError::no_address(host);
        for (nth, address) in addresses.iter().enumerate() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let until = Instant::now() + share(left, addresses.len() - nth);
            failure = match timeout_at(until, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(source)) => DialError::Connect { address: authority(host, port), source },
                Err(_) => DialError::Timeout {
                    address: authority(host, port),
                    stage: Stage::Connect,
                    after: self.options.timeout,
                },
            };
        }
        Err(failure)
    }
}
