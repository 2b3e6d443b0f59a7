//! `conclave tail` and `conclave inbox`: the messages of a channel or of one's own mailboxes, each once and in order, across
//! drops and restarts.

use std::collections::BTreeSet;

use conclave_core::key::PublicKey;
use conclave_core::link::{
    Action, Config, DownReason, Input, JoinFrom, Loss, OwnMailbox, Refused, RequestId,
};
use conclave_core::mention;
use conclave_core::name::{ChannelName, Handle};
use conclave_core::protocol::{Code, Command, Refusal};
use conclave_core::record::UserId;
use conclave_core::stream::{StreamCommand, StreamRef};
use conclave_core::text::shell_word;
use conclave_core::time::UnixMillis;
use conclave_shell_tokio::client::{DialError, DialOptions};
use conclave_shell_tokio::client::{LinkDriver, SessionError, Stage, link};
use conclave_store::config::{Change, Pin, ServerUrl};
use jiff::tz::TimeZone;
use tokio::time::{Instant, sleep_until};

use super::kept::Kept;
use super::shown::{Message, show};
use crate::args::{Net, Recipient, Tail};
use crate::connect::{newest, options, own_handle, pin_now, runtime};
use crate::output::{FAINT, line};
use crate::{Context, Failure, explain};

/// What is followed, and how.
pub(super) struct Plan {
    pub(super) net: Net,
    /// The session's handle, under which its positions are kept. `None`: one of this process alone, and none are kept.
    pub(super) handle: Option<Handle>,
    pub(super) channel: Option<ChannelName>,
    /// Mailboxes of our own; only a session that is kept has one.
    pub(super) mailboxes: Vec<OwnMailbox>,
    pub(super) since: Option<conclave_core::time::Since>,
    pub(super) no_follow: bool,
    pub(super) showing: Showing,
}

/// What of it is shown.
pub(super) enum Showing {
    All,
    /// What somebody wrote, or what mentions us. The others are not passed over: no position moves.
    Some {
        from: Option<Recipient>,
        mentions: bool,
    },
    /// Nothing; positions move.
    Nothing,
}

impl Showing {
    fn takes(&self, message: &Message<'_>, own: Option<UserId>) -> bool {
        match self {
            Self::All => true,
            Self::Nothing => false,
            Self::Some { from, mentions } => {
                let is_from = |from: &Recipient| match from {
                    Recipient::User(user) => message.from.user == *user,
                    Recipient::Session(path) => message.from == &**path,
                };
                from.as_ref().is_none_or(is_from) && (!mentions || mention::mentions(message.payload, own))
            }
        }
    }
}

pub(super) fn run(tail: Tail, context: &Context) -> Result<(), Failure> {
    let channel = tail.of.channel()?;
    let mailboxes = if tail.handle.is_some() { vec![OwnMailbox::Session] } else { Vec::new() };
    let Tail { of, handle, since, no_follow } = tail;
    let plan = Plan {
        net: of.net,
        handle,
        channel: Some(channel),
        mailboxes,
        since,
        no_follow,
        showing: Showing::All,
    };
    follow(plan, context)
}

/// Shows what a plan names.
pub(super) fn follow(plan: Plan, context: &Context) -> Result<(), Failure> {
    let net = &plan.net;
    let url = context.server(net.server.as_deref())?;
    let key = context.key()?;
    let pin = pin_now(Some(&context.config()?), &url, &key, &net.dial)?;
    let public = Pin::key(pin, key.clone()).public();
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| Failure::new(format!("the system has no random numbers: {error}"), ""))?;
    let config = Config {
        defaulted: plan.handle.is_none(),
        handle: match plan.handle.clone() {
            Some(handle) => handle,
            None => own_handle("tail")?,
        },
        key,
        seed,
        newest: Some(newest(pin, plan.handle.is_some())),
    };
    let mut kept = Kept::open(
        context,
        plan.handle.clone(),
        pin.map(|pin| pin.server_key),
        matches!(plan.showing, Showing::Nothing),
    )?;
    let options = options(&net.dial, &context.config()?, &url);
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let mut driver = link(url.clone(), config, options.clone());
        let zone = TimeZone::system();
        let watch = Watch { context, plan: &plan, url: &url, public, pin, zone, options };
        watch.follow(&mut driver, &mut kept).await
    });
    runtime.shutdown_background();
    ended
}

struct Watch<'a> {
    context: &'a Context,
    plan: &'a Plan,
    url: &'a ServerUrl,
    public: PublicKey,
    pin: Option<Pin>,
    zone: TimeZone,
    options: DialOptions,
}

impl Watch<'_> {
    async fn follow(&self, driver: &mut LinkDriver, kept: &mut Kept) -> Result<(), Failure> {
        kept.pins(driver)?;
        let mut resumed = self.start(driver, kept)?;
        // What has an end ends when all of these have come to it; `None` is the channel.
        let mailboxes = self.plan.mailboxes.iter().copied().map(Some);
        let mut unfinished: BTreeSet<Option<OwnMailbox>> =
            mailboxes.chain(self.plan.channel.as_ref().map(|_| None)).collect();
        // The first connection must be made in time, later ones are waited for; what has an end must go on to it.
        let patience = || Some(Instant::now() + self.options.timeout);
        let mut deadline = patience();
        let (mut begun, mut was_down, mut last) = (false, false, None);
        let (mut path, mut own, mut marked) = (String::new(), None, 0_u64);
        loop {
            let told = match driver.pending() {
                Some(told) => told,
                None => {
                    // All that came together is noted by one write.
                    kept.flush(driver)?;
                    if self.plan.no_follow && unfinished.is_empty() {
                        self.finish(driver, kept).await?;
                        return match self.plan.showing {
                            Showing::Nothing => self.marked(marked),
                            _ => Ok(()),
                        };
                    }
                    tokio::select! {
                        told = driver.next() => told,
                        () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                            return Err(self.late(begun, last));
                        }
                    }
                }
            };
            match told {
                Action::Deliver { channel, from, payload, ts, place } => {
                    let (channel, place) = (channel.as_ref(), place.as_ref());
                    let message = Message { channel, from: &from, payload: &payload, ts, place };
                    if self.plan.showing.takes(&message, own) {
                        self.show(message, own)?;
                    }
                    match (&self.plan.showing, place) {
                        (Showing::Some { .. }, _) | (_, None) => {}
                        (_, Some(place)) => kept.shown(place.stream, place.seq),
                    }
                    marked += 1;
                    deadline = deadline.and_then(|_| patience());
                }
                Action::Whispered { from, payload } => {
                    let (from, payload) = (&from, &payload);
                    self.show(Message { channel: None, from, payload, ts: None, place: None }, own)?;
                }
                Action::Up { path: named, user, server_key, .. } => {
                    (path, own) = (named.to_string(), user);
                    if server_key.is_none() {
                        if self.plan.channel.is_none() {
                            return Err(no_mailboxes(self.url));
                        }
                        unfinished.retain(Option::is_none);
                    }
                    self.pin(server_key)?;
                    kept.up(server_key, driver)?;
                }
                Action::SenderKey { user, name, machine, key } => {
                    if let Some(news) = kept.sender(driver, (user, &name), machine, &key)? {
                        self.context.output.warning(news);
                    }
                }
                Action::Joined { channel, position } => {
                    let first = !begun && self.plan.since.is_none();
                    if let Some(from) = kept.before(position).filter(|_| first) {
                        // It had another name when the last run ended.
                        driver.input(Input::Leave { channel: channel.clone() });
                        driver.input(Input::Join { channel, token: None, from });
                        continue;
                    }
                    kept.joined(&channel, position)?;
                    resumed = false;
                    self.greet(&path, was_down);
                    if !begun {
                        deadline = if self.plan.no_follow { patience() } else { None };
                    }
                    (begun, was_down, last) = (true, false, None);
                }
                Action::Opened { mailbox, position } => {
                    kept.opened(mailbox, position)?;
                    if self.plan.channel.is_none() && mailbox == OwnMailbox::User {
                        self.greet(&path, was_down);
                        if !begun {
                            deadline = if self.plan.no_follow { patience() } else { None };
                        }
                        (begun, was_down, last) = (true, false, None);
                    }
                }
                Action::CaughtUp { .. } => {
                    unfinished.remove(&None);
                }
                Action::MailboxCaughtUp { mailbox } => {
                    unfinished.remove(&Some(mailbox));
                }
                // There is time left: the link tries again by itself.
                Action::Down(reason @ (DownReason::DialTimeout | DownReason::HandshakeTimeout)) if !begun => {
                    last = Some(reason);
                }
                Action::Down(reason) if !begun => return Err(self.not_begun(driver, reason)),
                Action::Down(reason) => {
                    was_down = true;
                    self.note(format_args!("{}: {reason}; trying again", self.url));
                }
                Action::Deferred { channel, reason } if !begun => {
                    return Err(self.lost(&channel, true, reason));
                }
                Action::Deferred { reason, .. } => self.note(format_args!("{reason}; trying again")),
                // The channel of the last run was deleted, and another one has its name.
                Action::Lost { channel, why: Loss::Refused(reason) }
                    if resumed && reason.code() == Code::NotFound =>
                {
                    resumed = false;
                    kept.forget(&channel)?;
                    let from = self.from(driver.now().wall);
                    driver.input(Input::Join { channel, token: None, from });
                }
                Action::Lost { channel, why: Loss::Refused(reason) } => {
                    return Err(self.lost(&channel, !begun, reason));
                }
                Action::Lost { channel, why } => {
                    let what = format!("#{channel} cannot be followed any more: {why}");
                    return Err(Failure::new(what, "ask an admin of the channel"));
                }
                Action::Passed { stream, from, to, purged, .. } => {
                    if purged {
                        self.note(format_args!("the server does not keep messages {from} to {to} any more"));
                    }
                    if !matches!(self.plan.showing, Showing::Some { .. }) {
                        kept.shown(stream, to);
                    }
                }
                Action::ChannelRenamed { stream, from, to } => {
                    kept.joined(&to, Some((stream, 0)))?;
                    self.note(format_args!("#{from} is called #{to} now"));
                }
                Action::Refused(
                    Refused::Key(error) | Refused::Protocol(error) | Refused::ServerKey(error),
                ) => return Err(self.unreached(&error.into())),
                Action::Refused(Refused::Downgrade) => {
                    return Err(self.unreached(&SessionError::Downgrade));
                }
                // This session is in one channel only: that one got another name, and nothing comes under the old one.
                Action::Stray { channel: now } => {
                    let before = self.plan.channel.as_ref().map_or("", ChannelName::as_str);
                    return Err(Failure::new(
                        format!("#{before} is called #{now} now"),
                        format!("follow it: conclave tail --channel {}", shell_word(now.as_str())),
                    ));
                }
                Action::Renamed { to, .. } => self.note(format_args!("goes on as {to}")),
                Action::Collision { handle } => self.note(format_args!(
                    "another session is connected as {handle}, too: choose another name with --as"
                )),
                _ => {}
            }
        }
    }

    /// Follows what is planned, from where the last run ended; returns whether that is known for the channel.
    fn start(&self, driver: &mut LinkDriver, kept: &Kept) -> Result<bool, Failure> {
        for mailbox in &self.plan.mailboxes {
            let after = kept.mailbox(*mailbox)?;
            driver.input(Input::Open { mailbox: *mailbox, after });
        }
        let Some(channel) = self.plan.channel.clone() else { return Ok(false) };
        let before = if self.plan.since.is_none() { kept.channel(&channel)? } else { None };
        let from = match before {
            Some((stream, seq)) => JoinFrom::After { stream, seq },
            None => self.from(driver.now().wall),
        };
        driver.input(Input::Join { channel, token: None, from });
        Ok(before.is_some())
    }

    /// Tells the server how far it came, before the end. A report that the server does not take changes nothing here.
    async fn finish(&self, driver: &mut LinkDriver, kept: &mut Kept) -> Result<(), Failure> {
        let mut open = BTreeSet::new();
        for (nth, (stream, delivered, seen)) in (0..).zip(kept.reports()) {
            let stream = StreamRef::Number(stream);
            let command = Command::Stream(StreamCommand::Report { stream, delivered, seen });
            let deadline = Some(driver.now().mono + self.options.timeout);
            driver.input(Input::Request { id: RequestId(nth), command, deadline });
            open.insert(RequestId(nth));
        }
        while !open.is_empty() {
            if let Action::Replied { id, .. } = driver.next().await {
                open.remove(&id);
            }
        }
        Ok(())
    }

    /// Writes the server's key down at first contact.
    fn pin(&self, found: Option<PublicKey>) -> Result<(), Failure> {
        let (Some(server_key), None) = (found, self.pin) else { return Ok(()) };
        let config = self.context.config()?;
        if config.server(self.url).is_none() || config.pin(self.url).is_some() {
            return Ok(());
        }
        let change = Change::SetPin(self.url.clone(), Pin { server_key, derived: false });
        self.context.config_file()?.change(&[change])?;
        Ok(())
    }

    fn from(&self, now: UnixMillis) -> JoinFrom {
        match self.plan.since {
            Some(since) => JoinFrom::Since(since.moment(now)),
            // Nothing to follow: all that is kept, then.
            None if self.plan.no_follow => JoinFrom::Since(UnixMillis(0)),
            None => JoinFrom::Live,
        }
    }

    fn show(&self, message: Message<'_>, own: Option<UserId>) -> Result<(), Failure> {
        show(&self.context.output, &self.zone, message, own)
    }

    fn marked(&self, count: u64) -> Result<(), Failure> {
        let value = serde_json::json!({ "server": self.url.as_str(), "marked": count });
        self.context.output.result(format_args!("marked as read: {count}"), value)
    }

    fn greet(&self, path: &str, again: bool) {
        if again {
            self.note(format_args!("connected again"));
        } else if !self.context.output.is_json() && !self.plan.no_follow {
            let what =
                self.plan.channel.as_ref().map_or("your inbox".into(), |channel| format!("#{channel}"));
            self.note(format_args!("following {what} as {path}; Ctrl-C ends it"));
        }
    }

    fn note(&self, text: std::fmt::Arguments<'_>) {
        let text = text.to_string();
        self.context.output.note(format_args!("{FAINT}{}{FAINT:#}", line(&text)));
    }

    /// The time ran out, before the channel was followed or before the end of what was asked for.
    fn late(&self, begun: bool, last: Option<DownReason>) -> Failure {
        let after = self.options.timeout;
        if let Some(reason) = last {
            return Failure::new(
                format!("{}: {reason}", self.url),
                "check the network; conclave doctor looks at each stage",
            );
        }
        if begun {
            let what = format!("{}: no more came within {after:?}, and there is more", self.url);
            return Failure::new(what, "try again, or wait longer with --timeout 1m");
        }
        let error = DialError::Timeout { address: self.url.authority(), stage: Stage::WebSocket, after };
        self.unreached(&error.into())
    }

    fn not_begun(&self, driver: &mut LinkDriver, reason: DownReason) -> Failure {
        match (reason, driver.dial_error()) {
            (DownReason::Dial(_), Some(error)) => self.unreached(&error.into()),
            (DownReason::Handshake(error), _) => self.unreached(&error.into()),
            (reason, _) => {
                let why = Some(reason.to_string());
                self.unreached(&SessionError::Ended { why, sent: false })
            }
        }
    }

    fn unreached(&self, error: &SessionError) -> Failure {
        let config = self.context.config().unwrap_or_default();
        explain::opening(self.url, config.server(self.url), &self.public, error)
    }

    fn lost(&self, channel: &ChannelName, at_first: bool, reason: Refusal) -> Failure {
        let command = Command::Join { channel: channel.clone(), token: None };
        let failure = explain::request(self.url, &command, &SessionError::Refused(reason));
        match failure {
            Failure::Failed { what, next } if !at_first => {
                Failure::new(format!("#{channel} cannot be followed any more: {what}"), next)
            }
            other => other,
        }
    }
}

pub(super) fn no_mailboxes(url: &ServerUrl) -> Failure {
    Failure::new(
        format!("{url} keeps no mailboxes: it speaks version 1 of the protocol"),
        "ask its operator to update it",
    )
}
