//! The link: one client's connection to one server, kept up.
//!
//! Dial, handshake, join every followed channel again, fill the gap, live. A shell drives it: it hands every
//! [`Input`] to [`Link::handle`] with the time, carries out the [`Action`]s in their order, and hands in
//! [`Input::Tick`] when [`Link::next_deadline`] has come, which is to be asked after every call. Each call is
//! drained: nothing is left to be polled for.
//!
//! What holds: a message posted to a followed channel is handed on once and in order, across any number of drops
//! (modules `streams` and, for servers of version 1, `by_content`); every request is answered once, at the latest at its
//! deadline. A post is sent again after a drop, under the same message id, so that the server stores it once; version 1
//! knows no ids, and a request that the connection dropped under fails.
//!
//! A link asks for the newest version that it may speak, and for version 1 where the server has nothing newer. A server
//! whose key is known never gets to speak version 1: that would be a downgrade.

mod api;
mod backoff;
mod by_content;
mod channels;
mod fresh;
mod history;
mod identity;
mod live;
mod posts;
mod refusal;
mod requests;
mod search;
mod senders;
mod streams;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

pub use self::api::{
    Action, Config, DownReason, Input, JoinFrom, Loss, Newest, OwnMailbox, Place, Proof, Refused, Version,
};
pub use self::identity::ServerRegistry;
pub use self::requests::{RequestError, RequestId};

use self::backoff::{Backoff, Jitter};
use self::channels::Channels;
use self::fresh::Fresh;
use self::history::Bookmark;
use self::identity::{Identity, Superseded};
use self::live::Live;
use self::requests::{Purpose, Requests, Waiting};
use self::senders::Senders;
use crate::handshake::Established;
use crate::key::SecretKey;
use crate::name::SessionPath;
use crate::opaque::Opaque;
use crate::protocol::{Command, End};
use crate::time::{Monotonic, Now};
use crate::wire::client::{Client, Credentials, Event, Session};
use crate::wire::v2::encoding::Encoding;

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A link that stayed up so long begins its waits anew.
const STABLE: Duration = Duration::from_secs(30);
/// How slowly a session comes back to a handle that another one holds.
const YIELD_FIRST: Duration = Duration::from_secs(60);
const YIELD_LONGEST: Duration = Duration::from_secs(600);
/// How long dialing may take, and the handshake.
const OPENING: Duration = Duration::from_secs(10);
/// The longest text of a shell that is kept.
const MAX_TEXT: usize = 1024;

/// A link; see the module.
#[derive(Clone)]
pub struct Link {
    key: SecretKey,
    newest: Option<Newest>,
    seed: [u8; 32],
    fresh: Fresh,
    identity: Identity,
    jitter: Jitter,
    state: State,
    backoff: Backoff,
    yielding: Backoff,
    requests: Requests,
    channels: Channels,
    senders: Senders,
    bookmark: Bookmark,
    server_id: Option<String>,
    /// The application knows that there is no session, and why.
    reported_down: bool,
    /// Why the server does not let this link in, as last reported.
    reported_refused: Option<Refused>,
}

#[derive(Clone, Debug)]
enum State {
    Idle,
    Waiting { until: Monotonic },
    Dialing { version: Version, until: Monotonic },
    Handshaking { client: Box<Client>, until: Monotonic },
    Up(Box<Live>),
    Ended,
}

/// What a step inside a live session has at hand.
struct Context<'a> {
    own: &'a SessionPath,
    now: Now,
    jitter: &'a mut Jitter,
    actions: &'a mut Vec<Action>,
}

// The seed makes nonces and hashes that nobody else can compute.
impl core::fmt::Debug for Link {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Link")
            .field("identity", &self.identity)
            .field("state", &self.state)
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// A link that does nothing before [`Input::Start`].
    pub fn new(config: Config) -> Self {
        Self {
            key: config.key,
            newest: config.newest,
            seed: config.seed,
            fresh: Fresh::new(config.seed),
            identity: Identity::new(config.handle, config.defaulted),
            jitter: Jitter::new(&config.seed),
            state: State::Idle,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            yielding: Backoff::new(YIELD_FIRST, YIELD_LONGEST),
            requests: Requests::default(),
            senders: Senders::default(),
            bookmark: Bookmark::default(),
            channels: Channels::new(version(config.newest), &config.seed),
            server_id: None,
            reported_down: false,
            reported_refused: None,
        }
    }

    /// Processes an input and appends the resulting actions.
    pub fn handle(&mut self, now: Now, input: Input<'_>, actions: &mut Vec<Action>) {
        match input {
            Input::Start => {
                if let State::Idle = self.state {
                    self.dial(now, actions);
                }
            }
            Input::Tick => {}
            Input::Dialed { server_id } => self.dialed(now, server_id, actions),
            Input::VersionRefused => self.version_refused(now, actions),
            Input::DialFailed(text) => {
                if let State::Dialing { .. } = self.state {
                    self.retry(now, DownReason::Dial(cut(text)), actions);
                }
            }
            Input::Message(Opaque(bytes)) => self.message(now, bytes, actions),
            Input::Closed(text) => {
                if let State::Handshaking { .. } | State::Up(_) = self.state {
                    self.retry(now, DownReason::Closed(cut(text)), actions);
                }
            }
            Input::Request { id, command, deadline } => self.request(now, id, command, deadline, actions),
            Input::Join { channel, token, from } => {
                if !matches!(self.state, State::Ended) {
                    let mut news = Vec::new();
                    self.channels.join(channel, token, from, now, &mut news);
                    self.hand_on(now, news, actions);
                }
            }
            Input::Open { mailbox, after } => {
                if !matches!(self.state, State::Ended) {
                    self.channels.open(mailbox, after, now.mono);
                }
            }
            Input::Leave { channel } => self.leave(now, channel, actions),
            Input::Pin { user, machine, key } => self.senders.pin(user, machine, key),
            Input::Report { stream, delivered, seen } => {
                if let Channels::ByPosition(streams) = &mut self.channels {
                    streams.report(stream, delivered, seen, now.mono);
                }
            }
            Input::Disable(reason) => self.end(Some(Action::Disabled(cut(reason))), actions),
            Input::Stop => self.end(None, actions),
        }
        self.drain(now, actions);
    }

    /// When to hand in [`Input::Tick`]; `None`: not before another input.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let state = match &self.state {
            State::Idle | State::Ended => None,
            State::Waiting { until } | State::Dialing { until, .. } | State::Handshaking { until, .. } => {
                Some(*until)
            }
            State::Up(live) => {
                let dead_at = live.dead_at(self.requests.oldest());
                let due = [self.channels.deadline(), self.senders.deadline(), Some(live.ping_at())];
                due.into_iter().flatten().chain([dead_at]).min()
            }
        };
        [state, self.requests.deadline()].into_iter().flatten().min()
    }

    /// Does what is due and what has become possible.
    fn drain(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.requests.expire(now.mono, |id, error| {
            actions.push(Action::Replied { id, result: Err(error) });
        });
        match &self.state {
            State::Waiting { until } if *until <= now.mono => self.dial(now, actions),
            State::Dialing { until, .. } if *until <= now.mono => {
                actions.push(Action::Hangup);
                self.retry(now, DownReason::DialTimeout, actions);
            }
            State::Handshaking { until, .. } if *until <= now.mono => {
                self.hang_up(now, DownReason::HandshakeTimeout, actions);
            }
            State::Up(_) => self.keep_up(now, actions),
            _ => {}
        }
    }

    fn dial(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.dial_for(version(self.newest), now, actions);
    }

    fn dial_for(&mut self, version: Version, now: Now, actions: &mut Vec<Action>) {
        self.state = State::Dialing { version, until: now.mono + OPENING };
        actions.push(Action::Dial(version));
    }

    /// The server is there, and does not speak the version that was asked for.
    fn version_refused(&mut self, now: Now, actions: &mut Vec<Action>) {
        match (&self.state, self.newest) {
            (State::Dialing { version: Version::V2, .. }, Some(Newest { pinned: Some(_), .. })) => {
                self.not_let_in(now, Refused::Downgrade, actions);
            }
            (State::Dialing { version: Version::V2, .. }, _) => self.dial_for(Version::V1, now, actions),
            (State::Dialing { version: Version::V1, .. }, _) => {
                let reason = DownReason::Protocol("it answers for a version that was not asked for");
                self.retry(now, reason, actions);
            }
            _ => {}
        }
    }

    fn dialed(&mut self, now: Now, server_id: Option<&str>, actions: &mut Vec<Action>) {
        let State::Dialing { version, .. } = self.state else {
            return actions.push(Action::Hangup);
        };
        self.server_id = server_id.map(cut);
        let credentials =
            Credentials { key: self.key.clone(), handle: self.identity.handle().clone(), claim: None };
        let send = |message| actions.push(Action::Send(Opaque(message)));
        let client = match (version, self.newest) {
            (Version::V2, Some(Newest { pinned, key, keep })) => {
                let session = Session { nonce: self.fresh.bytes(), pinned, key, keep };
                Client::start_v2(Encoding::Protobuf, credentials, session, send)
            }
            _ => Client::start(credentials, send),
        };
        self.state = State::Handshaking { client: Box::new(client), until: now.mono + OPENING };
    }

    fn message(&mut self, now: Now, bytes: &[u8], actions: &mut Vec<Action>) {
        let client = match &mut self.state {
            State::Handshaking { client, .. } => client,
            State::Up(live) => live.heard(now.mono),
            _ => return,
        };
        match client.on_message(bytes, |message| actions.push(Action::Send(Opaque(message)))) {
            None => {}
            Some(Event::Established(established)) => self.up(now, established, actions),
            Some(Event::HandshakeFailed(error)) => match refusal::lasting(&error) {
                Some(refused) => self.not_let_in(now, refused, actions),
                None => self.hang_up(now, DownReason::Handshake(error), actions),
            },
            Some(Event::Ended { end: Some(End::Superseded), text }) => self.superseded(now, &text, actions),
            Some(Event::Ended { text, .. }) => self.hang_up(now, DownReason::Ended(text), actions),
            Some(Event::Violation(what)) => self.hang_up(now, DownReason::Protocol(what), actions),
            Some(Event::Reply { request, reply }) => self.reply(now, request, reply, actions),
            Some(Event::Delivered { channel, from, payload }) => {
                self.delivered(now, channel, from, payload, actions);
            }
            Some(Event::Whispered { from, payload }) => actions.push(Action::Whispered { from, payload }),
            Some(Event::Role { admin }) => actions.push(Action::Role { admin }),
            Some(Event::Notice(notice)) => self.notice(now, notice, actions),
        }
    }

    fn up(&mut self, now: Now, established: Established, actions: &mut Vec<Action>) {
        let State::Handshaking { client, .. } = core::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        let Established { path, user, admin, server_key } = established;
        self.reported_down = false;
        self.reported_refused = None;
        let server_id = self.server_id.clone();
        actions.push(Action::Up { path: path.clone(), user, admin, server_id, server_key });
        if let (Some(found), Some(newest)) = (server_key, &mut self.newest) {
            newest.pinned = Some(found);
        }
        let spoken = if server_key.is_some() { Version::V2 } else { Version::V1 };
        self.channels.speak(spoken, &self.seed, now);
        self.state = State::Up(Box::new(Live::new(client, path, server_key, now.mono)));
        // Channels first: what waited may be posts to them.
        self.subscribe(now, actions);
        self.send_waiting(now, actions);
        if spoken == Version::V2 {
            self.ask_for_keys(now, actions);
        }
    }

    /// Sends what waited for a connection, or for a channel to be joined on it.
    fn send_waiting(&mut self, now: Now, actions: &mut Vec<Action>) {
        for Waiting { id, deadline, command, sent } in self.requests.take_waiting() {
            let deadline = Some(deadline);
            match &self.channels {
                // What was signed is sent as it was: under another id it would be another message.
                Channels::ByPosition(_) if sent => {
                    self.send(now, Purpose::Application { id, deadline }, &command, actions);
                }
                _ => self.put(now, (id, deadline), command, actions),
            }
        }
    }

    fn request(
        &mut self,
        now: Now,
        id: RequestId,
        command: Command,
        deadline: Option<Monotonic>,
        actions: &mut Vec<Action>,
    ) {
        let mut fail = |error| actions.push(Action::Replied { id, result: Err(error) });
        if let Command::Join { .. } | Command::Leave { .. } | Command::Ping = command {
            return fail(RequestError::Misplaced);
        }
        if let State::Ended = self.state {
            return fail(RequestError::Ended);
        }
        let up = matches!(self.state, State::Up(_));
        if !up && deadline.is_none() {
            return fail(RequestError::NotConnected);
        }
        if let Err(error) = self.requests.check(&command) {
            return fail(error);
        }
        match deadline {
            Some(deadline) if !up => self.requests.wait(id, deadline, command),
            _ => self.put(now, (id, deadline), command, actions),
        }
    }

    /// Sends a request, while the session lives.
    fn send(&mut self, now: Now, purpose: Purpose, command: &Command, actions: &mut Vec<Action>) {
        let State::Up(live) = &mut self.state else { return };
        let number = self.requests.sent(purpose, command, now.mono);
        let answer =
            live.client.request(number, command, |message| actions.push(Action::Send(Opaque(message))));
        if let Some(Event::Reply { request, reply }) = answer {
            self.reply(now, request, reply, actions);
        }
    }

    /// Closes the connection and tries again later.
    fn hang_up(&mut self, now: Now, reason: DownReason, actions: &mut Vec<Action>) {
        actions.push(Action::Hangup);
        self.retry(now, reason, actions);
    }

    /// There is no connection any more; another one is made after a while.
    fn retry(&mut self, now: Now, reason: DownReason, actions: &mut Vec<Action>) {
        if let Some(up_at) = self.lose_session(now, actions) {
            self.identity.ended(up_at, now.mono);
        }
        self.report_down(reason, actions);
        let wait = self.backoff.next(&mut self.jitter);
        self.state = State::Waiting { until: now.mono + wait };
    }

    /// The server does not let us in. That somebody has done something about it is seen by trying.
    fn not_let_in(&mut self, now: Now, refused: Refused, actions: &mut Vec<Action>) {
        self.reported_down = true;
        self.hang_up(now, DownReason::Closed(String::new()), actions);
        if self.reported_refused.as_ref() != Some(&refused) {
            self.reported_refused = Some(refused.clone());
            actions.push(Action::Refused(refused));
        }
    }

    /// Another session has our path.
    fn superseded(&mut self, now: Now, text: &str, actions: &mut Vec<Action>) {
        actions.push(Action::Hangup);
        let path = self.path().cloned();
        let verdict = match self.lose_session(now, actions) {
            Some(up_at) => self.identity.superseded(up_at, now.mono),
            None => Superseded::Reconnect,
        };
        self.report_down(DownReason::Ended(cut(text)), actions);
        let wait = match verdict {
            Superseded::Reconnect => self.backoff.next(&mut self.jitter),
            Superseded::Rename { from, at_once } => {
                if at_once {
                    self.backoff.reset();
                }
                path.iter().for_each(|path| self.channels.renamed(path));
                actions.push(Action::Renamed { from, to: self.identity.handle().clone() });
                self.backoff.next(&mut self.jitter)
            }
            Superseded::Yield { first } => {
                if first {
                    self.yielding.reset();
                    actions.push(Action::Collision { handle: self.identity.handle().clone() });
                }
                self.yielding.next(&mut self.jitter)
            }
        };
        self.state = State::Waiting { until: now.mono + wait };
    }

    /// Fails what depended on the session, if there is one; returns when it had come up.
    fn lose_session(&mut self, now: Now, actions: &mut Vec<Action>) -> Option<Monotonic> {
        self.requests.interrupt(|id| {
            actions.push(Action::Replied { id, result: Err(RequestError::Interrupted) });
        });
        self.channels.dropped(now);
        self.senders.dropped();
        let State::Up(live) = core::mem::replace(&mut self.state, State::Ended) else {
            return None;
        };
        if now.mono.since(live.up_at()) >= STABLE {
            self.backoff.reset();
        }
        Some(live.up_at())
    }

    fn report_down(&mut self, reason: DownReason, actions: &mut Vec<Action>) {
        if !core::mem::replace(&mut self.reported_down, true) {
            actions.push(Action::Down(reason));
        }
    }

    fn end(&mut self, last: Option<Action>, actions: &mut Vec<Action>) {
        let connected =
            matches!(self.state, State::Dialing { .. } | State::Handshaking { .. } | State::Up(_));
        if connected {
            actions.push(Action::Hangup);
        }
        self.state = State::Ended;
        self.requests.interrupt(|id| {
            actions.push(Action::Replied { id, result: Err(RequestError::Interrupted) });
        });
        self.requests.end(|id, error| actions.push(Action::Replied { id, result: Err(error) }));
        self.channels.clear();
        actions.extend(last);
    }
}

/// The version to ask for.
fn version(newest: Option<Newest>) -> Version {
    if newest.is_some() { Version::V2 } else { Version::V1 }
}

fn cut(text: &str) -> String {
    String::from(&text[..text.floor_char_boundary(MAX_TEXT)])
}
