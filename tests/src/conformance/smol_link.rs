//! The link of `conclave-shell-smol`, as the suite drives it.

use std::sync::mpsc;

use conclave_core::link::{Action, Config};
use conclave_shell_smol::LinkDriver;
use conclave_store::config::ServerUrl;
use smol::channel::Receiver;
use smol::future::FutureExt as _;

use super::shell::{ClientShell, Word};
use super::smol::Smol;

impl ClientShell for Smol {
    fn drive(url: ServerUrl, config: Config, words: Receiver<Word>, tell: mpsc::Sender<Action>) {
        let mut driver = LinkDriver::new(url, None, config).unwrap();
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
