//! A server that behaves badly: frame by frame, as a test tells it.

use std::net::{TcpListener, TcpStream};
use std::thread;

use conclave_core::wire::v1::{Frame, Path};
use tungstenite::{Message, WebSocket};

/// Serves one connection after another with `serve`; returns the URL.
pub fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let serve = std::sync::Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    url
}

/// Opens the WebSocket and takes the first frame.
pub fn open(stream: TcpStream) -> WebSocket<TcpStream> {
    let mut socket = tungstenite::accept(stream).unwrap();
    socket.read().unwrap();
    socket
}

pub fn send(socket: &mut WebSocket<TcpStream>, frame: &Frame<'_>) {
    let _ = socket.send(Message::Binary(frame.to_bytes().into()));
}

/// Lets anybody in, as `ann/m/s`.
pub fn establish(stream: TcpStream) -> WebSocket<TcpStream> {
    let mut socket = open(stream);
    send(&mut socket, &Frame::Challenge { nonce: &[7; 32] });
    socket.read().unwrap();
    send(&mut socket, &Frame::Established { path: Path { user: "ann", machine: "m", session: "s" } });
    send(&mut socket, &Frame::ServerInfo { admin: false });
    socket
}
