//! What a seed makes of a run: its network, its disk, its bounds, its crowd and its faults.

use std::time::Duration;

use conclave_core::hub::{Limits, Rate, Rates};

use crate::chance::Chance;

/// Microseconds of a millisecond and of a second.
pub(super) const MILLI: u64 = 1_000;
/// See [`MILLI`].
pub(super) const SECOND: u64 = 1_000_000;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The server's process dies.
    Crash,
    /// The server is shut down and started again.
    Drain,
    /// One commit fails.
    FailedCommit,
    /// Every commit fails for a while.
    FullDisk,
    /// Commits take long for a while.
    SlowDisk,
    /// History cannot be read for a while.
    UnreadableDisk,
    /// A connection is reset; both ends learn of it, at different times.
    Reset,
    /// Nothing passes a connection any more, and nobody is told.
    Cut,
    /// A client stops reading for a while.
    Stall,
    /// A client's process dies and is started again.
    ClientCrash,
    /// Nobody can connect for a while.
    NoDial,
    /// The server's wall clock jumps.
    ClockJump,
    /// A client's wall clock jumps.
    ClientClockJump,
    /// The retention takes old messages.
    Purge,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::Crash,
        Self::Drain,
        Self::FailedCommit,
        Self::FullDisk,
        Self::SlowDisk,
        Self::UnreadableDisk,
        Self::Reset,
        Self::Cut,
        Self::Stall,
        Self::ClientCrash,
        Self::NoDial,
        Self::ClockJump,
        Self::ClientClockJump,
        Self::Purge,
    ];
}

/// What may be taken away from a run, to see whether it still fails without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Kinds of faults that do not happen.
    pub without: Vec<Fault>,
    /// No client does anything of its own accord after this time, in microseconds.
    pub until: Option<u64>,
    /// Nobody speaks version 2.
    pub no_speakers: bool,
    /// No strangers: clients that misbehave, and the outsider.
    pub no_strangers: bool,
    /// Nobody administrates.
    pub no_administration: bool,
    /// Keep a trace to be read.
    pub trace: bool,
}

impl Options {
    /// Everything happens.
    pub const ALL: Self = Self {
        without: Vec::new(),
        until: None,
        no_speakers: false,
        no_strangers: false,
        no_administration: false,
        trace: false,
    };
}

/// The shape of a run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// One-way delay of the network, from and to, in microseconds.
    pub latency: (u64, u64),
    /// A commit's duration.
    pub commit: (u64, u64),
    /// A read's duration, half before it looks and half after.
    pub read: (u64, u64),
    /// Bytes that a connection carries unread.
    pub window: usize,
    /// Bytes of a mailbox of version 1.
    pub queue: usize,
    /// Bytes of deliveries that a session of version 2 may lag behind.
    pub live: usize,
    /// The hub's bounds.
    pub limits: Limits,
    /// How long clients act.
    pub active: u64,
    /// Links of users who are there from the beginning.
    pub links: usize,
    /// Others: who registers, who misbehaves.
    pub registrars: usize,
    /// See `registrars`.
    pub vandals: usize,
    /// Clients of version 2.
    pub speakers: usize,
    /// Programs on links of version 2.
    pub resumers: usize,
    /// Agents that answer each other, and a person; 0: none.
    pub agents: usize,
    /// Mean time between two acts of a client.
    pub pace: u64,
    /// In so many of 100 posts the text is one of a few.
    pub repeats: u64,
    /// One act of so many is an administrator's.
    pub administration: u64,
    /// Mean time between two faults of a kind; 0: none.
    pub faults: Vec<(Fault, u64)>,
    /// Two links use the same handle.
    pub twins: bool,
}

impl Plan {
    /// The shape that `seed` has, under `options`.
    pub(super) fn new(seed: u64, options: &Options) -> Self {
        let chance = &mut Chance::new(seed, 1);
        let latency =
            *chance.pick(&[(20, 200), (200, 2 * MILLI), (5 * MILLI, 30 * MILLI), (MILLI, 300 * MILLI)]);
        let commit =
            *chance.pick(&[(50, 300), (MILLI, 5 * MILLI), (5 * MILLI, 40 * MILLI), (MILLI, 400 * MILLI)]);
        let read = *chance.pick(&[(20, 100), (MILLI, 10 * MILLI), (MILLI, 500 * MILLI)]);
        let mut plan = Self {
            latency,
            commit,
            read,
            window: *chance.pick(&[600, 4 << 10, 64 << 10]),
            queue: *chance.pick(&[1500, 8 << 10, 64 << 10, 1 << 20]),
            live: 0,
            limits: limits(chance),
            active: chance.between((15, 60)) * SECOND,
            links: chance.between((4, 12)) as usize,
            registrars: chance.index(3),
            vandals: chance.index(4),
            speakers: 0,
            resumers: 0,
            agents: 0,
            pace: chance.between((50, 800)) * MILLI,
            repeats: *chance.pick(&[0, 30, 70, 100]),
            administration: *chance.pick(&[6, 20, 100]),
            faults: Vec::new(),
            twins: chance.one_in(4),
        };
        // A few kinds of fault at a time, so that each also meets a world that is otherwise sound.
        let density = chance.between((0, 3));
        for fault in Fault::ALL {
            let (present, mean) = (chance.below(4) < density, chance.between((3, 30)) * SECOND);
            if present && !options.without.contains(&fault) {
                plan.faults.push((fault, mean));
            }
        }
        let chance = &mut Chance::new(seed, 5);
        plan.live = *chance.pick(&[300, 1500, 8 << 10, 64 << 10]);
        plan.speakers = if options.no_speakers { 0 } else { chance.between((1, 6)) as usize };
        plan.resumers = if options.no_speakers { 0 } else { Chance::new(seed, 6).index(4) };
        plan.agents = if options.no_speakers { 0 } else { *Chance::new(seed, 7).pick(&[0, 0, 0, 3, 4, 5]) };
        plan.limits.catch_up_rows = *chance.pick(&[1, 3, 10, 4_096]);
        plan.limits.readers_per_user = *chance.pick(&[2, 1_000]);
        if plan.agents > 0 {
            // Each keeps a position, beside its user's other programs.
            plan.limits.readers_per_user = 1_000;
        }
        if options.no_strangers {
            (plan.registrars, plan.vandals) = (0, 0);
        }
        if let Some(until) = options.until {
            plan.active = plan.active.min(until);
        }
        plan
    }
}

fn limits(chance: &mut Chance) -> Limits {
    let generous = Limits::default();
    let tight = Rates {
        posts: Rate::new(5, 10),
        whispers: Rate::new(5, 10),
        bytes: Rate::new(2_000, 10_000),
        control: Rate::new(20, 60),
        replies: Rate::new(20_000, 60_000),
    };
    let limits = if chance.one_in(8) {
        Limits { session: tight.clone(), user: tight, ..generous }
    } else {
        generous.without_rates()
    };
    Limits {
        page_rows: *chance.pick(&[1, 3, 7, 25, 500]),
        page_bytes: *chance.pick(&[60, 300, 1 << 20]),
        batch_posts: *chance.pick(&[1, 2, 8, 4_096]),
        batch_bytes: *chance.pick(&[20, 200, 8 << 20]),
        members_per_channel: *chance.pick(&[3, 10_000]),
        bans_per_channel: *chance.pick(&[1, 10_000]),
        invites_per_channel: *chance.pick(&[2, 1_000]),
        channels_per_user: *chance.pick(&[4, 1_000]),
        machines_per_user: 4,
        idle: Duration::from_secs(60),
        ..limits
    }
}
