//! The hub under the same steps, with a store that may fail, and what must hold after each step.

use std::collections::{BTreeMap, VecDeque};

use conclave_core::directory::Directory;
use conclave_core::handshake::{Claim, Proven, Terms};
use conclave_core::hub::{Action, BatchId, Config, ConnId, Hub, Input, Read, RequestId};
use conclave_core::name::{Handle, MachineName, UserName};
use conclave_core::payload::Payload;
use conclave_core::protocol::{Admin, CloseReason, Command, Reply, Stamped, Token};
use conclave_core::record::{ChannelId, Record, Stamp};

use super::{Answer, Conn, FULL, Model, Operation, Seen, Told, UNREADABLE, key, name};

macro_rules! hold {
    ($what:expr, $($message:tt)+) => {
        if !$what {
            return Err(format!($($message)+));
        }
    };
}

/// A hub with its store, and the model that it is compared with.
#[derive(Clone, Debug)]
pub struct Bench {
    pub hub: Hub,
    pub model: Model,
    /// What the store would give a restarted hub.
    pub stored: Directory,
    pub records: Vec<Record>,
    pub drained: bool,
    now: conclave_core::time::Now,
    flight: Option<(BatchId, Vec<Record>)>,
    reads: VecDeque<Read>,
    /// The newest stored stamp of each channel that ever was.
    last: BTreeMap<ChannelId, Stamp>,
    open: Vec<Conn>,
    next_conn: Conn,
    next_request: u64,
    next_token: u32,
    told: Told,
}

impl Bench {
    pub fn new(config: Config) -> Self {
        let model = Model::new(config.clone());
        Self {
            now: model.now,
            model,
            hub: Hub::new(config, Directory::default()),
            stored: Directory::default(),
            records: Vec::new(),
            drained: false,
            flight: None,
            reads: VecDeque::new(),
            last: BTreeMap::new(),
            open: Vec::new(),
            next_conn: 0,
            next_request: 0,
            next_token: 0,
            told: Told::new(),
        }
    }

    /// Does one step with the hub and with the model, and compares them.
    ///
    /// # Errors
    /// What does not hold.
    pub fn step(&mut self, operation: &Operation) -> Result<(), String> {
        self.told.clear();
        self.carry_out(operation)?;
        self.hub.check()?;
        self.model.step(operation);
        let model = &self.model;
        hold!(self.told == model.told, "told\n {:?}\nexpected\n {:?}", self.told, model.told);
        hold!(self.drained == model.is_drained(), "drained: {}", self.drained);
        hold!(*self.hub.directory() == self.stored, "the directory is not what is stored");
        let paths: Vec<_> = self.hub.sessions().map(|(path, _)| path.to_string()).collect();
        hold!(paths == model.paths(), "sessions {paths:?}, expected {:?}", model.paths());
        // Only a commit may have changed it: what is stored changes by nothing else here.
        if matches!(operation, Operation::Persisted) {
            let durable = durable(&self.stored);
            hold!(durable == model.durable(), "stored\n {durable:#?}\nexpected\n {:#?}", model.durable());
        }
        let has_batch = self.hub.has_batch();
        hold!(has_batch == model.has_batch(), "has a batch: {has_batch}");
        Ok(())
    }

    /// What a restart would fold is what the hub has.
    ///
    /// # Errors
    /// That it is not.
    pub fn check_fold(&self) -> Result<(), String> {
        hold!(self.records.iter().collect::<Directory>() == *self.hub.directory(), "the fold differs");
        Ok(())
    }

    fn carry_out(&mut self, operation: &Operation) -> Result<(), String> {
        let input = match operation {
            Operation::Pass { millis } => {
                self.now.mono.0 += u64::from(*millis);
                self.now.wall.0 += i64::from(*millis);
                return Ok(());
            }
            Operation::Jump { millis } => {
                self.now.wall.0 += i64::from(*millis);
                return Ok(());
            }
            Operation::Open { user, machine, handle, key: of, registers } => {
                let conn = self.next_conn;
                self.next_conn += 1;
                self.open.push(conn);
                let claim = registers.then(|| Claim {
                    user: UserName::new(&name::user(*user)).unwrap(),
                    machine: MachineName::new(&name::machine(*machine)).unwrap(),
                    invite: None,
                });
                let session = Handle::new(&name::handle(*handle)).unwrap();
                Input::Open {
                    conn: ConnId(conn),
                    proven: Proven { key: key(of.0, of.1), session, claim, terms: Terms::default() },
                }
            }
            Operation::Request { session, command } => {
                let sessions: Vec<_> = self.hub.sessions().map(|(_, conn)| conn).collect();
                let Some(conn) = sessions.get(usize::from(*session) % sessions.len().max(1)) else {
                    return Ok(());
                };
                let token = Some(Token::new(&format!("t{:03}", self.next_token)));
                if matches!(command, Command::Admin(Admin::InviteCreate { .. })) {
                    self.next_token += 1;
                }
                let request = RequestId(self.next_request);
                self.next_request += 1;
                Input::Request { conn: *conn, request, command: command.clone(), token }
            }
            Operation::Close { conn } | Operation::Overflow { conn } => {
                let Some(conn) = self.open.get(usize::from(*conn) % self.open.len().max(1)).copied() else {
                    return Ok(());
                };
                if matches!(operation, Operation::Close { .. }) {
                    Input::Closed { conn: ConnId(conn) }
                } else {
                    Input::Overflowed { conn: ConnId(conn) }
                }
            }
            Operation::RoundEnded => Input::RoundEnded,
            Operation::Persisted => {
                let Some((batch, records)) = self.flight.take() else { return Ok(()) };
                for record in records {
                    self.store(record)?;
                }
                Input::Persisted { batch }
            }
            Operation::Failed => {
                let Some((batch, _)) = self.flight.take() else { return Ok(()) };
                Input::PersistFailed { batch, why: FULL.into() }
            }
            Operation::Read { fails } => {
                let Some(read) = self.reads.pop_front() else { return Ok(()) };
                let page = if *fails { Err(UNREADABLE.into()) } else { Ok(self.page(&read)) };
                Input::HistoryRead { read, page }
            }
            Operation::Shutdown => Input::Shutdown,
        };
        let closed = match input {
            Input::Closed { conn } => Some(conn.0),
            _ => None,
        };
        let mut actions = Vec::new();
        self.hub.handle(self.now, input, &mut actions);
        actions.into_iter().try_for_each(|action| self.take_in(action))?;
        self.open.retain(|conn| Some(*conn) != closed);
        Ok(())
    }

    fn store(&mut self, record: Record) -> Result<(), String> {
        if let Record::Posted { channel, stamp, .. } = &record {
            let last = self.last.entry(*channel).or_default();
            hold!(stamp.seq == last.seq + 1, "{channel:?} goes from {} to {}", last.seq, stamp.seq);
            hold!(stamp.ts > last.ts, "{channel:?} is stamped {:?} after {:?}", stamp.ts, last.ts);
            *last = *stamp;
        }
        self.stored.apply(&record);
        self.records.push(record);
        Ok(())
    }

    fn page(&self, read: &Read) -> Vec<Stamped> {
        let posts = self.records.iter().filter_map(|record| match record {
            Record::Posted { channel, stamp, from, payload, .. }
                if *channel == read.channel && read.range.contains(*stamp) =>
            {
                Some(Stamped::without_origin((**from).clone(), stamp.ts, (**payload).clone()))
            }
            _ => None,
        });
        posts.take(read.max_rows).collect()
    }

    /// What a connection is told after its end reaches nobody.
    fn tell(&mut self, conn: ConnId, seen: Seen) {
        if self.open.contains(&conn.0) {
            self.told.entry(conn.0).or_default().push(seen);
        }
    }

    fn take_in(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Notify { .. } | Action::Mark { .. } | Action::Probe { .. } => {
                return Err(format!("a session of version 1 has no {action:?}"));
            }
            Action::Established { conn, session } => {
                hold!(self.open.contains(&conn.0), "{conn:?} is established after its end");
                self.tell(conn, Seen::Established(session.path.to_string(), session.admin));
            }
            Action::Reply { conn, request, reply } => self.tell(conn, Seen::Reply(request.0, answer(reply))),
            Action::Deliver { channel, from, payload, to, except, .. } => {
                for conn in to.iter().filter(|conn| *conn != except) {
                    hold!(self.open.contains(&conn.0), "{conn:?} receives a post after its end");
                    let (channel, from) = (channel.to_string(), from.to_string());
                    self.tell(conn, Seen::Post { channel, from, text: text(&payload) });
                }
            }
            Action::Whisper { conn, from, target, payload } => {
                let (from, target) = (from.to_string(), target.to_string());
                self.tell(conn, Seen::Whisper { from, target, text: text(&payload) });
            }
            Action::Close { conn, reason } => {
                hold!(self.open.contains(&conn.0), "{conn:?} is ended after its end");
                self.tell(
                    conn,
                    match reason {
                        CloseReason::Refused(refusal) => Seen::Refused(refusal),
                        other => Seen::Closed(other.label()),
                    },
                );
                self.open.retain(|one| *one != conn.0);
            }
            Action::Persist { batch, records } => {
                hold!(self.flight.is_none(), "two batches are in flight");
                hold!(!records.is_empty(), "an empty batch");
                self.flight = Some((batch, records));
            }
            Action::ReadHistory(read) => self.reads.push_back(read),
            Action::ReadAudit(_) => unreachable!("these sessions speak version 1"),
            Action::Drained => self.drained = true,
        }
        Ok(())
    }
}

/// A directory line by line, as the model tells its own.
fn durable(directory: &Directory) -> Vec<String> {
    let mut lines = Vec::new();
    for name in directory.user_names() {
        let user = directory.user_named(name.as_str()).unwrap().1;
        let mut machines: Vec<_> =
            user.machines.iter().map(|one| format!("{}={}", one.name, one.key)).collect();
        machines.sort();
        lines.push(format!("user {name}: {machines:?}"));
    }
    for (_, channel) in directory.channels() {
        let user = |id: &conclave_core::record::UserId| directory.user(*id).unwrap().name.to_string();
        let names = |ids: &std::collections::BTreeSet<_>| {
            let mut names: Vec<_> = ids.iter().map(user).collect();
            names.sort();
            names
        };
        let mut invites: Vec<_> = channel
            .invites
            .iter()
            .map(|(token, one)| format!("{} {:?} {:?}", token.expose(), one.uses, one.expires.map(|at| at.0)))
            .collect();
        invites.sort();
        lines.push(format!(
            "channel {}: {:?} of {}, members {:?}, banned {:?}, invites {invites:?}, {} posts until {}",
            channel.name,
            channel.visibility,
            user(&channel.creator),
            names(&channel.members),
            names(&channel.banned),
            channel.last.seq,
            channel.last.ts.0,
        ));
    }
    lines.sort();
    lines
}

fn text(payload: &Payload) -> String {
    match payload {
        Payload::Plain(text) => text.clone(),
        Payload::Encrypted(_) | Payload::Body(_) => unreachable!("only text is posted here"),
    }
}

fn answer(reply: Reply) -> Answer {
    let all = |names: Vec<UserName>| names.iter().map(ToString::to_string).collect();
    match reply {
        Reply::Stream(_) | Reply::UserInvites(_) | Reply::Audit { .. } => {
            unreachable!("these sessions speak version 1")
        }
        Reply::Sent => Answer::Sent,
        Reply::Joined(channel) => Answer::Joined(channel.to_string()),
        Reply::Done(what) => Answer::Done(what.0),
        Reply::Presence { sessions, .. } => {
            Answer::Presence(sessions.iter().map(ToString::to_string).collect())
        }
        Reply::Channels(channels) => Answer::Channels(
            channels.into_iter().map(|one| (one.name.to_string(), one.visibility, one.member)).collect(),
        ),
        Reply::Machines(machines) => {
            Answer::Machines(machines.iter().map(|one| one.name.to_string()).collect())
        }
        Reply::Users(users) => Answer::Users(all(users)),
        Reply::Invites(invites) => Answer::Invites(
            invites
                .into_iter()
                .map(|one| (one.token.expose().into(), one.uses, one.expires.map(|at| at.0)))
                .collect(),
        ),
        Reply::Invite(token) => Answer::Invite(token.expose().into()),
        Reply::History { channel, messages } => Answer::History(
            channel.to_string(),
            messages.into_iter().map(|one| (one.from.to_string(), one.ts.0, text(&one.payload))).collect(),
        ),
        Reply::Pong => Answer::Pong,
        Reply::Refused(refusal) => Answer::Refused(refusal),
    }
}
