//! `conclave demo --wake`: three agents on one machine, none of which runs. A message starts a chain of work, which ends by itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use conclave_core::link::{Action, Config, Input, JoinFrom, Newest, RequestId};
use conclave_core::name::ChannelName;
use conclave_core::payload::Payload;
use conclave_core::protocol::{Admin, Command, Reply, Visibility};
use conclave_core::record::ChannelId;
use conclave_core::stream::{ReceiptState, StreamCommand, StreamRef, StreamReply};
use conclave_core::wire::client::KeyUse;
use conclave_shell_smol::host::{FILE_NAME, HostOptions, Stop as HostStop, run};
use conclave_shell_tokio::client::{DialOptions, LinkDriver, link};
use conclave_shell_tokio::server::Stop;
use conclave_store::config::{Change, ConfigFile, Server, ServerUrl};
use conclave_store::keystore;
use tokio::time::timeout;

use super::show::Show;
use super::{failed, handle, name, start_server};
use crate::Failure;

/// No step takes longer on any machine that works.
const PATIENCE: Duration = Duration::from_secs(20);

/// Each agent is a program: this one prints what it was told to say.
const AGENTS: [(&str, &str); 3] = [
    ("planner", "@builder please build the release branch."),
    ("builder", "Built, all 312 tests pass. @reviewer please look."),
    ("reviewer", "I have read it: good to go."),
];

pub(super) async fn play(show: &Show) -> Result<(), Failure> {
    let stop = Stop::new();
    let (url, server) = start_server(&stop)?;
    show.title(&format!(
        "A server on this machine ({url}, kept nowhere), and three agents that do not run. Nothing else is touched."
    ))?;
    let home = Home::new()?;
    let played = scenes(show, &url, &home).await;
    stop.stop();
    let _ = timeout(Duration::from_secs(5), server).await;
    played
}

/// A configuration directory that goes with this.
struct Home(std::path::PathBuf);

impl Home {
    fn new() -> Result<Self, Failure> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(failed)?;
        let dir = std::env::temp_dir().join(format!("conclave-demo-{:016x}", u64::from_le_bytes(random)));
        fs::create_dir(&dir).map_err(failed)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        Ok(Self(dir))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Ends the host when the demo ends, however it does.
struct Hosting(HostStop, Option<std::thread::JoinHandle<()>>);

impl Drop for Hosting {
    fn drop(&mut self) {
        self.0.stop();
        if let Some(thread) = self.1.take() {
            let _ = thread.join();
        }
    }
}

async fn scenes(show: &Show, url: &ServerUrl, home: &Home) -> Result<(), Failure> {
    show.scene("A person declares three agents in agents.toml")?;
    let key = super::new_user(url, "aaron", "workstation").await?;
    declare(url, &home.0, &key)?;
    let channel: ChannelName = name("build")?;
    let mut person = Person::connect(url, key, &channel).await?;
    let cut = person.post("The release branch is cut.").await?;
    show.told(
        "planner, builder and reviewer: each a program, a directory, a level and a budget. None runs.",
    )?;
    let (stop, options) = (HostStop::default(), HostOptions { dir: home.0.clone(), ca: None });
    let stopping = stop.clone();
    let (say, said) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let ran = run(&options, &stopping, |_| {});
        // The demo may have ended before.
        let _ = say.send(ran);
    });
    let hosting = Hosting(stop, Some(thread));
    person.wait_for_readers(cut, &said).await?;
    show.told("conclave host is on #build for all three")?;

    show.scene("A message wakes the first, and its answer the next")?;
    let text = "@planner we want to release today.";
    let first = person.post(text).await?;
    show.post(&channel, "aaron", &["planner"], text)?;
    let mut last = first;
    for (agent, answer) in AGENTS {
        let (seq, from, heard) = person.hear().await?;
        if (from.as_str(), heard.as_str()) != (agent, answer) {
            return Err(failed(format_args!("{agent} did not answer")));
        }
        person.acknowledged(last, agent).await?;
        show.post(&channel, agent, &["everybody on #build"], answer)?;
        last = seq;
        show.told(&format!("{agent} was woken, answered, and ended; its message is acknowledged"))?;
    }
    drop(hosting);
    show.told("the last answer addresses nobody: the chain ends by itself, and nothing runs any more")?;
    show.told("had they gone on, a budget would have ended it: 8 answers in a row without a person")?;
    show.end_of_wake()
}

fn declare(url: &ServerUrl, dir: &Path, key: &conclave_core::key::SecretKey) -> Result<(), Failure> {
    let server = Server { url: url.clone(), username: name("aaron")?, machine: name("workstation")? };
    ConfigFile::in_dir(dir).change(&[Change::AddServer(server)]).map_err(failed)?;
    let path = keystore::path(dir);
    let private = |path: &Path, text: &str| {
        fs::write(path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
    };
    private(&path, &key.expose()).map_err(failed)?;
    let agents: String = AGENTS
        .iter()
        .map(|(agent, answer)| {
            format!(
                "[[agent]]\nname = \"{agent}\"\ndirectory = \"/\"\ncommand = [\"echo\", \"{answer}\"]\n\
                 level = \"converse\"\nchannels = [\"build\"]\n\n"
            )
        })
        .collect();
    private(&dir.join(FILE_NAME), &agents).map_err(failed)
}

/// The person at the machine.
struct Person {
    driver: LinkDriver,
    stream: ChannelId,
    heard: std::collections::VecDeque<(u64, String, String)>,
    requests: u64,
}

impl Person {
    async fn connect(
        url: &ServerUrl,
        key: conclave_core::key::SecretKey,
        channel: &ChannelName,
    ) -> Result<Self, Failure> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(failed)?;
        let newest = Some(Newest { pinned: None, key: KeyUse::Shared, keep: false });
        let config = Config { handle: handle("desk")?, defaulted: false, key, seed, newest };
        let driver = link(url.clone(), config, DialOptions::default());
        let heard = std::collections::VecDeque::new();
        let mut person = Self { driver, stream: ChannelId(0), heard, requests: 0 };
        let create = Admin::CreateChannel { name: channel.clone(), visibility: Visibility::Public };
        person.wait(|action| matches!(action, Action::Up { .. }).then_some(())).await?;
        person.ask(Command::Admin(create)).await?;
        person.driver.input(Input::Join { channel: channel.clone(), token: None, from: JoinFrom::Live });
        person.stream = person
            .wait(|action| match action {
                Action::Joined { position: Some((stream, _)), .. } => Some(*stream),
                _ => None,
            })
            .await?;
        Ok(person)
    }

    /// The first answer that `find` has to what happens; messages that come before are kept.
    async fn wait<T>(&mut self, find: impl Fn(&Action) -> Option<T>) -> Result<T, Failure> {
        let search = async {
            loop {
                let action = self.driver.next().await;
                if let Some(found) = find(&action) {
                    return found;
                }
                if let Action::Deliver { from, payload, place: Some(place), .. } = &action {
                    let text = conclave_core::bridge::body(payload).into_owned();
                    self.heard.push_back((place.seq, from.session.to_string(), text));
                }
            }
        };
        timeout(PATIENCE, search).await.map_err(|_| failed("something did not come in time"))
    }

    async fn ask(&mut self, command: Command) -> Result<Reply, Failure> {
        self.requests += 1;
        let asked = RequestId(self.requests);
        self.driver.input(Input::Request { id: asked, command, deadline: None });
        let replied = self.wait(|action| match action {
            Action::Replied { id, result } if *id == asked => Some(result.clone()),
            _ => None,
        });
        match replied.await?.map_err(failed)? {
            Reply::Refused(refusal) => Err(failed(refusal)),
            reply => Ok(reply),
        }
    }

    async fn post(&mut self, text: &str) -> Result<u64, Failure> {
        let payload = Payload::Body(conclave_core::body::of_text(text));
        let stream = StreamRef::Channel(name("build")?);
        match self.ask(Command::Stream(StreamCommand::post(stream, payload))).await? {
            Reply::Stream(StreamReply::Stored { stamp, .. }) => Ok(stamp.seq),
            _ => Err(failed("a message was not stored")),
        }
    }

    async fn hear(&mut self) -> Result<(u64, String, String), Failure> {
        if let Some(heard) = self.heard.pop_front() {
            return Ok(heard);
        }
        self.wait(|action| match action {
            Action::Deliver { from, payload, place: Some(place), .. } => {
                let text = conclave_core::bridge::body(payload).into_owned();
                Some((place.seq, from.session.to_string(), text))
            }
            _ => None,
        })
        .await
    }

    async fn receipts(&mut self, seq: u64) -> Result<Vec<(String, ReceiptState)>, Failure> {
        let stream = StreamRef::Number(self.stream);
        match self.ask(Command::Stream(StreamCommand::Receipts { stream, seq })).await? {
            Reply::Stream(StreamReply::Receipts { readers, .. }) => {
                Ok(readers.iter().map(|it| (it.reader.session.to_string(), it.state)).collect())
            }
            _ => Err(failed("the server does not tell who has a message")),
        }
    }

    /// Waits until all agents are on the channel.
    async fn wait_for_readers(
        &mut self,
        seq: u64,
        host: &std::sync::mpsc::Receiver<Result<(), conclave_shell_smol::host::HostError>>,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        while self.receipts(seq).await?.len() < AGENTS.len() {
            if let Ok(Err(error)) = host.try_recv() {
                return Err(failed(error));
            }
            if begun.elapsed() > PATIENCE {
                return Err(failed("the agents did not come to the channel"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Waits until an agent has confirmed a message.
    async fn acknowledged(&mut self, seq: u64, agent: &str) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let receipts = self.receipts(seq).await?;
            if receipts.iter().any(|(name, state)| name == agent && *state == ReceiptState::Acknowledged) {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(failed(format_args!("{agent} did not acknowledge its message")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
