//! A server's frames as a client understands them. A server may be hostile: names that are none by our rules are marked,
//! texts are bounded, and what cannot be read makes the frame no event.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::key::PublicKey;
use crate::name::{ChannelName, Handle, MachineName, SessionPath, UserName, foreign};
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{
    ChannelInfo, InviteInfo, MachineInfo, Reply, Stamped, Token, UserInviteInfo, Visibility,
};
use crate::record::{ChannelId, MachineId, Stamp, UserId};
use crate::sealed::SealedNotice;
use crate::stream::{
    Comings, Contact, EndReason, MachineKey, MessageId, Notice, Origin, Position, Receipt, ReceiptState,
    Signed, Standing, StreamReply,
};
use crate::time::UnixMillis;
use crate::wire::client::Event;
use crate::wire::reply_kind::ReplyKind;
use crate::wire::v2::schema::{self as pb, event, reply, server_frame};
use crate::wire::v2::{audit, convert, sealed};

/// The answer of a request; `None` if it cannot be read.
pub(super) fn reply(what: reply::What, kind: ReplyKind) -> Option<Reply> {
    use reply::What;
    if kind == ReplyKind::Sealed && !matches!(what, What::Error(_) | What::Done(_)) {
        return sealed::understood(what).map(|reply| Reply::Stream(StreamReply::Sealed(Box::new(reply))));
    }
    Some(match what {
        What::Error(error) => Reply::Refused(convert::refusal(&error)),
        What::Done(_) => match kind {
            ReplyKind::Pong => Reply::Pong,
            ReplyKind::Stream | ReplyKind::Sealed => Reply::Stream(StreamReply::Done),
            _ => Reply::Done(Opaque(String::new())),
        },
        What::Subscribed(it) => Reply::Stream(StreamReply::Subscribed {
            stream: stream(it.stream)?,
            after: it.after,
            last: it.last,
        }),
        What::Page(it) => Reply::Stream(StreamReply::Page {
            stream: stream(it.stream)?,
            messages: messages(it.messages)?,
            more: it.more,
        }),
        What::Stored(it) => Reply::Stream(StreamReply::Stored {
            stream: stream(it.stream)?,
            stamp: Stamp { seq: it.seq, ts: UnixMillis(it.stamp_ms) },
            present: it.present,
        }),
        What::Located(it) => {
            Reply::Stream(StreamReply::Located { stream: stream(it.stream)?, present: it.present })
        }
        What::Contacts(it) => {
            Reply::Stream(StreamReply::Contacts(it.contacts.into_iter().map(contact).collect::<Option<_>>()?))
        }
        What::Receipts(it) => Reply::Stream(StreamReply::Receipts {
            stream: stream(it.stream)?,
            seq: it.seq,
            readers: it.receipts.into_iter().map(receipt).collect::<Option<_>>()?,
        }),
        What::Sessions(it) => Reply::Presence {
            channel: None,
            sessions: it.sessions.iter().map(|one| Arc::new(path(one))).collect(),
        },
        What::Channels(it) => Reply::Channels(it.channels.into_iter().map(channel).collect::<Option<_>>()?),
        What::Users(it) => Reply::Users(it.users.iter().map(|user| foreign(user, UserName::new)).collect()),
        What::Invite(it) => Reply::Invite(Token::new(&it.token)),
        What::Invites(it) => Reply::Invites(
            it.invites
                .into_iter()
                .map(|one| InviteInfo {
                    token: Token::new(&one.token),
                    uses: Some(one.uses).filter(|uses| *uses > 0),
                    expires: Some(one.expires_ms).filter(|at| *at != 0).map(UnixMillis),
                })
                .collect(),
        ),
        What::UserInvites(it) => Reply::UserInvites(
            it.invites
                .into_iter()
                .map(|one| UserInviteInfo {
                    id: Token::new(&one.id).expose().into(),
                    by: foreign(&one.by, UserName::new),
                    uses: Some(one.uses).filter(|uses| *uses > 0),
                    expires: Some(one.expires_ms).filter(|at| *at != 0).map(UnixMillis),
                })
                .collect(),
        ),
        What::Audit(it) => Reply::Audit {
            entries: it.entries.into_iter().filter_map(audit::understood).collect(),
            more: it.more,
        },
        What::Machines(it) if kind == ReplyKind::Machines => {
            // A key that we would refuse is still shown, as long as it is 32 bytes: its owner may want to remove it.
            Reply::Machines(it.machines.into_iter().filter_map(machine_info).collect())
        }
        What::Machines(it) => Reply::Stream(StreamReply::Keys {
            user: UserId(it.user_id.checked_sub(1)?),
            machines: it.machines.into_iter().filter_map(machine_key).collect(),
        }),
        What::KeyPackageStock(_)
        | What::KeyPackages(_)
        | What::Group(_)
        | What::Welcomes(_)
        | What::Roster(_) => return None,
    })
}

/// What a frame that answers nothing means; `None` for what this program does not know.
pub(super) fn event(kind: server_frame::Kind) -> Option<Event> {
    use server_frame::Kind;
    let notice = match kind {
        Kind::Deliveries(it) => {
            let Some(messages) = messages(it.messages) else {
                return Some(Event::Violation("a delivery that cannot be read"));
            };
            Notice::Deliveries { stream: stream(it.stream)?, messages }
        }
        Kind::Live(it) => Notice::Live { stream: stream(it.stream)?, seq: it.seq },
        Kind::Gap(it) => Notice::Gap { stream: stream(it.stream)?, from: it.from, to: it.to },
        Kind::Event(pb::Event { what: Some(what) }) => match what {
            event::What::SubscriptionEnded(it) => Notice::Ended {
                stream: stream(it.stream)?,
                reason: match pb::EndReason::try_from(it.reason) {
                    Ok(pb::EndReason::Kicked) => EndReason::Kicked,
                    Ok(pb::EndReason::Banned) => EndReason::Banned,
                    Ok(pb::EndReason::Deleted) => EndReason::Deleted,
                    Ok(pb::EndReason::Unavailable) => EndReason::Unavailable,
                    Ok(pb::EndReason::Removed | pb::EndReason::Unspecified) | Err(_) => EndReason::Removed,
                },
            },
            event::What::ChannelRenamed(it) => {
                Notice::Renamed { stream: stream(it.stream)?, name: foreign(&it.name, ChannelName::new) }
            }
            event::What::ReceiptsMoved(it) => Notice::ReceiptsMoved {
                stream: stream(it.stream)?,
                readers: Arc::new(it.readers.into_iter().map(position).collect::<Option<_>>()?),
            },
            event::What::PresenceChanged(it) => {
                let paths = |list: Vec<pb::Participant>| list.iter().map(|one| Arc::new(path(one))).collect();
                let comings = Comings { joined: paths(it.joined), left: paths(it.left), many: it.many };
                Notice::PresenceChanged { stream: stream(it.stream)?, comings: Arc::new(comings) }
            }
            event::What::MachineAdded(it) => Notice::MachineAdded(machine_key(it.machine?)?),
            event::What::Draining(_) => Notice::Draining,
            event::What::GroupDue(it) => Notice::Sealed(SealedNotice::Due { stream: stream(it.stream)? }),
            event::What::WelcomeWaits(it) => {
                Notice::Sealed(SealedNotice::WelcomeWaits { stream: stream(it.stream)? })
            }
            event::What::KeyPackagesLow(it) => {
                Notice::Sealed(SealedNotice::KeyPackagesLow { left: it.left as usize })
            }
            event::What::Whisper(it) => {
                let from = path(&it.from?);
                return Some(Event::Whispered { from, payload: Payload::Body(it.body) });
            }
        },
        _ => return None,
    };
    Some(Event::Notice(notice))
}

fn stream(number: u64) -> Option<ChannelId> {
    number.checked_sub(1).map(ChannelId)
}

/// A participant's path, whatever its names are.
pub(in crate::wire::v2) fn path(participant: &pb::Participant) -> SessionPath {
    SessionPath {
        user: foreign(&participant.user, UserName::new),
        machine: foreign(&participant.machine, MachineName::new),
        session: foreign(&participant.handle, Handle::new),
    }
}

fn messages(deliveries: Vec<pb::Delivery>) -> Option<Vec<Stamped>> {
    deliveries.into_iter().map(message).collect()
}

pub(in crate::wire::v2) fn message(delivery: pb::Delivery) -> Option<Stamped> {
    let from = delivery.from?;
    let sender = from.user_id.checked_sub(1).zip(from.machine_id.checked_sub(1));
    let signed = match (&delivery.message_id[..], &delivery.signature[..]) {
        ([], []) => None,
        (id, signature) => Some(Arc::new(Signed {
            id: MessageId(id.try_into().ok()?),
            signature: Opaque(signature.try_into().ok()?),
            acknowledge: delivery.acknowledge,
        })),
    };
    Some(Stamped {
        from: path(&from),
        ts: UnixMillis(delivery.stamp_ms),
        payload: Payload::Body(delivery.body),
        seq: delivery.seq,
        origin: Origin {
            sender: sender.map(|(user, machine)| (UserId(user), MachineId(machine))),
            signed,
            expires: Some(delivery.expires_ms).filter(|at| *at != 0).map(UnixMillis),
        },
    })
}

fn receipt(receipt: pb::Receipt) -> Option<Receipt> {
    let state = match pb::ReceiptState::try_from(receipt.state) {
        Ok(pb::ReceiptState::Acknowledged) => ReceiptState::Acknowledged,
        Ok(pb::ReceiptState::Seen) => ReceiptState::Seen,
        Ok(pb::ReceiptState::Delivered) => ReceiptState::Delivered,
        // Nothing is claimed that this program does not understand.
        Ok(pb::ReceiptState::Stored | pb::ReceiptState::Unspecified) | Err(_) => ReceiptState::Stored,
    };
    Some(Receipt {
        reader: Arc::new(path(&receipt.reader?)),
        state,
        at: Some(receipt.at_ms).filter(|at| *at != 0).map(UnixMillis),
        word: Some(receipt.word).filter(|word| !word.is_empty()).map(Opaque),
        off: receipt.off,
    })
}

fn position(position: pb::ReaderPosition) -> Option<Position> {
    let acknowledged = Some(position.acknowledged).filter(|seq| *seq != 0);
    Some(Position {
        reader: Arc::new(path(&position.reader?)),
        since: position.since,
        delivered: position.delivered,
        seen: position.seen,
        acknowledged: acknowledged.map(|seq| (seq, Opaque(position.word))),
    })
}

fn contact(contact: pb::Contact) -> Option<Contact> {
    let standing = match pb::Standing::try_from(contact.standing) {
        Ok(pb::Standing::Allowed) => Standing::Allowed,
        Ok(pb::Standing::Blocked) => Standing::Blocked,
        Ok(pb::Standing::Unspecified) | Err(_) => return None,
    };
    let (name, user) = (foreign(&contact.user, UserName::new), UserId(contact.user_id.checked_sub(1)?));
    Some(Contact { name, user, standing })
}

fn channel(channel: pb::Channel) -> Option<ChannelInfo> {
    let visibility = match pb::Visibility::try_from(channel.visibility) {
        Ok(pb::Visibility::Public) => Visibility::Public,
        Ok(pb::Visibility::Unlisted) => Visibility::Unlisted,
        Ok(pb::Visibility::Private) => Visibility::Private,
        Ok(pb::Visibility::Unspecified) | Err(_) => return None,
    };
    let name = foreign(&channel.name, ChannelName::new);
    Some(ChannelInfo { name, visibility, member: channel.member, sealed: channel.sealed })
}

fn key(bytes: &[u8]) -> Option<PublicKey> {
    Some(PublicKey::from_trusted(bytes.try_into().ok()?))
}

fn machine_info(machine: pb::Machine) -> Option<MachineInfo> {
    Some(MachineInfo {
        name: foreign(&machine.name, MachineName::new),
        key: key(&machine.key)?,
        added: UnixMillis(machine.added_ms),
    })
}

fn machine_key(machine: pb::Machine) -> Option<MachineKey> {
    Some(MachineKey {
        name: foreign(&machine.name, MachineName::new),
        id: MachineId(machine.id.checked_sub(1)?),
        key: key(&machine.key)?,
        added: UnixMillis(machine.added_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v2::encoding::Encoding;

    #[test]
    fn an_event_that_this_program_does_not_know_is_none() {
        // Field 8 of a frame is an event; its field 99 is from a later version.
        let unknown = [0x42, 5, 0x9a, 0x06, 2, 0x08, 1];
        let known = |frame: pb::ServerFrame| frame.kind.and_then(event);
        assert_eq!(known(Encoding::Protobuf.decode_server(&unknown).unwrap()), None);
        let text = br#"{"event":{"somethingNew":{"x":1}}}"#;
        assert_eq!(known(Encoding::Json.decode_server(text).unwrap()), None);
    }
}
