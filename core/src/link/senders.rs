//! Whether messages are from whom the server says: each signature is checked with its sender's key before the message is
//! handed on.
//!
//! A machine's key is learnt from the server when the machine is first heard, and kept: a key that the application pinned
//! before goes first. While a key is asked for, what comes behind its message waits, so that the order stands.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::{Action, Proof};
use crate::key::PublicKey;
use crate::name::{ChannelName, UserName};
use crate::payload::Payload;
use crate::record::{ChannelId, MachineId, UserId};
use crate::stream::{MachineKey, Signed};
use crate::time::Monotonic;
use crate::wire::v2::signature;

/// Messages that wait for a key, at most. Those that would be more are handed on unchecked.
const MAX_HELD: usize = 1024;
const MAX_HELD_BYTES: usize = 4 << 20;
/// Machines whose keys are kept.
const MAX_KEYS: usize = 16 * 1024;

/// Keys, and what waits for one.
#[derive(Clone, Debug, Default)]
pub(super) struct Senders {
    keys: BTreeMap<(UserId, MachineId), PublicKey>,
    /// Machines that the server gave no key for, on this connection.
    unknown: BTreeSet<(UserId, MachineId)>,
    asked: Option<UserName>,
    /// The server did not tell keys for the moment: it is not asked before this.
    again: Option<Monotonic>,
    held: VecDeque<Action>,
    bytes: usize,
}

/// What is known of a message's signature.
enum Judged {
    Known(Proof),
    /// Its sender's key must be asked for.
    Needs(UserName),
}

impl Proof {
    /// What the signature of a message proves that lies in this server's stream, with its sender's key.
    pub fn of(
        signed: Option<&Signed>,
        payload: &Payload,
        (server, stream): (&PublicKey, ChannelId),
        key: Option<&PublicKey>,
    ) -> Self {
        let Some(signed) = signed else { return Self::Unsigned };
        let Some(key) = key else { return Self::Unchecked };
        let body = payload.to_body();
        if signature::verify(key, server, stream, &signed.id, &body, &signed.signature.0) {
            Self::Verified
        } else {
            Self::Forged
        }
    }
}

impl Senders {
    /// The application knows this key: no other is accepted for the machine.
    pub(super) fn pin(&mut self, user: UserId, machine: MachineId, key: PublicKey) {
        if self.keys.len() < MAX_KEYS {
            self.keys.insert((user, machine), key);
        }
    }

    /// Hands on what streams have to say, as far as nothing waits.
    pub(super) fn pass(&mut self, news: Vec<Action>, server: &PublicKey, actions: &mut Vec<Action>) {
        for action in news {
            if let Action::Deliver { payload, .. } = &action {
                self.bytes += payload.size();
            }
            self.held.push_back(action);
        }
        self.release(server, actions);
    }

    /// When [`Senders::next`] has something to ask for.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.again
    }

    /// The user whose keys are to be asked for now.
    pub(super) fn next(&mut self, now: Monotonic) -> Option<UserName> {
        if self.asked.is_some() || self.again.is_some_and(|again| now < again) {
            return None;
        }
        self.again = None;
        self.asked = self.held.front().and_then(|first| match self.judge(first, None) {
            Judged::Needs(user) => Some(user),
            Judged::Known(_) => None,
        });
        self.asked.clone()
    }

    /// The server does not tell keys for now: it is asked again.
    pub(super) fn deferred(&mut self, again: Monotonic) {
        self.asked = None;
        self.again = Some(again);
    }

    /// The server told a user's keys, or would not.
    pub(super) fn learnt(
        &mut self,
        told: Option<(UserId, Vec<MachineKey>)>,
        server: &PublicKey,
        actions: &mut Vec<Action>,
    ) {
        let name = self.asked.take();
        if let (Some((user, machines)), Some(name)) = (told, name) {
            for MachineKey { id, key, .. } in machines {
                if self.keys.len() < MAX_KEYS && !self.keys.contains_key(&(user, id)) {
                    self.keys.insert((user, id), key);
                    let user_name = name.clone();
                    actions.push(Action::SenderKey { user, name: user_name, machine: id, key });
                }
            }
        }
        if let Some(Action::Deliver { place: Some(place), .. }) = self.held.front()
            && let Some(sender) = place.origin.sender
            && !self.keys.contains_key(&sender)
        {
            // A machine that is gone, or a user whom we share nothing with any more.
            self.unknown.insert(sender);
        }
        self.release(server, actions);
    }

    /// A channel is followed no more: what waits of it is not handed on. Returns the names that it got meanwhile, of which
    /// the application does not know yet.
    pub(super) fn forget(&mut self, channel: &ChannelName) -> Vec<ChannelName> {
        let mut names = alloc::vec![channel.clone()];
        self.held.retain(|action| match action {
            Action::ChannelRenamed { from, to, .. } if names.contains(from) => {
                names.push(to.clone());
                false
            }
            action => !names.iter().any(|name| is_of(action, name)),
        });
        let size = |action: &Action| match action {
            Action::Deliver { payload, .. } => payload.size(),
            _ => 0,
        };
        self.bytes = self.held.iter().map(size).sum();
        names.remove(0);
        names
    }

    /// The connection is gone; what waits does so until the next.
    pub(super) fn dropped(&mut self) {
        self.asked = None;
        self.again = None;
        self.unknown.clear();
    }

    fn release(&mut self, server: &PublicKey, actions: &mut Vec<Action>) {
        while let Some(first) = self.held.front() {
            let full = self.held.len() > MAX_HELD || self.bytes > MAX_HELD_BYTES;
            let judged = match self.judge(first, Some(server)) {
                Judged::Known(proof) => proof,
                Judged::Needs(_) if full => Proof::Unchecked,
                Judged::Needs(_) => return,
            };
            let Some(mut action) = self.held.pop_front() else { return };
            if let Action::Deliver { payload, place, .. } = &mut action {
                self.bytes -= payload.size();
                if let Some(place) = place {
                    place.proof = judged;
                }
            }
            actions.push(action);
        }
    }

    /// With no server the signature itself is not looked at.
    fn judge(&self, action: &Action, server: Option<&PublicKey>) -> Judged {
        let Action::Deliver { from, payload, place: Some(place), .. } = action else {
            return Judged::Known(Proof::Unsigned);
        };
        let (Some(signed), Some(sender)) = (&place.origin.signed, place.origin.sender) else {
            return Judged::Known(Proof::Unsigned);
        };
        match (self.keys.get(&sender), server) {
            (Some(key), Some(server)) => {
                Judged::Known(Proof::of(Some(signed), payload, (server, place.stream), Some(key)))
            }
            (Some(_), None) => Judged::Known(Proof::Unchecked),
            (None, _) if self.unknown.contains(&sender) => Judged::Known(Proof::Unchecked),
            (None, _) => Judged::Needs(from.user.clone()),
        }
    }
}

/// Whether what is told concerns a channel.
fn is_of(action: &Action, name: &ChannelName) -> bool {
    match action {
        Action::Deliver { channel, .. } | Action::Passed { channel, .. } => channel.as_ref() == Some(name),
        Action::Joined { channel, .. } | Action::CaughtUp { channel } | Action::Lost { channel, .. } => {
            channel == name
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;
    use crate::link::Place;
    use crate::name::SessionPath;
    use crate::opaque::Opaque;
    use crate::stream::{MessageId, Origin};
    use alloc::vec;

    fn server() -> PublicKey {
        SecretKey::from_seed(&[1; 32]).public()
    }

    fn name(text: &str) -> ChannelName {
        ChannelName::new(text).unwrap()
    }

    /// A signed message, by a machine that was not heard before.
    fn message(channel: &str, seq: u64) -> Action {
        let signed = Signed { id: MessageId([7; 16]), signature: Opaque([0; 64]), acknowledge: false };
        let origin = Origin {
            sender: Some((UserId(3), MachineId(4))),
            signed: Some(signed.into()),
            ..Origin::default()
        };
        Action::Deliver {
            channel: Some(name(channel)),
            from: SessionPath::new("bob", "m", "s").unwrap(),
            payload: Payload::Plain("hello".into()),
            ts: None,
            place: Some(Place { stream: ChannelId(1), seq, origin, proof: Proof::Unsigned }),
        }
    }

    #[test]
    fn what_comes_behind_a_message_that_waits_for_a_key_waits_too() {
        let (mut senders, mut actions) = (Senders::default(), Vec::new());
        let joined = Action::Joined { channel: name("ops"), position: Some((ChannelId(1), 1)) };
        senders.pass(vec![message("ops", 1)], &server(), &mut actions);
        senders.pass(vec![joined.clone()], &server(), &mut actions);
        assert!(actions.is_empty());
        assert!(senders.next(Monotonic::default()).is_some());
        senders.learnt(None, &server(), &mut actions);
        assert!(matches!(&actions[..], [Action::Deliver { .. }, last] if *last == joined), "{actions:?}");
    }

    #[test]
    fn keys_that_are_not_told_for_now_are_asked_for_again() {
        let (mut senders, mut actions) = (Senders::default(), Vec::new());
        senders.pass(vec![message("ops", 1)], &server(), &mut actions);
        assert!(senders.next(Monotonic(5)).is_some());
        senders.deferred(Monotonic(20));
        assert_eq!((senders.next(Monotonic(19)), senders.deadline()), (None, Some(Monotonic(20))));
        assert!(senders.next(Monotonic(20)).is_some());
        assert!(actions.is_empty(), "the message waits");
    }

    #[test]
    fn a_channel_is_left_under_the_name_that_it_got_meanwhile() {
        let (mut senders, mut actions) = (Senders::default(), Vec::new());
        let renamed = Action::ChannelRenamed { stream: ChannelId(1), from: name("ops"), to: name("dev") };
        senders.pass(vec![message("ops", 1), renamed, message("dev", 2)], &server(), &mut actions);
        assert_eq!(senders.forget(&name("ops")), [name("dev")]);
        senders.learnt(None, &server(), &mut actions);
        assert!(actions.is_empty());
    }

    #[test]
    fn what_waits_of_a_channel_that_is_left_is_not_handed_on() {
        let (mut senders, mut actions) = (Senders::default(), Vec::new());
        senders.pass(vec![message("ops", 1), message("dev", 1)], &server(), &mut actions);
        assert!(senders.next(Monotonic::default()).is_some());
        assert!(senders.forget(&name("ops")).is_empty());
        senders.learnt(None, &server(), &mut actions);
        assert!(
            matches!(&actions[..], [Action::Deliver { channel: Some(channel), .. }] if *channel == name("dev"))
        );
        assert_eq!((senders.held.len(), senders.bytes), (0, 0));
    }
}
