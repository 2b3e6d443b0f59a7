//! The link of `conclave-shell-tokio`, as the suite drives it.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;

use conclave_core::key::SecretKey;
use conclave_core::link::{Action, Config, Input, JoinFrom, RequestId};
use conclave_core::name::{ChannelName, Handle};
use conclave_core::protocol::Command;
use conclave_shell_tokio::client::{DialOptions, LinkDriver};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::shell::{ClientShell, RunningLink};
use super::tokio::Tokio;
use crate::client::PATIENCE;

enum Word {
    Join(ChannelName, JoinFrom),
    Leave(ChannelName),
    Ask(u64, Command),
}

struct Running {
    words: UnboundedSender<Word>,
    told: mpsc::Receiver<Action>,
}

impl ClientShell for Tokio {
    fn open(address: SocketAddr, key: SecretKey, handle: &str) -> Box<dyn RunningLink> {
        let (words, mut heard) = unbounded_channel();
        let (tell, told) = mpsc::channel();
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let config = Config { handle: Handle::new(handle).unwrap(), defaulted: false, key, seed };
        let url = format!("ws://{address}").parse().unwrap();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut driver = LinkDriver::new(url, config, DialOptions::default());
                loop {
                    tokio::select! {
                        word = heard.recv() => match word {
                            Some(Word::Join(channel, from)) => {
                                driver.input(Input::Join { channel, token: None, from });
                            }
                            Some(Word::Leave(channel)) => driver.input(Input::Leave { channel }),
                            Some(Word::Ask(id, command)) => {
                                let deadline = Some(driver.now().mono + PATIENCE);
                                driver.input(Input::Request { id: RequestId(id), command, deadline });
                            }
                            None => return,
                        },
                        action = driver.next() => drop(tell.send(action)),
                    }
                }
            });
        });
        Box::new(Running { words, told })
    }
}

impl RunningLink for Running {
    fn join(&self, channel: &str, from: JoinFrom) {
        let _ = self.words.send(Word::Join(ChannelName::new(channel).unwrap(), from));
    }

    fn leave(&self, channel: &str) {
        let _ = self.words.send(Word::Leave(ChannelName::new(channel).unwrap()));
    }

    fn ask(&self, id: u64, command: Command) {
        let _ = self.words.send(Word::Ask(id, command));
    }

    fn next(&self) -> Action {
        self.told.recv_timeout(PATIENCE).expect("the link tells something in time")
    }
}
