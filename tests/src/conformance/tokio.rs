//! tokio, as the suite runs it.

use std::sync::mpsc;

use conclave_core::link::{Action, Config};
use conclave_shell_tokio::client::{DialOptions, link};
use conclave_shell_tokio::server::{self, Server, Stop};
use conclave_store::config::ServerUrl;
use smol::channel::Receiver;
use tokio::runtime::Builder;

use super::shell::{ClientShell, ServerShell, Word};

/// The server and the link of `conclave-shell-tokio`.
pub struct Tokio;

impl ServerShell for Tokio {
    fn serve(server: Server, stop: Stop) {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(server::run(server, stop)).unwrap();
    }
}

impl ClientShell for Tokio {
    fn drive(url: ServerUrl, config: Config, words: Receiver<Word>, tell: mpsc::Sender<Action>) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut driver = link(url, config, DialOptions::default());
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
