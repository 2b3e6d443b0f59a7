//! Version 1 as a client speaks it: commands become frames, a server's frames become events. [`Client`] is the machine
//! of one connection.
//!
//! A server may be older than our rules, or hostile: a name that is none by our rules is shown with `U+FFFD` at
//! its front and in place of what may not stand in it, so that it is seen to be foreign and equals nobody's name.
//! Nothing that a server sends is refused for its names alone.

mod machine;

use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

pub use self::machine::Client;
pub use super::refusal::{MAX_ERROR_TEXT, server_error};
use super::{AdminOp, Frame, Path};
use crate::key::{PublicKey, from_base64};
use crate::name::{ChannelName, Handle, MachineName, SessionPath, UserName, foreign};
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{
    Admin, ChannelInfo, Command, End, InviteInfo, MachineInfo, Refusal, Reply, Stamped, Token,
};
use crate::time::UnixMillis;
use crate::wire::v1;

/// What a server says once the session is established.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// The answer to the oldest unanswered request.
    Reply(Reply),
    /// Someone posted to a channel.
    Delivered {
        /// The channel.
        channel: ChannelName,
        /// Who posted.
        from: SessionPath,
        /// What.
        payload: Payload,
    },
    /// Someone whispered to this session.
    Whispered {
        /// Who whispered.
        from: SessionPath,
        /// To whom: this session, if the server is right.
        target: SessionPath,
        /// What.
        payload: Payload,
    },
    /// Whether the user administrates the server.
    Role {
        /// True for an admin.
        admin: bool,
    },
    /// The answer to the oldest unanswered request, or the reason why the connection ends.
    Error(ServerError),
}

/// An error frame as a client understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerError {
    /// The server speaks another version.
    Version {
        /// The server's version.
        theirs: u32,
    },
    /// The oldest unanswered request is refused; without one, the connection ends.
    Refused(Refusal),
    /// The connection ends. Whatever is unanswered may have been done or not.
    Ended {
        /// Why.
        end: End,
        /// The server's text, not to be trusted.
        text: String,
    },
}

/// A frame that no server sends at this point; it carries the frame's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent an unexpected {0}")]
pub struct Unexpected(pub &'static str);

/// A command that version 1 does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("version 1 has no such command")]
pub struct NotInVersion1;

/// Appends the frame of `command` to `out`.
///
/// # Errors
/// [`NotInVersion1`]; nothing is appended.
pub fn encode_command(command: &Command, out: &mut Vec<u8>) -> Result<(), NotInVersion1> {
    // The server stamps the sender, whatever stands here.
    let nobody = Path { user: "", machine: "", session: "" };
    let frame = match command {
        Command::Join { channel, token } => {
            Frame::Join { channel: channel.as_str(), token: token.as_ref().map(Token::expose) }
        }
        Command::Leave { channel } => Frame::Leave { channel: channel.as_str() },
        Command::Who { channel } => Frame::Who { channel: channel.as_ref().map(ChannelName::as_str) },
        Command::Post { channel, payload } => {
            Frame::ChannelMsg { channel: channel.as_str(), from: nobody, payload: payload.into() }
        }
        Command::Whisper { target, payload } => {
            Frame::Whisper { from: nobody, target: target.into(), payload: payload.into() }
        }
        Command::ListChannels => Frame::ListChannels,
        Command::ListMachines => Frame::ListMachines,
        Command::ListUsers => Frame::ListUsers,
        Command::ReadSince { channel, since } => {
            Frame::ReadSince { channel: channel.as_str(), since_ms: since.0 }
        }
        Command::Ping => Frame::Ping,
        Command::Admin(admin) => {
            return encode_admin(admin, out);
        }
        Command::Stream(_) => return Err(NotInVersion1),
    };
    frame.encode(out);
    Ok(())
}

fn encode_admin(admin: &Admin, out: &mut Vec<u8>) -> Result<(), NotInVersion1> {
    let target;
    let op = match admin {
        Admin::CreateChannel { name, visibility } => {
            AdminOp::CreateChannel { name: name.as_str(), visibility: (*visibility).into() }
        }
        Admin::DeleteChannel { name } => AdminOp::DeleteChannel { name: name.as_str() },
        Admin::RenameChannel { name, new_name } => {
            AdminOp::RenameChannel { name: name.as_str(), new_name: new_name.as_str() }
        }
        Admin::SetVisibility { name, visibility } => {
            AdminOp::SetVisibility { name: name.as_str(), visibility: (*visibility).into() }
        }
        Admin::AclAdd { channel, user } => AdminOp::AclAdd { channel: channel.as_str(), user: user.as_str() },
        Admin::AclRemove { channel, user } => {
            AdminOp::AclRemove { channel: channel.as_str(), user: user.as_str() }
        }
        Admin::AclList { channel } => AdminOp::AclList { channel: channel.as_str() },
        Admin::InviteCreate { channel, uses, lifetime } => AdminOp::InviteCreate {
            channel: channel.as_str(),
            uses: *uses,
            expires_in_secs: lifetime.map(whole_seconds),
        },
        Admin::InviteRevoke { token } => AdminOp::InviteRevoke { token: token.expose() },
        Admin::InviteList { channel } => AdminOp::InviteList { channel: channel.as_str() },
        Admin::Kick { channel, target: whom } => {
            target = whom.to_string();
            AdminOp::Kick { channel: channel.as_str(), target: &target }
        }
        Admin::Ban { channel, user } => AdminOp::Ban { channel: channel.as_str(), user: user.as_str() },
        Admin::Unban { channel, user } => AdminOp::Unban { channel: channel.as_str(), user: user.as_str() },
        Admin::BanList { channel } => AdminOp::BanList { channel: channel.as_str() },
        Admin::UserRemove { user } => AdminOp::UserRemove { username: user.as_str() },
        Admin::MachineAdd { name, key } => {
            AdminOp::MachineAdd { name: name.as_str(), pubkey: key.as_bytes() }
        }
        Admin::MachineRemove { name } => AdminOp::MachineRemove { name: name.as_str() },
        Admin::CreateSealedChannel { .. }
        | Admin::UserInvite { .. }
        | Admin::UserInviteList
        | Admin::Audit { .. }
        | Admin::NameRelease { .. } => return Err(NotInVersion1),
    };
    Frame::Admin(op).encode(out);
    Ok(())
}

/// A part of a second counts as one: an invite does not end before it was meant to.
fn whole_seconds(lifetime: Duration) -> u64 {
    lifetime.as_secs().saturating_add(u64::from(lifetime.subsec_nanos() > 0))
}

/// What `frame` says in an established session.
///
/// # Errors
/// [`Unexpected`] for a frame that only a client sends, or that belongs to the handshake.
pub fn server_event(frame: Frame<'_>) -> Result<ServerEvent, Unexpected> {
    let reply = match frame {
        Frame::ChannelMsg { channel, from, payload } => {
            return Ok(ServerEvent::Delivered {
                channel: foreign(channel, ChannelName::new),
                from: path(from),
                payload: (&payload).into(),
            });
        }
        Frame::Whisper { from, target, payload } => {
            return Ok(ServerEvent::Whispered {
                from: path(from),
                target: path(target),
                payload: (&payload).into(),
            });
        }
        Frame::ServerInfo { admin } => return Ok(ServerEvent::Role { admin }),
        Frame::Error(error) => return Ok(ServerEvent::Error(server_error(error))),
        Frame::Joined { channel } => Reply::Joined(foreign(channel, ChannelName::new)),
        Frame::Ack { detail: None } => Reply::Sent,
        Frame::Ack { detail: Some(text) } => Reply::Done(Opaque(String::from(text))),
        Frame::Presence { channel, sessions } => Reply::Presence {
            channel: channel.map(|channel| foreign(channel, ChannelName::new)),
            sessions: sessions.into_iter().map(|session| Arc::new(path(session))).collect(),
        },
        Frame::ChannelList { channels } => Reply::Channels(channels.into_iter().map(channel_info).collect()),
        Frame::MachineList { machines } => {
            Reply::Machines(machines.into_iter().filter_map(machine_info).collect())
        }
        Frame::UserList { users } => {
            Reply::Users(users.into_iter().map(|user| foreign(user, UserName::new)).collect())
        }
        Frame::InviteList { invites } => Reply::Invites(invites.into_iter().map(invite_info).collect()),
        Frame::InviteToken { token } => Reply::Invite(Token::new(token)),
        Frame::History { channel, messages } => Reply::History {
            channel: foreign(channel, ChannelName::new),
            messages: messages
                .into_iter()
                .map(|message| {
                    let ts = UnixMillis(message.ts_ms);
                    Stamped::without_origin(path(message.from), ts, (&message.payload).into())
                })
                .collect(),
        },
        Frame::Pong => Reply::Pong,
        other => return Err(Unexpected(other.kind())),
    };
    Ok(ServerEvent::Reply(reply))
}

/// A path as a server tells it, whatever its names are.
pub fn path(path: Path<'_>) -> SessionPath {
    SessionPath {
        user: foreign(path.user, UserName::new),
        machine: foreign(path.machine, MachineName::new),
        session: foreign(path.session, Handle::new),
    }
}

fn channel_info(info: v1::ChannelInfo<'_>) -> ChannelInfo {
    ChannelInfo {
        name: foreign(info.name, ChannelName::new),
        visibility: info.visibility.into(),
        member: info.member,
        sealed: false,
    }
}

/// A key that we would refuse is still shown, as long as it is 32 bytes: its owner may want to remove it.
fn machine_info(info: v1::MachineInfo<'_>) -> Option<MachineInfo> {
    let key = from_base64(info.pubkey).ok()?;
    Some(MachineInfo {
        name: foreign(info.name, MachineName::new),
        key: PublicKey::from_trusted(key.try_into().ok()?),
        added: stamp(info.added_at),
    })
}

fn invite_info(info: v1::InviteInfo<'_>) -> InviteInfo {
    InviteInfo {
        token: Token::new(info.token),
        uses: info.uses_remaining.map(|uses| u32::try_from(uses.max(0)).unwrap_or(u32::MAX)),
        expires: info.expires_at.map(stamp),
    }
}

/// An unreadable time is shown as the epoch, which nobody takes for a real one.
fn stamp(text: &str) -> UnixMillis {
    let readable = text.len() <= 64;
    let parsed = readable.then(|| text.parse::<jiff::Timestamp>().ok()).flatten();
    UnixMillis(parsed.map_or(0, jiff::Timestamp::as_millisecond))
}

#[cfg(test)]
mod tests;
