//! One agent of the demo: a link, and what it has heard and not yet been asked about.

use std::collections::VecDeque;
use std::time::Duration;

use conclave_core::key::SecretKey;
use conclave_core::link::{Action, Config, Input, JoinFrom, Loss, RequestId};
use conclave_core::name::{ChannelName, SessionPath};
use conclave_core::payload::Payload;
use conclave_core::protocol::{Command, Refusal, Reply, Token};
use conclave_shell_tokio::client::{DialOptions, LinkDriver, link};
use conclave_store::config::ServerUrl;
use tokio::time::timeout;

use super::{failed, handle};
use crate::Failure;

/// No step of the demo takes longer on any machine that works.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Agent {
    name: &'static str,
    driver: LinkDriver,
    path: Option<SessionPath>,
    heard: VecDeque<Action>,
    requests: u64,
}

impl Agent {
    /// Connects with a machine's key.
    pub(super) async fn connect(
        url: &ServerUrl,
        key: &SecretKey,
        name: &'static str,
    ) -> Result<Self, Failure> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(failed)?;
        let config = Config { handle: handle(name)?, defaulted: false, key: key.clone(), seed, newest: None };
        let driver = link(url.clone(), config, DialOptions::default());
        let mut agent = Self { name, driver, path: None, heard: VecDeque::new(), requests: 0 };
        let path = agent.wait("connected", |action| match action {
            Action::Up { path, .. } => Some(path.clone()),
            _ => None,
        });
        agent.path = Some(path.await?);
        Ok(agent)
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn path(&self) -> Result<SessionPath, Failure> {
        self.path.clone().ok_or_else(|| failed("an agent has no path"))
    }

    /// The first thing heard for which `find` has an answer, now or later. What is passed over stays heard.
    pub(super) async fn wait<T>(
        &mut self,
        what: &str,
        find: impl Fn(&Action) -> Option<T>,
    ) -> Result<T, Failure> {
        for at in 0..self.heard.len() {
            if let Some(found) = find(&self.heard[at]) {
                self.heard.remove(at);
                return Ok(found);
            }
        }
        let search = async {
            loop {
                let action = self.driver.next().await;
                if let Some(found) = find(&action) {
                    return found;
                }
                self.heard.push_back(action);
            }
        };
        timeout(PATIENCE, search).await.map_err(|_| failed(format_args!("{} never {what}", self.name)))
    }

    pub(super) async fn ask(&mut self, command: Command) -> Result<Reply, Failure> {
        self.requests += 1;
        let asked = RequestId(self.requests);
        self.driver.input(Input::Request { id: asked, command, deadline: None });
        let replied = self.wait("got an answer", |action| match action {
            Action::Replied { id, result } if *id == asked => Some(result.clone()),
            _ => None,
        });
        replied.await?.map_err(failed)
    }

    pub(super) async fn done(&mut self, command: Command) -> Result<(), Failure> {
        match self.ask(command).await? {
            Reply::Refused(refusal) => Err(failed(refusal)),
            _ => Ok(()),
        }
    }

    pub(super) async fn join(&mut self, channel: &ChannelName, token: Option<Token>) -> Result<(), Failure> {
        self.driver.input(Input::Join { channel: channel.clone(), token, from: JoinFrom::Live });
        self.wait("joined", |action| match action {
            Action::CaughtUp { channel: joined } if joined == channel => Some(()),
            _ => None,
        })
        .await
    }

    pub(super) async fn refused_join(&mut self, channel: &ChannelName) -> Result<Refusal, Failure> {
        self.driver.input(Input::Join { channel: channel.clone(), token: None, from: JoinFrom::Live });
        self.wait("was refused", |action| match action {
            Action::Lost { channel: lost, why: Loss::Refused(why) } if lost == channel => Some(why.clone()),
            _ => None,
        })
        .await
    }

    pub(super) async fn post(&mut self, channel: &ChannelName, text: &str) -> Result<(), Failure> {
        let payload = Payload::Plain(text.into());
        self.done(Command::Post { channel: channel.clone(), payload }).await
    }

    pub(super) async fn refused_post(
        &mut self,
        channel: &ChannelName,
        text: &str,
    ) -> Result<Refusal, Failure> {
        let payload = Payload::Plain(text.into());
        match self.ask(Command::Post { channel: channel.clone(), payload }).await? {
            Reply::Refused(refusal) => Ok(refusal),
            _ => Err(failed(format_args!("{} was not refused", self.name))),
        }
    }

    pub(super) async fn whisper(&mut self, target: SessionPath, text: &str) -> Result<(), Failure> {
        self.done(Command::Whisper { target, payload: Payload::Plain(text.into()) }).await
    }

    /// The next message of the channel is this one.
    pub(super) async fn hear(&mut self, channel: &ChannelName, text: &str) -> Result<(), Failure> {
        let heard = self.wait("heard a message", |action| match action {
            Action::Deliver { channel: Some(on), payload, .. } if on == channel => Some(payload.clone()),
            _ => None,
        });
        let heard = heard.await?;
        self.compare(heard, text)
    }

    /// The next whisper is this one.
    pub(super) async fn hear_whisper(&mut self, text: &str) -> Result<(), Failure> {
        let heard = self.wait("heard a whisper", |action| match action {
            Action::Whispered { payload, .. } => Some(payload.clone()),
            _ => None,
        });
        let heard = heard.await?;
        self.compare(heard, text)
    }

    fn compare(&self, heard: Payload, text: &str) -> Result<(), Failure> {
        if heard == Payload::Plain(text.into()) {
            Ok(())
        } else {
            Err(failed(format_args!("{} heard something else than was said", self.name)))
        }
    }
}
