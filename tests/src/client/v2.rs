//! A client for tests: version 2 over blocking sockets, in either encoding, with the schema's own types.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use conclave_core::body;
use conclave_core::handshake::Claim;
use conclave_core::key::{PublicKey, SecretKey};
use conclave_core::name::{Handle, MachineName, UserName};
use conclave_core::record::ChannelId;
use conclave_core::stream::MessageId;
use conclave_core::wire::v2::encoding::Encoding;
use conclave_core::wire::v2::handshake::{ClientHandshake, Identity};
use conclave_core::wire::v2::schema::server_frame::Kind;
use conclave_core::wire::v2::schema::{self as pb, client_frame, reply, request, stream_name, subscribe};
use conclave_core::wire::v2::signature;
use tungstenite::Message;

use super::{Dial, Socket, key};

/// The two encodings, each with the subprotocol that chooses it.
pub const ENCODINGS: [(&str, Encoding); 2] =
    [("conclave.v2", Encoding::Protobuf), ("conclave.v2.json", Encoding::Json)];

/// An open session.
pub struct Session {
    socket: Socket,
    encoding: Encoding,
    key: SecretKey,
    server_key: PublicKey,
    welcome: pb::Welcome,
    next_id: u64,
    /// What came unasked while a reply was waited for.
    aside: VecDeque<Kind>,
}

impl Session {
    /// Registers `user` with the machine `m`, as the session `s`, whose positions are kept.
    pub fn register(address: SocketAddr, encoding: Encoding, user: &str) -> Self {
        let claim = Claim {
            user: UserName::new(user).unwrap(),
            machine: MachineName::new("m").unwrap(),
            invite: None,
        };
        Self::open(address, encoding, user, "s", Some(claim))
    }

    /// Opens another session of the machine that registered `user`.
    pub fn connect(address: SocketAddr, encoding: Encoding, user: &str, handle: &str) -> Self {
        Self::open(address, encoding, user, handle, None)
    }

    fn open(address: SocketAddr, encoding: Encoding, user: &str, handle: &str, claim: Option<Claim>) -> Self {
        let (subprotocol, _) = ENCODINGS.into_iter().find(|(_, it)| *it == encoding).unwrap();
        let dial = Dial::plain(address).header("sec-websocket-protocol", subprotocol);
        let mut socket = Socket::dial(&dial).unwrap();
        assert_eq!(socket.header("sec-websocket-protocol"), Some(subprotocol));
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).unwrap();
        let (mut handshake, hello) = ClientHandshake::new(encoding, "test", nonce);
        send(&mut socket, encoding, hello);
        let server = loop {
            let frame = receive(&mut socket, encoding).expect("the server proves its key");
            match handshake.on_frame(&frame).unwrap() {
                Ok(server) => break server,
                Err(waits) => handshake = waits,
            }
        };
        let server_key = *server.server_key();
        let key = key(user).at_server(&server_key);
        let handle = Handle::new(handle).unwrap();
        let identity = server.identify(Identity { key: key.public(), handle, claim, keep: true });
        let signature = key.sign(identity.to_sign());
        let (identified, frames) = identity.signed(signature);
        frames.into_iter().for_each(|frame| send(&mut socket, encoding, frame));
        let welcome = identified.on_frame(&receive(&mut socket, encoding).expect("a welcome")).unwrap();
        Self { socket, encoding, key, server_key, welcome, next_id: 0, aside: VecDeque::new() }
    }

    /// How the server welcomed the session.
    pub fn welcome(&self) -> &pb::Welcome {
        &self.welcome
    }

    /// The socket, for what is below frames.
    pub fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// The next frame, `None` at the end of the connection.
    fn receive(&mut self) -> Option<Kind> {
        let bytes = receive(&mut self.socket, self.encoding)?;
        Some(self.encoding.decode_server(&bytes).unwrap().kind.expect("a kind that is known"))
    }

    /// The next frame that answers nothing.
    #[track_caller]
    pub fn told(&mut self) -> Kind {
        self.aside.pop_front().or_else(|| self.receive()).expect("the connection lives")
    }

    /// Asks, and waits for the reply.
    #[track_caller]
    pub fn ask(&mut self, what: request::What) -> reply::What {
        self.next_id += 1;
        let id = self.next_id;
        let request = pb::Request { id, what: Some(what) };
        let frame = self.encoding.encode_client(client_frame::Kind::Request(request));
        send(&mut self.socket, self.encoding, frame);
        loop {
            match self.receive().expect("the connection lives until the reply") {
                Kind::Reply(reply) => {
                    assert_eq!(reply.id, id, "one request is open");
                    return reply.what.expect("a reply of a kind that is known");
                }
                other => self.aside.push_back(other),
            }
        }
    }

    /// Asks for what is done without a word.
    #[track_caller]
    pub fn done(&mut self, what: request::What) {
        let reply = self.ask(what);
        assert!(matches!(reply, reply::What::Done(_)), "{}", show(&reply));
    }

    /// Asks for what is refused; gives back why.
    #[track_caller]
    pub fn refused(&mut self, what: request::What) -> pb::Error {
        match self.ask(what) {
            reply::What::Error(error) => error,
            other => panic!("not refused: {}", show(&other)),
        }
    }

    /// Creates a public channel.
    pub fn create(&mut self, channel: &str) {
        let visibility = pb::Visibility::Public as i32;
        let create = pb::CreateChannel { name: channel.into(), visibility, sealed: None };
        self.done(request::What::CreateChannel(create));
    }

    /// Subscribes to a channel.
    #[track_caller]
    pub fn subscribe(&mut self, channel: &str, from: subscribe::From) -> pb::Subscribed {
        self.subscribe_to(named(channel), from)
    }

    /// Subscribes to a stream.
    #[track_caller]
    pub fn subscribe_to(&mut self, stream: Option<pb::StreamName>, from: subscribe::From) -> pb::Subscribed {
        let subscribe = pb::Subscribe { stream, from: Some(from), ..pb::Subscribe::default() };
        match self.ask(request::What::Subscribe(subscribe)) {
            reply::What::Subscribed(subscribed) => subscribed,
            other => panic!("not subscribed: {}", show(&other)),
        }
    }

    /// Posts a text under an id, signed; gives back where it is stored.
    #[track_caller]
    pub fn post(&mut self, stream: u64, id: u8, text: &str) -> pb::Stored {
        self.post_to(numbered(stream), stream, id, text)
    }

    /// Posts a text to a stream under another name than its number.
    #[track_caller]
    pub fn post_to(&mut self, name: Option<pb::StreamName>, stream: u64, id: u8, text: &str) -> pb::Stored {
        let post = self.to_post(name, stream, id, text);
        match self.ask(post) {
            reply::What::Stored(stored) => stored,
            other => panic!("not stored: {}", show(&other)),
        }
    }

    /// The request that posts a text, signed for the stream of this number.
    pub fn to_post(&self, name: Option<pb::StreamName>, stream: u64, id: u8, text: &str) -> request::What {
        let body = body::of_text(text);
        let (message_id, signature) = self.sign(stream, id, &body);
        request::What::Post(pb::Post {
            stream: name,
            message_id,
            body,
            signature,
            acknowledge: false,
            lifetime_ms: 0,
        })
    }

    /// A message's id and its signature, for the stream of this number.
    pub fn sign(&self, stream: u64, id: u8, body: &[u8]) -> (Bytes, Bytes) {
        let id = MessageId([id; 16]);
        let signed = signature::to_sign(&self.server_key, ChannelId(stream - 1), &id, body);
        (id.0.to_vec().into(), self.key.sign(&signed).to_vec().into())
    }

    /// Asks for a stream's number.
    #[track_caller]
    pub fn locate(&mut self, stream: Option<pb::StreamName>) -> pb::Located {
        match self.ask(request::What::Locate(pb::Locate { stream })) {
            reply::What::Located(located) => located,
            other => panic!("not located: {}", show(&other)),
        }
    }

    /// The keys of a user's machines, by the machines' numbers.
    pub fn keys(&mut self, user: &str) -> Vec<(u64, PublicKey)> {
        match self.ask(request::What::Keys(pb::Keys { user: user.into() })) {
            reply::What::Machines(list) => {
                list.machines.iter().map(|it| (it.id, PublicKey::new(&it.key).unwrap())).collect()
            }
            other => panic!("no keys: {}", show(&other)),
        }
    }

    /// Whether a delivery carries the signature of a machine whose key is among `keys`.
    pub fn verifies(&self, stream: u64, delivery: &pb::Delivery, keys: &[(u64, PublicKey)]) -> bool {
        let machine = delivery.from.as_ref().map_or(0, |from| from.machine_id);
        let Some((_, sender)) = keys.iter().find(|(id, _)| *id == machine) else { return false };
        let Ok(id) = <[u8; 16]>::try_from(&delivery.message_id[..]) else { return false };
        let stream = ChannelId(stream - 1);
        signature::verify(
            sender,
            &self.server_key,
            stream,
            &MessageId(id),
            &delivery.body,
            &delivery.signature,
        )
    }

    /// Everything up to the next `Live`: the messages, and the number that it names. Nothing may be missing.
    #[track_caller]
    pub fn until_live(&mut self) -> (Vec<pb::Delivery>, u64) {
        let mut messages = Vec::new();
        loop {
            match self.told() {
                Kind::Deliveries(more) => messages.extend(more.messages),
                Kind::Live(live) => return (messages, live.seq),
                Kind::Gap(gap) => panic!("{} to {} are missing", gap.from, gap.to),
                _ => {}
            }
        }
    }

    /// The next `count` messages of a subscription that is live.
    #[track_caller]
    pub fn live(&mut self, count: usize) -> Vec<pb::Delivery> {
        let mut messages = Vec::new();
        while messages.len() < count {
            match self.told() {
                Kind::Deliveries(more) => messages.extend(more.messages),
                Kind::Live(_) => panic!("it was live before"),
                Kind::Gap(gap) => panic!("{} to {} are missing", gap.from, gap.to),
                _ => {}
            }
        }
        assert_eq!(messages.len(), count);
        messages
    }

    /// Reads to the end of the connection; its last frame must be a goodbye.
    pub fn goodbye(&mut self) -> pb::Goodbye {
        let mut last = None;
        while let Some(kind) = self.receive() {
            last = Some(kind);
        }
        match last {
            Some(Kind::Goodbye(goodbye)) => goodbye,
            _ => panic!("the last frame is no goodbye"),
        }
    }
}

/// A channel as a request names it.
pub fn named(channel: &str) -> Option<pb::StreamName> {
    Some(pb::StreamName { which: Some(stream_name::Which::Channel(channel.into())) })
}

/// A mailbox as a request names it: a user's, or a session's by its path.
pub fn mailbox(name: &str) -> Option<pb::StreamName> {
    let mut parts = name.split('/').map(String::from);
    let mut part = || parts.next().unwrap_or_default();
    let name = pb::MailboxName { user: part(), machine: part(), handle: part() };
    Some(pb::StreamName { which: Some(stream_name::Which::Mailbox(name)) })
}

/// A stream as a request names it.
pub fn numbered(stream: u64) -> Option<pb::StreamName> {
    Some(pb::StreamName { which: Some(stream_name::Which::Number(stream)) })
}

/// The text of a delivery.
pub fn text(delivery: &pb::Delivery) -> String {
    match body::view(&delivery.body) {
        Ok(body::View::Text(text)) => text.into(),
        _ => panic!("not a text"),
    }
}

/// The sender's path.
pub fn sender(delivery: &pb::Delivery) -> String {
    let from = delivery.from.as_ref().expect("a delivery names its sender");
    format!("{}/{}/{}", from.user, from.machine, from.handle)
}

/// A reply, for messages of failed tests.
fn show(reply: &reply::What) -> String {
    match reply {
        reply::What::Error(error) => format!("error {}: {}", error.code, error.message),
        _ => "another reply".into(),
    }
}

fn send(socket: &mut Socket, encoding: Encoding, frame: Vec<u8>) {
    socket.send_message(match encoding {
        Encoding::Protobuf => Message::Binary(frame.into()),
        Encoding::Json => Message::text(String::from_utf8(frame).unwrap()),
    });
}

fn receive(socket: &mut Socket, encoding: Encoding) -> Option<Vec<u8>> {
    loop {
        match (socket.receive_message()?, encoding) {
            (Message::Binary(bytes), Encoding::Protobuf) => return Some(bytes.into()),
            (Message::Text(text), Encoding::Json) => return Some(text.as_bytes().to_vec()),
            (Message::Binary(_) | Message::Text(_), _) => panic!("a message of the other kind"),
            _ => {}
        }
    }
}
