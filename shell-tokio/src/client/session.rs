//! A session for a few requests: opened, used, closed, each within a deadline. What must survive drops is a
//! link instead.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use conclave_core::handshake::{Established, HandshakeError};
use conclave_core::key::PublicKey;
use conclave_core::link::Version;
use conclave_core::name::{ChannelName, SessionPath};
use conclave_core::payload::Payload;
use conclave_core::protocol::{Command, Refusal, Reply};
use conclave_core::stream::Notice;
use conclave_core::wire::client::{self, Client, Credentials, Event, RequestNumber};
use conclave_core::wire::v2::encoding::Encoding;
use conclave_shell::client::{DialError, Greeting, subprotocol};
use conclave_store::config::ServerUrl;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::dial::{DialOptions, Dialed, dial};
use super::stream::Stream;

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
    /// The server spoke version 2 before, and does not any more.
    #[error(
        "the server proved its key before and does not now: it speaks version 1 only, or somebody sits in between"
    )]
    Downgrade,
    /// The server broke the protocol, and how.
    #[error("the server broke the protocol: {0}")]
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
    connection: Connection,
    timeout: Duration,
    established: Established,
    greeting: Greeting,
    last_request: RequestNumber,
    /// What arrived while an answer was waited for.
    arrived: VecDeque<Arrival>,
}

/// Arrivals that are kept.
const MAX_ARRIVED: usize = 64;

/// A socket and the client that speaks through it.
struct Connection {
    socket: WebSocketStream<Stream>,
    client: Client,
}

impl Session {
    /// Reaches the server and opens a session. `options.timeout` is for all of it, and later for each request.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn open(
        url: &ServerUrl,
        credentials: Credentials,
        options: &DialOptions,
    ) -> Result<Self, SessionError> {
        let deadline = Instant::now() + options.timeout;
        let dialed = dial(url, options).await?;
        Self::establish(dialed, credentials, options.timeout, deadline).await
    }

    /// Opens a session of version 2, or of version 1 on a server that speaks no other. A server whose key is known has
    /// spoken version 2 before: it must go on doing so.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn open_newest(
        url: &ServerUrl,
        credentials: Credentials,
        terms: client::Session,
        options: &DialOptions,
    ) -> Result<Self, SessionError> {
        let deadline = Instant::now() + options.timeout;
        let asking = DialOptions { subprotocol: subprotocol(Version::V2), ..options.clone() };
        match dial(url, &asking).await {
            Ok(Dialed { socket, greeting, .. }) => {
                let (connection, established) =
                    timeout_at(deadline, Connection::open(socket, credentials, Some(terms)))
                        .await
                        .unwrap_or(Err(SessionError::Timeout { after: options.timeout, sent: false }))?;
                let (timeout, last_request) = (options.timeout, RequestNumber::default());
                let arrived = VecDeque::new();
                Ok(Self { connection, timeout, established, greeting, last_request, arrived })
            }
            Err(DialError::NoSubprotocol) if terms.pinned.is_some() => Err(SessionError::Downgrade),
            Err(DialError::NoSubprotocol) => Self::open(url, credentials, options).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a session on a server that was reached.
    ///
    /// # Errors
    /// [`SessionError`]; no later than `deadline`.
    pub async fn establish(
        dialed: Dialed,
        credentials: Credentials,
        timeout: Duration,
        deadline: Instant,
    ) -> Result<Self, SessionError> {
        let Dialed { socket, greeting, .. } = dialed;
        let (connection, established) = timeout_at(deadline, Connection::open(socket, credentials, None))
            .await
            .unwrap_or(Err(SessionError::Timeout { after: timeout, sent: false }))?;
        let (last_request, arrived) = (RequestNumber::default(), VecDeque::new());
        Ok(Self { connection, timeout, established, greeting, last_request, arrived })
    }

    /// Who this session is on the server.
    pub fn path(&self) -> &SessionPath {
        &self.established.path
    }

    /// Whether the user administrates the server.
    pub fn is_admin(&self) -> bool {
        self.established.admin
    }

    /// What the server said about itself in the WebSocket handshake.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Sends a command and waits for its reply. Whispers that arrive meanwhile are kept for [`Session::arrival`], up to
    /// 64 of them; everything else is dropped.
    ///
    /// # Errors
    /// [`SessionError`]; after anything but `Refused` the session is not to be used any more.
    pub async fn request(&mut self, command: &Command) -> Result<Reply, SessionError> {
        let deadline = Instant::now() + self.timeout;
        self.last_request.0 += 1;
        let number = self.last_request;
        let reply = timeout_at(deadline, async {
            self.connection.request(number, command).await?;
            loop {
                match self.connection.event(true).await? {
                    Event::Reply { request, reply: Reply::Refused(refusal) } if request == number => {
                        return Err(SessionError::Refused(refusal));
                    }
                    Event::Reply { request, reply } if request == number => return Ok(reply),
                    Event::Whispered { from, payload } if self.arrived.len() < MAX_ARRIVED => {
                        self.arrived.push_back(Arrival::Whispered { from, payload });
                    }
                    _ => {}
                }
            }
        });
        reply.await.unwrap_or(Err(SessionError::Timeout { after: self.timeout, sent: true }))
    }

    /// Waits for the next notice of version 2, no longer than `patience`. `None` when that is over.
    ///
    /// # Errors
    /// [`SessionError::Ended`] with the server's last word.
    pub async fn notice(&mut self, patience: Duration) -> Result<Option<Notice>, SessionError> {
        let waited = timeout_at(Instant::now() + patience, async {
            loop {
                if let Event::Notice(notice) = self.connection.event(false).await? {
                    return Ok(notice);
                }
            }
        });
        waited.await.map_or(Ok(None), |arrived| arrived.map(Some))
    }

    /// The server's key, which version 2 proves; `None` on a session of version 1.
    pub fn server_key(&self) -> Option<PublicKey> {
        self.established.server_key
    }

    /// Waits for what arrives unasked, no longer than `patience`. `None` when that is over.
    ///
    /// # Errors
    /// [`SessionError::Ended`] with the server's last word.
    pub async fn arrival(&mut self, patience: Duration) -> Result<Option<Arrival>, SessionError> {
        if let Some(arrived) = self.arrived.pop_front() {
            return Ok(Some(arrived));
        }
        let waited = timeout_at(Instant::now() + patience, async {
            loop {
                match self.connection.event(false).await? {
                    Event::Delivered { channel, from, payload } => {
                        return Ok(Arrival::Posted { channel, from, payload });
                    }
                    Event::Whispered { from, payload } => {
                        return Ok(Arrival::Whispered { from, payload });
                    }
                    _ => {}
                }
            }
        });
        waited.await.map_or(Ok(None), |arrived| arrived.map(Some))
    }

    /// Closes the WebSocket. Dropping the session instead is fine, too.
    pub async fn close(mut self) {
        let closed = self.connection.socket.close(None);
        let _ = timeout_at(Instant::now() + Duration::from_millis(500), closed).await;
    }
}

impl Connection {
    async fn open(
        mut socket: WebSocketStream<Stream>,
        credentials: Credentials,
        terms: Option<client::Session>,
    ) -> Result<(Self, Established), SessionError> {
        let mut unsent = Vec::new();
        let mut client = match terms {
            None => Client::start(credentials, |message| unsent.push(message)),
            Some(terms) => {
                Client::start_v2(Encoding::Protobuf, credentials, terms, |message| unsent.push(message))
            }
        };
        loop {
            send(&mut socket, unsent).await.map_err(|()| ended(None, false))?;
            let bytes = receive(&mut socket).await.ok_or(ended(None, false))?;
            unsent = Vec::new();
            match client.on_message(&bytes, |message| unsent.push(message)) {
                None => {}
                Some(Event::Established(established)) => return Ok((Self { socket, client }, established)),
                Some(event) => return Err(failure(event, false)),
            }
        }
    }

    async fn request(&mut self, number: RequestNumber, command: &Command) -> Result<(), SessionError> {
        let mut unsent = Vec::new();
        let answer = self.client.request(number, command, |message| unsent.push(message));
        if let Some(Event::Reply { reply: Reply::Refused(refusal), .. }) = answer {
            return Err(SessionError::Refused(refusal));
        }
        send(&mut self.socket, unsent).await.map_err(|()| ended(None, true))
    }

    /// The next event of a session that goes on; `sent` says whether a request is under way.
    async fn event(&mut self, sent: bool) -> Result<Event, SessionError> {
        loop {
            let bytes = receive(&mut self.socket).await.ok_or(ended(None, sent))?;
            let mut unsent = Vec::new();
            let event = self.client.on_message(&bytes, |message| unsent.push(message));
            send(&mut self.socket, unsent).await.map_err(|()| ended(None, sent))?;
            match event {
                None => {}
                Some(
                    event @ (Event::Reply { .. }
                    | Event::Delivered { .. }
                    | Event::Whispered { .. }
                    | Event::Notice(_)
                    | Event::Role { .. }),
                ) => return Ok(event),
                Some(event) => return Err(failure(event, sent)),
            }
        }
    }
}

/// What an event that ends the connection, or has no place in it, means to the caller.
fn failure(event: Event, sent: bool) -> SessionError {
    match event {
        Event::HandshakeFailed(error) => error.into(),
        Event::Ended { text, .. } => ended(Some(text), sent),
        Event::Violation(what) => SessionError::Unexpected(what),
        _ => SessionError::Unexpected("a message out of place"),
    }
}

fn ended(why: Option<String>, sent: bool) -> SessionError {
    SessionError::Ended { why, sent }
}

async fn send(socket: &mut WebSocketStream<Stream>, messages: Vec<Vec<u8>>) -> Result<(), ()> {
    for message in messages {
        socket.send(Message::Binary(Bytes::from(message))).await.map_err(|_| ())?;
    }
    Ok(())
}

/// The next binary message; `None` at the end.
async fn receive(socket: &mut WebSocketStream<Stream>) -> Option<Bytes> {
    loop {
        match socket.next().await?.ok()? {
            Message::Binary(bytes) => return Some(bytes),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}
