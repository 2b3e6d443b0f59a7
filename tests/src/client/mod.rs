//! A client for tests: version 1 over blocking sockets, frame by frame, and nothing of any shell.

use std::collections::VecDeque;
use std::net::SocketAddr;

use conclave_core::key::SecretKey;
use conclave_core::wire::v1::{AdminOp, Frame, HistoryMessage, Path, Payload, ProtocolError, Visibility};

mod door;
mod socket;
pub mod v2;

pub use door::Door;
pub use socket::{Dial, Refused, Socket, masked};

/// How long anything may take before a test is taken to hang: far longer than it ever does.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Where a client's path is ignored.
pub const NOBODY: Path<'static> = Path { user: "", machine: "", session: "" };

/// The key of whoever has this name, the same in every test.
pub fn key(name: &str) -> SecretKey {
    let mut seed = [0x5a_u8; 32];
    for (nth, byte) in name.bytes().enumerate() {
        seed[nth % 32] = seed[nth % 32].wrapping_mul(31).wrapping_add(byte);
    }
    SecretKey::from_seed(&seed)
}

/// A frame with its content, for messages of failed tests.
pub fn show(frame: &Frame<'_>) -> String {
    serde_json::to_string(frame).unwrap_or_default()
}

/// A session, or a connection on its way to be one.
pub struct Peer {
    socket: Socket,
    aside: VecDeque<Frame<'static>>,
}

impl Peer {
    /// A connection that has said nothing yet.
    pub fn dial(address: SocketAddr) -> Self {
        Self::new(Socket::dial(&Dial::plain(address)).unwrap())
    }

    /// The same where nobody may listen any more.
    pub fn try_dial(address: SocketAddr) -> Option<Self> {
        Socket::dial(&Dial::plain(address)).ok().map(Self::new)
    }

    /// A connection over a socket that stands.
    pub fn new(socket: Socket) -> Self {
        Self { socket, aside: VecDeque::new() }
    }

    /// Registers the user `user` with the machine `m` and its name's key, as session `s`.
    pub fn register(address: SocketAddr, user: &str) -> Self {
        let mut peer = Self::dial(address);
        peer.hello("s");
        let established = peer.prove(user, "m", &key(user));
        assert!(matches!(established, Ok(Frame::Established { .. })), "{established:?}");
        peer
    }

    /// Opens another session of the machine that has `user`'s key.
    pub fn connect(address: SocketAddr, user: &str, session: &str) -> Self {
        Self::connect_with(address, &key(user), session).unwrap()
    }

    /// Opens a session with a key.
    ///
    /// # Errors
    /// The server's last word.
    pub fn connect_with(
        address: SocketAddr,
        key: &SecretKey,
        session: &str,
    ) -> Result<Self, ProtocolError<'static>> {
        let mut peer = Self::dial(address);
        peer.hello(session);
        peer.authenticate(key).map(|_| peer)
    }

    /// Says hello and keeps the challenge.
    pub fn hello(&mut self, session: &str) {
        self.send(&Frame::Hello { protocol_version: 1, session });
    }

    /// Registers, then proves the key.
    ///
    /// # Errors
    /// The server's last word.
    pub fn prove(
        &mut self,
        user: &str,
        machine: &str,
        key: &SecretKey,
    ) -> Result<Frame<'static>, ProtocolError<'static>> {
        let public = key.public();
        self.send(&Frame::Register { username: user, machine, pubkey: public.as_bytes() });
        self.authenticate(key)
    }

    /// Answers the challenge; gives back `Established`, after checking that `ServerInfo` follows.
    ///
    /// # Errors
    /// The server's last word.
    pub fn authenticate(&mut self, key: &SecretKey) -> Result<Frame<'static>, ProtocolError<'static>> {
        self.try_authenticate(key).unwrap()
    }

    /// The same with a server that may be killed meanwhile; `None` then.
    pub fn try_authenticate(
        &mut self,
        key: &SecretKey,
    ) -> Option<Result<Frame<'static>, ProtocolError<'static>>> {
        let nonce = match self.next()? {
            Frame::Challenge { nonce } => nonce,
            Frame::Error(error) => return Some(Err(error)),
            other => panic!("no challenge: {}", show(&other)),
        };
        assert_eq!(nonce.len(), 32);
        let signature = key.sign(nonce);
        self.send(&Frame::Auth { pubkey: key.public().as_bytes(), signature: &signature });
        let answer = match self.next()? {
            established @ Frame::Established { .. } => {
                let info = self.next()?;
                assert!(matches!(info, Frame::ServerInfo { .. }), "{}", show(&info));
                Ok(established)
            }
            Frame::Error(error) => Err(error),
            other => panic!("neither in nor out: {}", show(&other)),
        };
        Some(answer)
    }

    /// The socket, for what is below frames.
    pub fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &Frame<'_>) {
        self.socket.send(frame.to_bytes());
    }

    /// The next frame, `None` at the end of the connection.
    #[allow(clippy::should_implement_trait, reason = "a peer is asked for frames in other ways, too")]
    pub fn next(&mut self) -> Option<Frame<'static>> {
        let bytes = self.socket.receive()?;
        // Tests end soon: what they were told may stay, and saves them every lifetime.
        let bytes: &'static [u8] = Box::leak(bytes.into_boxed_slice());
        Some(Frame::decode(bytes).unwrap())
    }

    /// Asks, and waits for the reply; what arrives unasked meanwhile is set aside.
    pub fn ask(&mut self, frame: &Frame<'_>) -> Frame<'static> {
        self.send(frame);
        self.reply()
    }

    /// The next reply.
    pub fn reply(&mut self) -> Frame<'static> {
        loop {
            match self.next() {
                Some(arrived @ (Frame::ChannelMsg { .. } | Frame::Whisper { .. })) => {
                    self.aside.push_back(arrived);
                }
                Some(reply) => return reply,
                None => panic!("the connection ended before the reply"),
            }
        }
    }

    /// Asks for what is refused; gives back why.
    pub fn refused(&mut self, frame: &Frame<'_>) -> ProtocolError<'static> {
        match self.ask(frame) {
            Frame::Error(error) => error,
            other => panic!("{} was not refused: {}", show(frame), show(&other)),
        }
    }

    /// Asks for an administrative operation that is acknowledged; gives back the detail.
    pub fn admin(&mut self, op: AdminOp<'_>) -> &'static str {
        let frame = Frame::Admin(op);
        match self.ask(&frame) {
            Frame::Ack { detail: Some(detail) } => detail,
            other => panic!("{}: {}", show(&frame), show(&other)),
        }
    }

    /// Creates a channel and joins it.
    pub fn create(&mut self, channel: &str, visibility: Visibility) {
        assert_eq!(self.admin(AdminOp::CreateChannel { name: channel, visibility }), channel);
        self.join(channel);
    }

    /// Joins a channel.
    pub fn join(&mut self, channel: &str) {
        let reply = self.ask(&Frame::Join { channel, token: None });
        assert_eq!(reply, Frame::Joined { channel }, "{}", show(&reply));
    }

    /// Makes an invite.
    pub fn invite(&mut self, channel: &str, uses: Option<u32>, expires_in_secs: Option<u64>) -> &'static str {
        match self.ask(&Frame::Admin(AdminOp::InviteCreate { channel, uses, expires_in_secs })) {
            Frame::InviteToken { token } => token,
            other => panic!("{}", show(&other)),
        }
    }

    /// Posts a text that is acknowledged.
    pub fn post(&mut self, channel: &str, text: &str) {
        let reply = self.ask(&post(channel, text));
        assert_eq!(reply, Frame::Ack { detail: None }, "{}", show(&reply));
    }

    /// Waits for the next post or whisper: channel or empty, who, text.
    pub fn arrival(&mut self) -> (&'static str, String, &'static str) {
        let arrived = self.aside.pop_front().or_else(|| self.next());
        match arrived {
            Some(Frame::ChannelMsg { channel, from, payload: Payload::Plain(text) }) => {
                (channel, path(&from), text)
            }
            Some(Frame::Whisper { from, payload: Payload::Plain(text), .. }) => ("", path(&from), text),
            Some(other) => panic!("not an arrival: {}", show(&other)),
            None => panic!("the connection ended"),
        }
    }

    /// Waits for as many posts and gives their texts.
    pub fn texts(&mut self, count: usize) -> Vec<&'static str> {
        (0..count).map(|_| self.arrival().2).collect()
    }

    /// Checks that nothing has arrived: whatever was sent before comes before the answer to a ping.
    pub fn hears_nothing(&mut self) {
        let reply = self.ask(&Frame::Ping);
        assert_eq!(reply, Frame::Pong, "{}", show(&reply));
        let heard: Vec<String> = self.aside.iter().map(show).collect();
        assert!(heard.is_empty(), "{heard:?}");
    }

    /// Pages through all of a channel's history.
    pub fn history(&mut self, channel: &str) -> Vec<HistoryMessage<'static>> {
        let (mut all, mut since_ms) = (Vec::new(), i64::MIN);
        loop {
            match self.ask(&Frame::ReadSince { channel, since_ms }) {
                Frame::History { messages, .. } if messages.is_empty() => return all,
                Frame::History { messages, .. } => {
                    assert!(messages.len() <= 500);
                    since_ms = messages.last().map_or(since_ms, |last| last.ts_ms);
                    all.extend(messages);
                }
                other => panic!("{}", show(&other)),
            }
        }
    }

    /// The texts of a channel's history.
    pub fn history_texts(&mut self, channel: &str) -> Vec<&'static str> {
        self.history(channel).iter().map(|message| text(&message.payload)).collect()
    }

    /// The live sessions, of a channel or of all.
    pub fn who(&mut self, channel: Option<&str>) -> Vec<String> {
        match self.ask(&Frame::Who { channel }) {
            Frame::Presence { sessions, .. } => sessions.iter().map(path).collect(),
            other => panic!("{}", show(&other)),
        }
    }

    /// The channels that are listed, as name and membership.
    pub fn channels(&mut self) -> Vec<(&'static str, bool)> {
        match self.ask(&Frame::ListChannels) {
            Frame::ChannelList { channels } => channels.iter().map(|it| (it.name, it.member)).collect(),
            other => panic!("{}", show(&other)),
        }
    }

    /// A channel's members or banned users.
    pub fn users(&mut self, op: AdminOp<'_>) -> Vec<&'static str> {
        match self.ask(&Frame::Admin(op)) {
            Frame::UserList { users } => users,
            other => panic!("{}", show(&other)),
        }
    }

    /// Reads to the end of the connection; its last frame must be an error.
    pub fn last_word(&mut self) -> ProtocolError<'static> {
        let mut last = None;
        while let Some(frame) = self.next() {
            last = Some(frame);
        }
        match last {
            Some(Frame::Error(error)) => error,
            other => panic!("no last word: {:?}", other.as_ref().map(show)),
        }
    }

    /// Whether the session still answers.
    pub fn is_alive(&mut self) -> bool {
        self.ask(&Frame::Ping) == Frame::Pong
    }
}

/// The frame that posts a text.
pub fn post<'a>(channel: &'a str, text: &'a str) -> Frame<'a> {
    Frame::ChannelMsg { channel, from: NOBODY, payload: Payload::Plain(text) }
}

/// The frame that whispers a text.
pub fn whisper<'a>(target: Path<'a>, text: &'a str) -> Frame<'a> {
    Frame::Whisper { from: NOBODY, target, payload: Payload::Plain(text) }
}

/// A path as it is shown.
pub fn path(path: &Path<'_>) -> String {
    format!("{}/{}/{}", path.user, path.machine, path.session)
}

/// The text of a plain payload.
pub fn text<'a>(payload: &Payload<'a>) -> &'a str {
    match payload {
        Payload::Plain(text) => text,
        Payload::Encrypted(_) => panic!("not plain"),
    }
}

/// The text of an error, whatever its kind.
pub fn why<'a>(error: &ProtocolError<'a>) -> &'a str {
    match error {
        ProtocolError::VersionMismatch { .. } => "version",
        ProtocolError::MalformedFrame(why)
        | ProtocolError::Unauthorized(why)
        | ProtocolError::NotFound(why)
        | ProtocolError::Internal(why) => why,
    }
}
