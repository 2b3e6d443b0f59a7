//! A client that costs as little as one can: it must not be what is measured. It masks with zeros, encodes what
//! it sends once, and looks only at the heads of what it receives.

use std::io;
use std::time::Duration;

use conclave_core::key::SecretKey;
use conclave_core::name::{ChannelName, Handle};
use conclave_core::protocol::{Command, Reply};
use conclave_core::record::ChannelId;
use conclave_core::stream::{Start, StreamCommand, StreamRef, StreamReply};
use conclave_core::wire::client::{Client, Credentials, Event, KeyUse, RequestNumber, Session};
use conclave_core::wire::v1::{Frame, VERSION};
use conclave_core::wire::websocket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::wire::Wire;
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
    wire: Wire,
    /// Of version 2, and the stream that it is subscribed to.
    client: Option<(Client, ChannelId)>,
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

    /// Connects a user that is registered, in any version.
    pub(super) async fn connect_in(
        wire: Wire,
        address: &str,
        user: &User,
        session: &str,
    ) -> Result<Self, Failure> {
        if wire == Wire::V1 {
            return Self::connect(address, user, session, false).await;
        }
        timeout(PATIENCE, Self::dial_v2(wire, address, user, session))
            .await
            .map_err(|_| unreachable_server(address, "it does not answer"))?
    }

    async fn dial_v2(wire: Wire, address: &str, user: &User, session: &str) -> Result<Self, Failure> {
        let failed = |why: &dyn std::fmt::Display| unreachable_server(address, why);
        let (Some(encoding), Some(subprotocol)) = (wire.encoding(), wire.subprotocol()) else {
            return Err(failed(&"version 1 has no subprotocol"));
        };
        let stream = TcpStream::connect(address).await.map_err(|why| failed(&why))?;
        let _ = stream.set_nodelay(true);
        let mut request = format!("ws://{address}/").into_client_request().map_err(|why| failed(&why))?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(subprotocol));
        let (socket, _) =
            tokio_tungstenite::client_async(request, stream).await.map_err(|why| failed(&why))?;
        let handle = Handle::new(session).map_err(|why| failed(&why))?;
        let credentials = Credentials { key: user.key.clone(), handle, claim: None };
        let mut nonce = [0; 32];
        let _ = getrandom::fill(&mut nonce);
        let session = Session { nonce, pinned: None, key: KeyUse::Shared, keep: false };
        let mut out = Vec::new();
        let mut client =
            Client::start_v2(encoding, credentials, session, |frame| wire.append(&mut out, &frame));
        let mut peer =
            Self { wire, client: None, stream: socket.into_inner(), buffer: Vec::new(), start: 0, end: 0 };
        loop {
            peer.stream.write_all(&out).await.map_err(lost)?;
            out.clear();
            let message = peer.message().await?;
            match client.on_message(message, |frame| wire.append(&mut out, &frame)) {
                None => {}
                Some(Event::Established(_)) => break,
                Some(Event::HandshakeFailed(why)) => return Err(failed(&why)),
                Some(_) => return Err(failed(&"it breaks off the handshake")),
            }
        }
        peer.client = Some((client, ChannelId(0)));
        Ok(peer)
    }

    pub(super) fn wire(&self) -> Wire {
        self.wire
    }

    /// By version 2, what encodes its requests, and the stream that it is subscribed to.
    pub(super) fn session(&self) -> Option<(Client, ChannelId)> {
        self.client.clone()
    }

    /// Subscribes to a channel.
    pub(super) async fn join(&mut self, channel: &str) -> Result<(), Failure> {
        let Some((client, stream)) = &mut self.client else {
            return self.request(&Frame::Join { channel, token: None }, |_| ()).await;
        };
        let name = ChannelName::new(channel).map_err(|why| Failure::new(why.to_string(), ""))?;
        let (stream_name, from) = (StreamRef::Channel(name), Start::Latest);
        let command = Command::Stream(StreamCommand::Subscribe { stream: stream_name, from, invite: None });
        let mut out = Vec::new();
        client.request(RequestNumber(1), &command, |frame| self.wire.append(&mut out, &frame));
        self.stream.write_all(&out).await.map_err(lost)?;
        loop {
            while let Some((from, to)) = next(&self.buffer, &mut self.start, self.end) {
                match client.on_message(&self.buffer[from..to], |_| {}) {
                    Some(Event::Reply {
                        reply: Reply::Stream(StreamReply::Subscribed { stream: found, .. }),
                        ..
                    }) => {
                        *stream = found;
                        return Ok(());
                    }
                    Some(Event::Reply { reply: Reply::Refused(why), .. }) => {
                        return Err(Failure::new(
                            format!("the server refuses: {why}"),
                            "start it with --limit all=off",
                        ));
                    }
                    _ => {}
                }
            }
            fill(&mut self.stream, &mut self.buffer, &mut self.start, &mut self.end).await.map_err(lost)?;
        }
    }

    async fn dial(address: &str, user: &User, session: &str, register: bool) -> Result<Self, Failure> {
        let failed = |why: &dyn std::fmt::Display| unreachable_server(address, why);
        let stream = TcpStream::connect(address).await.map_err(|why| failed(&why))?;
        let _ = stream.set_nodelay(true);
        let url = format!("ws://{address}/");
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.map_err(|why| failed(&why))?;
        // A v1 server says nothing before it is greeted: nothing is left in the library's buffer.
        let mut peer = Self {
            wire: Wire::V1,
            client: None,
            stream: socket.into_inner(),
            buffer: Vec::new(),
            start: 0,
            end: 0,
        };
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
        next(&self.buffer, &mut self.start, self.end)
    }

    /// Hands every whole message that was read to `each`.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&[u8])) {
        while let Some((from, to)) = self.next() {
            each(&self.buffer[from..to]);
        }
    }

    /// Reads what there is, waiting for the first byte.
    pub(super) async fn fill(&mut self) -> io::Result<()> {
        fill(&mut self.stream, &mut self.buffer, &mut self.start, &mut self.end).await
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }
}

/// The place of the next whole message's content.
fn next(buffer: &[u8], start: &mut usize, end: usize) -> Option<(usize, usize)> {
    let unread = &buffer[*start..end];
    let content = websocket::content(unread).filter(|content| content.end <= unread.len())?;
    let found = (*start + content.start, *start + content.end);
    *start = found.1;
    Some(found)
}

async fn fill(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    start: &mut usize,
    end: &mut usize,
) -> io::Result<()> {
    if *start > 0 {
        buffer.copy_within(*start..*end, 0);
        *end -= *start;
        *start = 0;
    }
    if *end == buffer.len() {
        let grown = (buffer.len() * 2).clamp(1 << 12, 32 << 20);
        buffer.resize(grown, 0);
    }
    let read = stream.read(&mut buffer[*end..]).await?;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    *end += read;
    // A busy connection reads in large pieces.
    if *end == buffer.len() && buffer.len() < 256 << 10 {
        let grown = buffer.len() * 4;
        buffer.resize(grown, 0);
    }
    Ok(())
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
