//! The link: one client's connection to one server, kept up.
//!
//! Dial, handshake, join every followed channel again, fill the gap, live. A shell drives it: it hands every
//! [`Input`] to [`Link::handle`] with the time, carries out the [`Action`]s in their order, and hands in
//! [`Input::Tick`] when [`Link::next_deadline`] has come, which is to be asked after every call. Each call is
//! drained: nothing is left to be polled for.
//!
//! What holds: a message posted to a followed channel is handed on once and in order, across any number of drops
//! (module `channel`); every request is answered once, at the latest when its connection drops.

mod api;
mod backoff;
mod channel;
mod identity;
mod refusal;
mod requests;
mod session;
mod subscriptions;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

pub use self::api::{Action, Config, DownReason, Input, Refused};
pub use self::channel::JoinFrom;
pub use self::identity::ServerRegistry;
pub use self::requests::{RequestError, RequestId};

use self::backoff::{Backoff, Jitter};
use self::identity::{Identity, Superseded};
use self::requests::{Asker, Expect, Requests};
use self::session::Session;
use self::subscriptions::Subscriptions;
use crate::handshake::Established;
use crate::key::SecretKey;
use crate::name::SessionPath;
use crate::opaque::Opaque;
use crate::protocol::Command;
use crate::time::{Monotonic, Now};
use crate::wire::MAX_FRAME;
use crate::wire::v1::client::encode_command;
use crate::wire::v1::handshake::{ClientHandshake, ClientStep};

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
#[derive(Clone, Debug)]
pub struct Link {
    key: SecretKey,
    identity: Identity,
    jitter: Jitter,
    state: State,
    backoff: Backoff,
    yielding: Backoff,
    requests: Requests,
    subscriptions: Subscriptions,
    server_id: Option<String>,
    /// The application knows that there is no session, and why.
    told_down: bool,
    /// Why the server lets nobody in, as last told.
    told_refused: Option<Refused>,
}

#[derive(Clone, Debug)]
enum State {
    Idle,
    Waiting { until: Monotonic },
    Dialing { until: Monotonic },
    Handshaking { handshake: ClientHandshake, until: Monotonic },
    Up(Box<Session>),
    Ended,
}

/// What a step inside a live session has at hand.
struct Context<'a> {
    own: &'a SessionPath,
    now: Now,
    jitter: &'a mut Jitter,
    actions: &'a mut Vec<Action>,
}

impl Link {
    /// A link that does nothing before [`Input::Start`].
    pub fn new(config: Config) -> Self {
        Self {
            key: config.key,
            identity: Identity::new(config.handle, config.defaulted),
            jitter: Jitter::new(&config.seed),
            state: State::Idle,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            yielding: Backoff::new(YIELD_FIRST, YIELD_LONGEST),
            requests: Requests::default(),
            subscriptions: Subscriptions::new(&config.seed),
            server_id: None,
            told_down: false,
            told_refused: None,
        }
    }

    /// Takes what happened; appends what is to be done.
    pub fn handle(&mut self, now: Now, input: Input<'_>, actions: &mut Vec<Action>) {
        match input {
            Input::Start => {
                if let State::Idle = self.state {
                    self.dial(now, actions);
                }
            }
            Input::Tick => {}
            Input::Dialed { server_id } => self.dialed(now, server_id, actions),
            Input::DialFailed(text) => {
                if let State::Dialing { .. } = self.state {
                    self.retry(now, DownReason::Dial(cut(text)), actions);
                }
            }
            Input::Message(Opaque(bytes)) => match core::mem::replace(&mut self.state, State::Ended) {
                State::Handshaking { handshake, until } => {
                    self.shake(now, handshake, until, bytes, actions);
                }
                State::Up(session) => {
                    self.state = State::Up(session);
                    self.message(now, bytes, actions);
                }
                other => self.state = other,
            },
            Input::Closed(text) => {
                if let State::Handshaking { .. } | State::Up(_) = self.state {
                    self.retry(now, DownReason::Closed(cut(text)), actions);
                }
            }
            Input::Request { id, command, deadline } => self.request(now, id, &command, deadline, actions),
            Input::Join { channel, token, from } => {
                if !matches!(self.state, State::Ended) {
                    self.subscriptions.join(channel, token, from, now);
                }
            }
            Input::Leave { channel } => {
                if self.subscriptions.leave(&channel)
                    && let State::Up(_) = self.state
                {
                    let command = Command::Leave { channel: channel.clone() };
                    self.subscriptions.leaving(channel.clone());
                    self.send(now, Asker::Leave { channel }, &command, actions);
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
            State::Waiting { until } | State::Dialing { until } | State::Handshaking { until, .. } => {
                Some(*until)
            }
            State::Up(session) => {
                let silent = session.silent(self.requests.oldest());
                [Some(silent), Some(session.ping_at()), self.subscriptions.deadline()]
                    .into_iter()
                    .flatten()
                    .min()
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
            State::Dialing { until } if *until <= now.mono => {
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
        self.state = State::Dialing { until: now.mono + OPENING };
        actions.push(Action::Dial);
    }

    fn dialed(&mut self, now: Now, server_id: Option<&str>, actions: &mut Vec<Action>) {
        let State::Dialing { .. } = self.state else {
            return actions.push(Action::Hangup);
        };
        self.server_id = server_id.map(cut);
        let (handshake, hello) = ClientHandshake::new(self.key.clone(), self.identity.handle(), None);
        actions.push(Action::Send(Opaque(hello)));
        self.state = State::Handshaking { handshake, until: now.mono + OPENING };
    }

    fn shake(
        &mut self,
        now: Now,
        handshake: ClientHandshake,
        until: Monotonic,
        bytes: &[u8],
        actions: &mut Vec<Action>,
    ) {
        match handshake.on_frame(bytes) {
            ClientStep::Continue { handshake, send } => {
                actions.extend(send.into_iter().map(|frame| Action::Send(Opaque(frame))));
                self.state = State::Handshaking { handshake, until };
            }
            ClientStep::Done(established) => self.up(now, established, actions),
            ClientStep::Failed(error) => match refusal::lasting(&error) {
                Some(refused) => self.not_let_in(now, refused, actions),
                None => self.hang_up(now, DownReason::Handshake(error), actions),
            },
        }
    }

    fn up(&mut self, now: Now, established: Established, actions: &mut Vec<Action>) {
        let Established { path, admin } = established;
        self.told_down = false;
        self.told_refused = None;
        actions.push(Action::Up { path: path.clone(), admin, server_id: self.server_id.clone() });
        self.state = State::Up(Box::new(Session::new(path, now.mono)));
        // Channels first: what waited may be posts to them.
        self.subscribe(now, actions);
        self.requests.flush(now.mono, |frame| actions.push(Action::Send(Opaque(frame))));
    }

    fn request(
        &mut self,
        now: Now,
        id: RequestId,
        command: &Command,
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
        let mut frame = Vec::new();
        encode_command(command, &mut frame);
        if frame.len() > MAX_FRAME {
            return fail(RequestError::TooLarge);
        }
        if !self.requests.has_room(frame.len()) {
            return fail(RequestError::Busy);
        }
        let expect = Expect::of(command);
        match deadline {
            Some(deadline) if !up => self.requests.wait(id, deadline, expect, frame),
            _ => {
                self.requests.sent(Asker::Application { id, deadline }, expect, frame.len(), now.mono);
                actions.push(Action::Send(Opaque(frame)));
            }
        }
    }

    /// The link's own requests.
    fn send(&mut self, now: Now, asker: Asker, command: &Command, actions: &mut Vec<Action>) {
        let mut frame = Vec::new();
        encode_command(command, &mut frame);
        self.requests.sent(asker, Expect::of(command), frame.len(), now.mono);
        actions.push(Action::Send(Opaque(frame)));
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
        self.tell_down(reason, actions);
        let wait = self.backoff.next(&mut self.jitter);
        self.state = State::Waiting { until: now.mono + wait };
    }

    /// The server does not let us in. That somebody has done something about it is seen by trying.
    fn not_let_in(&mut self, now: Now, refused: Refused, actions: &mut Vec<Action>) {
        self.told_down = true;
        self.hang_up(now, DownReason::Closed(String::new()), actions);
        if self.told_refused.as_ref() != Some(&refused) {
            self.told_refused = Some(refused.clone());
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
        self.tell_down(DownReason::Ended(cut(text)), actions);
        let wait = match verdict {
            Superseded::Reconnect => self.backoff.next(&mut self.jitter),
            Superseded::Rename { from, at_once } => {
                if at_once {
                    self.backoff.reset();
                }
                path.iter().for_each(|path| self.subscriptions.renamed(path));
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
        self.subscriptions.dropped(now);
        let State::Up(session) = core::mem::replace(&mut self.state, State::Ended) else {
            return None;
        };
        if now.mono.since(session.up_at()) >= STABLE {
            self.backoff.reset();
        }
        Some(session.up_at())
    }

    fn tell_down(&mut self, reason: DownReason, actions: &mut Vec<Action>) {
        if !core::mem::replace(&mut self.told_down, true) {
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
        self.requests.end(|id| {
            actions.push(Action::Replied { id, result: Err(RequestError::Ended) });
        });
        self.subscriptions.clear();
        actions.extend(last);
    }
}

fn cut(text: &str) -> String {
    String::from(&text[..text.floor_char_boundary(MAX_TEXT)])
}
