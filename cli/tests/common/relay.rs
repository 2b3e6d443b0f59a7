//! A piece of network between a client and a server: it can be cut, and led elsewhere.

use std::io::{self, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

#[derive(Default)]
struct State {
    target: Option<u16>,
    open: Vec<TcpStream>,
}

pub struct Relay {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl Relay {
    /// Leads to the server at `target`.
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { target: Some(target), open: Vec::new() }));
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let _ = carry(client.unwrap(), &shared);
            }
        });
        Self { port, state }
    }

    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// Breaks every connection, and refuses new ones until it leads somewhere again.
    pub fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.target = None;
        for stream in state.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn lead_to(&self, target: u16) {
        self.state.lock().unwrap().target = Some(target);
    }
}

fn carry(client: TcpStream, shared: &Mutex<State>) -> io::Result<()> {
    let mut state = shared.lock().unwrap();
    let Some(target) = state.target else { return client.shutdown(Shutdown::Both) };
    let server = TcpStream::connect(("127.0.0.1", target))?;
    state.open.push(client.try_clone()?);
    state.open.push(server.try_clone()?);
    for (mut from, mut to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.flush();
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}
