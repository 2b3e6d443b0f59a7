//! smol, as the suite runs it.

use std::sync::mpsc;

use conclave_core::link::{Action, Config};
use conclave_shell_smol::link;
use conclave_shell_smol::server::{self, Server, Stop};
use conclave_store::config::ServerUrl;
use smol::channel::Receiver;
use smol::future::FutureExt as _;

use super::shell::{ClientShell, ServerShell, Word};

/// The server and the link of `conclave-shell-smol`.
pub struct Smol;

impl ServerShell for Smol {
    fn serve(server: Server, stop: Stop) {
        server::run(server, &stop).unwrap();
    }
}

impl ClientShell for Smol {
    fn drive(url: ServerUrl, config: Config, words: Receiver<Word>, tell: mpsc::Sender<Action>) {
        let mut driver = link(url, None, config).unwrap();
        smol::block_on(async {
            loop {
                let word = async { Ok(words.recv().await) };
                let action = async { Err(driver.next().await) };
                match word.or(action).await {
                    Ok(Ok(word)) => driver.input(word.input(driver.now())),
                    Ok(Err(_)) => return,
                    Err(action) => drop(tell.send(action)),
                }
            }
        });
    }
}
