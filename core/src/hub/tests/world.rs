//! A hub with a clock and a store to play with. Requests and replies are written as short texts, so that a test
//! reads as a conversation.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use crate::audit::Entry;
use crate::directory::Directory;
use crate::handshake::{Claim, Format, Proven, Terms};
use crate::hub::{Action, AuditRead, BatchId, Config, ConnId, Hub, Input, Limits, Range, Read, RequestId};
use crate::key::PublicKey;
use crate::name::{ChannelName, Handle, MachineName, UserName};
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{Admin, CloseReason, Command, KickTarget, Reply, Stamped, Token, Visibility};
use crate::record::{ChannelId, Record, Stamp};
use crate::stream::Notice;
use crate::time::{Monotonic, Now, UnixMillis};

pub(super) struct World {
    pub(super) hub: Hub,
    pub(super) now: Now,
    /// What is on the disk, as the fold that a restart would make of it.
    pub(super) stored: Directory,
    /// Every record on the disk, in order.
    pub(super) records: Vec<Record>,
    pub(super) in_flight: Option<(BatchId, Vec<Record>)>,
    pub(super) reads: VecDeque<Read>,
    pub(super) trail_reads: VecDeque<AuditRead>,
    pub(super) drained: bool,
    pub(super) notices: BTreeMap<ConnId, Vec<Notice>>,
    pub(super) marks: VecDeque<ConnId>,
    pub(super) probes: VecDeque<ConnId>,
    replies: BTreeMap<(ConnId, RequestId), Reply>,
    received: BTreeMap<ConnId, Vec<String>>,
    closed: BTreeMap<ConnId, CloseReason>,
    established: BTreeMap<ConnId, (String, bool)>,
    next_conn: u64,
    next_request: u64,
    tokens: u32,
}

/// The only key of a user's machine: derived from both names.
pub(super) fn key(user: &str, machine: &str) -> PublicKey {
    let mut bytes = [b'.'; 32];
    for (byte, with) in bytes.iter_mut().zip(format!("{user}/{machine}").bytes()) {
        *byte = with;
    }
    PublicKey::from_trusted(bytes)
}

pub(super) fn proven(user: &str, machine: &str, handle: &str, registers: bool) -> Proven {
    Proven {
        key: key(user, machine),
        session: Handle::new(handle).unwrap(),
        claim: registers.then(|| Claim {
            user: UserName::new(user).unwrap(),
            machine: MachineName::new(machine).unwrap(),
            invite: None,
        }),
        terms: Terms::default(),
    }
}

impl World {
    /// A world whose server admin will be called `root`, without rates.
    pub(super) fn new() -> Self {
        Self::with(|limits| *limits = core::mem::take(limits).without_rates())
    }

    pub(super) fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let mut config = Config::default();
        config.admins.insert(UserName::new("root").unwrap(), None);
        change(&mut config.limits);
        Self::over(config, Directory::default())
    }

    pub(super) fn over(config: Config, directory: Directory) -> Self {
        Self {
            hub: Hub::new(config, directory.clone()),
            now: Now { mono: Monotonic(1_000), wall: UnixMillis(1_700_000_000_000) },
            stored: directory,
            records: Vec::new(),
            in_flight: None,
            reads: VecDeque::new(),
            trail_reads: VecDeque::new(),
            drained: false,
            notices: BTreeMap::new(),
            marks: VecDeque::new(),
            probes: VecDeque::new(),
            replies: BTreeMap::new(),
            received: BTreeMap::new(),
            closed: BTreeMap::new(),
            established: BTreeMap::new(),
            next_conn: 0,
            next_request: 0,
            tokens: 0,
        }
    }

    /// Hands the hub an input and takes in what it leads to.
    pub(super) fn handle(&mut self, input: Input) {
        let mut actions = Vec::new();
        self.hub.handle(self.now, input, &mut actions);
        for action in actions {
            self.take_in(action);
        }
        self.hub.check().unwrap();
    }

    fn take_in(&mut self, action: Action) {
        match action {
            Action::Established { conn, session } => {
                self.established.insert(conn, (session.path.to_string(), session.admin));
            }
            Action::Reply { conn, request, reply } => {
                let again = self.replies.insert((conn, request), reply);
                assert!(again.is_none(), "a request is answered once");
            }
            Action::Deliver { channel, from, payload, to, except, .. } => {
                let own = |conn: ConnId| conn == except && to.of(Format::V1).contains(&conn);
                for conn in to.iter().filter(|conn| !own(*conn)) {
                    self.received
                        .entry(conn)
                        .or_default()
                        .push(format!("{channel} {from}: {}", text(&payload)));
                }
            }
            Action::Whisper { conn, from, target, payload } => {
                let line = format!("whisper {from} to {target}: {}", text(&payload));
                self.received.entry(conn).or_default().push(line);
            }
            Action::Close { conn, reason } => {
                let again = self.closed.insert(conn, reason);
                assert!(again.is_none(), "a connection ends once");
            }
            Action::Persist { batch, records } => {
                assert!(self.in_flight.is_none(), "one batch is in flight at a time");
                assert!(!records.is_empty());
                self.in_flight = Some((batch, records));
            }
            Action::ReadHistory(read) => self.reads.push_back(read),
            Action::ReadAudit(read) => self.trail_reads.push_back(read),
            Action::Notify { conn, notice } => self.notices.entry(conn).or_default().push(notice),
            Action::Mark { conn } => self.marks.push_back(conn),
            Action::Probe { conn } => self.probes.push_back(conn),
            Action::Drained => self.drained = true,
        }
    }

    /// Submits without waiting.
    pub(super) fn submit(&mut self, conn: ConnId, command: &str) -> RequestId {
        self.submit_command(conn, parse(command))
    }

    /// Submits any command without waiting.
    pub(super) fn submit_command(&mut self, conn: ConnId, command: Command) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.tokens += 1;
        let token = Some(Token::new(&format!("token-{}", self.tokens)));
        self.handle(Input::Request { conn, request, command, token });
        request
    }

    /// What a request was answered.
    pub(super) fn reply(&self, conn: ConnId, request: RequestId) -> Option<String> {
        self.replies.get(&(conn, request)).map(show)
    }

    pub(super) fn raw_reply(&self, conn: ConnId, request: RequestId) -> Option<Reply> {
        self.replies.get(&(conn, request)).cloned()
    }

    /// Submits, lets the store and the history work, and gives the answer.
    pub(super) fn ask(&mut self, conn: ConnId, command: &str) -> String {
        let request = self.submit(conn, command);
        self.settle();
        self.reply(conn, request).unwrap_or_else(|| panic!("no answer to '{command}'"))
    }

    /// Asks for what must be answered at once, whatever the store is doing.
    pub(super) fn see(&mut self, conn: ConnId, command: &str) -> String {
        let request = self.submit(conn, command);
        self.reply(conn, request).unwrap_or_else(|| panic!("no answer to '{command}' at once"))
    }

    /// Asks for what must be granted.
    pub(super) fn must(&mut self, conn: ConnId, command: &str) -> String {
        let answer = self.ask(conn, command);
        assert!(!is_refused(&answer), "{command}: {answer}");
        answer
    }

    /// Makes what has gathered durable, until nothing is under way.
    pub(super) fn settle(&mut self) {
        while self.seal() {
            self.persist();
        }
        while let Some(wanted) = self.reads.pop_front() {
            let page = self.page(&wanted);
            self.answer(&wanted, Ok(page));
        }
        while let Some(read) = self.trail_reads.pop_front() {
            let page = Ok(self.trail(&read));
            self.handle(Input::AuditRead { read, page });
        }
    }

    /// What the store would read of the audit trail.
    pub(super) fn trail(&self, read: &AuditRead) -> Vec<Entry> {
        let audited = self.records.iter().filter_map(|record| match record {
            Record::Audited(deed) => Some((**deed).clone()),
            _ => None,
        });
        let entries = audited.zip(1..).map(|(deed, number)| Entry { number, deed });
        let wanted = entries.filter(|entry| {
            read.before.is_none_or(|before| entry.number < before)
                && read.channel.is_none_or(|id| entry.deed.channel.as_ref().is_some_and(|(it, _)| *it == id))
        });
        let mut page: Vec<Entry> = wanted.collect();
        page.reverse();
        page.truncate(read.limit + 1);
        page
    }

    /// Ends the round, after the timeouts that are due; true if a batch is in flight.
    pub(super) fn seal(&mut self) -> bool {
        if self.hub.next_deadline().is_some_and(|at| at <= self.now.mono) {
            self.handle(Input::Tick);
        }
        if self.hub.has_batch() {
            self.handle(Input::RoundEnded);
        }
        self.in_flight.is_some()
    }

    /// The batch in flight is durable.
    pub(super) fn persist(&mut self) {
        let (batch, records) = self.in_flight.take().expect("a batch is in flight");
        for record in &records {
            self.stored.apply(record);
        }
        self.records.extend(records);
        self.handle(Input::Persisted { batch });
        assert_eq!(*self.hub.directory(), self.stored, "the hub has what the store has");
    }

    /// The batch in flight could not be stored.
    pub(super) fn fail(&mut self) {
        let (batch, _) = self.in_flight.take().expect("a batch is in flight");
        self.handle(Input::PersistFailed { batch, why: "no space left on the disk".into() });
        assert_eq!(*self.hub.directory(), self.stored, "the hub has what the store has");
    }

    /// What the store would read.
    pub(super) fn page(&self, wanted: &Read) -> Vec<Stamped> {
        let posted = self.records.iter().filter_map(|record| match record {
            Record::Posted { channel, stamp, from, payload, origin }
                if *channel == wanted.channel && wanted.range.contains(*stamp) =>
            {
                let (from, payload, origin) = ((**from).clone(), (**payload).clone(), origin.clone());
                Some(Stamped { from, ts: stamp.ts, payload, seq: stamp.seq, origin })
            }
            _ => None,
        });
        let mut page: Vec<Stamped> = posted.collect();
        if let Range::Before(_) = wanted.range {
            page.drain(..page.len().saturating_sub(wanted.max_rows));
        }
        page.truncate(wanted.max_rows);
        page
    }

    /// The oldest read that is under way.
    pub(super) fn take_read(&mut self) -> Read {
        self.reads.pop_front().expect("a page is asked for")
    }

    pub(super) fn reads_under_way(&self) -> usize {
        self.reads.len()
    }

    /// The store forgets messages.
    pub(super) fn purge(&mut self, gone: impl Fn(&Stamp) -> bool) {
        self.records.retain(|record| !matches!(record, Record::Posted { stamp, .. } if gone(stamp)));
    }

    /// The batch in flight has posts that the store knows already.
    pub(super) fn already_stored(&mut self, posts: &[(usize, Stamp)]) {
        let (batch, _) = self.in_flight.take().expect("a batch is in flight");
        self.handle(Input::AlreadyStored { batch, posts: posts.to_vec() });
        assert_eq!(*self.hub.directory(), self.stored, "the hub has what the store has");
    }

    /// Another life of the server, over what is stored.
    pub(super) fn restart(&self) -> Self {
        let mut later = Self::over(self.hub.config().clone(), self.stored.clone());
        later.records = self.records.clone();
        later.now = self.now;
        later
    }

    /// The last sequence number of a channel.
    pub(super) fn last(&self, name: &str) -> u64 {
        self.hub.directory().channel_named(name).unwrap().1.last.seq
    }

    /// Why the hub ended a connection.
    pub(super) fn reason(&self, conn: ConnId) -> Option<&CloseReason> {
        self.closed.get(&conn)
    }

    pub(super) fn answer(&mut self, wanted: &Read, page: Result<Vec<Stamped>, String>) {
        self.handle(Input::HistoryRead { read: wanted.clone(), page });
    }

    /// The stamps of a channel's messages on the disk.
    pub(super) fn stamps(&self, id: ChannelId) -> Vec<Stamp> {
        self.records
            .iter()
            .filter_map(|record| match record {
                Record::Posted { channel, stamp, .. } if *channel == id => Some(*stamp),
                _ => None,
            })
            .collect()
    }

    /// Hands a proven connection to the hub.
    pub(super) fn connect(&mut self, proven: Proven) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.handle(Input::Open { conn, proven });
        conn
    }

    /// Registers a user with the machine `m`; its session's handle is `s`.
    pub(super) fn register(&mut self, user: &str) -> ConnId {
        let conn = self.connect(proven(user, "m", "s", true));
        self.settle();
        assert!(self.established(conn).is_some(), "{user} did not get in: {:?}", self.closed(conn));
        conn
    }

    /// A session of an enrolled machine, written `user/machine/session`.
    pub(super) fn open(&mut self, path: &str) -> ConnId {
        let parts: Vec<&str> = path.split('/').collect();
        let conn = self.connect(proven(parts[0], parts[1], parts[2], false));
        assert_eq!(
            self.established(conn).map(|(path, _)| path).as_deref(),
            Some(path),
            "{:?}",
            self.closed(conn)
        );
        conn
    }

    pub(super) fn close(&mut self, conn: ConnId) {
        self.handle(Input::Closed { conn });
    }

    /// The path that a connection was given, and whether it is a server admin's.
    pub(super) fn established(&self, conn: ConnId) -> Option<(String, bool)> {
        self.established.get(&conn).cloned()
    }

    /// Why the hub ended a connection.
    pub(super) fn closed(&self, conn: ConnId) -> Option<String> {
        self.closed.get(&conn).map(|reason| match reason {
            CloseReason::Refused(refusal) => show(&Reply::Refused(refusal.clone())),
            reason => reason.to_string(),
        })
    }

    /// Whether a connection is a session.
    pub(super) fn lives(&self, conn: ConnId) -> bool {
        self.hub.path(conn).is_some()
    }

    /// What a connection received since it was last asked.
    pub(super) fn received(&mut self, conn: ConnId) -> Vec<String> {
        self.received.remove(&conn).unwrap_or_default()
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono + time;
        self.now.wall.0 += i64::try_from(time.as_millis()).unwrap();
    }

    /// The identity of the channel of this name.
    pub(super) fn channel(&self, name: &str) -> ChannelId {
        self.hub.directory().channel_named(name).unwrap().0
    }
}

pub(super) fn is_refused(answer: &str) -> bool {
    ["Malformed", "Unauthorized", "NotFound", "Internal"].iter().any(|kind| answer.starts_with(kind))
}

fn text(payload: &Payload) -> &str {
    match payload {
        Payload::Plain(text) => text,
        Payload::Encrypted(_) => "encrypted",
        Payload::Body(body) => match crate::body::view(body) {
            Ok(crate::body::View::Text(text)) => text,
            _ => "sealed",
        },
    }
}

/// A request as a command.
fn parse(line: &str) -> Command {
    let words: Vec<&str> = line.split(' ').collect();
    let channel = |at: usize| ChannelName::new(words[at]).unwrap();
    let user = |at: usize| UserName::new(words[at]).unwrap();
    let visibility = |at: usize| match words[at] {
        "public" => Visibility::Public,
        "unlisted" => Visibility::Unlisted,
        "private" => Visibility::Private,
        other => panic!("no visibility '{other}'"),
    };
    let rest = |from: usize| Payload::Plain(words[from..].join(" "));
    let number =
        |at: usize| words.get(at).filter(|word| **word != "-").map(|word| word.parse::<u64>().unwrap());
    Command::Admin(match words[0] {
        "join" => {
            return Command::Join { channel: channel(1), token: words.get(2).map(|token| Token::new(token)) };
        }
        "leave" => return Command::Leave { channel: channel(1) },
        "who" => return Command::Who { channel: words.get(1).map(|_| channel(1)) },
        "post" => return Command::Post { channel: channel(1), payload: rest(2) },
        "whisper" => return Command::Whisper { target: words[1].parse().unwrap(), payload: rest(2) },
        "channels" => return Command::ListChannels,
        "machines" => return Command::ListMachines,
        "users" => return Command::ListUsers,
        "read" => {
            let since = UnixMillis(words.get(2).map_or(0, |since| since.parse().unwrap()));
            return Command::ReadSince { channel: channel(1), since };
        }
        "ping" => return Command::Ping,
        "create" => Admin::CreateChannel { visibility: visibility(1), name: channel(2) },
        "delete" => Admin::DeleteChannel { name: channel(1) },
        "rename" => Admin::RenameChannel { name: channel(1), new_name: channel(2) },
        "set" => Admin::SetVisibility { visibility: visibility(1), name: channel(2) },
        "add" => Admin::AclAdd { channel: channel(1), user: user(2) },
        "remove" => Admin::AclRemove { channel: channel(1), user: user(2) },
        "members" => Admin::AclList { channel: channel(1) },
        "invite" => Admin::InviteCreate {
            channel: channel(1),
            uses: number(2).map(|uses| u32::try_from(uses).unwrap()),
            lifetime: number(3).map(Duration::from_secs),
        },
        "revoke" => Admin::InviteRevoke { token: Token::new(words[1]) },
        "invites" => Admin::InviteList { channel: channel(1) },
        "kick" => Admin::Kick {
            channel: channel(1),
            target: match words[2].contains('/') {
                true => KickTarget::Session(words[2].parse().unwrap()),
                false => KickTarget::User(user(2)),
            },
        },
        "ban" => Admin::Ban { channel: channel(1), user: user(2) },
        "unban" => Admin::Unban { channel: channel(1), user: user(2) },
        "bans" => Admin::BanList { channel: channel(1) },
        "expel" => Admin::UserRemove { user: user(1) },
        // `enrol MACHINE of USER`: the key is that user's and machine's.
        "enrol" => {
            Admin::MachineAdd { name: MachineName::new(words[1]).unwrap(), key: key(words[3], words[1]) }
        }
        "retire" => Admin::MachineRemove { name: MachineName::new(words[1]).unwrap() },
        other => panic!("no command '{other}'"),
    })
}

fn show(reply: &Reply) -> String {
    fn list<T>(what: &str, elements: &[T], show: impl Fn(&T) -> String) -> String {
        elements.iter().fold(String::from(what), |line, element| line + " " + &show(element))
    }
    match reply {
        Reply::Sent => "sent".into(),
        Reply::Joined(channel) => format!("joined {channel}"),
        Reply::Done(Opaque(what)) => format!("done {what}"),
        Reply::Presence { sessions, .. } => list("here", sessions, |path| path.to_string()),
        Reply::Channels(channels) => list("channels", channels, |channel| {
            format!(
                "{}:{:?}{}",
                channel.name,
                channel.visibility,
                if channel.member { ":member" } else { "" }
            )
        }),
        Reply::Machines(machines) => list("machines", machines, |machine| machine.name.to_string()),
        Reply::Users(users) => list("users", users, |user| user.to_string()),
        Reply::Invites(invites) => list("invites", invites, |invite| {
            let uses = invite.uses.map_or_else(String::new, |uses| format!("x{uses}"));
            let expires = invite.expires.map_or_else(String::new, |at| format!("@{}", at.0));
            format!("{}{uses}{expires}", invite.token.expose())
        }),
        Reply::UserInvites(invites) => list("user invites", invites, |invite| invite.id.clone()),
        Reply::Audit { entries, more } => {
            let tail = if *more { " …" } else { "" };
            list("audit", entries, |entry| format!("{}", entry.number)) + tail
        }
        Reply::Invite(token) => token.expose().into(),
        Reply::History { channel, messages } => {
            list(&format!("history of {channel}:"), messages, |message| text(&message.payload).into())
        }
        Reply::Pong => "pong".into(),
        Reply::Stream(reply) => format!("{reply:?}"),
        Reply::Refused(refusal) => {
            let kind = match refusal.kind() {
                "malformed" => "Malformed",
                "unauthorized" => "Unauthorized",
                "not_found" => "NotFound",
                "internal" => "Internal",
                other => panic!("no kind: {other}"),
            };
            format!("{kind}: {refusal}")
        }
    }
}
