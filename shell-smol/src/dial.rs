//! From a server's URL to a WebSocket.

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use async_tungstenite::tungstenite::{self, http};
use conclave_core::wire::MAX_FRAME;
use conclave_store::config::ServerUrl;
use futures_rustls::TlsConnector;
use futures_rustls::rustls::pki_types::ServerName;
use smol::io::{AsyncRead, AsyncWrite};
use smol::net::TcpStream;

/// A byte stream, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to a server.
pub(crate) type Socket = WebSocketStream<Box<dyn Stream>>;

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
        let host = self.url.host();
        let stream = TcpStream::connect((host, self.url.port())).await.map_err(|error| error.to_string())?;
        // A session's frames are small, and each is waited for.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
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
        Ok((socket, server_id(&response)))
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
