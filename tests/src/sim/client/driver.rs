//! The process around a real link: its connection, its timer, its clock.

use conclave_core::link::{Action, Input, Link, Version};
use conclave_core::opaque::Opaque;
use conclave_core::time::Monotonic;

use super::super::world::{Event, World};
use crate::chance::Chance;

/// See the module.
#[derive(Debug)]
pub(super) struct Driver {
    /// The client's number.
    number: usize,
    pub link: Link,
    /// The version that the link asks for.
    pub version: Version,
    pub attempt: u64,
    wire: Option<usize>,
    dialing: bool,
    timer: Option<u64>,
}

impl Driver {
    /// A link that has not started.
    pub(super) fn new(number: usize, link: Link) -> Self {
        Self { number, link, version: Version::V1, attempt: 0, wire: None, dialing: false, timer: None }
    }

    /// The process died, with its machine or alone, and another link takes its place.
    pub(super) fn replace(&mut self, world: &mut World, link: Link, chance: &mut Chance) {
        if let Some(wire) = self.wire.take() {
            if chance.one_in(2) {
                // Its machine went with it: nobody tells the server.
                world.wires[wire].cut = true;
                world.wires[wire].open = false;
            } else {
                world.hang_up(wire);
            }
        }
        *self = Self { attempt: self.attempt + 1, ..Self::new(self.number, link) };
    }

    /// A connection is made. Whether the link still wants it.
    pub(super) fn dialed(&mut self, attempt: u64, wire: usize) -> bool {
        let wanted = self.dialing && attempt == self.attempt;
        if wanted {
            self.dialing = false;
            self.wire = Some(wire);
        }
        wanted
    }

    /// A connection could not be made. Whether the link waits for it.
    pub(super) fn dial_failed(&mut self, attempt: u64) -> bool {
        attempt == self.attempt && std::mem::take(&mut self.dialing)
    }

    /// A connection has ended. Whether it was the link's.
    pub(super) fn closed(&mut self, wire: usize) -> bool {
        let own = self.has(wire);
        if own {
            self.wire = None;
        }
        own
    }

    pub(super) fn has(&self, wire: usize) -> bool {
        self.wire == Some(wire)
    }

    /// Whether the link's timer has run out.
    pub(super) fn is_due(&mut self, world: &World) -> bool {
        self.timer.take_if(|timer| *timer <= world.at).is_some()
    }

    /// Hands an input to the link, and carries out what concerns the connection. The rest is the application's.
    pub(super) fn drive(&mut self, world: &mut World, wall_error: i64, input: Input<'_>) -> Vec<Action> {
        let now = world.client_now(wall_error);
        let mut actions = Vec::new();
        if world.trace.is_some() && matches!(input, Input::Join { .. } | Input::Leave { .. }) {
            world.trace(format_args!("to link {}: {input:?}", self.number));
        }
        self.link.handle(now, input, &mut actions);
        let deadline = self.link.next_deadline();
        if deadline.is_some_and(|deadline| deadline <= now.mono) {
            world.fail(format!("link {} leaves undone what is due", self.number));
        }
        actions.retain_mut(|action| !self.carry_out(world, action));
        self.set_timer(world, deadline);
        actions
    }

    fn carry_out(&mut self, world: &mut World, action: &mut Action) -> bool {
        if world.trace.is_some() && !matches!(action, Action::Send(_)) {
            world.trace(format_args!("link {}: {action:?}", self.number));
        }
        match action {
            Action::Dial(version) => {
                self.version = *version;
                self.dialing = true;
                self.attempt += 1;
                let delay = world.net.between(world.plan.latency) * 2;
                world.after(delay, Event::Dial(self.number, self.attempt));
            }
            Action::Send(Opaque(bytes)) => match self.wire {
                Some(wire) => world.send_up(wire, std::mem::take(bytes)),
                None => world.fail(format!("link {} sends without a connection", self.number)),
            },
            Action::Hangup => {
                self.dialing = false;
                if let Some(wire) = self.wire.take() {
                    world.hang_up(wire);
                }
            }
            _ => return false,
        }
        true
    }

    fn set_timer(&mut self, world: &mut World, deadline: Option<Monotonic>) {
        if let Some(at) = deadline.map(World::client_at)
            && self.timer.is_none_or(|timer| timer > at)
        {
            self.timer = Some(at);
            world.on(at, Event::ClientTimer(self.number));
        }
    }
}
