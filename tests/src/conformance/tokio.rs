//! The server on tokio, as the suite starts it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use conclave_shell_tokio::server::{Options as TokioOptions, Server, Stop, Tls};
use conclave_store::journal::Journal;
use tokio::net::TcpListener;

use super::shell::{Options, RunningServer, ServerShell};

/// The server of `conclave-shell-tokio`.
pub struct Tokio;

struct Running {
    address: SocketAddr,
    stop: Stop,
    tls: Option<Tls>,
    thread: Option<JoinHandle<()>>,
}

impl ServerShell for Tokio {
    fn start(dir: &Path, options: Options) -> Result<Box<dyn RunningServer>, String> {
        let Options { hub, admission, bounds, retention, trusted_proxies, clock, journal, tls } = options;
        let options = TokioOptions { hub, admission, bounds, retention, trusted_proxies, clock };
        let journal = Journal::open(dir, journal).map_err(|why| why.to_string())?;
        let tls = tls
            .map(|(certificate, key)| Tls::load(&certificate, &key))
            .transpose()
            .map_err(|why| why.to_string())?;
        let (stop, (started, starting)) = (Stop::new(), mpsc::channel());
        let (stopping, tls_for_server) = (stop.clone(), tls.clone());
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                match Server::new(listener, tls_for_server, journal, options) {
                    Ok(server) => {
                        let _ = started.send(Ok(server.address().unwrap()));
                        server.run(stopping).await;
                    }
                    Err(why) => drop(started.send(Err(why.to_string()))),
                }
            });
        });
        let address = starting.recv().map_err(|why| why.to_string())??;
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
