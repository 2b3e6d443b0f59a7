//! What the host of agents keeps: the messages that wake them and how far each has come, budgets that are used, and the clients'
//! own sessions.

use conclave_core::host::Phase;
use conclave_core::name::{ChannelName, UserName};
use conclave_core::protocol::Stamped;
use conclave_core::record::ChannelId;
use conclave_core::time::UnixMillis;
use conclave_core::wire::v2::kept;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::error::Fault;
use super::{Reader, State, StateError, room, seq_in, seq_out};

/// How many jobs of one agent are kept at most.
pub const MAX_JOBS: usize = 10_000;
/// How many clients' sessions of one agent are remembered at most. Past it, the one that was not used for longest is forgotten.
pub const MAX_SESSIONS: usize = 1_000;

/// The window of a budget, in milliseconds.
const HOUR: i64 = 3_600_000;

/// A message that wakes an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostJob {
    /// The stream in which it lies.
    pub stream: ChannelId,
    /// The channel; `None` for the agent's mailbox.
    pub channel: Option<ChannelName>,
    /// The message.
    pub message: Stamped,
    /// How far it has come.
    pub phase: Phase,
    /// How often a process was started for it.
    pub attempts: u32,
    /// The answer that is to be posted.
    pub answer: Option<String>,
    /// The stream that it goes to, where that is decided.
    pub target: Option<ChannelId>,
    /// What identifies the process that was started last, to whoever started it.
    pub process: Option<String>,
}

/// What is kept of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAgent {
    /// Its jobs, in the order of their messages' times.
    pub jobs: Vec<HostJob>,
    /// When its runs of the last hour began.
    pub runs: Vec<UnixMillis>,
    /// Who knows that its budget is used up.
    pub told: Vec<UserName>,
    /// Whether it is paused.
    pub paused: bool,
}

/// A job, by its message.
pub type HostKey = (ChannelId, u64);

impl State {
    /// All that is kept of an agent. Runs that began an hour before `now` are left out.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn host_agent(&self, agent: &Reader, now: UnixMillis) -> Result<HostAgent, StateError> {
        self.read(|connection| {
            let Some(id) = find(connection, agent)? else { return Ok(HostAgent::default()) };
            let paused = connection
                .prepare_cached("SELECT paused FROM host_agents WHERE id = ?1")?
                .query_row([id], |row| row.get(0))?;
            let mut statement = connection.prepare_cached(
                "SELECT stream, channel, message, phase, attempts, answer, target, process
                 FROM host_jobs WHERE agent = ?1 LIMIT ?2",
            )?;
            let mut rows = statement.query(params![id, MAX_JOBS as i64])?;
            let mut jobs = Vec::new();
            while let Some(row) = rows.next()? {
                jobs.push(job(row)?);
            }
            jobs.sort_by_key(|job| (job.message.ts, job.stream, job.message.seq));
            let runs = connection
                .prepare_cached(
                    "SELECT at FROM host_runs WHERE agent = ?1 AND at > ?2 ORDER BY at LIMIT 10000",
                )?
                .query_map(params![id, now.0.saturating_sub(HOUR)], |row| Ok(UnixMillis(row.get(0)?)))?
                .collect::<Result<_, _>>()?;
            let mut statement =
                connection.prepare_cached("SELECT user FROM host_told WHERE agent = ?1 LIMIT 10000")?;
            let mut rows = statement.query([id])?;
            let mut told = Vec::new();
            while let Some(row) = rows.next()? {
                let name = row.get_ref(0)?.as_str().map_err(|_| Fault::Damaged("a name in it is none"))?;
                told.push(UserName::new(name)?);
            }
            Ok(HostAgent { jobs, runs, told, paused })
        })
    }

    /// Up to which message of a stream it is decided whether it wakes the agent.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn host_judged(&self, agent: &Reader, stream: ChannelId) -> Result<u64, StateError> {
        self.read(|connection| {
            let Some(id) = find(connection, agent)? else { return Ok(0) };
            let judged = connection
                .prepare_cached("SELECT seq FROM host_judged WHERE agent = ?1 AND stream = ?2")?
                .query_row(params![id, stream.0.cast_signed()], |row| row.get(0))
                .optional()?;
            seq_out(judged.unwrap_or(0))
        })
    }

    /// Keeps that it is decided of all messages up to `seq` whether they wake the agent, and the last of them as a job if it
    /// does.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn host_judge(
        &self,
        agent: &Reader,
        (stream, seq): HostKey,
        job: Option<(Option<&ChannelName>, &Stamped)>,
    ) -> Result<(), StateError> {
        self.write(|connection| {
            let (id, place, seq) = (find_or_add(connection, agent)?, stream.0.cast_signed(), seq_in(seq)?);
            connection
                .prepare_cached(
                    "INSERT INTO host_judged (agent, stream, seq) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)",
                )?
                .execute(params![id, place, seq])?;
            let Some((channel, message)) = job else { return Ok(()) };
            let count = connection
                .prepare_cached("SELECT count(*) FROM host_jobs WHERE agent = ?1")?
                .query_row([id], |row| row.get(0))?;
            room(count, "messages that wait for an agent", MAX_JOBS, "let the agent work through them")?;
            let channel = channel.map(ChannelName::as_str);
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO host_jobs (agent, stream, seq, channel, message, phase, attempts)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
                )?
                .execute(params![id, place, seq, channel, kept::encode(message), phase_in(Phase::Waiting)])?;
            Ok(())
        })
    }

    /// A job, if it is kept.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn host_job(&self, agent: &Reader, (stream, seq): HostKey) -> Result<Option<HostJob>, StateError> {
        self.read(|connection| {
            let Some(id) = find(connection, agent)? else { return Ok(None) };
            let mut statement = connection.prepare_cached(
                "SELECT stream, channel, message, phase, attempts, answer, target, process
                 FROM host_jobs WHERE agent = ?1 AND stream = ?2 AND seq = ?3",
            )?;
            let mut rows = statement.query(params![id, stream.0.cast_signed(), seq_in(seq)?])?;
            rows.next()?.map(job).transpose()
        })
    }

    /// Keeps that a run begins.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn host_begin(
        &self,
        agent: &Reader,
        key: HostKey,
        attempt: u32,
        now: UnixMillis,
    ) -> Result<(), StateError> {
        self.write(|connection| {
            let id = find_or_add(connection, agent)?;
            connection
                .prepare_cached("DELETE FROM host_runs WHERE agent = ?1 AND at <= ?2")?
                .execute(params![id, now.0.saturating_sub(HOUR)])?;
            connection
                .prepare_cached("INSERT INTO host_runs (agent, at) VALUES (?1, ?2)")?
                .execute(params![id, now.0])?;
            set(connection, id, key, "attempts", attempt)?;
            set(connection, id, key, "phase", phase_in(Phase::Running))
        })
    }

    /// Keeps what runs for a job.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn host_process(&self, agent: &Reader, key: HostKey, process: &str) -> Result<(), StateError> {
        self.change(agent, |connection, id| set(connection, id, key, "process", process))
    }

    /// Keeps how far a job has come.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn host_phase(&self, agent: &Reader, key: HostKey, phase: Phase) -> Result<(), StateError> {
        self.change(agent, |connection, id| set(connection, id, key, "phase", phase_in(phase)))
    }

    /// Keeps the answer that a run gave, if any, and the client's session of a conversation, if it named one.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn host_answered(
        &self,
        agent: &Reader,
        key: HostKey,
        answer: Option<&str>,
        session: Option<(&str, &str)>,
        now: UnixMillis,
    ) -> Result<(), StateError> {
        self.change(agent, |connection, id| {
            let phase = if answer.is_some() { Phase::Answered } else { Phase::Posted };
            set(connection, id, key, "answer", answer)?;
            set(connection, id, key, "phase", phase_in(phase))?;
            let Some((conversation, session)) = session else { return Ok(()) };
            connection
                .prepare_cached(
                    "INSERT INTO host_sessions (agent, conversation, session, used) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT DO UPDATE SET session = excluded.session, used = excluded.used",
                )?
                .execute(params![id, conversation, session, now.0])?;
            connection
                .prepare_cached(
                    "DELETE FROM host_sessions WHERE agent = ?1 AND conversation IN
                     (SELECT conversation FROM host_sessions WHERE agent = ?1 ORDER BY used DESC LIMIT -1 OFFSET ?2)",
                )?
                .execute(params![id, MAX_SESSIONS as i64])?;
            Ok(())
        })
    }

    /// Keeps the stream that a job's answer goes to.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn host_target(&self, agent: &Reader, key: HostKey, target: ChannelId) -> Result<(), StateError> {
        self.change(agent, |connection, id| set(connection, id, key, "target", target.0.cast_signed()))
    }

    /// Forgets a job.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn host_forget(&self, agent: &Reader, (stream, seq): HostKey) -> Result<(), StateError> {
        self.change(agent, |connection, id| {
            connection
                .prepare_cached("DELETE FROM host_jobs WHERE agent = ?1 AND stream = ?2 AND seq = ?3")?
                .execute(params![id, stream.0.cast_signed(), seq_in(seq)?])?;
            Ok(())
        })
    }

    /// Keeps that somebody knows that the agent's budget is used up; `None`: that nobody does any more.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn host_told(&self, agent: &Reader, user: Option<&UserName>) -> Result<(), StateError> {
        self.write(|connection| {
            let id = find_or_add(connection, agent)?;
            match user {
                Some(user) => connection
                    .prepare_cached("INSERT OR IGNORE INTO host_told (agent, user) VALUES (?1, ?2)")?
                    .execute(params![id, user.as_str()])?,
                None => connection.prepare_cached("DELETE FROM host_told WHERE agent = ?1")?.execute([id])?,
            };
            Ok(())
        })
    }

    /// Keeps whether an agent is paused.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn host_pause(&self, agent: &Reader, paused: bool) -> Result<(), StateError> {
        self.write(|connection| {
            let id = find_or_add(connection, agent)?;
            connection
                .prepare_cached("UPDATE host_agents SET paused = ?2 WHERE id = ?1")?
                .execute(params![id, paused])?;
            Ok(())
        })
    }

    /// The client's session of a conversation.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn host_session(&self, agent: &Reader, conversation: &str) -> Result<Option<String>, StateError> {
        self.read(|connection| {
            let Some(id) = find(connection, agent)? else { return Ok(None) };
            let session = connection
                .prepare_cached("SELECT session FROM host_sessions WHERE agent = ?1 AND conversation = ?2")?
                .query_row(params![id, conversation], |row| row.get(0))
                .optional()?;
            Ok(session)
        })
    }

    fn change(
        &self,
        agent: &Reader,
        work: impl FnOnce(&Connection, i64) -> Result<(), Fault>,
    ) -> Result<(), StateError> {
        self.write(|connection| {
            let id = find_or_add(connection, agent)?;
            work(connection, id)
        })
    }
}

fn find(connection: &Connection, agent: &Reader) -> Result<Option<i64>, Fault> {
    let id = connection
        .prepare_cached("SELECT id FROM host_agents WHERE server = ?1 AND handle = ?2")?
        .query_row(params![agent.server.as_bytes(), agent.handle.as_str()], |row| row.get(0))
        .optional()?;
    Ok(id)
}

fn find_or_add(connection: &Connection, agent: &Reader) -> Result<i64, Fault> {
    if let Some(id) = find(connection, agent)? {
        return Ok(id);
    }
    connection
        .prepare_cached("INSERT INTO host_agents (server, handle) VALUES (?1, ?2)")?
        .execute(params![agent.server.as_bytes(), agent.handle.as_str()])?;
    Ok(connection.last_insert_rowid())
}

/// Sets one column of a job. `column` is a name of ours.
fn set(
    connection: &Connection,
    id: i64,
    (stream, seq): HostKey,
    column: &'static str,
    value: impl rusqlite::ToSql,
) -> Result<(), Fault> {
    connection
        .prepare_cached(&format!(
            "UPDATE host_jobs SET {column} = ?4 WHERE agent = ?1 AND stream = ?2 AND seq = ?3"
        ))?
        .execute(params![id, stream.0.cast_signed(), seq_in(seq)?, value])?;
    Ok(())
}

fn job(row: &Row<'_>) -> Result<HostJob, Fault> {
    let channel = row.get::<_, Option<String>>(1)?;
    let bytes = row.get_ref(2)?.as_blob().map_err(|_| Fault::Damaged("a message in it is none"))?;
    Ok(HostJob {
        stream: ChannelId(row.get::<_, i64>(0)?.cast_unsigned()),
        channel: channel.map(|name| ChannelName::new(&name)).transpose()?,
        message: kept::decode(bytes).map_err(|_| Fault::Damaged("a message in it cannot be read"))?,
        phase: phase_out(row.get(3)?)?,
        attempts: row.get(4)?,
        answer: row.get(5)?,
        target: row.get::<_, Option<i64>>(6)?.map(|target| ChannelId(target.cast_unsigned())),
        process: row.get(7)?,
    })
}

const PHASES: [Phase; 5] = [Phase::Waiting, Phase::Running, Phase::Answered, Phase::Posted, Phase::Failed];

fn phase_in(phase: Phase) -> i64 {
    PHASES.iter().position(|it| *it == phase).unwrap_or_default() as i64
}

fn phase_out(number: i64) -> Result<Phase, Fault> {
    let phase = usize::try_from(number).ok().and_then(|number| PHASES.get(number));
    phase.copied().ok_or(Fault::Damaged("a job in it is in no phase"))
}
