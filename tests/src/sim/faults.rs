//! What breaks, and how everything is made whole again at the end.

use conclave_core::name::{ChannelName, SessionPath};
use conclave_core::protocol::Token;

use super::client::{Agent, Client, LinkClient, Resumer, Speaker};
use super::plan::{Fault, MILLI, SECOND};
use super::wire::Down;
use super::world::{Event, World};
use crate::chance::Chance;

impl World {
    /// A fault happens.
    pub(super) fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::Crash => self.crash(),
            Fault::Drain => self.shut_down(),
            Fault::FailedCommit => self.store.fail_next = true,
            Fault::FullDisk => self.store.full_until = self.at + self.luck.around(2 * SECOND),
            Fault::SlowDisk => self.store.slow_until = self.at + self.luck.around(4 * SECOND),
            Fault::UnreadableDisk => self.store.unreadable_until = self.at + self.luck.around(3 * SECOND),
            Fault::NoDial => self.no_dial_until = self.at + self.luck.around(5 * SECOND),
            Fault::Reset => {
                if let Some(wire) = self.some_wire() {
                    self.coverage.resets += 1;
                    let delay = self.luck.below(500 * MILLI);
                    self.on(self.at + delay, Event::Down(wire, Down::End("connection reset")));
                    let delay = self.luck.below(500 * MILLI);
                    self.on(self.at + delay, Event::UpEnd(wire));
                }
            }
            Fault::Cut => {
                if let Some(wire) = self.some_wire() {
                    self.coverage.cuts += 1;
                    self.wires[wire].cut = true;
                }
            }
            Fault::Stall => {
                if let Some(wire) = self.some_wire() {
                    self.coverage.stalls += 1;
                    let until = self.at + self.luck.around(10 * SECOND);
                    self.wires[wire].stalled_until = until;
                    self.on(until, Event::Resume(wire));
                }
            }
            Fault::ClientCrash => {
                self.coverage.client_crashes += 1;
                let client = self.luck.index(self.clients.len());
                self.with_client(client, |client, world| match client {
                    Client::Link(link) => link.restart(world),
                    Client::Speaker(speaker) => speaker.crash(world),
                    Client::Resumer(resumer) => resumer.crash(world),
                    Client::Agent(agent) => agent.crash(world),
                    Client::Stranger(_) => {}
                });
            }
            Fault::Purge => {
                self.coverage.purges += 1;
                self.store.purge(&mut self.luck);
                if let Some(process) = &mut self.server.process {
                    process.outside.watch.purged = self.store.newest_purged();
                }
                // By content alone, a link finds its place in what is left as well as it can.
                for client in self.clients.iter_mut().flatten() {
                    if let Client::Link(link) = &mut **client {
                        link.follows.values_mut().for_each(|follow| follow.incomparable = true);
                    }
                }
            }
            Fault::ClockJump => {
                self.coverage.clock_jumps += 1;
                self.wall_error += jump(&mut self.luck);
            }
            Fault::ClientClockJump => {
                self.coverage.clock_jumps += 1;
                let (client, jump) = (self.luck.index(self.clients.len()), jump(&mut self.luck));
                if let Some(Client::Link(link)) = self.clients[client].as_deref_mut() {
                    link.wall_error += jump;
                }
            }
        }
    }

    fn some_wire(&mut self) -> Option<usize> {
        let nth = self.luck.index(self.server.ends.len());
        self.server.ends.iter().nth(nth).copied()
    }

    /// An invite that somebody has.
    pub(super) fn some_token(&self, chance: &mut Chance) -> Option<(ChannelName, Token)> {
        let mut tokens = self.links().flat_map(|link| &link.tokens);
        let count = tokens.clone().count();
        tokens.nth(chance.index(count)).cloned()
    }

    /// The path of somebody who is there.
    pub(super) fn some_path(&self, chance: &mut Chance) -> Option<SessionPath> {
        let mut paths = self.links().filter_map(|link| link.path());
        let count = paths.clone().count();
        paths.nth(chance.index(count)).cloned()
    }

    /// The clients of version 2.
    pub(super) fn speakers(&self) -> impl Iterator<Item = &Speaker> + Clone {
        self.clients.iter().flatten().filter_map(|client| match &**client {
            Client::Speaker(speaker) => Some(speaker),
            _ => None,
        })
    }

    /// The programs on links of version 2.
    pub(super) fn resumers(&self) -> impl Iterator<Item = &Resumer> + Clone {
        self.clients.iter().flatten().filter_map(|client| match &**client {
            Client::Resumer(resumer) => Some(resumer),
            _ => None,
        })
    }

    /// The agents, and the person who writes to them.
    pub(super) fn agents(&self) -> impl Iterator<Item = &Agent> + Clone {
        self.clients.iter().flatten().filter_map(|client| match &**client {
            Client::Agent(agent) => Some(agent),
            _ => None,
        })
    }

    /// The links but the one that is at work.
    pub(super) fn links(&self) -> impl Iterator<Item = &LinkClient> + Clone {
        self.clients.iter().flatten().filter_map(|client| match &**client {
            Client::Link(link) => Some(link),
            _ => None,
        })
    }

    /// Nothing breaks any more, strangers leave, nobody acts.
    pub(super) fn heal(&mut self) {
        self.calm = true;
        self.trace(format_args!("all is well from here on"));
        self.store.full_until = 0;
        self.store.fail_next = false;
        self.store.slow_until = 0;
        self.store.unreadable_until = 0;
        self.no_dial_until = 0;
        // A page of one message for each round trip should not be what takes long.
        (self.plan.latency, self.plan.read, self.plan.commit) = ((20, 200), (20, 100), (50, 300));
        for wire in 0..self.wires.len() {
            if self.wires[wire].stalled_until > self.at {
                self.wires[wire].stalled_until = self.at;
                self.after(1, Event::Resume(wire));
            }
        }
        for client in 0..self.clients.len() {
            self.with_client(client, |client, world| match client {
                Client::Stranger(stranger) => stranger.leave(world),
                Client::Link(link) if link.identity.twin => link.stop(world),
                Client::Link(_) | Client::Resumer(_) | Client::Agent(_) => {}
                Client::Speaker(speaker) => speaker.calm_down(world),
            });
        }
        self.start();
    }
}

/// Mostly a little, sometimes years.
fn jump(luck: &mut Chance) -> i64 {
    let most = *luck.pick(&[50, 5_000, 3_600_000, 100_000_000_000]);
    luck.below(2 * most) as i64 - most as i64
}
