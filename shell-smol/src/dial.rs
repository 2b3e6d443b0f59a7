//! From a server's URL to a WebSocket.

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use async_tungstenite::tungstenite::{self, http};
use conclave_core::wire::MAX_FRAME;
use conclave_store::config::ServerUrl;
use conclave_store::proxy::Proxy;
use futures_rustls::TlsConnector;
use futures_rustls::rustls::pki_types::ServerName;
use smol::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use smol::net::TcpStream;

/// A byte stream, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to a server.
pub(crate) type Socket = Box<WebSocketStream<Box<dyn Stream>>>;

/// Dials one server, again and again.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) url: ServerUrl,
    /// For `wss`.
    pub(crate) tls: Option<TlsConnector>,
}

impl Dialer {
    /// Connects. Returns the server's id, if it tells one. An error is a sentence for people.
    pub(crate) async fn dial(self) -> Result<(Socket, Option<String>), String> {
        let (host, port) = (self.url.host(), self.url.port());
        let proxy =
            Proxy::for_url(&self.url, |name| std::env::var(name).ok()).map_err(|error| error.to_string())?;
        let address = proxy.as_ref().map_or((host, port), |proxy| (proxy.host(), proxy.port()));
        let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        // A session's frames are small, and each is waited for.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        if let Some(proxy) = &proxy {
            let failed = |why: String| format!("the proxy {} {why}", proxy.address());
            tunnel(proxy, &mut stream, host, port).await.map_err(failed)?;
        }
        let stream: Box<dyn Stream> = match self.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
                let stream = tls.connect(name, stream).await.map_err(|error| deepest(&error))?;
                Box::new(stream)
            }
        };
        let uri = format!("ws://{}{}", self.url.authority(), self.url.path());
        let config = WebSocketConfig::default()
            .read_buffer_size(8 * 1024)
            .write_buffer_size(0)
            .max_write_buffer_size(MAX_FRAME + 1024)
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        let (socket, response) = async_tungstenite::client_async_with_config(uri, stream, Some(config))
            .await
            .map_err(|error| match error {
                tungstenite::Error::Http(response) => {
                    format!("there is no conclave server: it answers HTTP {}", response.status().as_u16())
                }
                error => deepest(&error),
            })?;
        Ok((Box::new(socket), server_id(&response)))
    }
}

/// Asks the proxy for a way to the server.
async fn tunnel(proxy: &Proxy, stream: &mut TcpStream, host: &str, port: u16) -> Result<(), String> {
    let broke = |error: std::io::Error| format!("ended the connection ({error})");
    stream.write_all(proxy.request(host, port).as_bytes()).await.map_err(broke)?;
    let mut head = Vec::with_capacity(256);
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.map_err(broke)?;
        head.push(byte[0]);
        if let Some(answer) = Proxy::answer(&head, host, port) {
            return answer;
        }
    }
}

fn server_id<T>(response: &http::Response<T>) -> Option<String> {
    response.headers().get("x-conclave-server-id")?.to_str().ok().map(str::to_owned)
}

/// The innermost cause, which says what went wrong.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
