//! A door before a server: clients know one address, behind which servers come and go.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A TCP relay whose target can be changed and whose connections can be cut.
pub struct Door {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    target: Option<SocketAddr>,
    open: Vec<TcpStream>,
}

impl Door {
    /// A door that leads to `target`.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { target: Some(target), open: Vec::new() }));
        let weak = Arc::downgrade(&state);
        thread::spawn(move || {
            for outer in listener.incoming().map_while(Result::ok) {
                let Some(state) = weak.upgrade() else { return };
                let mut state = state.lock().unwrap();
                // Nobody behind the door: the caller is hung up on.
                let Some(inner) = state.target.and_then(|to| TcpStream::connect(to).ok()) else { continue };
                let _ = (outer.set_nodelay(true), inner.set_nodelay(true));
                relay(&outer, &inner);
                relay(&inner, &outer);
                state.open.extend([outer, inner]);
            }
        });
        Self { address, state }
    }

    /// Where clients knock.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads to another server from now on.
    pub fn lead_to(&self, target: SocketAddr) {
        self.state.lock().unwrap().target = Some(target);
    }

    /// Leads nowhere from now on, and cuts every connection.
    pub fn close(&self) {
        self.state.lock().unwrap().target = None;
        self.cut();
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        for stream in self.state.lock().unwrap().open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.close();
    }
}

fn relay(from: &TcpStream, to: &TcpStream) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
    });
}
