//! Agents that answer whatever they hear, on a channel of their own: sessions with the real bridge, and agents that the real
//! host wakes. A person writes there until nothing breaks any more. However messages are delayed, and whatever crashes, the
//! agents come to an end by themselves, within what their humans allowed.

mod asleep;
mod awake;

use conclave_core::body;
use conclave_core::link::{Action, Config, Input, JoinFrom, Link, Newest, Place, Proof, Refused, RequestId};
use conclave_core::name::{ChannelName, Handle, SessionPath};
use conclave_core::opaque::Opaque;
use conclave_core::payload::Payload;
use conclave_core::protocol::{Command, Stamped};
use conclave_core::record::ChannelId;
use conclave_core::stream::{StreamCommand, StreamRef};
use conclave_core::wire::client::KeyUse;

use super::super::plan::MILLI;
use super::super::store::Row;
use super::super::world::World;
use super::driver::Driver;
use super::speaker::evidence;
use super::{PREFIX, key};
use crate::chance::Chance;
use asleep::{ANSWER, Asleep};
use awake::Awake;

/// The channel of the agents, and its number.
pub(crate) const DEN: &str = "den";
pub(crate) const DEN_ID: ChannelId = ChannelId(4);

/// How long an agent waits before it looks again at what there is to do, in microseconds.
const PACE: (u64, u64) = (20 * MILLI, 200 * MILLI);

/// See the module.
#[derive(Debug)]
pub(crate) struct Agent {
    number: usize,
    key: usize,
    handle: Handle,
    driver: Driver,
    chance: Chance,
    mind: Mind,
    /// On its disk: up to where the channel is kept.
    place: Option<(ChannelId, u64)>,
    path: Option<SessionPath>,
    /// How often its process was started.
    lives: usize,
    asked: u64,
}

/// What decides for it.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "they stand in boxes")]
enum Mind {
    /// A person, who writes now and then.
    Person,
    /// An agent whose session runs.
    Awake(Awake),
    /// An agent that is started for each message.
    Asleep(Asleep),
}

/// What a mind wants.
#[derive(Debug)]
enum Wish {
    /// Hand this to the link.
    Link(Input<'static>),
    /// Ask the server.
    Ask(RequestId, Command),
}

impl Agent {
    /// One that has not started. The first is the person; then agents that run and agents that are woken take turns.
    pub(crate) fn new(world: &World, number: usize, nth: usize, key: usize, seed: u64) -> Option<Self> {
        let mut chance = Chance::new(seed, 400 + number as u64);
        let handle = Handle::new(&format!("{PREFIX}a{number}")).ok()?;
        let mind = match nth {
            0 => Mind::Person,
            nth if nth % 2 == 1 => Mind::Awake(Awake::new(1 + chance.below(6) as u32)),
            _ => Mind::Asleep(Asleep::new(&handle, self::key(key), &mut chance)),
        };
        let link = link(world, &handle, key, &mut chance);
        let driver = Driver::new(number, link);
        Some(Self { number, key, handle, driver, chance, mind, place: None, path: None, lives: 0, asked: 0 })
    }

    /// The process starts.
    pub(crate) fn start(&mut self, world: &mut World) {
        self.lives += 1;
        let Ok(channel) = ChannelName::new(DEN) else { return };
        let now = world.client_now(0);
        if let Mind::Awake(awake) = &mut self.mind {
            awake.resume(now, &channel, self.place.map(|place| place.0), &self.driver.link);
        }
        self.drive(world, Input::Start);
        let from = self.place.map_or(JoinFrom::Live, |(stream, seq)| JoinFrom::After { stream, seq });
        self.drive(world, Input::Join { channel, token: None, from });
    }

    /// The process dies and starts anew: what is not on its disk is lost.
    pub(crate) fn crash(&mut self, world: &mut World) {
        let link = link(world, &self.handle, self.key, &mut self.chance);
        self.driver.replace(world, link, &mut self.chance);
        match &mut self.mind {
            Mind::Person => {}
            Mind::Awake(awake) => awake.crash(),
            Mind::Asleep(asleep) => asleep.crash(),
        }
        self.start(world);
    }

    pub(super) fn dialed(&mut self, world: &mut World, attempt: u64, wire: usize) -> bool {
        let wanted = self.driver.dialed(attempt, wire);
        if wanted {
            self.drive(world, Input::Dialed { server_id: None });
        }
        wanted
    }

    pub(super) fn dial_failed(&mut self, world: &mut World, attempt: u64) {
        if self.driver.dial_failed(attempt) {
            self.drive(world, Input::DialFailed("refused"));
        }
    }

    pub(super) fn closed(&mut self, world: &mut World, wire: usize, why: &'static str) {
        if self.driver.closed(wire) {
            self.drive(world, Input::Closed(why));
        }
    }

    pub(super) fn message(&mut self, world: &mut World, wire: usize, bytes: &[u8]) {
        if self.driver.has(wire) {
            self.drive(world, Input::Message(Opaque(bytes)));
        }
    }

    pub(super) fn timer(&mut self, world: &mut World) {
        if self.driver.is_due(world) {
            self.drive(world, Input::Tick);
        }
    }

    /// Does what there is to do; says when to look again. Agents go on when nothing breaks any more: nobody tells them to stop.
    pub(super) fn act(&mut self, world: &mut World) -> u64 {
        let now = world.client_now(0);
        let mut wishes = Vec::new();
        match &mut self.mind {
            Mind::Person if !world.calm && self.chance.one_in(60) => self.write(world),
            Mind::Person => {}
            Mind::Awake(awake) => awake.act(now, &self.driver.link, &mut wishes, world),
            Mind::Asleep(asleep) => {
                asleep.act(now, &mut self.chance, self.driver.link.path().is_some(), &mut wishes, world);
            }
        }
        self.fulfil(world, wishes);
        self.chance.between(PACE)
    }

    fn write(&mut self, world: &mut World) {
        let Ok(channel) = ChannelName::new(DEN) else { return };
        self.asked += 1;
        let text = format!("{} of the person", self.asked);
        let post = StreamCommand::post(StreamRef::Channel(channel), Payload::Plain(text));
        self.ask(world, RequestId(self.asked), Command::Stream(post));
    }

    fn ask(&mut self, world: &mut World, id: RequestId, command: Command) {
        let deadline = Some(world.client_now(0).mono + std::time::Duration::from_secs(30));
        self.drive(world, Input::Request { id, command, deadline });
    }

    fn fulfil(&mut self, world: &mut World, wishes: Vec<Wish>) {
        for wish in wishes {
            match wish {
                Wish::Link(input) => self.drive(world, input),
                Wish::Ask(id, command) => self.ask(world, id, command),
            }
        }
    }

    fn drive(&mut self, world: &mut World, input: Input<'_>) {
        let actions = self.driver.drive(world, 0, input);
        for action in actions {
            let mut wishes = Vec::new();
            if let Err(what) = self.told(world, action, &mut wishes) {
                world.fail(format!("agent {}: {what}", self.number));
            }
            self.fulfil(world, wishes);
        }
    }

    fn told(&mut self, world: &World, action: Action, wishes: &mut Vec<Wish>) -> Result<(), String> {
        let now = world.client_now(0);
        match &action {
            Action::Up { path, .. } => self.path = Some(path.clone()),
            Action::Joined { position, .. } => self.place = self.place.or(*position),
            Action::Passed { stream, to, .. } => self.place = Some((*stream, *to)),
            Action::Deliver { place: Some(Place { stream, seq, proof, .. }), .. } => {
                if *proof == Proof::Forged {
                    return Err(format!("message {seq} is called forged"));
                }
                // One write: the message is kept, and it is delivered up to here.
                self.place = Some((*stream, *seq));
                let report = Input::Report { stream: *stream, delivered: *seq, seen: 0 };
                wishes.push(Wish::Link(report));
            }
            Action::Refused(Refused::Key(_)) => {}
            Action::Refused(why) => return Err(format!("it is refused: {why}")),
            _ => {}
        }
        match &mut self.mind {
            Mind::Person => Ok(()),
            Mind::Awake(awake) => {
                awake.told(now, action, &self.driver.link, wishes);
                Ok(())
            }
            Mind::Asleep(asleep) => {
                asleep.told(now, action);
                Ok(())
            }
        }
    }

    fn is_person(&self) -> bool {
        matches!(self.mind, Mind::Person)
    }
}

/// The agents wrote no more than their humans allowed.
///
/// # Errors
/// Which agent did not come to an end.
pub(crate) fn within_budgets(world: &World, rows: &[Row]) -> Result<(), String> {
    let wrote = |agent: &Agent| {
        let own = agent.path.clone();
        rows.iter().filter(move |row| own.as_ref() == Some(&row.from))
    };
    let people: usize = world.agents().filter(|it| it.is_person()).map(|it| wrote(it).count()).sum();
    for agent in world.agents() {
        let answers = wrote(agent)
            .filter(|row| evidence::said_by(&row.payload).is_some_and(|said| said.text == ANSWER))
            .count();
        let all = wrote(agent).count();
        let within = match &agent.mind {
            Mind::Person => continue,
            // A process that starts anew does not know what it wrote before it died, beyond what others answered since.
            Mind::Awake(awake) => all <= awake.budget as usize * (people + agent.lives),
            Mind::Asleep(asleep) => asleep.is_within(answers, all),
        };
        if !within {
            return Err(format!("agent {} wrote {all} messages, {answers} of them answers", agent.number));
        }
        let own = match &agent.mind {
            Mind::Person => continue,
            Mind::Awake(awake) => awake.budget,
            Mind::Asleep(asleep) => asleep.budget.answers,
        };
        for row in wrote(agent) {
            let Payload::Body(body) = &*row.payload else {
                return Err(format!("agent {} wrote no body", agent.number));
            };
            let said = body::context(body);
            // A notice that an agent stops is one hop past the last answer.
            let most = said.budget + u32::from(matches!(agent.mind, Mind::Asleep(_)));
            if said.hops == 0 || said.hops > most || said.budget == 0 || said.budget > own {
                return Err(format!("agent {} of {own} hops says {said:?}", agent.number));
            }
        }
    }
    Ok(())
}

/// A message as it is kept.
fn stamped(action: &Action) -> Option<(Stamped, Proof)> {
    let Action::Deliver { from, payload, ts: Some(ts), place: Some(place), .. } = action else { return None };
    let Place { seq, origin, proof, .. } = place;
    let (from, payload, origin) = (from.clone(), payload.clone(), origin.clone());
    Some((Stamped { from, ts: *ts, payload, seq: *seq, origin }, *proof))
}

fn link(world: &World, handle: &Handle, number: usize, chance: &mut Chance) -> Link {
    let mut seed = [0; 32];
    rand_core::Rng::fill_bytes(chance, &mut seed);
    let pinned = Some(world.identity.key.public());
    Link::new(Config {
        handle: handle.clone(),
        defaulted: false,
        key: key(number).clone(),
        seed,
        newest: Some(Newest { pinned, key: KeyUse::Shared, keep: true }),
    })
}
