//! A link as the bridge uses it: requests become inputs of the link, its actions become events for the bridge.
//!
//! A link follows a channel until it is left, whatever fails. An agent wants an answer instead: its join is given up
//! when it is refused for now or the connection drops, and the agent may try again. A channel that was joined before is
//! kept, and joined again by the link.

use alloc::borrow::ToOwned as _;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::ToString as _;
use alloc::vec::Vec;
use core::time::Duration;

use super::api::LinkEvent;
use crate::link::{Action, Input, JoinFrom, Link, Loss, RequestError, RequestId};
use crate::name::ChannelName;
use crate::opaque::Opaque;
use crate::protocol::{Command, Refusal, Reply};
use crate::text::quoted;
use crate::time::Monotonic;

/// Requests fail while the socket has more unsent bytes than this.
const MAX_UNSENT: usize = 8 << 20;

/// What follows, in order.
#[derive(Debug)]
pub enum Step {
    /// Hand this to the link.
    Input(Input<'static>),
    /// Hand this to the bridge.
    Event(LinkEvent),
}

/// How long a server may take to answer a request; the command line waits as long.
const PATIENCE: Duration = Duration::from_secs(10);

/// The bridge's joins on one link that have no answer yet.
#[derive(Clone, Debug, Default)]
pub struct BridgedLink {
    joining: BTreeMap<ChannelName, Vec<RequestId>>,
}

impl BridgedLink {
    /// Takes a request of the bridge. `unsent` is the number of bytes that the socket has not taken yet. All actions of
    /// the link must have been handed in before.
    pub fn request(
        &mut self,
        now: Monotonic,
        link: &Link,
        unsent: usize,
        id: RequestId,
        command: Command,
        steps: &mut Vec<Step>,
    ) {
        if unsent > MAX_UNSENT || link.path().is_none() {
            return steps.push(reply(id, Err(RequestError::NotConnected)));
        }
        match command {
            Command::Join { channel, token } => {
                self.joining.entry(channel.clone()).or_default().push(id);
                steps.push(Step::Input(Input::Join { channel, token, from: JoinFrom::Live }));
            }
            Command::Leave { channel } => {
                self.answer_joins(&channel, &Err(RequestError::NotConnected), steps);
                let left = Reply::Done(Opaque(channel.as_str().to_owned()));
                steps.push(Step::Input(Input::Leave { channel }));
                steps.push(reply(id, Ok(left)));
            }
            command => {
                let deadline = Some(now + PATIENCE);
                steps.push(Step::Input(Input::Request { id, command, deadline }));
            }
        }
    }

    /// Takes an action of the link.
    pub fn action(&mut self, link: &Link, action: Action, steps: &mut Vec<Step>) {
        let event = match action {
            // The link's driver carries these out.
            Action::Dial(_) | Action::Send(_) | Action::Hangup => return,
            // The bridge has no use for it.
            Action::CaughtUp { .. }
            | Action::Passed { .. }
            | Action::PresenceChanged { .. }
            | Action::SenderKey { .. } => return,
            // It does not seal yet.
            Action::Sealed(_) => return,
            Action::Opened { position: None, .. } | Action::MailboxCaughtUp { .. } => return,
            Action::Opened { position: Some((stream, _)), .. } => {
                LinkEvent::Followed { channel: None, stream, unread: false, skipped: None }
            }
            Action::Deliver { channel, from, payload, ts, place } => {
                LinkEvent::Message { channel, from, at: ts, payload, place }
            }
            Action::Whispered { from, payload } => {
                LinkEvent::Message { channel: None, from, at: None, payload, place: None }
            }
            Action::ReceiptsMoved { stream, .. } => LinkEvent::ReceiptsMoved { stream },
            Action::Replied { id, result } => LinkEvent::Reply { id, result },
            Action::Up { path, user, admin, .. } => LinkEvent::Up { path, user, admin },
            Action::Down(why) => {
                self.give_up_joins(link, steps);
                LinkEvent::Down { why: why.to_string() }
            }
            Action::Refused(refused) => {
                self.give_up_joins(link, steps);
                LinkEvent::Refused { why: refused.to_string() }
            }
            Action::Disabled(why) => {
                self.give_up_joins(link, steps);
                LinkEvent::Disabled { why }
            }
            Action::Role { admin } => LinkEvent::Role { admin },
            Action::Joined { channel, position } => {
                if let Some((stream, _)) = position {
                    let channel = Some(channel.clone());
                    steps.push(Step::Event(LinkEvent::Followed {
                        channel,
                        stream,
                        unread: false,
                        skipped: None,
                    }));
                }
                return self.answer_joins(&channel, &Ok(Reply::Joined(channel.clone())), steps);
            }
            Action::Deferred { channel, reason } => return self.deferred(link, channel, reason, steps),
            Action::Lost { channel, why } => {
                let event = LinkEvent::Lost { channel: channel.clone(), why: why.to_string() };
                steps.push(Step::Event(event));
                let result = match why {
                    Loss::Refused(refusal) => Ok(Reply::Refused(refusal)),
                    Loss::Ended(_) => Err(RequestError::Interrupted),
                };
                return self.answer_joins(&channel, &result, steps);
            }
            Action::ChannelRenamed { stream, from, to } => LinkEvent::ChannelRenamed { stream, from, to },
            Action::Stray { channel } => LinkEvent::Trouble {
                text: format!(
                    "Messages come for #{}, which was not joined under that name: it may have been renamed. Join it \
                     under that name; catch_up then reads what was posted meanwhile.",
                    quoted(channel.as_str())
                ),
            },
            Action::Renamed { .. } => LinkEvent::Renamed,
            Action::Collision { handle } => LinkEvent::Trouble {
                text: format!(
                    "Another session is called {handle} too, and both take the connection from each other. End one of \
                     them, or give one another name (--as)."
                ),
            },
        };
        steps.push(Step::Event(event));
    }

    fn deferred(&mut self, link: &Link, channel: ChannelName, reason: Refusal, steps: &mut Vec<Step>) {
        self.answer_joins(&channel, &Ok(Reply::Refused(reason)), steps);
        leave_unless_joined(link, channel, steps);
    }

    fn give_up_joins(&mut self, link: &Link, steps: &mut Vec<Step>) {
        for (channel, ids) in core::mem::take(&mut self.joining) {
            leave_unless_joined(link, channel, steps);
            steps.extend(ids.into_iter().map(|id| reply(id, Err(RequestError::Interrupted))));
        }
    }

    fn answer_joins(
        &mut self,
        channel: &ChannelName,
        result: &Result<Reply, RequestError>,
        steps: &mut Vec<Step>,
    ) {
        let ids = self.joining.remove(channel).unwrap_or_default();
        steps.extend(ids.into_iter().map(|id| reply(id, result.clone())));
    }
}

fn leave_unless_joined(link: &Link, channel: ChannelName, steps: &mut Vec<Step>) {
    if !link.has_joined(&channel) {
        steps.push(Step::Input(Input::Leave { channel }));
    }
}

fn reply(id: RequestId, result: Result<Reply, RequestError>) -> Step {
    Step::Event(LinkEvent::Reply { id, result })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;
    use crate::link::{Config, DownReason};
    use crate::name::Handle;
    use crate::time::{Monotonic, Now, UnixMillis};
    use crate::wire::v1::{Frame, Path, ProtocolError};
    use alloc::string::String;

    const OWN: Path<'static> = Path { user: "me", machine: "here", session: "dir" };

    /// A bridged link and a server that a test plays.
    struct Scene {
        link: Link,
        bridged: BridgedLink,
        events: Vec<LinkEvent>,
    }

    impl Scene {
        fn up() -> Self {
            let handle = Handle::new("dir").unwrap();
            let config = Config {
                handle,
                defaulted: false,
                key: SecretKey::from_seed(&[7; 32]),
                seed: [1; 32],
                newest: None,
            };
            let mut scene =
                Self { link: Link::new(config), bridged: BridgedLink::default(), events: Vec::new() };
            scene.input(Input::Start);
            scene.input(Input::Dialed { server_id: None });
            scene.say(&Frame::Challenge { nonce: &[3; 32] });
            scene.say(&Frame::Established { path: OWN });
            scene.say(&Frame::ServerInfo { admin: false });
            scene
        }

        fn input(&mut self, input: Input<'_>) {
            let now = Now { mono: Monotonic(5000), wall: UnixMillis(0) };
            let (mut actions, mut steps) = (Vec::new(), Vec::new());
            self.link.handle(now, input, &mut actions);
            for action in actions {
                self.bridged.action(&self.link, action, &mut steps);
            }
            self.carry_out(steps);
        }

        fn carry_out(&mut self, steps: Vec<Step>) {
            for step in steps {
                match step {
                    Step::Input(input) => self.input(input),
                    Step::Event(event) => self.events.push(event),
                }
            }
        }

        fn say(&mut self, frame: &Frame<'_>) {
            self.input(Input::Message(Opaque(&frame.to_bytes())));
        }

        fn ask(&mut self, id: u64, command: Command) {
            let mut steps = Vec::new();
            self.bridged.request(Monotonic(0), &self.link, 0, RequestId(id), command, &mut steps);
            self.carry_out(steps);
        }

        fn join(&mut self, id: u64) {
            self.ask(id, Command::Join { channel: ops(), token: None });
        }

        fn replies(&mut self) -> Vec<(u64, Result<Reply, RequestError>)> {
            let events = core::mem::take(&mut self.events);
            let reply = |event| match event {
                LinkEvent::Reply { id, result } => Some((id.0, result)),
                _ => None,
            };
            events.into_iter().filter_map(reply).collect()
        }
    }

    fn ops() -> ChannelName {
        ChannelName::new("ops").unwrap()
    }

    fn rate_limit() -> Frame<'static> {
        Frame::Error(ProtocolError::Unauthorized("rate limit: try again in 20 ms"))
    }

    #[test]
    fn a_join_that_the_server_defers_is_answered_and_given_up() {
        let mut scene = Scene::up();
        scene.join(1);
        scene.say(&rate_limit());
        assert!(matches!(scene.replies()[..], [(1, Ok(Reply::Refused(_)))]));
        assert_eq!(scene.link.channels().count(), 0);
    }

    #[test]
    fn a_joined_channel_is_kept_when_a_second_join_is_deferred_or_interrupted() {
        let mut scene = Scene::up();
        scene.join(1);
        scene.say(&Frame::Joined { channel: "ops" });
        assert_eq!(scene.replies(), [(1, Ok(Reply::Joined(ops())))]);
        // The link looks for the end of the history.
        scene.say(&Frame::History { channel: "ops", messages: Vec::new() });
        scene.say(&Frame::History { channel: "ops", messages: Vec::new() });
        scene.say(&Frame::History { channel: "ops", messages: Vec::new() });
        scene.join(2);
        scene.say(&rate_limit());
        assert!(matches!(scene.replies()[..], [(2, Ok(Reply::Refused(_)))]));
        scene.join(3);
        scene.input(Input::Closed("reset"));
        assert_eq!(scene.replies(), [(3, Err(RequestError::Interrupted))]);
        assert!(scene.link.has_joined(&ops()));
    }

    #[test]
    fn a_drop_gives_up_a_join_without_an_answer() {
        let mut scene = Scene::up();
        scene.join(1);
        scene.input(Input::Closed("reset"));
        let down = LinkEvent::Down { why: DownReason::Closed(String::from("reset")).to_string() };
        assert_eq!(scene.events.last(), Some(&down));
        assert_eq!(scene.replies(), [(1, Err(RequestError::Interrupted))]);
        assert_eq!(scene.link.channels().count(), 0);
        scene.ask(2, Command::ListChannels);
        assert_eq!(scene.replies(), [(2, Err(RequestError::NotConnected))]);
    }
}
