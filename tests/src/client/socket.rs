//! A WebSocket over a blocking socket, and what lies below it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use conclave_core::wire::MAX_FRAME;
use conclave_core::wire::websocket;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::header::HOST;
use tungstenite::http::{HeaderMap, HeaderName, HeaderValue};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, WebSocket};

use super::PATIENCE;

/// Where and how to connect.
#[derive(Clone, Debug)]
pub struct Dial {
    address: SocketAddr,
    trusted: Option<CertificateDer<'static>>,
    headers: Vec<(&'static str, String)>,
}

impl Dial {
    /// In plain text.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, trusted: None, headers: Vec::new() }
    }

    /// Through TLS, as `localhost`, trusting this certificate only.
    pub fn tls(address: SocketAddr, trusted: CertificateDer<'static>) -> Self {
        Self { address, trusted: Some(trusted), headers: Vec::new() }
    }

    /// With a header more in the request.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Why a connection did not become a WebSocket.
#[derive(Debug)]
pub enum Refused {
    /// The server answered with this HTTP status.
    Status(u16),
    /// The connection ended.
    Ended(String),
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buf),
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A connected TCP stream that never waits for longer than [`PATIENCE`].
pub(crate) fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// An open WebSocket.
pub struct Socket {
    ws: WebSocket<Stream>,
    headers: HeaderMap,
}

impl Socket {
    /// Opens a WebSocket.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn dial(dial: &Dial) -> Result<Self, Refused> {
        let ended = |why: &dyn std::fmt::Display| Refused::Ended(why.to_string());
        let stream = tcp(dial.address).map_err(|why| ended(&why))?;
        let stream = match &dial.trusted {
            None => Stream::Plain(stream),
            Some(trusted) => {
                let mut roots = RootCertStore::empty();
                roots.add(trusted.clone()).map_err(|why| ended(&why))?;
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let config = ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .map_err(|why| ended(&why))?
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                let name = ServerName::try_from("localhost").map_err(|why| ended(&why))?;
                let client = ClientConnection::new(Arc::new(config), name).map_err(|why| ended(&why))?;
                Stream::Tls(Box::new(StreamOwned::new(client, stream)))
            }
        };
        let mut request =
            format!("ws://{}/", dial.address).into_client_request().map_err(|why| ended(&why))?;
        for (name, value) in &dial.headers {
            let value = HeaderValue::from_str(value).map_err(|why| ended(&why))?;
            let name = HeaderName::from_static(name);
            // There is one already.
            if name == HOST {
                request.headers_mut().insert(name, value);
            } else {
                request.headers_mut().append(name, value);
            }
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(8 << 10)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        match tungstenite::client::client_with_config(request, stream, Some(config)) {
            Ok((ws, response)) => Ok(Self { ws, headers: response.headers().clone() }),
            Err(HandshakeError::Failure(Error::Http(response))) => {
                Err(Refused::Status(response.status().as_u16()))
            }
            Err(why) => Err(ended(&why)),
        }
    }

    /// A header of the server's answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Sends a binary message. That the connection has ended shows when its last word is read.
    pub fn send(&mut self, bytes: Vec<u8>) {
        let _ = self.ws.send(Message::Binary(bytes.into()));
    }

    /// Sends any message.
    pub fn send_message(&mut self, message: Message) {
        let _ = self.ws.send(message);
    }

    /// Sends bytes below the WebSocket.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.ws.get_mut().write_all(bytes).and_then(|()| self.ws.get_mut().flush());
    }

    /// Sends bytes below the WebSocket until the peer takes no more within `patience`; says how many it took.
    pub fn flood(&mut self, bytes: &[u8], patience: std::time::Duration, most: usize) -> usize {
        if let Stream::Plain(stream) = self.ws.get_mut() {
            stream.set_write_timeout(Some(patience)).unwrap();
        }
        let (mut taken, mut at) = (0, 0);
        while taken < most {
            match self.ws.get_mut().write(&bytes[at..]) {
                Ok(count) => {
                    taken += count;
                    at = (at + count) % bytes.len();
                }
                Err(_) => break,
            }
        }
        taken
    }

    /// The next binary message; `None` at the end, however it came.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.ws.read() {
                Ok(Message::Binary(bytes)) => return Some(bytes.into()),
                Ok(_) => {}
                Err(Error::Io(why))
                    if matches!(why.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
                {
                    panic!("nothing came for {PATIENCE:?}");
                }
                Err(_) => return None,
            }
        }
    }

    /// The next message of any kind; `None` at the end.
    pub fn receive_message(&mut self) -> Option<Message> {
        self.ws.read().ok()
    }
}

/// A client's WebSocket message, masked with zeros: the content stays as it is.
pub fn masked(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    websocket::append_masked(&mut out, |out| out.extend_from_slice(content));
    out
}
