//! The deterministic simulation: many links and one hub over a seeded network and a seeded disk.
//!
//! Everything runs in one thread on virtual time, and a seed decides all of it: the same seed, the same run, byte
//! for byte. The engine (hub, fan-out, mailboxes), the connections' pumps and the links are the real ones; the network, the
//! disk, the clocks and the process around them are simulated with all that may go wrong there. Referees watch: `watch` the
//! hub's every action, `follow` what links hand on, the clients what became of what they asked for. At the end all
//! is made whole, and whatever was promised must hold.

mod client;
mod connection;
mod coverage;
mod faults;
mod follow;
mod notation;
mod plan;
mod rest;
mod server;
mod shrink;
mod store;
#[cfg(test)]
mod tests;
mod watch;
mod wire;
mod world;

pub use coverage::Coverage;
pub use plan::{Fault, Options};
pub use shrink::{Shrunk, shrink};

use conclave_core::link::JoinFrom;
use conclave_core::name::{ChannelName, Handle, MachineName, UserName};
use conclave_core::protocol::Visibility;
use conclave_core::record::{ChannelId, MachineId, Record, Stamp, UserId};
use conclave_core::time::UnixMillis;

use client::{Agent, Client, DEN, DEN_ID, Identity, Kind, LinkClient, Resumer, Speaker, Stranger, key};
use plan::{MILLI, SECOND};
use world::{Event, World};

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it met.
    pub coverage: Coverage,
    /// The invariant that did not hold, if one did not.
    pub failure: Option<String>,
    /// When it ended, in microseconds of virtual time.
    pub at: u64,
    /// What happened, line by line, if it was asked for.
    pub trace: Vec<String>,
    /// What happened, as a number.
    pub digest: u64,
}

/// Users that are there from the beginning.
const USERS: usize = 5;
/// The outsider's number as a user.
const EVE: usize = 30;

/// Runs a seed.
pub fn run(seed: u64, options: &Options) -> Outcome {
    let mut world = World::new(seed, options);
    if options.no_administration {
        world.plan.administration = u64::MAX;
    }
    furnish(&mut world);
    world.start();
    populate(&mut world, seed, options);
    world.begin_faults();
    let active = world.plan.active;
    world.run_until(active);
    if world.failure.is_none() {
        world.heal();
        rest::settle(&mut world);
    }
    world.coverage.runs = 1;
    world.coverage.seconds = world.at / SECOND;
    let mix =
        world.coverage.hub_inputs ^ world.coverage.deliveries << 20 ^ world.coverage.handed_on_live << 40;
    world.mix(mix);
    Outcome {
        coverage: world.coverage,
        failure: world.failure,
        at: world.at,
        trace: world.trace.unwrap_or_default(),
        digest: world.digest,
    }
}

/// A user's name.
fn user(number: usize) -> &'static str {
    match number {
        0 => "u0",
        1 => "u1",
        2 => "u2",
        3 => "u3",
        4 => "u4",
        5 => "u5",
        EVE => "eve",
        _ => "root",
    }
}

/// The number of the key of a user's second machine, which is not enrolled from the beginning.
fn spare_key(user: usize) -> usize {
    16 + user % 8
}

fn furnish(world: &mut World) {
    let at = UnixMillis(1_600_000_000_000);
    let mut records = Vec::new();
    let mut add = |name: &str, key_number: usize, nth: u64| {
        if let (Ok(name), Ok(machine)) = (UserName::new(name), MachineName::new("m")) {
            let key = key(key_number).public();
            records.push(Record::UserAdded { user: UserId(nth), name, at });
            let (machine_id, user) = (MachineId(nth), UserId(nth));
            records.push(Record::MachineAdded { machine: machine_id, user, name: machine, key, at });
        }
    };
    for nth in 0..USERS {
        add(user(nth), nth, nth as u64);
    }
    add("root", 7, 5);
    add("eve", EVE, 6);
    let channels: [(&str, Visibility, u64, &[u64]); 4] = [
        ("general", Visibility::Public, 0, &[0]),
        ("corner", Visibility::Unlisted, 1, &[1, 2]),
        ("team", Visibility::Private, 0, &[0, 1, 2, 3]),
        ("vault", Visibility::Private, 5, &[0, 5]),
    ];
    for (nth, (name, visibility, creator, members)) in channels.into_iter().enumerate() {
        let channel = ChannelId(nth as u64);
        if let Ok(name) = ChannelName::new(name) {
            let (creator, last) = (UserId(creator), Stamp::default());
            records.push(Record::ChannelCreated { channel, name, visibility, creator, at, last });
        }
        let members = members.iter().map(|user| Record::MemberAdded { channel, user: UserId(*user) });
        records.extend(members);
    }
    if world.plan.agents > 0
        && let Ok(name) = ChannelName::new(DEN)
    {
        let (channel, visibility, creator, last) = (DEN_ID, Visibility::Private, UserId(0), Stamp::default());
        records.push(Record::ChannelCreated { channel, name, visibility, creator, at, last });
        let members = 0..USERS as u64;
        records.extend(members.map(|user| Record::MemberAdded { channel, user: UserId(user) }));
    }
    world.furnished = records.len();
    world.store.keep(records);
}

fn populate(world: &mut World, seed: u64, options: &Options) {
    for number in 0..world.plan.links {
        let owner = number % (USERS + 1);
        let owner = if owner == USERS { 7 } else { owner };
        let twin = world.plan.twins && number + 1 == world.plan.links;
        let spare = number > USERS && number.is_multiple_of(3) && owner != 7;
        let handle = if twin { String::from("s0") } else { format!("s{number}") };
        let Ok(handle) = Handle::new(&handle) else { continue };
        let identity = Identity {
            number,
            user: if twin { 0 } else { owner },
            key: if twin {
                0
            } else if spare {
                spare_key(owner)
            } else {
                owner
            },
            handle,
            defaulted: seed.is_multiple_of(2),
            twin,
        };
        world.clients.push(Some(Box::new(Client::Link(LinkClient::new(identity, seed)))));
    }
    for nth in 0..world.plan.speakers {
        // The last asks for what is hidden; some have a machine that is enrolled later, or never.
        let prober = nth > 1 && nth + 1 == world.plan.speakers;
        let owner = (nth * 2 + seed as usize) % USERS;
        let (user, key) = match nth {
            _ if prober => (EVE, EVE),
            3 => (owner, spare_key(owner)),
            _ => (owner, owner),
        };
        let number = world.clients.len();
        let speaker = Speaker::new(number, user, key, prober, seed);
        world.clients.push(Some(Box::new(Client::Speaker(speaker))));
        world.after(number as u64 * 3 * MILLI, Event::ClientTimer(number));
    }
    let mut strangers = Vec::new();
    if !options.no_strangers {
        strangers.push((Kind::Outsider, EVE, EVE));
        strangers.extend(
            (0..world.plan.registrars).map(|nth| (Kind::Registrar, 5 - nth % 2 * 2, 11 - nth % 2 * 8)),
        );
        strangers.extend((0..world.plan.vandals).map(|nth| (Kind::Vandal, 4, 4 + nth % 2 * 9)));
    }
    for (kind, user, key) in strangers {
        let number = world.clients.len();
        let stranger = Stranger::new(number, kind, user, key, seed);
        world.clients.push(Some(Box::new(Client::Stranger(stranger))));
    }
    for nth in 0..world.plan.resumers {
        let owner = (nth * 3 + seed as usize) % USERS;
        let key = if nth == 2 { spare_key(owner) } else { owner };
        let number = world.clients.len();
        if let Some(resumer) = Resumer::new(world, number, owner, key, seed) {
            world.clients.push(Some(Box::new(Client::Resumer(resumer))));
        }
    }
    for nth in 0..world.plan.agents {
        // Each of its own user: what a user's sessions write to each other counts as one's own.
        let owner = (nth + seed as usize) % USERS;
        let number = world.clients.len();
        if let Some(agent) = Agent::new(world, number, nth, owner, seed) {
            world.clients.push(Some(Box::new(Client::Agent(agent))));
        }
    }
    let Ok(general) = ChannelName::new("general") else { return };
    for number in 0..world.clients.len() {
        world.with_client(number, |client, world| {
            if let Client::Resumer(resumer) = client {
                resumer.start(world);
            }
            if let Client::Agent(agent) = client {
                agent.start(world);
            }
            if let Client::Link(link) = client {
                link.start(world);
                let from = if number % 2 == 0 { JoinFrom::Live } else { JoinFrom::Since(UnixMillis(0)) };
                link.join(world, general.clone(), None, from);
            }
        });
        world.after(number as u64 * 3 * MILLI, Event::Act(number));
    }
}
