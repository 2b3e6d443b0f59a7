//! What is kept for sealed channels.

use conclave_core::record::LastCommit;
use conclave_core::sealed::{Blob, NewGroup, RosterEntry};

use super::*;

#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A channel becomes sealed.
    Seal(Index),
    Advance(Index, u8),
    Join(Index, Index),
    Leave(Index, Index),
    KeepWelcome(Index, Index, u8),
    DropWelcome(Index, Index),
    PutPackage(Index, u8, bool),
    TakePackage(Index),
    ExtendRoster(Index, u8),
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let i = any::<Index>;
    prop_oneof![
        3 => i().prop_map(Op::Seal),
        2 => (i(), any::<u8>()).prop_map(|(channel, byte)| Op::Advance(channel, byte)),
        5 => (i(), i()).prop_map(|(channel, machine)| Op::Join(channel, machine)),
        1 => (i(), i()).prop_map(|(channel, machine)| Op::Leave(channel, machine)),
        3 => (i(), i(), any::<u8>()).prop_map(|(channel, one, byte)| Op::KeepWelcome(channel, one, byte)),
        1 => (i(), i()).prop_map(|(channel, machine)| Op::DropWelcome(channel, machine)),
        4 => (i(), any::<u8>(), any::<bool>()).prop_map(|(one, byte, last)| Op::PutPackage(one, byte, last)),
        2 => i().prop_map(Op::TakePackage),
        2 => (i(), any::<u8>()).prop_map(|(user, byte)| Op::ExtendRoster(user, byte)),
    ]
}

impl Op {
    /// The record that it leads to, if there is something that it may be about.
    pub(super) fn record(&self, directory: &Directory, at: UnixMillis) -> Option<Record> {
        let group = |at: &Index| one(at, directory.groups().map(|(channel, _)| channel));
        let machine = |at: &Index| {
            let users = directory.user_names().filter_map(|name| directory.user_named(name.as_str()));
            one(at, users.flat_map(|(id, user)| user.machines.iter().map(move |machine| (id, machine.id))))
        };
        Some(match self {
            Self::Seal(index) => {
                let plain = directory.channels().map(|(channel, _)| channel);
                let channel = one(index, plain.filter(|channel| directory.group(*channel).is_none()))?;
                let group = NewGroup::new(3, vec![channel.0 as u8; 4].into()).unwrap();
                Record::GroupCreated { channel, group, epoch: 0, info: bytes(0), last: None }
            }
            Self::Advance(index, byte) => {
                let epoch = u64::from(*byte);
                let stamp = Stamp { seq: epoch, ts: at };
                let last = LastCommit { user: UserId(epoch), id: MessageId([*byte; 16]), stamp };
                Record::GroupAdvanced { channel: group(index)?, epoch, info: bytes(*byte), last }
            }
            Self::Join(index, whose) => {
                let (channel, (user, machine)) = (group(index)?, machine(whose)?);
                Record::GroupJoined { channel, user, machine }
            }
            Self::Leave(index, whose) => {
                Record::GroupLeft { channel: group(index)?, machine: machine(whose)?.1 }
            }
            Self::KeepWelcome(index, whose, byte) => {
                let channel = group(index)?;
                let group = directory.group(channel)?;
                let inside = group.machines.iter().filter(|(machine, _)| !group.removals.contains(machine));
                let (machine, user) = one(whose, inside.map(|(machine, user)| (*machine, *user)))?;
                let (epoch, welcome) = (u64::from(*byte), bytes(*byte));
                Record::WelcomeKept { channel, user, machine, epoch, welcome }
            }
            Self::DropWelcome(index, whose) => {
                Record::WelcomeDropped { channel: group(index)?, machine: machine(whose)?.1 }
            }
            Self::PutPackage(whose, byte, last_resort) => {
                let (user, machine) = machine(whose)?;
                let (package, last_resort) = (bytes(*byte), *last_resort);
                Record::KeyPackagePut { user, machine, package, last_resort }
            }
            Self::TakePackage(whose) => {
                let (user, machine) = machine(whose)?;
                Record::KeyPackageTaken { user, machine }
            }
            Self::ExtendRoster(whose, byte) => {
                let user = machine(whose)?.0;
                let entry = RosterEntry { entry: bytes(*byte), signature: Opaque([*byte; 64]) };
                Record::RosterExtended { user, entry }
            }
        })
    }
}

fn one<T: Copy>(at: &Index, all: impl Iterator<Item = T>) -> Option<T> {
    let all: Vec<T> = all.collect();
    (!all.is_empty()).then(|| *at.get(&all))
}

fn bytes(byte: u8) -> Blob {
    Opaque(vec![byte; usize::from(byte)].into())
}
