//! The link of `conclave-shell-tokio`, as the suite drives it.

use std::sync::mpsc;

use conclave_core::link::{Action, Config};
use conclave_shell_tokio::client::{DialOptions, LinkDriver};
use conclave_store::config::ServerUrl;
use smol::channel::Receiver;

use super::shell::{ClientShell, Word};
use super::tokio::Tokio;

impl ClientShell for Tokio {
    fn drive(url: ServerUrl, config: Config, words: Receiver<Word>, tell: mpsc::Sender<Action>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut driver = LinkDriver::new(url, config, DialOptions::default());
            loop {
                tokio::select! {
                    word = words.recv() => match word {
                        Ok(word) => driver.input(word.input(driver.now())),
                        Err(_) => return,
                    },
                    action = driver.next() => drop(tell.send(action)),
                }
            }
        });
    }
}
