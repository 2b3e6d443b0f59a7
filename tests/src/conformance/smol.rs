//! The server on smol, as the suite starts it.

use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;

use conclave_shell_smol::server::{Options as SmolOptions, Server, Stop, Tls, listener};
use conclave_store::journal::Journal;

use super::shell::{Options, RunningServer, ServerShell};

/// The server of `conclave-shell-smol`.
pub struct Smol;

struct Running {
    address: SocketAddr,
    stop: Stop,
    tls: Option<Tls>,
    thread: Option<JoinHandle<()>>,
}

impl ServerShell for Smol {
    fn start(dir: &Path, options: Options) -> Result<Box<dyn RunningServer>, String> {
        let Options { hub, admission, bounds, retention, trusted_proxies, clock, journal, tls } = options;
        let options = SmolOptions { hub, admission, bounds, retention, trusted_proxies, clock };
        let journal = Journal::open(dir, journal).map_err(|why| why.to_string())?;
        let tls = tls
            .map(|(certificate, key)| Tls::load(&certificate, &key))
            .transpose()
            .map_err(|why| why.to_string())?;
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::new(listener(socket).unwrap(), tls.clone(), journal, options)
            .map_err(|why| why.to_string())?;
        let (address, stop) = (server.address().unwrap(), Stop::new());
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || server.run(&stopping));
        Ok(Box::new(Running { address, stop, tls, thread: Some(thread) }))
    }
}

impl RunningServer for Running {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn begin_stop(&self) {
        self.stop.stop();
    }

    fn stop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    fn reload_tls(&self) {
        self.tls.as_ref().unwrap().reload().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of the server's thread is told by itself; two at once would abort the test.
            let _ = thread.join();
        }
    }
}
