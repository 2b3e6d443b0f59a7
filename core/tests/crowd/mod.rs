//! A channel with many subscribers, for measurements.

#![allow(dead_code, unreachable_pub, reason = "each measurement uses a part")]
#![allow(clippy::unwrap_used, reason = "these names are valid")]

use conclave_core::directory::Directory;
use conclave_core::handshake::{Proven, Terms};
use conclave_core::hub::{Action, Config, ConnId, Hub, Input, Limits, RequestId};
use conclave_core::key::PublicKey;
use conclave_core::name::{ChannelName, Handle, MachineName, UserName};
use conclave_core::payload::Payload;
use conclave_core::protocol::{Command, Visibility};
use conclave_core::record::{ChannelId, MachineId, Record, Stamp, UserId};
use conclave_core::time::{Monotonic, Now, UnixMillis};

pub struct Crowd {
    pub hub: Hub,
    pub channel: ChannelName,
    pub now: Now,
}

/// The records of `users` users with a machine each, and of `channels` channels with ten members each.
pub fn records(users: u64, channels: u64) -> Vec<Record> {
    let at = UnixMillis(1);
    let mut records = Vec::new();
    for nth in 0..users {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&nth.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        let (user, name) = (UserId(nth), UserName::new(&format!("user-{nth}")).unwrap());
        records.push(Record::UserAdded { user, name, at });
        let (key, name) = (PublicKey::from_trusted(key), MachineName::new("machine").unwrap());
        records.push(Record::MachineAdded { machine: MachineId(nth), user, name, key, at });
    }
    for nth in 0..channels {
        let (channel, creator) = (ChannelId(nth), UserId(nth % users));
        let name = ChannelName::new(&format!("channel-{nth}")).unwrap();
        let (visibility, last) = (Visibility::Public, Stamp::default());
        records.push(Record::ChannelCreated { channel, name, visibility, creator, at, last });
        for member in 0..10 {
            let user = UserId((nth + member * 7) % users);
            records.push(Record::MemberAdded { channel, user });
        }
    }
    records
}

impl Crowd {
    /// A hub whose `channel-0` has so many subscribers, each a user of its own; the first one posts.
    pub fn new(subscribers: u64) -> Self {
        let records = records(subscribers.max(71), 1);
        let directory: Directory = records.iter().collect();
        let limits = Limits { batch_posts: usize::MAX, ..Limits::default().without_rates() };
        let now = Now { mono: Monotonic(1), wall: UnixMillis(1_700_000_000_000) };
        let hub = Hub::new(Config { limits, ..Config::default() }, directory);
        let mut crowd = Self { hub, channel: ChannelName::new("channel-0").unwrap(), now };
        let mut actions = Vec::new();
        let keys = records.iter().filter_map(|record| match record {
            Record::MachineAdded { key, .. } => Some(*key),
            _ => None,
        });
        for (nth, key) in keys.take(subscribers as usize).enumerate() {
            let conn = ConnId(nth as u64);
            let proven = Proven {
                key,
                session: Handle::new("session").unwrap(),
                claim: None,
                terms: Terms::default(),
            };
            crowd.handle(Input::Open { conn, proven }, &mut actions);
            let command = Command::Join { channel: crowd.channel.clone(), token: None };
            let request = RequestId(0);
            crowd.handle(Input::Request { conn, request, command, token: None }, &mut actions);
        }
        assert_eq!(crowd.hub.gauges().subscriptions, subscribers as usize);
        crowd
    }

    pub fn payload(&self) -> Payload {
        Payload::Plain("x".repeat(128))
    }

    pub fn handle(&mut self, input: Input, actions: &mut Vec<Action>) {
        self.hub.handle(self.now, input, actions);
    }

    pub fn submit(&mut self, request: RequestId, payload: Payload, actions: &mut Vec<Action>) {
        let command = Command::Post { channel: self.channel.clone(), payload };
        self.handle(Input::Request { conn: ConnId(0), request, command, token: None }, actions);
    }

    /// What has gathered becomes durable; `actions` are what that releases.
    pub fn commit(&mut self, actions: &mut Vec<Action>) {
        self.handle(Input::RoundEnded, actions);
        if let Some(Action::Persist { batch, .. }) = actions.pop() {
            self.handle(Input::Persisted { batch }, actions);
        }
    }

    /// The whole life of a post: request, commit, durable, delivered.
    pub fn post(&mut self, request: RequestId, payload: Payload, actions: &mut Vec<Action>) {
        self.submit(request, payload, actions);
        self.commit(actions);
    }
}
