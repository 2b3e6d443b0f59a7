//! The link of `conclave-shell-smol`, as the suite drives it.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;

use conclave_core::key::SecretKey;
use conclave_core::link::{Action, Config, Input, JoinFrom, RequestId};
use conclave_core::name::{ChannelName, Handle};
use conclave_core::protocol::Command;
use conclave_shell_smol::LinkDriver;
use smol::channel::{Sender, unbounded};
use smol::future::FutureExt as _;

use super::shell::{ClientShell, RunningLink};
use super::smol::Smol;
use crate::client::PATIENCE;

enum Word {
    Join(ChannelName, JoinFrom),
    Leave(ChannelName),
    Ask(u64, Command),
}

struct Running {
    words: Sender<Word>,
    told: mpsc::Receiver<Action>,
}

impl ClientShell for Smol {
    fn open(address: SocketAddr, key: SecretKey, handle: &str) -> Box<dyn RunningLink> {
        let (words, heard) = unbounded();
        let (tell, told) = mpsc::channel();
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let config = Config { handle: Handle::new(handle).unwrap(), defaulted: false, key, seed };
        let url = format!("ws://{address}").parse().unwrap();
        thread::spawn(move || {
            let mut driver = LinkDriver::new(url, None, config).unwrap();
            smol::block_on(async {
                loop {
                    let word = async { Ok(heard.recv().await) };
                    let action = async { Err(driver.next().await) };
                    match word.or(action).await {
                        Ok(Ok(Word::Join(channel, from))) => {
                            driver.input(Input::Join { channel, token: None, from });
                        }
                        Ok(Ok(Word::Leave(channel))) => driver.input(Input::Leave { channel }),
                        Ok(Ok(Word::Ask(id, command))) => {
                            let deadline = Some(driver.now().mono + PATIENCE);
                            driver.input(Input::Request { id: RequestId(id), command, deadline });
                        }
                        Ok(Err(_)) => return,
                        Err(action) => drop(tell.send(action)),
                    }
                }
            });
        });
        Box::new(Running { words, told })
    }
}

impl RunningLink for Running {
    fn join(&self, channel: &str, from: JoinFrom) {
        let _ = self.words.try_send(Word::Join(ChannelName::new(channel).unwrap(), from));
    }

    fn leave(&self, channel: &str) {
        let _ = self.words.try_send(Word::Leave(ChannelName::new(channel).unwrap()));
    }

    fn ask(&self, id: u64, command: Command) {
        let _ = self.words.try_send(Word::Ask(id, command));
    }

    fn next(&self) -> Action {
        self.told.recv_timeout(PATIENCE).expect("the link tells something in time")
    }
}
