//! A data directory as a server leaves it after months.

use std::path::Path;
use std::sync::{Arc, mpsc};

use conclave_core::key::PublicKey;
use conclave_core::name::{ChannelName, MachineName, SessionPath, UserName};
use conclave_core::payload::Payload;
use conclave_core::protocol::Visibility;
use conclave_core::record::{ChannelId, MachineId, Record, Stamp, UserId};
use conclave_core::stream::Origin;
use conclave_core::time::UnixMillis;
use conclave_store::journal::{Event, Journal, Options};

use super::{BODY, Failure};

/// Records of one commit.
const BATCH: u64 = 20_000;

pub(super) fn run(dir: &Path, users: u64, channels: u64, messages: u64) -> Result<(), Failure> {
    let (sender, done) = mpsc::channel();
    let running = Journal::open(dir, Options::default())?.start(move |event| drop(sender.send(event)))?;
    let writer = running.writer();
    let persist = |records: Vec<Record>| -> Result<(), Failure> {
        writer.persist(0, records).map_err(|_| "the journal has stopped")?;
        match done.recv()? {
            Event::Persisted { result: Ok(_), .. } => Ok(()),
            other => Err(format!("{other:?}").into()),
        }
    };
    for from in (0..users).step_by(BATCH as usize) {
        let people = (from..users.min(from + BATCH)).map(person).collect::<Result<Vec<_>, Failure>>()?;
        persist(people.into_iter().flatten().collect())?;
    }
    for from in (0..channels).step_by(BATCH as usize) {
        persist((from..channels.min(from + BATCH)).map(channel).collect::<Result<_, _>>()?)?;
    }
    // Yesterday: within the time that messages are kept.
    let began = jiff::Timestamp::now().as_millisecond() - 86_400_000;
    let from = Arc::new(SessionPath::new("user0", "workstation", "main")?);
    let payload = Arc::new(Payload::Plain("x".repeat(BODY)));
    for first in (0..messages).step_by(BATCH as usize) {
        let posts = (first..messages.min(first + BATCH)).map(|number| Record::Posted {
            channel: ChannelId(1 + number % channels),
            stamp: Stamp { seq: 1 + number / channels, ts: UnixMillis(began + (number / channels) as i64) },
            from: Arc::clone(&from),
            payload: Arc::clone(&payload),
            origin: Origin::default(),
        });
        persist(posts.collect())?;
    }
    running.stop();
    Ok(())
}

fn person(number: u64) -> Result<[Record; 2], Failure> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    let (user, at) = (UserId(1 + number), UnixMillis(1));
    let (machine, name) = (MachineId(1 + number), MachineName::new("workstation")?);
    Ok([
        Record::UserAdded { user, name: UserName::new(&format!("user{number}"))?, at },
        Record::MachineAdded { machine, user, name, key: PublicKey::from_trusted(key), at },
    ])
}

fn channel(number: u64) -> Result<Record, Failure> {
    Ok(Record::ChannelCreated {
        channel: ChannelId(1 + number),
        name: ChannelName::new(&format!("channel{number}"))?,
        visibility: Visibility::Public,
        creator: UserId(1),
        at: UnixMillis(1),
        last: Stamp::default(),
    })
}
