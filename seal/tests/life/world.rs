//! A server that keeps one order, and machines that may crash: of each, only what it saved survives.
//!
//! The oracle is the list of texts in the order in which the server stored them, kept beside the machines: it knows no keys.

use std::collections::{BTreeMap, BTreeSet};

use conclave_core::key::SecretKey;
use conclave_seal::{
    Addition, Answer, Channel, Content, Entry, Error, Input, KeyPackage, Kind, Member, Output, PostCommit,
    key_package,
};

pub(crate) const GROUP: &[u8] = b"group of the test";
pub(crate) const NOW: u64 = 1_800_000_000;

#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) seq: u64,
    pub(crate) id: [u8; 16],
    pub(crate) machine: u64,
    pub(crate) session: String,
    pub(crate) what: What,
}

#[derive(Clone)]
pub(crate) enum What {
    Sealed { epoch: u64, bytes: Vec<u8> },
    Commit { epoch: u64, bytes: Vec<u8>, adds: Vec<u64>, removes: Vec<u64> },
}

impl Stored {
    pub(crate) fn entry(&self) -> Entry<'_> {
        let kind = match &self.what {
            What::Sealed { epoch, bytes } => Kind::Sealed { epoch: *epoch, bytes },
            What::Commit { epoch, bytes, adds, removes } => {
                Kind::Commit { epoch: *epoch, bytes, adds, removes }
            }
        };
        Entry {
            seq: self.seq,
            id: self.id,
            user: user(self.machine),
            machine: self.machine,
            session: &self.session,
            kind,
        }
    }
}

#[derive(Default)]
pub(crate) struct Server {
    pub(crate) epoch: u64,
    pub(crate) stream: Vec<Stored>,
    pub(crate) group_info: Vec<u8>,
    pub(crate) welcomes: BTreeMap<u64, (Vec<u8>, u64, u64)>,
    pub(crate) due: BTreeSet<u64>,
}

pub(crate) enum Reply {
    Stored,
    Stale(u64),
    Due(Vec<u64>),
}

impl Server {
    fn store(&mut self, id: [u8; 16], machine: u64, what: What) {
        let seq = self.stream.len() as u64 + 1;
        self.stream.push(Stored { seq, id, machine, session: "s".into(), what });
    }

    fn has(&self, id: [u8; 16]) -> bool {
        self.stream.iter().any(|stored| stored.id == id)
    }

    pub(crate) fn post(&mut self, machine: u64, id: [u8; 16], epoch: u64, bytes: Vec<u8>) -> Reply {
        if self.has(id) {
            return Reply::Stored;
        }
        if epoch != self.epoch {
            return Reply::Stale(self.epoch);
        }
        if !self.due.is_empty() {
            return Reply::Due(self.due.iter().copied().collect());
        }
        self.store(id, machine, What::Sealed { epoch, bytes });
        Reply::Stored
    }

    pub(crate) fn commit(&mut self, machine: u64, commit: PostCommit) -> Reply {
        if self.has(commit.id) {
            return Reply::Stored;
        }
        if commit.epoch != self.epoch {
            return Reply::Stale(self.epoch);
        }
        self.epoch += 1;
        self.group_info = commit.group_info;
        let (bytes, adds, removes) = (commit.commit, commit.adds, commit.removes);
        self.due.retain(|due| !removes.contains(due));
        self.store(
            commit.id,
            machine,
            What::Commit { epoch: commit.epoch, bytes, adds: adds.clone(), removes },
        );
        let seq = self.stream.len() as u64;
        for added in adds {
            self.welcomes.insert(added, (commit.welcome.clone().unwrap(), seq, self.epoch));
        }
        Reply::Stored
    }
}

pub(crate) fn user(machine: u64) -> u64 {
    machine / 2
}

pub(crate) fn key(machine: u64) -> SecretKey {
    SecretKey::from_seed(&[u8::try_from(machine).unwrap(); 32])
}

pub(crate) fn addition(machine: u64, package: &[u8]) -> Addition<'_> {
    Addition { user: user(machine), machine, key: key(machine).public(), package }
}

pub(crate) fn member(machine: u64) -> Member {
    Member {
        user: user(machine),
        machine,
        user_name: format!("user{}", user(machine)),
        machine_name: format!("machine{machine}"),
        server: SecretKey::from_seed(&[255; 32]).public(),
        key: key(machine).public(),
    }
}

pub(crate) fn content(text: &str) -> Content {
    Content { session: "s".into(), body: text.as_bytes().to_vec(), heads: Vec::new() }
}

/// One machine: what it saved, and what it showed.
#[derive(Default)]
pub(crate) struct Machine {
    pub(crate) saved: Option<Vec<u8>>,
    pub(crate) packages: Vec<KeyPackage>,
    pub(crate) shown: Vec<(u64, String)>,
    pub(crate) missed: BTreeSet<u64>,
    pub(crate) alarms: Vec<String>,
    pub(crate) joined_at: u64,
    pub(crate) is_out: bool,
}

/// What a crash takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    No,
    BeforeSaving,
    BeforeSending,
    BeforeTheAnswer,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) machines: BTreeMap<u64, Machine>,
    ids: u64,
}

impl World {
    /// A group of `machines`, the first of which made it.
    pub(crate) fn new(machines: &[u64]) -> Self {
        let mut world = Self::default();
        let mut first = Channel::create(member(machines[0]), &key(machines[0]), GROUP, 0, NOW).unwrap();
        let saved = Some(first.save().unwrap().to_vec());
        world.machines.insert(machines[0], Machine { saved, ..Machine::default() });
        for machine in &machines[1..] {
            world.add(machines[0], &[*machine], Crash::No);
            world.settle();
        }
        world
    }

    pub(crate) fn id(&mut self) -> [u8; 16] {
        self.ids += 1;
        u128::from(self.ids).to_be_bytes()
    }

    pub(crate) fn load(&self, machine: u64) -> Option<Channel> {
        let saved = self.machines.get(&machine)?.saved.as_ref()?;
        Some(Channel::load(member(machine), &key(machine), saved).unwrap())
    }

    /// One step: load, handle, save, and only then act.
    pub(crate) fn step(&mut self, machine: u64, input: Input<'_>, crash: Crash) -> Result<(), Error> {
        let Some(mut channel) = self.load(machine) else { return Ok(()) };
        let outputs = channel.handle(input, NOW)?;
        if crash == Crash::BeforeSaving {
            return Ok(());
        }
        self.machines.get_mut(&machine).unwrap().saved = Some(channel.save()?.to_vec());
        self.act(machine, outputs, crash);
        Ok(())
    }

    fn act(&mut self, machine: u64, outputs: Vec<Output>, crash: Crash) {
        for output in outputs {
            let kept = self.machines.get_mut(&machine).unwrap();
            let reply = match output {
                Output::Message { seq, content, .. } => {
                    kept.shown.push((seq, String::from_utf8(content.body).unwrap()));
                    continue;
                }
                Output::Missed { seq } => {
                    kept.missed.insert(seq);
                    continue;
                }
                Output::Alarm(alarm) => {
                    kept.alarms.push(alarm.to_string());
                    continue;
                }
                Output::Out => {
                    kept.is_out = true;
                    continue;
                }
                Output::RejoinAgain => {
                    kept.saved = None;
                    continue;
                }
                Output::Post { .. } | Output::PostCommit(_) if crash == Crash::BeforeSending => continue,
                Output::Post { id, epoch, bytes } => self.server.post(machine, id, epoch, bytes),
                Output::PostCommit(commit) => self.server.commit(machine, commit),
                Output::Changed { .. } | Output::CatchUp | Output::Superseded { .. } => continue,
            };
            if crash == Crash::BeforeTheAnswer {
                continue;
            }
            let id = self.id();
            let step = match reply {
                Reply::Stored => self.step(machine, Input::Answer(Answer::Stored), Crash::No),
                Reply::Stale(current) => {
                    self.step(machine, Input::Answer(Answer::StaleEpoch { current }), Crash::No)
                }
                Reply::Due(machines) => self.step(
                    machine,
                    Input::Answer(Answer::RemovalsDue { id, machines: &machines }),
                    Crash::No,
                ),
            };
            step.unwrap();
        }
    }

    pub(crate) fn say(&mut self, machine: u64, text: &str, crash: Crash) {
        let id = self.id();
        match self.step(machine, Input::Seal { id, content: &content(text) }, crash) {
            Ok(()) | Err(Error::Removed | Error::Rejoining) => {}
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn package(&mut self, machine: u64) -> Vec<u8> {
        let package = key_package(&member(machine), &key(machine), NOW, false).unwrap();
        let public = package.public.clone();
        self.machines.entry(machine).or_default().packages.push(package);
        public
    }

    pub(crate) fn add(&mut self, by: u64, added: &[u64], crash: Crash) {
        let packages: Vec<_> = added.iter().map(|machine| (*machine, self.package(*machine))).collect();
        let adds: Vec<_> = packages.iter().map(|(machine, package)| addition(*machine, package)).collect();
        let id = self.id();
        // Refused where the machine is in already, or another commit is on its way.
        let _ = self.step(by, Input::Change { id, adds: &adds, removes: &[] }, crash);
    }

    pub(crate) fn remove(&mut self, by: u64, gone: &[u64], crash: Crash) {
        let id = self.id();
        let _ = self.step(by, Input::Change { id, adds: &[], removes: gone }, crash);
    }

    /// Loses the machine's state; it comes back with an external commit.
    pub(crate) fn lose(&mut self, machine: u64) {
        let Some(lost) = self.machines.get_mut(&machine) else { return };
        if lost.saved.is_none() || lost.is_out || self.server.group_info.is_empty() {
            return;
        }
        let seen = self.load(machine).unwrap().position();
        self.machines.get_mut(&machine).unwrap().saved = None;
        let at = (seen, 0, NOW);
        let (id, info) = (self.id(), self.server.group_info.clone());
        let Ok((mut channel, outputs)) =
            Channel::rejoin(member(machine), &key(machine), GROUP, &info, id, at)
        else {
            return;
        };
        self.machines.get_mut(&machine).unwrap().saved = Some(channel.save().unwrap().to_vec());
        self.act(machine, outputs, Crash::No);
    }

    /// Lets a machine read one entry further.
    pub(crate) fn read(&mut self, machine: u64, crash: Crash) -> bool {
        self.welcome(machine);
        let Some(channel) = self.load(machine) else { return false };
        let next = self.server.stream.get(usize::try_from(channel.position()).unwrap()).cloned();
        let Some(next) = next else { return false };
        self.step(machine, Input::Entry(next.entry()), crash).unwrap();
        true
    }

    fn welcome(&mut self, machine: u64) {
        let Some((welcome, seq, epoch)) = self.server.welcomes.remove(&machine) else { return };
        let kept = self.machines.get_mut(&machine).unwrap();
        let at = (seq, epoch, NOW);
        let mut joined =
            Channel::join(member(machine), &key(machine), GROUP, &welcome, &kept.packages, at).unwrap();
        *kept =
            Machine { saved: Some(joined.save().unwrap().to_vec()), joined_at: seq, ..Machine::default() };
    }

    /// Everybody reads to the end and sends what waits, until nothing happens any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100 {
            let before = self.server.stream.len();
            for machine in self.machines.keys().copied().collect::<Vec<_>>() {
                while self.read(machine, Crash::No) {}
                match self.step(machine, Input::Resume, Crash::No) {
                    Ok(()) | Err(Error::Removed) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            if self.server.stream.len() == before {
                return;
            }
        }
        panic!("the group does not come to rest");
    }
}
