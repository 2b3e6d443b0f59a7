//! A client that costs as little as one can: it must not be what is measured. It masks with zeros, encodes what
//! it sends once, and looks only at the heads of what it receives.

use std::io;
use std::time::Duration;

use conclave_core::key::SecretKey;
use conclave_core::wire::v1::{Frame, VERSION};
use conclave_core::wire::websocket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Failure;

/// The position of `ChannelMsg` and `Ack` among the frames.
pub(super) const CHANNEL_MSG: u8 = 9;
pub(super) const ACK: u8 = 16;
pub(super) const ERROR: u8 = 12;

/// How long any single answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// `host:port` of a `ws://` URL.
pub(super) fn address(url: &str) -> Result<String, Failure> {
    let wrong = || {
        Failure::usage(
            format!("--server {url}: only plain ws:// servers are measured"),
            "write it as ws://127.0.0.1:4390",
        )
    };
    let rest = url.strip_prefix("ws://").ok_or_else(wrong)?.trim_end_matches('/');
    if rest.is_empty() || rest.contains('/') {
        return Err(wrong());
    }
    Ok(if rest.contains(':') { rest.to_owned() } else { format!("{rest}:4390") })
}

/// A user of this measurement: its key and its name.
#[derive(Clone)]
pub(super) struct User {
    pub(super) name: String,
    key: SecretKey,
}

impl User {
    pub(super) fn new() -> Self {
        let mut generator = getrandom::rand_core::UnwrapErr(getrandom::SysRng);
        let key = SecretKey::generate(&mut generator);
        let name = format!("bench-{}", &key.public().to_string()[..12]);
        Self { name, key }
    }
}

/// One connection.
pub(super) struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Peer {
    /// Connects and authenticates, registering the user first if it is new.
    pub(super) async fn connect(
        address: &str,
        user: &User,
        session: &str,
        register: bool,
    ) -> Result<Self, Failure> {
        timeout(PATIENCE, Self::dial(address, user, session, register))
            .await
            .map_err(|_| unreachable_server(address, "it does not answer"))?
    }

    async fn dial(address: &str, user: &User, session: &str, register: bool) -> Result<Self, Failure> {
        let failed = |why: &dyn std::fmt::Display| unreachable_server(address, why);
        let stream = TcpStream::connect(address).await.map_err(|why| failed(&why))?;
        let _ = stream.set_nodelay(true);
        let url = format!("ws://{address}/");
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.map_err(|why| failed(&why))?;
        // A v1 server says nothing before it is greeted: nothing is left in the library's buffer.
        let mut peer = Self { stream: socket.into_inner(), buffer: Vec::new(), start: 0, end: 0 };
        peer.send(&Frame::Hello { protocol_version: VERSION, session }).await?;
        let nonce = match Frame::decode(peer.message().await?) {
            Ok(Frame::Challenge { nonce }) => nonce.to_vec(),
            _ => return Err(failed(&"it sends no challenge")),
        };
        let key = user.key.public();
        if register {
            let frame = Frame::Register { username: &user.name, machine: "bench", pubkey: key.as_bytes() };
            peer.send(&frame).await?;
        }
        let signature = user.key.sign(&nonce);
        peer.send(&Frame::Auth { pubkey: key.as_bytes(), signature: &signature }).await?;
        for _ in 0..2 {
            if let Ok(Frame::Error(error)) = Frame::decode(peer.message().await?) {
                return Err(Failure::new(
                    format!("the server refuses: {}", text(&error)),
                    "start it with --limit all=off",
                ));
            }
        }
        Ok(peer)
    }

    /// Sends a request and hands its reply to `read`.
    pub(super) async fn request<T>(
        &mut self,
        frame: &Frame<'_>,
        read: impl FnOnce(&Frame<'_>) -> T,
    ) -> Result<T, Failure> {
        self.send(frame).await?;
        loop {
            let bytes = timeout(PATIENCE, self.message())
                .await
                .map_err(|_| Failure::new("the server does not answer", ""))??;
            match Frame::decode(bytes) {
                Ok(Frame::ChannelMsg { .. } | Frame::Whisper { .. }) => {}
                Ok(Frame::Error(error)) => {
                    return Err(Failure::new(
                        format!("the server refuses: {}", text(&error)),
                        "start it with --limit all=off",
                    ));
                }
                Ok(frame) => return Ok(read(&frame)),
                Err(why) => return Err(Failure::new(format!("the server sends a {why}"), "")),
            }
        }
    }

    pub(super) async fn send(&mut self, frame: &Frame<'_>) -> Result<(), Failure> {
        let mut out = Vec::new();
        append(&mut out, frame);
        self.stream.write_all(&out).await.map_err(lost)
    }

    /// The next message's content.
    pub(super) async fn message(&mut self) -> Result<&[u8], Failure> {
        loop {
            if let Some((from, to)) = self.next() {
                return Ok(&self.buffer[from..to]);
            }
            self.fill().await.map_err(lost)?;
        }
    }

    /// The place of the next whole message's content in what was read.
    fn next(&mut self) -> Option<(usize, usize)> {
        let unread = &self.buffer[self.start..self.end];
        let content = websocket::content(unread).filter(|content| content.end <= unread.len())?;
        let found = (self.start + content.start, self.start + content.end);
        self.start = found.1;
        Some(found)
    }

    /// Hands every whole message that was read to `each`.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&[u8])) {
        while let Some((from, to)) = self.next() {
            each(&self.buffer[from..to]);
        }
    }

    /// Reads what there is, waiting for the first byte.
    pub(super) async fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            let grown = (self.buffer.len() * 2).clamp(1 << 12, 32 << 20);
            self.buffer.resize(grown, 0);
        }
        let read = self.stream.read(&mut self.buffer[self.end..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.end += read;
        // A busy connection reads in large pieces.
        if self.end == self.buffer.len() && self.buffer.len() < 256 << 10 {
            let grown = self.buffer.len() * 4;
            self.buffer.resize(grown, 0);
        }
        Ok(())
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }
}

/// Appends a frame as a client's WebSocket message.
pub(super) fn append(out: &mut Vec<u8>, frame: &Frame<'_>) {
    websocket::append_masked(out, |out| frame.encode(out));
}

fn text(error: &conclave_core::wire::v1::ProtocolError<'_>) -> String {
    use conclave_core::wire::v1::ProtocolError as E;
    match error {
        E::VersionMismatch { ours, .. } => format!("it speaks version {ours}"),
        E::MalformedFrame(text) | E::Unauthorized(text) | E::NotFound(text) | E::Internal(text) => {
            (*text).to_owned()
        }
    }
}

fn lost(why: io::Error) -> Failure {
    Failure::new(format!("the connection was lost: {why}"), "look at the server's log")
}

fn unreachable_server(address: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(
        format!("{address}: {why}"),
        "start a server there: conclave serve --ephemeral --limit all=off",
    )
}
