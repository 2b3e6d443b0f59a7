//! From a server's URL to a WebSocket.

use std::time::Instant;

use async_tungstenite::{WebSocketStream, client_async_with_config};
use conclave_shell::client::{
    DIAL_TIMEOUT, DialError, Greeting, Proxy, Stage, TlsConfig, authority, describe, refused, request,
    server_name, share, websocket,
};
use conclave_store::config::ServerUrl;
use futures_rustls::TlsConnector;
use smol::Timer;
use smol::future::or;
use smol::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use smol::net::{TcpStream, resolve};

/// A byte stream, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to a server.
pub(crate) type Socket = WebSocketStream<Box<dyn Stream>>;

/// Dials one server, again and again.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) url: ServerUrl,
    /// For `wss`.
    pub(crate) tls: Option<std::sync::Arc<TlsConfig>>,
}

impl Dialer {
    /// Connects. The link sees to it that this does not take for ever.
    pub(crate) async fn dial(
        self,
        subprotocol: Option<&'static str>,
    ) -> Result<(Socket, Greeting), DialError> {
        let url = &self.url;
        let proxy = Proxy::for_url(url, |name| std::env::var(name).ok())?;
        let (host, port) =
            proxy.as_ref().map_or((url.host(), url.port()), |proxy| (proxy.host(), proxy.port()));
        let mut stream = connect(host, port).await?;
        // A session's frames are small, and each is waited for.
        let _ = stream.set_nodelay(true);
        if let Some(proxy) = &proxy {
            tunnel(proxy, &mut stream, url.host(), url.port()).await?;
        }
        let stream: Box<dyn Stream> = match self.tls {
            None => Box::new(stream),
            Some(config) => {
                let agreed = TlsConnector::from(config).connect(server_name(url.host())?, stream).await;
                Box::new(agreed.map_err(|error| describe(url.host(), &error))?)
            }
        };
        let opened = client_async_with_config(request(url, subprotocol)?, stream, Some(websocket())).await;
        let (socket, response) = opened.map_err(|error| refused(url, error))?;
        Ok((socket, Greeting::read(&response)))
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let deadline = Instant::now() + DIAL_TIMEOUT;
    let unknown = |source| DialError::Resolve { host: host.into(), source };
    let addresses = resolve((host, port)).await.map_err(unknown)?;
    let mut failure = DialError::no_address(host);
    for (nth, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let late = async {
            Timer::after(share(left, addresses.len() - nth)).await;
            None
        };
        let address_shown = || authority(host, port);
        failure = match or(async { Some(TcpStream::connect(address).await) }, late).await {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(source)) => DialError::Connect { address: address_shown(), source },
            None => {
                DialError::Timeout { address: address_shown(), stage: Stage::Connect, after: DIAL_TIMEOUT }
            }
        };
    }
    Err(failure)
}

/// Asks the proxy for a way to the server.
async fn tunnel(proxy: &Proxy, stream: &mut TcpStream, host: &str, port: u16) -> Result<(), DialError> {
    let broke = |error| proxy.broke(&error);
    stream.write_all(proxy.request(host, port).as_bytes()).await.map_err(broke)?;
    let mut head = Vec::with_capacity(256);
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.map_err(broke)?;
        head.push(byte[0]);
        if let Some(answer) = proxy.answer(&head, host, port) {
            return answer;
        }
    }
}
