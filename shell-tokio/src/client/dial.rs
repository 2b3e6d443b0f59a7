//! From a server's URL to an open WebSocket, within a deadline.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use conclave_core::wire::MAX_FRAME;
use conclave_store::config::ServerUrl;
use conclave_store::proxy::Proxy;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, error::ProtocolError};

use super::error::{DialError, Stage};
use super::proxy::tunnel;
use super::stream::Stream;
use super::tls;

/// The header that names a server, whichever URL it was reached by.
const SERVER_ID: &str = "x-conclave-server-id";

/// How to get to servers.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// How long the way there may take in all.
    pub timeout: Duration,
    /// A PEM file of certificates to trust beside the usual ones.
    pub ca: Option<PathBuf>,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), ca: None }
    }
}

/// A server that was reached.
#[derive(Debug)]
pub struct Dialed {
    /// The WebSocket.
    pub socket: WebSocketStream<Stream>,
    /// The server's id, if it told one: the same behind every URL of the server.
    pub server_id: Option<String>,
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
    /// The server's clock, as an HTTP date, if it told.
    pub date: Option<String>,
    /// The server's name and version, if it told.
    pub software: Option<String>,
    /// The largest message that the server takes, in bytes, if it told.
    pub max_frame: Option<u64>,
}

/// Opens a WebSocket to the server at `url`, through the proxy that the environment names for it.
///
/// # Errors
/// [`DialError`]; no later than the options' timeout.
pub async fn dial(url: &ServerUrl, options: &DialOptions) -> Result<Dialed, DialError> {
    let dialer = Dialer { url, options, deadline: Instant::now() + options.timeout };
    let proxy = Proxy::for_url(url, |name| std::env::var(name).ok())?;
    let mut route = Route { proxy: proxy.as_ref().map(Proxy::address), ..Route::default() };

    let config = if url.is_secure() { Some(tls::config(options.ca.as_deref())?) } else { None };

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
        let stream = dialer.within(Stage::Tls, tls::connect(config, url.host(), stream)).await?;
        route.tls = stream.get_ref().1.protocol_version().map(|version| format!("{version:?}"));
        Stream::Tls(Box::new(stream))
    } else {
        Stream::Plain(stream)
    };
    let (socket, response) = dialer.within(Stage::WebSocket, dialer.upgrade(stream)).await?;
    let header = |name: &str| {
        let value = response.headers().get(name)?.to_str().ok()?;
        if value.len() <= 128 { Some(value.to_owned()) } else { None }
    };
    route.date = header("date");
    route.software = header("server");
    route.max_frame = header("x-conclave-max-frame").and_then(|most| most.parse().ok());
    Ok(Dialed { socket, server_id: header(SERVER_ID), route })
}

struct Dialer<'a> {
    url: &'a ServerUrl,
    options: &'a DialOptions,
    deadline: Instant,
}

impl Dialer<'_> {
    fn address(&self) -> String {
        format!("{}:{}", self.url.host(), self.url.port())
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
        let mut failure = unknown(io::Error::new(io::ErrorKind::NotFound, "DNS has no address for it"));
        for (nth, address) in addresses.iter().enumerate() {
            // An address that swallows everything leaves time for those behind it.
            let left = self.deadline.saturating_duration_since(Instant::now());
            let share = Instant::now() + left / u32::try_from(addresses.len() - nth).unwrap_or(u32::MAX);
            failure = match timeout_at(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(source)) => DialError::Connect { address: format!("{host}:{port}"), source },
                Err(_) => DialError::Timeout {
                    address: format!("{host}:{port}"),
                    stage: Stage::Connect,
                    after: self.options.timeout,
                },
            };
        }
        Err(failure)
    }

    async fn upgrade(&self, stream: Stream) -> Result<(WebSocketStream<Stream>, Response), DialError> {
        let wrong = |what: String| DialError::WebSocket { address: self.address(), what };
        let scheme = if self.url.is_secure() { "wss" } else { "ws" };
        let request = format!("{scheme}://{}{}", self.url.authority(), self.url.path())
            .into_client_request()
            .map_err(|error| wrong(error.to_string()))?;
        let config = WebSocketConfig::default()
            .read_buffer_size(16 * 1024)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await.map_err(|error| {
            wrong(match error {
                Error::Http(response) => format!("HTTP {}", response.status()),
                Error::Io(error) => error.to_string(),
                Error::Protocol(ProtocolError::HandshakeIncomplete) | Error::ConnectionClosed => {
                    "it ended the connection".into()
                }
                Error::Protocol(ProtocolError::HttparseError(_)) => "it does not speak HTTP".into(),
                other => other.to_string(),
            })
        })
    }
}
