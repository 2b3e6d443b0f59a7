//! The opening of the WebSocket: what is asked, and what a server tells with its answer.

use conclave_core::text::one_line;
use conclave_core::wire::MAX_FRAME;
use conclave_store::config::ServerUrl;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::error::{Error, ProtocolError, SubProtocolError};
use tungstenite::handshake::client::{Request, Response};
use tungstenite::http::StatusCode;
use tungstenite::http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use tungstenite::protocol::WebSocketConfig;

use super::{DialError, authority};

/// The longest header of an answer that is taken, in bytes.
const MAX_HEADER: usize = 128;
/// How much of a refusal is shown, in bytes.
const MAX_REFUSAL: usize = 256;

/// What asks the server at `url` for a WebSocket, with a subprotocol that the server may take.
///
/// # Errors
/// [`DialError::WebSocket`] for a URL that HTTP cannot say.
pub fn request(url: &ServerUrl, subprotocol: Option<&'static str>) -> Result<Request, DialError> {
    let scheme = if url.is_secure() { "wss" } else { "ws" };
    let mut request = format!("{scheme}://{}{}", url.authority(), url.path())
        .into_client_request()
        .map_err(|error| wrong(url, error.to_string()))?;
    if let Some(name) = subprotocol {
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    }
    Ok(request)
}

/// How a client's WebSocket is set up: one server's, of which there are few, so frames of any size are taken.
pub fn websocket() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME))
}

/// Why there is no WebSocket at `url`.
pub fn refused(url: &ServerUrl, error: Error) -> DialError {
    let what = match error {
        Error::Http(response) if response.status() == StatusCode::TOO_MANY_REQUESTS => {
            let body = response.into_body().unwrap_or_default();
            let what = one_line(&String::from_utf8_lossy(&body), MAX_HEADER);
            return DialError::Busy { address: authority(url.host(), url.port()), what };
        }
        // It says what to do.
        Error::Http(response) if response.status() == StatusCode::FORBIDDEN => {
            let body = response.into_body().unwrap_or_default();
            let what = one_line(String::from_utf8_lossy(&body).trim(), MAX_REFUSAL);
            if what.is_empty() { "HTTP 403".to_owned() } else { format!("HTTP 403: {what}") }
        }
        Error::Http(response) => format!("HTTP {}", response.status()),
        Error::Io(error) => error.to_string(),
        Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(SubProtocolError::NoSubProtocol)) => {
            return DialError::NoSubprotocol;
        }
        Error::Protocol(ProtocolError::HandshakeIncomplete) | Error::ConnectionClosed => {
            "it ended the connection".into()
        }
        Error::Protocol(ProtocolError::HttparseError(_)) if !url.is_secure() => {
            "it does not speak HTTP (if it speaks TLS, its URL begins with wss://)".into()
        }
        Error::Protocol(ProtocolError::HttparseError(_)) => "it does not speak HTTP".into(),
        other => other.to_string(),
    };
    wrong(url, what)
}

fn wrong(url: &ServerUrl, what: String) -> DialError {
    DialError::WebSocket { address: authority(url.host(), url.port()), what }
}

/// What a server tells with its answer, as far as it does.
#[derive(Clone, Debug, Default)]
pub struct Greeting {
    /// The server's id: the same behind every URL of the server.
    pub server_id: Option<String>,
    /// The server's clock, as an HTTP date.
    pub date: Option<String>,
    /// The server's name and version.
    pub software: Option<String>,
    /// The largest message that the server takes, in bytes.
    pub max_frame: Option<u64>,
    /// The subprotocol that the server took.
    pub subprotocol: Option<String>,
}

impl Greeting {
    /// Reads the answer.
    pub fn read(response: &Response) -> Self {
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            if value.len() <= MAX_HEADER { Some(value.to_owned()) } else { None }
        };
        Self {
            server_id: header("x-conclave-server-id"),
            date: header("date"),
            software: header("server"),
            max_frame: header("x-conclave-max-frame").and_then(|most| most.parse().ok()),
            subprotocol: header("sec-websocket-protocol"),
        }
    }
}
