//! Those who connect: links, and strangers that speak the protocol by hand.

mod acts;
mod agent;
mod driver;
mod link;
mod resumer;
mod speaker;
mod stranger;

use std::sync::OnceLock;

use conclave_core::handshake::Format;
use conclave_core::key::SecretKey;
use conclave_core::name::ChannelName;
use conclave_core::record::ChannelId;

pub(super) use agent::{Agent, DEN, DEN_ID, within_budgets};
pub(super) use link::{Identity, LinkClient};
pub(super) use resumer::{PREFIX, Resumer};
pub(super) use speaker::{Claims, Draft, Speaker};
pub(super) use stranger::{Kind, Stranger};

use super::store::Row;
use super::world::World;

/// A client of either sort.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "they stand in boxes")]
pub(super) enum Client {
    /// A link and its application.
    Link(LinkClient),
    /// A client of version 2, written for this.
    Speaker(Speaker),
    /// A program on the link of version 2.
    Resumer(Resumer),
    /// An agent that answers, or the person who writes to them.
    Agent(Agent),
    /// Somebody else.
    Stranger(Stranger),
}

impl World {
    /// Lets a client work on the world.
    pub(super) fn with_client<R>(
        &mut self,
        client: usize,
        work: impl FnOnce(&mut Client, &mut World) -> R,
    ) -> Option<R> {
        let mut at_work = self.clients[client].take()?;
        let result = work(&mut at_work, self);
        self.clients[client] = Some(at_work);
        Some(result)
    }

    /// A client's deadline has come.
    pub(super) fn client_timer(&mut self, client: usize) {
        self.with_client(client, |client, world| match client {
            Client::Link(link) => link.timer(world),
            Client::Speaker(speaker) => speaker.tick(world),
            Client::Resumer(resumer) => resumer.timer(world),
            Client::Agent(agent) => agent.timer(world),
            Client::Stranger(_) => {}
        });
    }

    /// A client does something of its own accord.
    pub(super) fn act(&mut self, client: usize) {
        if self.calm && !matches!(self.clients[client].as_deref(), Some(Client::Agent(_))) {
            return;
        }
        let pace = self.with_client(client, |client, world| match client {
            Client::Link(link) => link.act(world),
            Client::Speaker(speaker) => speaker.act(world),
            Client::Resumer(resumer) => resumer.act(world),
            Client::Agent(agent) => agent.act(world),
            Client::Stranger(stranger) => stranger.act(world),
        });
        if let Some(pace) = pace {
            self.after(pace, super::world::Event::Act(client));
        }
    }
}

impl Client {
    /// The connection stands. False if it is not wanted any more.
    pub(super) fn dialed(&mut self, world: &mut World, attempt: u64, wire: usize) -> bool {
        match self {
            Self::Link(link) => link.dialed(world, attempt, wire),
            Self::Speaker(speaker) => speaker.dialed(world, attempt, wire),
            Self::Resumer(resumer) => resumer.dialed(world, attempt, wire),
            Self::Agent(agent) => agent.dialed(world, attempt, wire),
            Self::Stranger(stranger) => stranger.dialed(world, wire),
        }
    }

    /// The connection could not be made.
    pub(super) fn dial_failed(&mut self, world: &mut World, attempt: u64) {
        match self {
            Self::Link(link) => link.dial_failed(world, attempt),
            Self::Speaker(speaker) => speaker.dial_failed(attempt),
            Self::Resumer(resumer) => resumer.dial_failed(world, attempt),
            Self::Agent(agent) => agent.dial_failed(world, attempt),
            Self::Stranger(stranger) => stranger.dial_failed(),
        }
    }

    /// The connection ended.
    pub(super) fn closed(&mut self, world: &mut World, wire: usize, why: &'static str) {
        match self {
            Self::Link(link) => link.closed(world, wire, why),
            Self::Speaker(speaker) => speaker.closed(wire),
            Self::Resumer(resumer) => resumer.closed(world, wire, why),
            Self::Agent(agent) => agent.closed(world, wire, why),
            Self::Stranger(stranger) => stranger.closed(wire),
        }
    }

    /// A message came.
    pub(super) fn message(&mut self, world: &mut World, wire: usize, bytes: &[u8]) {
        match self {
            Self::Link(link) => link.message(world, wire, bytes),
            Self::Speaker(speaker) => speaker.message(world, wire, bytes),
            Self::Resumer(resumer) => resumer.message(world, wire, bytes),
            Self::Agent(agent) => agent.message(world, wire, bytes),
            Self::Stranger(stranger) => stranger.message(world, wire, bytes),
        }
    }

    /// What it speaks.
    pub(super) fn format(&self) -> Format {
        match self {
            Self::Speaker(speaker) if speaker.json => Format::V2Json,
            Self::Speaker(_) | Self::Resumer(_) | Self::Agent(_) => Format::V2,
            Self::Link(_) | Self::Stranger(_) => Format::V1,
        }
    }

    /// The server subscribed it to a channel; see [`super::follow::Follow::subscribed`].
    pub(super) fn subscribed(
        &mut self,
        name: &ChannelName,
        channel: ChannelId,
        rows: &[Row],
        next: usize,
        stood: bool,
    ) {
        if let Self::Link(link) = self
            && let Some(follow) = link.follows.get_mut(name)
        {
            follow.subscribed(channel, rows, next, stood);
        }
    }

    /// The server ended a subscription.
    pub(super) fn unsubscribed(&mut self, channel: ChannelId) {
        if let Self::Link(link) = self {
            for follow in link.follows.values_mut().filter(|follow| follow.channel == Some(channel)) {
                follow.ended = true;
            }
        }
    }

    /// A channel, of which so much is durable, has another name: deliveries under that name are its from now on.
    pub(super) fn renamed(&mut self, channel: ChannelId, name: &ChannelName, durable: usize) {
        if let Self::Link(link) = self {
            for (known, follow) in &mut link.follows {
                if follow.channel == Some(channel) {
                    follow.renamed(known == name, durable);
                } else if known == name {
                    follow.incomparable = true;
                }
            }
        }
    }
}

/// The machine keys of all runs, by number.
pub(super) fn key(number: usize) -> &'static SecretKey {
    static KEYS: OnceLock<Vec<SecretKey>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| (1..=32).map(|number| SecretKey::from_seed(&[number; 32])).collect());
    &keys[number % keys.len()]
}
