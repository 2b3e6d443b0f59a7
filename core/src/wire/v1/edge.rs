//! The server's edge of one connection: version 1 on one side, the hub's words on the other.
//!
//! Version 1 names no request in a reply, so a client reads replies in the order of its requests. Here that
//! rule is kept: each request has a slot, replies leave in the order of the slots. Posts are passed on as they
//! come, any number of them under way; every other request waits until all before it are answered, so that it
//! is decided after them, and the ones behind it wait for it. While something waits, [`Edge::wants_message`]
//! says no, and a shell stops reading: who sends faster than it is served is read more slowly.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand_core::CryptoRng;

use super::handshake::{Handshake, Step};
use super::refusal::error;
use super::{AdminOp, Frame, ProtocolError};
use crate::handshake::MAX_HANDSHAKE_FRAME;
use crate::hub::RequestId;
use crate::key::PublicKey;
use crate::name::{ChannelName, MachineName, SessionPath, UserName};
use crate::payload::Payload;
use crate::protocol::{Admin, CloseReason, Command, Refusal, Reply, Token};
use crate::time::UnixMillis;
use crate::wire::edge::Submit;
use crate::wire::{MAX_FRAME, v1, websocket};

/// Requests of one connection that may be under way.
const MAX_UNDER_WAY: usize = 256;
/// Bytes of such requests; one always may.
const MAX_BYTES_UNDER_WAY: usize = 1 << 20;
/// A list is cut to fit a frame: no page is larger than what a client accepts.
const MAX_LIST: usize = MAX_FRAME - 4096;
/// The largest payload: its delivery and its page of history, with the longest names, fit a frame.
const MAX_PAYLOAD: usize = MAX_FRAME - 4096;

/// One connection's edge.
#[derive(Clone, Debug)]
pub struct Edge {
    phase: Phase,
    /// The number of the oldest unanswered request.
    oldest: u64,
    slots: VecDeque<Slot>,
    bytes_under_way: usize,
    /// Whether what is under way is a request that nothing may overtake.
    exclusive: bool,
    held: Option<(Translated, usize)>,
}

#[derive(Clone, Debug)]
enum Phase {
    Handshake(Handshake),
    Opening,
    Open,
    Ended,
}

#[derive(Clone, Debug)]
struct Slot {
    size: usize,
    /// What is answered in the hub's place, once it has answered.
    refusal: Option<Refusal>,
    reply: Option<Reply>,
}

type Translated = Result<Command, Refusal>;

impl Edge {
    /// The edge of a new connection; `nonce` is 32 fresh random bytes.
    pub fn new(nonce: [u8; 32]) -> Self {
        Self {
            phase: Phase::Handshake(Handshake::new(nonce)),
            oldest: 0,
            slots: VecDeque::new(),
            bytes_under_way: 0,
            exclusive: false,
            held: None,
        }
    }

    /// Whether the next message may be handed in. If not, the shell does not read.
    pub fn wants_message(&self) -> bool {
        match self.phase {
            Phase::Handshake(_) => true,
            Phase::Opening | Phase::Ended => false,
            Phase::Open => {
                self.held.is_none()
                    && !self.exclusive
                    && self.slots.len() < MAX_UNDER_WAY
                    && self.bytes_under_way < MAX_BYTES_UNDER_WAY
            }
        }
    }

    /// Whether the handshake is not yet complete.
    pub fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Handshake(_) | Phase::Opening)
    }

    /// Takes one binary message; what must be sent at once is appended to `out` as WebSocket messages.
    ///
    /// # Errors
    /// The connection must end: hand the reason to [`Edge::farewell`], then close.
    pub fn on_message(
        &mut self,
        bytes: &[u8],
        generator: &mut impl CryptoRng,
        out: &mut Vec<u8>,
    ) -> Result<Option<Submit>, CloseReason> {
        match core::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Handshake(handshake) => {
                if bytes.len() > MAX_HANDSHAKE_FRAME {
                    return Err(CloseReason::Malformed("frame too large before authentication"));
                }
                let frame = decode(bytes)?;
                match handshake.on_frame(&frame) {
                    Step::Challenge(next) => {
                        send(out, &Frame::Challenge { nonce: next.nonce() });
                        self.phase = Phase::Handshake(next);
                    }
                    Step::Wait(next) => self.phase = Phase::Handshake(next),
                    Step::Proven(proven) => {
                        self.phase = Phase::Opening;
                        return Ok(Some(Submit::Open(proven)));
                    }
                    Step::Failed(reason) => return Err(reason),
                }
                Ok(None)
            }
            Phase::Open => {
                let frame = decode(bytes)?;
                let translated = command(&frame)?;
                self.phase = Phase::Open;
                let overtakes = matches!(translated, Ok(Command::Post { .. }) | Err(_));
                if !self.slots.is_empty() && !overtakes {
                    self.held = Some((translated, bytes.len()));
                    return Ok(None);
                }
                Ok(Some(self.submit(translated, bytes.len(), generator)))
            }
            Phase::Opening => Err(CloseReason::Malformed("frame before the session was established")),
            Phase::Ended => Ok(None),
        }
    }

    /// Takes the hub's answer to a request; may lead to the next request, which waited for it.
    pub fn on_reply(
        &mut self,
        request: RequestId,
        reply: Reply,
        generator: &mut impl CryptoRng,
        out: &mut Vec<u8>,
    ) -> Option<Submit> {
        let nth = usize::try_from(request.0.checked_sub(self.oldest)?).ok()?;
        let slot = self.slots.get_mut(nth)?;
        slot.reply = Some(slot.refusal.take().map_or(reply, Reply::from));
        self.flush(out);
        if !self.slots.is_empty() {
            return None;
        }
        self.exclusive = false;
        let (held, size) = self.held.take()?;
        Some(self.submit(held, size, generator))
    }

    /// Tells the peer that it is a session.
    pub fn established(&mut self, path: &SessionPath, admin: bool, out: &mut Vec<u8>) {
        self.phase = Phase::Open;
        send(out, &Frame::Established { path: path.into() });
        send(out, &Frame::ServerInfo { admin });
    }

    /// Tells the peer why its connection ends.
    pub fn farewell(&mut self, reason: &CloseReason, out: &mut Vec<u8>) {
        self.phase = Phase::Ended;
        let text = alloc::format!("{reason}");
        let error = match reason {
            CloseReason::Version { theirs } => {
                ProtocolError::VersionMismatch { ours: v1::VERSION, theirs: *theirs }
            }
            CloseReason::Malformed(_) => ProtocolError::MalformedFrame(&text),
            CloseReason::Refused(refusal) => error(refusal.code(), &text),
            _ => ProtocolError::Unauthorized(&text),
        };
        send(out, &Frame::Error(error));
    }

    fn submit(&mut self, translated: Translated, size: usize, generator: &mut impl CryptoRng) -> Submit {
        let request = RequestId(self.oldest + self.slots.len() as u64);
        self.bytes_under_way += size;
        // What cannot be asked shows that the session lives, waits for its turn and counts as under way, all as a
        // ping does.
        let (command, refusal) = match translated {
            Ok(command) => (command, None),
            Err(refusal) => (Command::Ping, Some(refusal)),
        };
        self.exclusive = refusal.is_none() && !matches!(command, Command::Post { .. });
        self.slots.push_back(Slot { size, refusal, reply: None });
        let invites = matches!(&command, Command::Admin(admin) if admin.makes_invite());
        let token = invites.then(|| fresh_token(generator));
        Submit::Request { request, command, token }
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.reply.is_some()) {
            self.oldest += 1;
            self.bytes_under_way -= slot.size;
            if let Some(reply) = slot.reply {
                send_reply(out, &reply);
            }
        }
    }
}

/// Appends a whisper as its target receives it.
pub fn encode_whisper(from: &SessionPath, target: &SessionPath, payload: &Payload, out: &mut Vec<u8>) {
    let frame = Frame::Whisper { from: from.into(), target: target.into(), payload: payload.into() };
    send(out, &frame);
}

/// Appends a post as every subscriber receives it.
pub fn encode_delivery(channel: &ChannelName, from: &SessionPath, payload: &Payload, out: &mut Vec<u8>) {
    let frame = Frame::ChannelMsg { channel: channel.as_str(), from: from.into(), payload: payload.into() };
    send(out, &frame);
}

fn decode(bytes: &[u8]) -> Result<Frame<'_>, CloseReason> {
    Frame::decode_from_client(bytes).map_err(|_| CloseReason::Malformed("not a frame that a client sends"))
}

fn send(out: &mut Vec<u8>, frame: &Frame<'_>) {
    websocket::append(out, |out| frame.encode(out));
}

/// An invite's secret: 24 random bytes as URL-safe base64.
fn fresh_token(generator: &mut impl CryptoRng) -> Token {
    let mut bytes = [0; 24];
    generator.fill_bytes(&mut bytes);
    Token::new(&URL_SAFE_NO_PAD.encode(bytes))
}

fn send_reply(out: &mut Vec<u8>, reply: &Reply) {
    match reply {
        // Version 1 asks for none of the latter.
        Reply::Sent | Reply::Stream(_) | Reply::UserInvites(_) | Reply::Audit { .. } => {
            send(out, &Frame::Ack { detail: None });
        }
        Reply::Joined(channel) => send(out, &Frame::Joined { channel: channel.as_str() }),
        Reply::Done(what) => send(out, &Frame::Ack { detail: Some(what) }),
        Reply::Presence { channel, sessions } => {
            let sessions = fitting(sessions, |path| {
                path.user.as_str().len() + path.machine.as_str().len() + path.session.as_str().len() + 9
            });
            let sessions = sessions.iter().map(|path| (&**path).into()).collect();
            send(out, &Frame::Presence { channel: channel.as_ref().map(ChannelName::as_str), sessions });
        }
        Reply::Channels(channels) => {
            let channels = fitting(channels, |channel| channel.name.as_str().len() + 5)
                .iter()
                .map(|channel| v1::ChannelInfo {
                    name: channel.name.as_str(),
                    visibility: channel.visibility.into(),
                    member: channel.member,
                })
                .collect();
            send(out, &Frame::ChannelList { channels });
        }
        Reply::Machines(machines) => {
            let texts: Vec<(String, String)> = machines
                .iter()
                .map(|machine| (alloc::format!("{}", machine.key), machine.added.rfc3339()))
                .collect();
            let machines = machines
                .iter()
                .zip(&texts)
                .map(|(machine, (pubkey, added_at))| v1::MachineInfo {
                    name: machine.name.as_str(),
                    pubkey,
                    added_at,
                })
                .collect();
            send(out, &Frame::MachineList { machines });
        }
        Reply::Users(users) => {
            let users = fitting(users, |user| user.as_str().len() + 3).iter().map(UserName::as_str).collect();
            send(out, &Frame::UserList { users });
        }
        Reply::Invites(invites) => {
            let times: Vec<Option<String>> =
                invites.iter().map(|invite| invite.expires.map(UnixMillis::rfc3339)).collect();
            let invites = invites
                .iter()
                .zip(&times)
                .map(|(invite, expires_at)| v1::InviteInfo {
                    token: invite.token.expose(),
                    uses_remaining: invite.uses.map(i64::from),
                    expires_at: expires_at.as_deref(),
                })
                .collect();
            send(out, &Frame::InviteList { invites });
        }
        Reply::Invite(token) => send(out, &Frame::InviteToken { token: token.expose() }),
        Reply::History { channel, messages } => {
            let messages = messages
                .iter()
                .map(|message| v1::HistoryMessage {
                    from: (&message.from).into(),
                    ts_ms: message.ts.0,
                    payload: (&message.payload).into(),
                })
                .collect();
            send(out, &Frame::History { channel: channel.as_str(), messages });
        }
        Reply::Pong => send(out, &Frame::Pong),
        Reply::Refused(refusal) => {
            let text = alloc::format!("{refusal}");
            send(out, &Frame::Error(error(refusal.code(), &text)));
        }
    }
}

/// The longest start of `list` that fits a frame.
fn fitting<T>(list: &[T], size: impl Fn(&T) -> usize) -> &[T] {
    let mut room = MAX_LIST;
    let fits = list.iter().take_while(|element| {
        let size = size(element);
        let fits = size <= room;
        room = room.saturating_sub(size);
        fits
    });
    &list[..fits.count()]
}

/// A session's frame in the hub's words. An inner error is answered; the outer ends the connection.
fn command(frame: &Frame<'_>) -> Result<Translated, CloseReason> {
    let translated = match frame {
        Frame::Join { channel, token } => {
            ChannelName::new(channel).map(|channel| Command::Join { channel, token: token.map(Token::new) })
        }
        Frame::Leave { channel } => ChannelName::new(channel).map(|channel| Command::Leave { channel }),
        Frame::Who { channel } => {
            channel.map(ChannelName::new).transpose().map(|channel| Command::Who { channel })
        }
        Frame::ChannelMsg { payload, .. } | Frame::Whisper { payload, .. } if size(payload) > MAX_PAYLOAD => {
            return Ok(Err(Refusal::MessageTooLarge { most: MAX_PAYLOAD }));
        }
        Frame::ChannelMsg { channel, payload, .. } => {
            ChannelName::new(channel).map(|channel| Command::Post { channel, payload: payload.into() })
        }
        Frame::Whisper { target, payload, .. } => {
            SessionPath::new(target.user, target.machine, target.session)
                .map(|target| Command::Whisper { target, payload: payload.into() })
        }
        Frame::ListChannels => Ok(Command::ListChannels),
        Frame::ListMachines => Ok(Command::ListMachines),
        Frame::ListUsers => Ok(Command::ListUsers),
        Frame::ReadSince { channel, since_ms } => ChannelName::new(channel)
            .map(|channel| Command::ReadSince { channel, since: UnixMillis(*since_ms) }),
        Frame::Ping => Ok(Command::Ping),
        Frame::Admin(operation) => return Ok(admin(operation).map(Command::Admin)),
        _ => return Err(CloseReason::Malformed("a client does not send this frame here")),
    };
    Ok(translated.map_err(Refusal::from))
}

fn size(payload: &v1::Payload<'_>) -> usize {
    match payload {
        v1::Payload::Plain(text) => text.len(),
        v1::Payload::Encrypted(envelope) => envelope.ciphertext.len() + envelope.key_id.map_or(0, str::len),
    }
}

fn admin(operation: &AdminOp<'_>) -> Result<Admin, Refusal> {
    let channel = |name: &str| ChannelName::new(name);
    let user = |name: &str| UserName::new(name);
    Ok(match *operation {
        AdminOp::CreateChannel { name, visibility } => {
            Admin::CreateChannel { name: channel(name)?, visibility: visibility.into() }
        }
        AdminOp::DeleteChannel { name } => Admin::DeleteChannel { name: channel(name)? },
        AdminOp::RenameChannel { name, new_name } => {
            Admin::RenameChannel { name: channel(name)?, new_name: channel(new_name)? }
        }
        AdminOp::SetVisibility { name, visibility } => {
            Admin::SetVisibility { name: channel(name)?, visibility: visibility.into() }
        }
        AdminOp::AclAdd { channel: name, user: who } => {
            Admin::AclAdd { channel: channel(name)?, user: user(who)? }
        }
        AdminOp::AclRemove { channel: name, user: who } => {
            Admin::AclRemove { channel: channel(name)?, user: user(who)? }
        }
        AdminOp::InviteCreate { channel: name, uses, expires_in_secs } => Admin::InviteCreate {
            channel: channel(name)?,
            uses,
            lifetime: expires_in_secs.map(Duration::from_secs),
        },
        AdminOp::InviteRevoke { token } => Admin::InviteRevoke { token: Token::new(token) },
        AdminOp::Kick { channel: name, target } => {
            Admin::Kick { channel: channel(name)?, target: target.parse()? }
        }
        AdminOp::Ban { channel: name, user: who } => Admin::Ban { channel: channel(name)?, user: user(who)? },
        AdminOp::UserRemove { username } => Admin::UserRemove { user: user(username)? },
        AdminOp::MachineRemove { name } => Admin::MachineRemove { name: MachineName::new(name)? },
        AdminOp::MachineAdd { name, pubkey } => {
            Admin::MachineAdd { name: MachineName::new(name)?, key: PublicKey::new(pubkey)? }
        }
        AdminOp::AclList { channel: name } => Admin::AclList { channel: channel(name)? },
        AdminOp::Unban { channel: name, user: who } => {
            Admin::Unban { channel: channel(name)?, user: user(who)? }
        }
        AdminOp::BanList { channel: name } => Admin::BanList { channel: channel(name)? },
        AdminOp::InviteList { channel: name } => Admin::InviteList { channel: channel(name)? },
    })
}

#[cfg(test)]
mod tests;
