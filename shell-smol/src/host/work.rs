//! What takes time: a run from its prompt to its answer, and what is posted because of it.

use std::cell::RefCell;
use std::ffi::OsString;
use std::rc::Rc;
use std::time::Duration;

use conclave_core::body;
use conclave_core::bridge::{About, Server};
use conclave_core::host::{Chain, Given, Job, Outcome, Prompt, reply_id};
use conclave_core::key::PublicKey;
use conclave_core::link::{Place, Proof, RequestError};
use conclave_core::mention;
use conclave_core::name::{ChannelName, SessionPath};
use conclave_core::opaque::Opaque;
use conclave_core::payload::Payload;
use conclave_core::protocol::{Code, Command, Refusal, Reply, Stamped};
use conclave_core::record::{ChannelId, UserId};
use conclave_core::stream::{MailboxRef, MessageId, PageFrom, Signed, StreamCommand, StreamRef, StreamReply};
use conclave_core::wire::v2::signature;
use conclave_shell::clock::Clock;
use conclave_store::config::ServerUrl;
use conclave_store::state::{HostJob, Reader, State, StateError};
use smol::Timer;
use smol::channel::{Receiver, Sender, bounded};
use tracing::{info, warn};

use super::Signing;
use super::child::{self, End};
use super::config::{DeclaredAgent, TOOLS};
use super::follower::{Answer, Word};
use crate::bridge::prove;

/// Messages of the conversation so far that are put before an agent, and their bytes in all.
const CONTEXT: usize = 50;
const CONTEXT_BYTES: usize = 64 * 1024;
/// Unread messages that are looked at for what is not put before the agent.
const UNREAD_BYTES: u64 = 16 << 20;
/// After a failure that passes, a request is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest answer that is posted where a server takes less than was kept.
const SHORTENED: usize = 60 * 1024;

/// Environment variables that every agent gets, where they are set.
const ENV: [&str; 6] = ["PATH", "HOME", "LANG", "TERM", "TMPDIR", "USER"];
/// What `systemd-run --user` needs beside them.
const SYSTEMD_ENV: [&str; 2] = ["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];

/// A session through which is spoken.
pub(super) struct Session {
    pub(super) url: ServerUrl,
    pub(super) signing: Signing,
    pub(super) state: Rc<State>,
    pub(super) words: Sender<Word>,
    pub(super) clock: Clock,
    /// Who it is, once the server said so.
    pub(super) known: RefCell<Option<Known>>,
}

/// What a session knows once it was up.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) path: SessionPath,
    pub(super) user: Option<UserId>,
    pub(super) reader: Reader,
}

/// How a post ended, when it is not to be tried again.
type Posted = Result<(), Refusal>;

impl Session {
    pub(super) fn known(&self) -> Option<Known> {
        self.known.borrow().clone()
    }

    /// Asks the server once.
    async fn ask(&self, command: Command) -> Answer {
        let (answer, answered) = bounded(1);
        let asked = self.words.send(Word::Ask(command, answer)).await;
        match asked {
            Ok(()) => answered.recv().await.unwrap_or(Err(RequestError::Ended)),
            Err(_) => Err(RequestError::Ended),
        }
    }

    /// Asks until there is an answer that does not pass.
    pub(super) async fn insist(&self, command: Command) -> Result<Reply, Refusal> {
        loop {
            match self.ask(command.clone()).await {
                Ok(Reply::Refused(refusal)) if !passes(&refusal) => return Err(refusal),
                Ok(Reply::Refused(_)) | Err(_) => drop(Timer::after(AGAIN).await),
                Ok(reply) => return Ok(reply),
            }
        }
    }

    /// Posts a text into a stream under an id, which makes it one post however often it is done.
    pub(super) async fn post(
        &self,
        server: &PublicKey,
        stream: ChannelId,
        id: MessageId,
        text: &str,
        context: body::Context,
    ) -> Posted {
        let body = body::of_content(text, &context);
        let machine = &self.signing.machine;
        let key = if self.signing.derived { machine.at_server(server) } else { machine.clone() };
        let signature = Opaque(key.sign(&signature::to_sign(server, stream, &id, &body)));
        let signed = Signed { id, signature, acknowledge: false }.into();
        let (stream, payload) = (StreamRef::Number(stream), Payload::Body(body));
        let post = StreamCommand::Post { stream, payload, signed, lifetime: None };
        self.insist(Command::Stream(post)).await.map(drop)
    }

    /// The users whom a text mentions.
    async fn mentions(&self, text: &str) -> Vec<UserId> {
        let mut found = Vec::new();
        for user in mention::in_text(text) {
            let keys = self.insist(Command::Stream(StreamCommand::Keys { user })).await;
            if let Ok(Reply::Stream(StreamReply::Keys { user, .. })) = keys
                && !found.contains(&user)
            {
                found.push(user);
            }
        }
        found
    }

    /// Where an answer to a message goes: into its channel, or into its sender's mailbox.
    async fn target(&self, reader: &Reader, job: &HostJob) -> Result<ChannelId, Failed> {
        if job.channel.is_some() {
            return Ok(job.stream);
        }
        if let Some(target) = job.target {
            return Ok(target);
        }
        let from = &job.message.from;
        let session = MailboxRef::Session(Box::new(from.clone()));
        let mut refused = None;
        // A session that is not kept has none: its user has.
        for mailbox in [session, MailboxRef::User(from.user.clone())] {
            let locate = StreamCommand::Locate { stream: StreamRef::Mailbox(mailbox) };
            match self.insist(Command::Stream(locate)).await {
                Ok(Reply::Stream(StreamReply::Located { stream, .. })) => {
                    self.state.host_target(reader, (job.stream, job.message.seq), stream)?;
                    return Ok(stream);
                }
                Ok(_) => {}
                Err(refusal) => refused = Some(refusal),
            }
        }
        Err(Failed::Refused(refused.unwrap_or(Refusal::NoMailbox)))
    }

    /// Posts in answer to a message. `what` tells an answer from a notice.
    pub(super) async fn reply(
        &self,
        name: &str,
        job: &HostJob,
        what: &str,
        text: &str,
        chain: Chain,
    ) -> Result<(), Failed> {
        let Some(Known { reader, .. }) = self.known() else { return Ok(()) };
        let target = self.target(&reader, job).await?;
        let place = (job.stream, job.message.seq);
        let id = reply_id(name, &reader.server, place, job.message.ts, what);
        let mentions = self.mentions(text).await;
        let reply_to = (target == job.stream).then_some(job.message.seq);
        let budget = chain.most.unwrap_or_default();
        let context = body::Context { mentions, reply_to, hops: chain.hops, budget };
        match self.post(&reader.server, target, id, text, context.clone()).await {
            Err(Refusal::MessageTooLarge { most }) => {
                let short = &text[..text.floor_char_boundary(SHORTENED.min(most.saturating_sub(1024)))];
                let text = format!("{short}\n… (shortened: the server takes no longer message)");
                Ok(self.post(&reader.server, target, id, &text, context).await?)
            }
            posted => Ok(posted?),
        }
    }

    /// The stream of a channel.
    pub(super) async fn locate(&self, channel: &ChannelName) -> Option<ChannelId> {
        let stream = StreamRef::Channel(channel.clone());
        match self.ask(Command::Stream(StreamCommand::Locate { stream })).await {
            Ok(Reply::Stream(StreamReply::Located { stream, .. })) => Some(stream),
            _ => None,
        }
    }

    /// Confirms a message.
    pub(super) async fn acknowledge(&self, stream: ChannelId, seq: u64) -> Posted {
        let stream = StreamRef::Number(stream);
        let acknowledge = StreamCommand::Acknowledge { stream, seq, word: Opaque(String::new()) };
        self.insist(Command::Stream(acknowledge)).await.map(drop)
    }

    /// The messages before one, oldest first, and what they prove. None, where the server does not tell.
    async fn before(&self, reader: &Reader, job: &HostJob) -> Vec<(Stamped, Proof)> {
        let stream = StreamRef::Number(job.stream);
        let read = StreamCommand::Read { stream, from: PageFrom::Before(job.message.seq), limit: CONTEXT };
        let page = self.ask(Command::Stream(read)).await;
        let Ok(Reply::Stream(StreamReply::Page { stream, messages, .. })) = page else { return Vec::new() };
        if stream != job.stream {
            return Vec::new();
        }
        let mut known = prove(&self.state, &reader.server, stream, messages);
        // In a mailbox each sender has a conversation of their own.
        let same = |it: &Stamped| job.channel.is_some() || it.from.user == job.message.from.user;
        known.retain(|(it, proof)| *proof != Proof::Forged && it.seq < job.message.seq && same(it));
        let mut bytes = 0;
        let mut shown: Vec<_> = known
            .into_iter()
            .rev()
            .take_while(|(it, _)| {
                bytes += it.payload.size() + 256;
                bytes <= CONTEXT_BYTES
            })
            .collect();
        shown.reverse();
        shown
    }

    /// Reports what is put before the agent. What lies between and is not is never claimed to be.
    async fn see(
        &self,
        reader: &Reader,
        job: &HostJob,
        before: &[(Stamped, Proof)],
    ) -> Result<(), StateError> {
        let upto = job.message.seq;
        let unread = self.state.unread(reader, job.stream, 0, UNREAD_BYTES)?;
        let is_shown = |seq| seq == upto || before.iter().any(|(it, _)| it.seq == seq);
        for passed in unread.iter().map(|it| it.seq).filter(|seq| *seq < upto && !is_shown(*seq)) {
            let _ = self.words.send(Word::Skip(job.stream, passed, passed)).await;
        }
        let _ = self.words.send(Word::Seen(job.stream, upto)).await;
        Ok(())
    }
}

/// Why something was not posted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("{0}")]
    Refused(Refusal),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn passes(refusal: &Refusal) -> bool {
    matches!(refusal.code(), Code::RateLimited | Code::Unavailable | Code::Internal)
}

/// What one run left.
pub(super) struct Left {
    pub(super) outcome: Outcome,
    /// For the agent's human: how it ended, and what it complained of.
    pub(super) note: String,
}

/// One run: from its prompt to its answer, which is kept.
pub(super) async fn run(
    session: &Session,
    agent: &DeclaredAgent,
    given: Given,
    kill: Receiver<()>,
) -> Result<Left, StateError> {
    let left = |outcome, note: &str| Ok(Left { outcome, note: note.to_owned() });
    let Some(Known { path, reader, user }) = session.known() else {
        return left(Outcome::NotStarted, "not connected");
    };
    let Job { stream, seq, .. } = given.job;
    let key = (stream, seq);
    let Some(job) = session.state.host_job(&reader, key)? else {
        return left(Outcome::NotStarted, "the message is not kept any more");
    };
    if let Some(process) = &job.process {
        // An earlier host left it behind; it must not work beside the next one.
        child::kill_left_behind(process);
    }
    let before = session.before(&reader, &job).await;
    let about = |(message, proof): &(Stamped, Proof)| {
        let place = Place { stream, seq: message.seq, origin: message.origin.clone(), proof: *proof };
        let mut about = About::of(&place, &message.payload);
        about.mentions_you = mention::mentions(&message.payload, user);
        (message.clone(), about)
    };
    let (framed, woken): (Vec<_>, _) =
        (before.iter().map(about).collect(), about(&(job.message.clone(), Proof::Verified)));
    let server = Server::new(session.url.as_str());
    let prompt = Prompt {
        path: &path,
        server: &server,
        channel: job.channel.as_ref(),
        level: given.level,
        attempt: given.attempt,
        before: &framed,
        message: &woken,
    };
    let conversation = conversation(&job);
    let known = session.state.host_session(&reader, &conversation)?;
    let text = prompt.text();
    let tools = match (agent.tools, std::env::current_exe(), session.state.path().parent()) {
        (true, Ok(program), Some(dir)) => agent.output.tools(&program, dir, &session.url, given),
        _ => Vec::new(),
    };
    let (command, in_argument) = command(agent, known.as_deref(), &text, &tools);
    let run = child::Run {
        command,
        directory: agent.directory.clone(),
        env: environment(agent, &path, &job, given),
        input: if in_argument { String::new() } else { text },
        max_output: agent.max_output,
    };
    // Seen: from here on the process has it.
    session.see(&reader, &job, &before).await?;
    let mut kept = Ok(());
    let started = |process: &str| kept = session.state.host_process(&reader, key, process);
    let ended = child::run(run, started, &kill).await;
    kept?;
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => return left(Outcome::NotStarted, &format!("cannot be started: {error}")),
    };
    let outcome = match ended.end {
        End::Exited(status) if status.success() => None,
        End::Exited(status) => Some((Outcome::Failed, status.to_string())),
        End::Killed => Some((Outcome::Failed, "killed".to_owned())),
        End::TooLarge => Some((Outcome::TooLarge, format!("printed more than {} bytes", agent.max_output))),
    };
    if let Some((outcome, how)) = outcome {
        return left(outcome, &format!("{how}; {}", ended.errors));
    }
    let printed = String::from_utf8_lossy(&ended.output);
    let Some(said) = agent.output.read(&printed) else {
        return left(Outcome::Failed, &format!("its output is no answer; {}", ended.errors));
    };
    let answer = Some(said.answer.as_str()).filter(|text| given.level.may_emit() && !text.is_empty());
    let goes_on = said.session.as_deref().map(|session| (conversation.as_str(), session));
    session.state.host_answered(&reader, key, answer, goes_on, session.clock.now().wall)?;
    left(Outcome::Ok(answer.is_some()), "ended well")
}

/// What a client's session is for.
fn conversation(job: &HostJob) -> String {
    match &job.channel {
        Some(_) => format!("{}", job.stream.0),
        None => format!("{}/{}", job.stream.0, job.message.from.user),
    }
}

/// What is run, and whether the prompt is in an argument.
fn command(
    agent: &DeclaredAgent,
    session: Option<&str>,
    prompt: &str,
    tools: &[String],
) -> (Vec<String>, bool) {
    let known = agent.resume.as_ref().zip(session);
    let words = known.map_or(&agent.command, |(resume, _)| resume);
    let in_argument = words.iter().any(|word| word == "{message}");
    let words = words.iter().flat_map(|word| match (word.as_str(), session) {
        (TOOLS, _) => tools.to_vec(),
        ("{message}", _) => vec![prompt.to_owned()],
        ("{session}", Some(session)) => vec![session.to_owned()],
        _ => vec![word.clone()],
    });
    let mut command = Vec::new();
    if let Some(limits) = &agent.systemd {
        command.extend(["systemd-run", "--user", "--scope", "--quiet", "--collect"].map(str::to_owned));
        command.extend(limits.iter().flat_map(|limit| ["-p".to_owned(), limit.clone()]));
        command.push("--".to_owned());
    }
    command.extend(words);
    (command, in_argument)
}

fn environment(
    agent: &DeclaredAgent,
    path: &SessionPath,
    job: &HostJob,
    given: Given,
) -> Vec<(String, OsString)> {
    let systemd: &[&str] = if agent.systemd.is_some() { &SYSTEMD_ENV } else { &[] };
    let names = ENV.iter().chain(systemd).map(|name| (*name).to_owned()).chain(agent.env.iter().cloned());
    let mut env: Vec<_> = names.filter_map(|name| Some((name.clone(), std::env::var_os(&name)?))).collect();
    let id = job
        .message
        .origin
        .signed
        .as_ref()
        .map(|signed| signed.id.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let mut say = |name: &str, value: String| env.push((name.to_owned(), value.into()));
    say("CONCLAVE_AGENT", path.to_string());
    say("CONCLAVE_ATTEMPT", given.attempt.to_string());
    say("CONCLAVE_LEVEL", given.level.to_string());
    say("CONCLAVE_CONVERSATION", conversation(job));
    say("CONCLAVE_HOPS", given.chain.hops.to_string());
    say("CONCLAVE_BUDGET", given.chain.most.unwrap_or_default().to_string());
    say("CONCLAVE_MESSAGE_ID", id.unwrap_or_default());
    env
}

/// Posts what a run left, and says when that is over, well or not.
pub(super) async fn say(
    session: &Session,
    name: &str,
    job: &HostJob,
    what: &str,
    text: &str,
    chain: Chain,
) -> Result<(), StateError> {
    match session.reply(name, job, what, text, chain).await {
        Ok(()) => info!(agent = name, what, seq = job.message.seq, "posted"),
        Err(Failed::Refused(refusal)) => warn!(agent = name, what, %refusal, "the server does not take it"),
        Err(Failed::State(error)) => return Err(error),
    }
    Ok(())
}
