//! Any valid sequence of records, in any batches, with restarts and purges anywhere: what is stored is what a
//! plain model holds.

use std::collections::{BTreeMap, BTreeSet};

use conclave_core::directory::{FreedName, Heir, Held, TokenHash, Waiting};
use conclave_core::key::PublicKey;
use conclave_core::name::MachineName;
use conclave_core::payload::Envelope;
use conclave_core::protocol::{Stamped, Token};
use conclave_core::record::MachineId;
use conclave_core::stream::Standing;
use conclave_core::wire::v1;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

mod sealed;

#[derive(Clone, Debug)]
enum Op {
    AddUser(u8),
    RemoveUser(Index),
    AddMachine(Index, u8),
    RemoveMachine(Index),
    CreateChannel(Index, u8),
    DeleteChannel(Index),
    Rename(Index, u8),
    SetVisibility(Index, u8),
    Admit(Index, Index),
    Dismiss(Index, Index),
    Ban(Index, Index),
    Unban(Index, Index),
    Invite(Index, Option<u32>, Option<i64>),
    Use(Index),
    Revoke(Index),
    InviteUser(Index, Option<u32>, Option<i64>),
    UseUserInvite(Index),
    RevokeUserInvite(Index),
    /// Its id, if it has one, is one of few.
    Post(Index, u8, i64, Body, Option<u8>),
    AddReader(Index, u8),
    MoveCursor(Index, Index, u8),
    Acknowledge(Index, Index, u8),
    /// A user's, or a reader's.
    CreateMailbox(Index, bool),
    SetContact(Index, Index, Option<Standing>),
    SetReceipts(Index, bool),
    /// A user's name with so many keys, or a channel's.
    HoldName(u8, Option<u8>),
    ReleaseName(u8, bool),
    Sealed(sealed::Op),
    Count(u8),
    EndBatch,
    Reopen,
    Purge(i64),
}

#[derive(Clone, Debug)]
enum Body {
    Plain(String),
    Encrypted(Vec<u8>, Option<String>),
    Sealed(Vec<u8>),
}

fn op() -> impl Strategy<Value = Op> {
    let i = any::<Index>;
    let body = prop_oneof![
        "\\PC{0,40}|[\\x00-\\x7f]{0,300}".prop_map(Body::Plain),
        (prop::collection::vec(any::<u8>(), 0..300), prop::option::of("[a-z]{0,9}"))
            .prop_map(|(bytes, key)| Body::Encrypted(bytes, key)),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Body::Sealed),
    ];
    prop_oneof![
        6 => (0..8_u8).prop_map(Op::AddUser),
        3 => i().prop_map(Op::RemoveUser),
        2 => (i(), 0..20_u8).prop_map(|(user, key)| Op::AddMachine(user, key)),
        1 => i().prop_map(Op::RemoveMachine),
        5 => (i(), 0..6_u8).prop_map(|(user, name)| Op::CreateChannel(user, name)),
        1 => i().prop_map(Op::DeleteChannel),
        1 => (i(), 0..6_u8).prop_map(|(channel, name)| Op::Rename(channel, name)),
        1 => (i(), 0..3_u8).prop_map(|(channel, number)| Op::SetVisibility(channel, number)),
        2 => (i(), i()).prop_map(|(channel, user)| Op::Admit(channel, user)),
        1 => (i(), i()).prop_map(|(channel, user)| Op::Dismiss(channel, user)),
        4 => (i(), i()).prop_map(|(channel, user)| Op::Ban(channel, user)),
        1 => (i(), i()).prop_map(|(channel, user)| Op::Unban(channel, user)),
        2 => (i(), prop::option::of(1..4_u32), prop::option::of(any::<i64>()))
            .prop_map(|(channel, uses, expires)| Op::Invite(channel, uses, expires)),
        2 => i().prop_map(Op::Use),
        1 => i().prop_map(Op::Revoke),
        2 => (i(), prop::option::of(1..4_u32), prop::option::of(any::<i64>()))
            .prop_map(|(by, uses, expires)| Op::InviteUser(by, uses, expires)),
        2 => i().prop_map(Op::UseUserInvite),
        1 => i().prop_map(Op::RevokeUserInvite),
        20 => (i(), 0..4_u8, 1..5_i64, body, prop::option::of(0..9_u8))
            .prop_map(|(channel, who, gap, body, id)| Op::Post(channel, who, gap, body, id)),
        3 => (i(), 0..4_u8).prop_map(|(machine, handle)| Op::AddReader(machine, handle)),
        4 => (i(), i(), any::<u8>()).prop_map(|(reader, channel, to)| Op::MoveCursor(reader, channel, to)),
        4 => (i(), i(), any::<u8>()).prop_map(|(reader, channel, seq)| Op::Acknowledge(reader, channel, seq)),
        4 => (i(), any::<bool>()).prop_map(|(owner, kept)| Op::CreateMailbox(owner, kept)),
        3 => (i(), i(), 0..3_usize).prop_map(|(user, other, standing)| {
            Op::SetContact(user, other, [None, Some(Standing::Allowed), Some(Standing::Blocked)][standing])
        }),
        2 => (i(), any::<bool>()).prop_map(|(user, on)| Op::SetReceipts(user, on)),
        2 => (0..4_u8, prop::option::of(0..3_u8)).prop_map(|(name, keys)| Op::HoldName(name, keys)),
        2 => (0..4_u8, any::<bool>()).prop_map(|(name, user)| Op::ReleaseName(name, user)),
        23 => sealed::op().prop_map(Op::Sealed),
        1 => (0..3_u8).prop_map(Op::Count),
        8 => Just(Op::EndBatch),
        1 => Just(Op::Reopen),
        1 => (-2..60_i64).prop_map(Op::Purge),
    ]
}

/// What is expected, as sets and lists.
#[derive(Default)]
struct Model {
    directory: Directory,
    users: BTreeSet<u64>,
    machines: BTreeMap<u64, (u64, u8)>,
    channels: BTreeMap<u64, u64>,
    invites: BTreeMap<u64, (u64, Option<u32>)>,
    next_invite: u64,
    messages: BTreeMap<u64, Vec<Stamped>>,
    clock: i64,
    /// A post that is stored already, and where.
    repeated: Option<(Record, Stamp)>,
}

fn pick<K: Copy, V: Copy>(map: &BTreeMap<K, V>, at: &Index) -> Option<(K, V)> {
    (!map.is_empty()).then(|| at.index(map.len())).and_then(|at| map.iter().nth(at)).map(|(k, v)| (*k, *v))
}

fn token(number: u64) -> Token {
    Token::new(&format!("token{number}"))
}

fn freed(name: u8, user: bool) -> FreedName {
    let text = format!("Name{name}");
    if user {
        FreedName::User(UserName::new(&text).unwrap())
    } else {
        FreedName::Channel(ChannelName::new(&text).unwrap())
    }
}

fn visibility(number: u8) -> Visibility {
    [Visibility::Public, Visibility::Unlisted, Visibility::Private][usize::from(number % 3)]
}

impl Model {
    /// The records of an operation: none if it cannot be done now.
    fn decide(&mut self, op: &Op) -> Option<Vec<Record>> {
        let at = UnixMillis(self.clock);
        let user =
            |at: &Index| (!self.users.is_empty()).then(|| at.get(&Vec::from_iter(&self.users)).to_owned());
        Some(match op {
            Op::AddUser(name) => {
                let name = UserName::new(&format!("user{name}")).unwrap();
                if self.directory.user_named(name.as_str()).is_some() {
                    return None;
                }
                let user = self.directory.next_user();
                self.users.insert(user.0);
                vec![Record::UserAdded { user, name, at }]
            }
            Op::RemoveUser(at) => {
                let user = *user(at)?;
                let created: Vec<_> = self
                    .channels
                    .iter()
                    .filter(|(_, creator)| **creator == user)
                    .map(|(id, _)| *id)
                    .collect();
                let mut records: Vec<_> = created.into_iter().map(|channel| self.delete(channel)).collect();
                self.forget_mailboxes(user, None);
                self.users.remove(&user);
                self.machines.retain(|_, (owner, _)| *owner != user);
                records.push(Record::UserRemoved { user: UserId(user) });
                records
            }
            Op::AddMachine(index, key) => {
                let user = *user(index)?;
                if self.machines.values().any(|(_, used)| used == key) {
                    return None;
                }
                let machine = self.directory.next_machine();
                self.machines.insert(machine.0, (user, *key));
                vec![Record::MachineAdded {
                    machine,
                    user: UserId(user),
                    name: MachineName::new(&format!("machine{key}")).unwrap(),
                    key: PublicKey::from_trusted([*key; 32]),
                    at,
                }]
            }
            Op::RemoveMachine(index) => {
                let (machine, (user, _)) = pick(&self.machines, index)?;
                self.machines.remove(&machine);
                self.forget_mailboxes(user, Some(MachineId(machine)));
                vec![Record::MachineRemoved { user: UserId(user), machine: MachineId(machine) }]
            }
            Op::CreateChannel(index, name) => {
                let creator = *user(index)?;
                let name = self.free_name(*name)?;
                let channel = self.directory.next_channel();
                self.channels.insert(channel.0, creator);
                self.messages.insert(channel.0, Vec::new());
                let (creator, last) = (UserId(creator), Stamp::default());
                vec![
                    Record::ChannelCreated {
                        channel,
                        name,
                        visibility: visibility(channel.0 as u8),
                        creator,
                        at,
                        last,
                    },
                    Record::MemberAdded { channel, user: creator },
                ]
            }
            Op::DeleteChannel(index) => vec![self.delete(pick(&self.channels, index)?.0)],
            Op::Rename(index, name) => {
                let channel = ChannelId(pick(&self.channels, index)?.0);
                vec![Record::ChannelRenamed { channel, name: self.free_name(*name)? }]
            }
            Op::SetVisibility(index, number) => {
                let channel = ChannelId(pick(&self.channels, index)?.0);
                vec![Record::VisibilitySet { channel, visibility: visibility(*number) }]
            }
            Op::Admit(channel, whom) => {
                let (channel, user) = (ChannelId(pick(&self.channels, channel)?.0), UserId(*user(whom)?));
                vec![Record::Unbanned { channel, user }, Record::MemberAdded { channel, user }]
            }
            Op::Dismiss(channel, whom) => {
                let (channel, user) = (ChannelId(pick(&self.channels, channel)?.0), UserId(*user(whom)?));
                vec![Record::MemberRemoved { channel, user }]
            }
            Op::Ban(channel, whom) => {
                let (channel, user) = (ChannelId(pick(&self.channels, channel)?.0), UserId(*user(whom)?));
                vec![Record::MemberRemoved { channel, user }, Record::Banned { channel, user }]
            }
            Op::Unban(channel, whom) => {
                let (channel, user) = (ChannelId(pick(&self.channels, channel)?.0), UserId(*user(whom)?));
                vec![Record::Unbanned { channel, user }]
            }
            Op::Invite(index, uses, expires) => {
                let channel = pick(&self.channels, index)?.0;
                self.next_invite += 1;
                self.invites.insert(self.next_invite, (channel, *uses));
                let (channel, token) = (ChannelId(channel), token(self.next_invite));
                vec![Record::InviteCreated {
                    channel,
                    token,
                    uses: *uses,
                    expires: expires.map(UnixMillis),
                    at,
                }]
            }
            Op::Use(index) => {
                let (invite, (channel, uses)) = pick(&self.invites, index)?;
                match uses {
                    Some(1) => drop(self.invites.remove(&invite)),
                    uses => drop(self.invites.insert(invite, (channel, uses.map(|uses| uses - 1)))),
                }
                vec![Record::InviteUsed { channel: ChannelId(channel), token: token(invite) }]
            }
            Op::Revoke(index) => {
                let (invite, (channel, _)) = pick(&self.invites, index)?;
                self.invites.remove(&invite);
                vec![Record::InviteRevoked { channel: ChannelId(channel), token: token(invite) }]
            }
            Op::InviteUser(index, uses, expires) => {
                let by = UserId(*user(index)?);
                self.next_invite += 1;
                let invite = TokenHash::of(&token(self.next_invite));
                let expires = expires.map(UnixMillis);
                vec![Record::UserInviteCreated { invite, by, uses: *uses, expires, at }]
            }
            Op::UseUserInvite(index) => vec![Record::UserInviteUsed { invite: self.user_invite(index)? }],
            Op::RevokeUserInvite(index) => {
                vec![Record::UserInviteRevoked { invite: self.user_invite(index)? }]
            }
            Op::Post(index, who, gap, body, id) => {
                // A channel or a mailbox.
                let streams: Vec<u64> = self.messages.keys().copied().collect();
                let channel = *(!streams.is_empty()).then(|| index.get(&streams))?;
                let last = self.directory.last(ChannelId(channel));
                let stamp = Stamp { seq: last.seq + 1, ts: UnixMillis(self.clock + gap) };
                let from = SessionPath::new(&format!("user{who}"), "box", "main").unwrap();
                let payload = match body.clone() {
                    Body::Plain(text) => Payload::Plain(text),
                    Body::Encrypted(ciphertext, key_id) => {
                        Payload::Encrypted(Envelope { ciphertext, key_id })
                    }
                    Body::Sealed(bytes) => Payload::Body(bytes.into()),
                };
                let origin = Origin {
                    sender: (*who > 0).then(|| (UserId(u64::from(*who)), MachineId(7))),
                    signed: id.map(|id| {
                        let signature = Opaque([id; 64]);
                        Arc::new(Signed { id: MessageId([id; 16]), signature, acknowledge: id % 2 == 0 })
                    }),
                    expires: id.filter(|id| id % 3 == 0).map(|id| UnixMillis(self.clock + i64::from(id))),
                };
                let message = Stamped {
                    from: from.clone(),
                    ts: stamp.ts,
                    payload: payload.clone(),
                    seq: stamp.seq,
                    origin: origin.clone(),
                };
                let (from, payload) = (Arc::new(from), Arc::new(payload));
                let first = self.stored(channel, &origin);
                let waits = self.waits(ChannelId(channel), stamp, &origin, payload.size());
                let record = Record::Posted { channel: ChannelId(channel), stamp, from, payload, origin };
                if let Some(first) = first {
                    self.repeated = Some((record, first));
                    return None;
                }
                self.clock += gap;
                self.messages.get_mut(&channel).unwrap().push(message);
                [record].into_iter().chain(waits).collect()
            }
            Op::AddReader(index, handle) => {
                let (machine, (user, _)) = pick(&self.machines, index)?;
                let (machine, user) = (MachineId(machine), UserId(user));
                let handle = Handle::new(&format!("handle{handle}")).unwrap();
                if self.directory.reader_at(machine, &handle).is_some() {
                    return None;
                }
                vec![Record::ReaderAdded { reader: self.directory.next_reader(), user, machine, handle, at }]
            }
            Op::MoveCursor(index, channel, to) => {
                let (reader, channel) = self.position(index, channel)?;
                let to = u64::from(*to);
                let cursor =
                    Cursor { since: to / 4, delivered: to, delivered_at: at, seen: to / 2, seen_at: at };
                vec![Record::CursorMoved { reader, channel, cursor }]
            }
            Op::Acknowledge(index, channel, seq) => {
                let (reader, channel) = self.position(index, channel)?;
                let word = Opaque(format!("word{seq}"));
                vec![Record::Acknowledged { reader, channel, ack: Ack { seq: u64::from(*seq), word, at } }]
            }
            Op::CreateMailbox(owner, kept) => {
                let readers: Vec<_> =
                    self.directory.readers().map(|(id, reader)| (reader.user, Some(id))).collect();
                let (user, reader) = match kept {
                    true => *(!readers.is_empty()).then(|| owner.get(&readers))?,
                    false => (UserId(*user(owner)?), None),
                };
                if self.directory.mailbox_of(user, reader).is_some() {
                    return None;
                }
                let mailbox = self.directory.next_channel();
                self.messages.insert(mailbox.0, Vec::new());
                vec![Record::MailboxCreated { mailbox, user, reader, at, last: Stamp::default() }]
            }
            Op::SetContact(one, other, standing) => {
                let (user, other) = (UserId(*user(one)?), UserId(*user(other)?));
                vec![Record::ContactSet { user, other, standing: *standing, wrote: false }]
            }
            Op::SetReceipts(one, on) => vec![Record::ReceiptsSet { user: UserId(*user(one)?), on: *on }],
            Op::HoldName(name, keys) => {
                let heir = match keys {
                    Some(keys) => {
                        Heir::Keys((0..*keys).map(|key| PublicKey::from_trusted([key; 32])).collect())
                    }
                    None => Heir::User(UserId(u64::from(*name) << 40)),
                };
                let held = Held { heir, until: UnixMillis(self.clock) };
                vec![Record::NameHeld { name: freed(*name, keys.is_some()), held }]
            }
            Op::ReleaseName(name, user) => vec![Record::NameReleased { name: freed(*name, *user) }],
            Op::Sealed(op) => vec![op.record(&self.directory, at)?],
            Op::Count(more) => vec![Record::Counted {
                users: self.directory.next_user().0 + u64::from(*more),
                machines: 0,
                channels: 1,
                readers: 2,
            }],
            Op::EndBatch | Op::Reopen | Op::Purge(_) => return None,
        })
    }

    fn user_invite(&self, at: &Index) -> Option<TokenHash> {
        let all: Vec<TokenHash> = self.directory.user_invites().map(|(hash, _)| *hash).collect();
        (!all.is_empty()).then(|| *at.get(&all))
    }

    /// What makes a message wait, in a mailbox.
    fn waits(&self, mailbox: ChannelId, stamp: Stamp, origin: &Origin, bytes: usize) -> Option<Record> {
        self.directory.mailbox(mailbox)?;
        let (sender, id) = (origin.sender?.0, origin.signed.as_ref()?.id);
        let until = origin.expires.unwrap_or(UnixMillis(stamp.ts.0 + 40));
        let waiting = Waiting { stamp, sender, id, bytes, until };
        Some(Record::MessageWaits { mailbox, waiting })
    }

    fn forget_mailboxes(&mut self, user: u64, machine: Option<MachineId>) {
        for mailbox in self.directory.mailboxes_of(UserId(user), machine) {
            self.messages.remove(&mailbox.0);
        }
    }

    /// A reader and a channel, of which the channel may not be there any more.
    fn position(&self, reader: &Index, channel: &Index) -> Option<(ReaderId, ChannelId)> {
        let readers: Vec<ReaderId> = self.directory.readers().map(|(id, _)| id).collect();
        let channels = self.directory.next_channel().0;
        (!readers.is_empty() && channels > 0)
            .then(|| (*reader.get(&readers), ChannelId(channel.index(channels as usize) as u64)))
    }

    /// Where a message of the same identity is stored.
    fn stored(&self, channel: u64, origin: &Origin) -> Option<Stamp> {
        let identity = |origin: &Origin| Some((origin.sender?.0, origin.signed.as_ref()?.id));
        let wanted = identity(origin)?;
        self.messages[&channel].iter().find_map(|message| {
            (identity(&message.origin) == Some(wanted)).then_some(Stamp { seq: message.seq, ts: message.ts })
        })
    }

    fn delete(&mut self, channel: u64) -> Record {
        self.channels.remove(&channel);
        self.messages.remove(&channel);
        self.invites.retain(|_, (to, _)| *to != channel);
        Record::ChannelDeleted { channel: ChannelId(channel) }
    }

    fn free_name(&self, number: u8) -> Option<ChannelName> {
        let name = ChannelName::new(&format!("channel{number}")).unwrap();
        self.directory.channel_named(name.as_str()).is_none().then_some(name)
    }

    fn purge(&mut self, cutoff: i64) {
        for messages in self.messages.values_mut() {
            messages.retain(|message| message.ts.0 >= cutoff);
        }
    }
}

/// What a message takes on the wire.
fn encoded(message: &Stamped) -> usize {
    let from = v1::Path {
        user: message.from.user.as_str(),
        machine: message.from.machine.as_str(),
        session: message.from.session.as_str(),
    };
    let payload = match &message.payload {
        Payload::Plain(text) => v1::Payload::Plain(text),
        Payload::Encrypted(envelope) => v1::Payload::Encrypted(v1::Envelope {
            ciphertext: &envelope.ciphertext,
            key_id: envelope.key_id.as_deref(),
        }),
        Payload::Body(bytes) => v1::Payload::Encrypted(v1::Envelope { ciphertext: bytes, key_id: None }),
    };
    let message = v1::HistoryMessage { from, ts_ms: message.ts.0, payload };
    let frame = |messages| v1::Frame::History { channel: "", messages }.to_bytes().len();
    frame(vec![message]) - frame(Vec::new())
}

fn agrees(rig: &Rig, model: &Model, limits: &[(Index, usize, usize)]) -> Result<(), TestCaseError> {
    for (channel, messages) in &model.messages {
        for (at, max_rows, max_bytes) in limits {
            let since = UnixMillis(at.index(model.clock as usize + 2) as i64 - 1);
            let last = messages.last().map_or(0, |message| message.seq);
            let seq = at.index(last as usize + 2) as u64;
            for range in [Range::Since(since), Range::After(seq), Range::Before(seq)] {
                let (max_rows, max_bytes) = (*max_rows, *max_bytes);
                let request = Request { channel: ChannelId(*channel), range, max_rows, max_bytes };
                let mut page = rig.running.history().read_and_wait(request).unwrap();
                let mut wanted: Vec<_> = messages
                    .iter()
                    .filter(|message| match range {
                        Range::Since(ts) => message.ts > ts,
                        Range::After(seq) => message.seq > seq,
                        Range::Before(seq) => message.seq < seq,
                    })
                    .cloned()
                    .collect();
                if let Range::Before(_) = range {
                    page.reverse();
                    wanted.reverse();
                }
                prop_assert_eq!(&page[..], &wanted[..page.len()]);
                prop_assert!(page.len() <= max_rows);
                let bytes: usize = page.iter().map(encoded).sum();
                prop_assert!(bytes <= max_bytes || page.len() == 1, "{} bytes", bytes);
                if let Some(next) = wanted.get(page.len())
                    && page.len() < max_rows
                {
                    let most = |message: &Stamped| {
                        encoded(message) + if message.origin.signed.is_some() { 156 } else { 32 }
                    };
                    let room: usize = page.iter().chain([next]).map(most).sum();
                    prop_assert!(!page.is_empty() && room > max_bytes, "one more would have fitted");
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_stored_is_what_the_records_say(
        ops in prop::collection::vec(op(), 1..150),
        limits in prop::collection::vec((any::<Index>(), 1..20_usize, 0..2_000_usize), 4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Rig::open(dir.path());
        let mut model = Model::default();
        let mut batch = Vec::new();
        for op in ops.iter().chain([&Op::Reopen, &Op::Purge(i64::MIN), &Op::Reopen]) {
            if let Some(records) = model.decide(op) {
                for record in &records {
                    model.directory.apply(record);
                }
                batch.extend(records);
                continue;
            }
            let repeated = model.repeated.take();
            if repeated.is_some() || matches!(op, Op::EndBatch | Op::Reopen | Op::Purge(_)) {
                rig.persist(0, std::mem::take(&mut batch)).unwrap();
                model.directory.check().unwrap();
            }
            if let Some((record, stored)) = repeated {
                // With something that would be seen later.
                let counted = Record::Counted { users: 1 << 40, machines: 0, channels: 0, readers: 0 };
                let outcome = rig.outcome(1, vec![counted, record]);
                prop_assert_eq!(outcome, Event::AlreadyStored { batch: 1, posts: vec![(1, stored)] });
            }
            if let Op::Purge(cutoff) = op {
                model.purge(*cutoff);
                rig.purge(*cutoff);
                agrees(&rig, &model, &limits)?;
            }
            if let Op::Reopen = op {
                agrees(&rig, &model, &limits)?;
                rig.running.stop();
                prop_assert_eq!(&loaded(dir.path()), &model.directory);
                rig = Rig::open(dir.path());
                agrees(&rig, &model, &limits)?;
            }
        }
        rig.running.stop();
        let rows = |table| rows(dir.path(), table);
        let channels = || model.directory.channels().map(|(_, channel)| channel);
        prop_assert_eq!(rows("messages"), model.messages.values().map(Vec::len).sum::<usize>());
        prop_assert_eq!(rows("machines"), model.machines.len());
        prop_assert_eq!(rows("members"), channels().map(|channel| channel.members.len()).sum::<usize>());
        prop_assert_eq!(rows("bans"), channels().map(|channel| channel.banned.len()).sum::<usize>());
        prop_assert_eq!(rows("invites"), model.invites.len());
        prop_assert_eq!(rows("deleted_channels"), 0);
        let readers = || model.directory.readers().map(|(_, reader)| reader);
        prop_assert_eq!(rows("readers"), readers().count());
        prop_assert_eq!(rows("cursors"), readers().map(|reader| reader.cursors.len()).sum::<usize>());
        let acks = readers().flat_map(|reader| reader.acks.values());
        prop_assert_eq!(rows("acks"), acks.map(Vec::len).sum::<usize>());
        prop_assert_eq!(rows("mailboxes"), model.directory.mailboxes().count());
        let waiting = model.directory.mailboxes().map(|(_, mailbox)| mailbox.all_waiting().len());
        prop_assert_eq!(rows("waiting"), waiting.sum::<usize>());
        prop_assert_eq!(rows("contacts"), model.directory.contacts().count());
    }
}
