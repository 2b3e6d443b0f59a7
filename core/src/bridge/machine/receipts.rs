//! Who has a message: asked once, or waited for.

use alloc::string::String;
use alloc::vec::Vec;

use super::Bridge;
use super::calls::Answer;
use super::state::{Awaited, Pending, Watch};
use crate::bridge::api::Action;
use crate::bridge::failure::Failure;
use crate::bridge::levels::{Level, Scope};
use crate::bridge::server::Server;
use crate::bridge::tool_call::{CallId, Outcome, Stored};
use crate::link::RequestError;
use crate::name::{ChannelName, UserName};
use crate::opaque::Opaque;
use crate::protocol::{Command, Reply};
use crate::record::ChannelId;
use crate::stream::{Receipt, ReceiptState, StreamCommand, StreamRef, StreamReply};
use crate::time::{Monotonic, Now};

impl Bridge {
    /// The stream of a joined channel.
    pub(super) fn stream_of(&self, server: &Server, channel: &ChannelName) -> Result<StreamRef, Failure> {
        let link = self.on_channel(server, channel)?;
        let found = link.streams.iter().find(|(_, stream)| stream.channel.as_ref() == Some(channel));
        found.map(|(number, _)| StreamRef::Number(*number)).ok_or_else(|| Failure::NoReceipts(server.clone()))
    }

    pub(super) fn ask_receipts(
        &mut self,
        call: CallId,
        server: Server,
        channel: ChannelName,
        seq: u64,
        actions: &mut Vec<Action>,
    ) -> Answer {
        let stream = self.stream_of(&server, &channel)?;
        let command = Command::Stream(StreamCommand::Receipts { stream, seq });
        self.ask(&server, call, command, Awaited::Receipts { channel, seq }, actions)
    }

    pub(super) fn acknowledge(
        &mut self,
        call: CallId,
        server: Server,
        channel: ChannelName,
        (seq, word): (u64, Opaque<String>),
        actions: &mut Vec<Action>,
    ) -> Answer {
        let stream = self.stream_of(&server, &channel)?;
        let scope = Scope::Channel(channel.clone());
        // A word to others is a message to others.
        if !self.levels.level(&server, &scope).may_emit() {
            return Err(self.too_low(&server, scope, Level::Converse));
        }
        let command = Command::Stream(StreamCommand::Acknowledge { stream, seq, word });
        self.ask(&server, call, command, Awaited::Acknowledged { channel, seq }, actions)
    }

    /// A call waits until every reader has its message.
    pub(super) fn watch(
        &mut self,
        call: CallId,
        (server, to, mentioned): (Server, String, Vec<UserName>),
        stored: Stored,
        (wanted, until): (ReceiptState, Monotonic),
        actions: &mut Vec<Action>,
    ) {
        let stream = StreamRef::Number(stored.stream);
        let on = Command::Stream(StreamCommand::WatchReceipts { stream, on: true });
        let _ = self.request(&server, on, Pending::Silent, actions);
        let watch = Watch {
            call,
            server,
            to,
            mentioned,
            stored,
            wanted,
            until,
            readers: Vec::new(),
            asking: false,
            again: false,
        };
        self.watches.push(watch);
        self.ask_watched(call, actions);
    }

    fn ask_watched(&mut self, call: CallId, actions: &mut Vec<Action>) {
        let Some(watch) = self.watches.iter_mut().find(|watch| watch.call == call) else { return };
        if core::mem::replace(&mut watch.asking, true) {
            watch.again = true;
            return;
        }
        watch.again = false;
        let (server, Stored { stream, seq, .. }) = (watch.server.clone(), watch.stored);
        let command = Command::Stream(StreamCommand::Receipts { stream: StreamRef::Number(stream), seq });
        if self.request(&server, command, Pending::Watched { call }, actions).is_err() {
            self.end_watch(call, actions);
        }
    }

    /// Readers of a stream moved.
    pub(super) fn receipts_moved(&mut self, server: &Server, stream: ChannelId, actions: &mut Vec<Action>) {
        let on = |watch: &&Watch| watch.server == *server && watch.stored.stream == stream;
        let calls: Vec<_> = self.watches.iter().filter(on).map(|watch| watch.call).collect();
        for call in calls {
            self.ask_watched(call, actions);
        }
    }

    /// The server said who has the message of a call.
    pub(super) fn watched(
        &mut self,
        call: CallId,
        result: Result<Reply, RequestError>,
        actions: &mut Vec<Action>,
    ) {
        let Some(watch) = self.watches.iter().find(|watch| watch.call == call) else { return };
        let Ok(Reply::Stream(StreamReply::Receipts { readers, .. })) = result else {
            return self.end_watch(call, actions);
        };
        let (server, wanted) = (watch.server.clone(), watch.wanted);
        let readers = self.others(&server, readers);
        let done = !readers.iter().any(|reader| reader.lacks(wanted));
        let Some(watch) = self.watches.iter_mut().find(|watch| watch.call == call) else { return };
        watch.readers = readers;
        watch.asking = false;
        if done {
            self.end_watch(call, actions);
        } else if watch.again {
            self.ask_watched(call, actions);
        }
    }

    /// Answers the calls that have waited long enough.
    pub(super) fn end_watches(&mut self, now: Now, actions: &mut Vec<Action>) {
        let late = |watch: &&Watch| watch.until <= now.mono;
        let calls: Vec<_> = self.watches.iter().filter(late).map(|watch| watch.call).collect();
        for call in calls {
            self.end_watch(call, actions);
        }
    }

    fn end_watch(&mut self, call: CallId, actions: &mut Vec<Action>) {
        let Some(at) = self.watches.iter().position(|watch| watch.call == call) else { return };
        let Watch { server, to, mentioned, stored, wanted, readers, .. } = self.watches.remove(at);
        let other = |watch: &Watch| watch.server == server && watch.stored.stream == stored.stream;
        if !self.watches.iter().any(other) {
            let stream = StreamRef::Number(stored.stream);
            let off = Command::Stream(StreamCommand::WatchReceipts { stream, on: false });
            let _ = self.request(&server, off, Pending::Silent, actions);
        }
        let waited = Some((wanted, readers));
        let outcome = Outcome::Sent { server, to, stored: Some(stored), mentioned, waited };
        actions.push(Action::Answer { call, result: Ok(outcome) });
    }

    /// The readers but this session.
    pub(super) fn others(&self, server: &Server, mut readers: Vec<Receipt>) -> Vec<Receipt> {
        let own = self.links.get(server).and_then(|link| link.path.as_ref());
        readers.retain(|receipt| Some(&*receipt.reader) != own);
        readers
    }
}
