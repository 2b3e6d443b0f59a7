//! A session for a few requests: opened, asked, closed, each within a deadline. What must survive drops is a
//! link instead.

use std::time::Duration;

use bytes::Bytes;
use conclave_core::handshake::{Claim, Established, HandshakeError};
use conclave_core::key::SecretKey;
use conclave_core::name::{ChannelName, Handle, SessionPath};
use conclave_core::payload::Payload;
use conclave_core::protocol::{Command, Refusal, Reply};
use conclave_core::wire::v1::client::{ServerError, ServerEvent, encode_command, server_event};
use conclave_core::wire::v1::handshake::{ClientHandshake, ClientStep};
use conclave_core::wire::v1::{Frame, VERSION};
use conclave_shell::client::{DialError, Greeting};
use conclave_store::config::ServerUrl;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::dial::{DialOptions, Dialed, dial};
use super::stream::Stream;

/// Who opens a session.
#[derive(Clone, Debug)]
pub struct Identity {
    /// This machine's key.
    pub key: SecretKey,
    /// The session's handle.
    pub handle: Handle,
    /// Set to claim a new user's name.
    pub claim: Option<Claim>,
}

/// Why a session or a request failed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The server was not reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The server did not let this machine in.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The server refused the request. The text is the server's: show it with care.
    #[error("{0}")]
    Refused(Refusal),
    /// No answer in time.
    #[error("the server did not answer within {} s{}", .after.as_secs_f32(), happened(*.sent))]
    Timeout {
        /// How long was waited.
        after: Duration,
        /// Whether a request was under way, and may have taken effect.
        sent: bool,
    },
    /// The connection ended. `why` is the server's text, if it gave one.
    #[error("the connection ended{}{}", .why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default(), happened(*.sent))]
    Ended {
        /// The server's reason.
        why: Option<String>,
        /// Whether a request was under way, and may have taken effect.
        sent: bool,
    },
    /// The server answered something else than what was asked.
    #[error("the server answered with {0}, which is not what was asked for")]
    Unexpected(&'static str),
}

fn happened(sent: bool) -> &'static str {
    if sent { "; the request may have been carried out" } else { "" }
}

/// What arrived without having been asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A post to a subscribed channel.
    Posted {
        /// The channel.
        channel: ChannelName,
        /// Who posted.
        from: SessionPath,
        /// What.
        payload: Payload,
    },
    /// A whisper to this session.
    Whispered {
        /// Who whispered.
        from: SessionPath,
        /// What.
        payload: Payload,
    },
}

/// An established session.
pub struct Session {
    socket: WebSocketStream<Stream>,
    timeout: Duration,
    established: Established,
    greeting: Greeting,
}

impl Session {
    /// Reaches the server and proves who this is. `options.timeout` is for all of it, and later for each request.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn open(
        url: &ServerUrl,
        identity: Identity,
        options: &DialOptions,
    ) -> Result<Self, SessionError> {
        let deadline = Instant::now() + options.timeout;
        let dialed = dial(url, options).await?;
        Self::establish(dialed, identity, options.timeout, deadline).await
    }

    /// Proves who this is to a server that was reached.
    ///
    /// # Errors
    /// [`SessionError`]; no later than `deadline`.
    pub async fn establish(
        dialed: Dialed,
        identity: Identity,
        timeout: Duration,
        deadline: Instant,
    ) -> Result<Self, SessionError> {
        let Dialed { mut socket, greeting, .. } = dialed;
        let established = timeout_at(deadline, shake_hands(&mut socket, identity))
            .await
            .unwrap_or(Err(SessionError::Timeout { after: timeout, sent: false }))?;
        Ok(Self { socket, timeout, established, greeting })
    }

    /// Who this session is on the server.
    pub fn path(&self) -> &SessionPath {
        &self.established.path
    }

    /// Whether the user administrates the server.
    pub fn is_admin(&self) -> bool {
        self.established.admin
    }

    /// What the server told of itself.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Sends a command and waits for its reply. What arrives meanwhile is dropped.
    ///
    /// # Errors
    /// [`SessionError`]; after anything but `Refused` the session is not to be used any more.
    pub async fn request(&mut self, command: &Command) -> Result<Reply, SessionError> {
        let mut frame = Vec::new();
        encode_command(command, &mut frame);
        let deadline = Instant::now() + self.timeout;
        let reply = timeout_at(deadline, async {
            self.socket.send(Message::Binary(Bytes::from(frame))).await.map_err(|_| ended(None, true))?;
            loop {
                match self.event(true).await? {
                    ServerEvent::Reply(reply) => return Ok(reply),
                    ServerEvent::Error(ServerError::Ended { text, .. }) => {
                        return Err(ended(Some(text), true));
                    }
                    ServerEvent::Error(ServerError::Refused(refusal)) => {
                        return Err(SessionError::Refused(refusal));
                    }
                    ServerEvent::Error(ServerError::Version { theirs }) => {
                        return Err(HandshakeError::VersionMismatch { ours: VERSION, theirs }.into());
                    }
                    ServerEvent::Delivered { .. }
                    | ServerEvent::Whispered { .. }
                    | ServerEvent::Role { .. } => {}
                }
            }
        });
        reply.await.unwrap_or(Err(SessionError::Timeout { after: self.timeout, sent: true }))
    }

    /// Waits for what arrives unasked, no longer than `patience`. `None` when that is over.
    ///
    /// # Errors
    /// [`SessionError::Ended`] with the server's last word.
    pub async fn arrival(&mut self, patience: Duration) -> Result<Option<Arrival>, SessionError> {
        let waited = timeout_at(Instant::now() + patience, async {
            loop {
                match self.event(false).await? {
                    ServerEvent::Delivered { channel, from, payload } => {
                        return Ok(Arrival::Posted { channel, from, payload });
                    }
                    ServerEvent::Whispered { from, payload, .. } => {
                        return Ok(Arrival::Whispered { from, payload });
                    }
                    ServerEvent::Error(ServerError::Refused(refusal)) => {
                        return Err(ended(Some(refusal.to_string()), false));
                    }
                    ServerEvent::Error(ServerError::Ended { text, .. }) => {
                        return Err(ended(Some(text), false));
                    }
                    _ => {}
                }
            }
        });
        waited.await.map_or(Ok(None), |arrived| arrived.map(Some))
    }

    /// Says goodbye. Whoever does not care may drop the session instead.
    pub async fn close(mut self) {
        let _ = timeout_at(Instant::now() + Duration::from_millis(500), self.socket.close(None)).await;
    }

    async fn event(&mut self, sent: bool) -> Result<ServerEvent, SessionError> {
        let bytes = next(&mut self.socket).await.ok_or(ended(None, sent))?;
        let frame = Frame::decode(&bytes).map_err(|_| HandshakeError::Malformed)?;
        server_event(frame).map_err(|unexpected| SessionError::Unexpected(unexpected.0))
    }
}

fn ended(why: Option<String>, sent: bool) -> SessionError {
    SessionError::Ended { why, sent }
}

/// The next binary message; `None` at the end.
async fn next(socket: &mut WebSocketStream<Stream>) -> Option<Bytes> {
    loop {
        match socket.next().await?.ok()? {
            Message::Binary(bytes) => return Some(bytes),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

async fn shake_hands(
    socket: &mut WebSocketStream<Stream>,
    identity: Identity,
) -> Result<Established, SessionError> {
    let Identity { key, handle, claim } = identity;
    let (mut handshake, hello) = ClientHandshake::new(key, &handle, claim);
    let mut send = vec![hello];
    loop {
        for frame in send {
            socket.send(Message::Binary(Bytes::from(frame))).await.map_err(|_| ended(None, false))?;
        }
        let bytes = next(socket).await.ok_or(ended(None, false))?;
        match handshake.on_frame(&bytes) {
            ClientStep::Continue { handshake: next, send: frames } => (handshake, send) = (next, frames),
            ClientStep::Done(established) => return Ok(established),
            ClientStep::Failed(error) => return Err(error.into()),
        }
    }
}
