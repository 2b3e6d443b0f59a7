//! A server that behaves badly: frame by frame, as a test tells it.

use std::net::{TcpListener, TcpStream};
use std::thread;

use conclave_core::wire::v1::{Frame, Path, Payload};
use conclave_store::config::Pin;
use tungstenite::{Message, WebSocket};

/// Posts the numbers from 0 in one session, as fast as they are acknowledged.
pub fn post_many(dir: &std::path::Path, url: &str, channel: &str, count: usize) {
    let config = conclave_store::config::ConfigFile::in_dir(dir).load().unwrap();
    let pin = config.pin(&url.parse().unwrap());
    let key = Pin::key(pin, conclave_store::keystore::load(dir).unwrap());
    let stream = TcpStream::connect(url.strip_prefix("ws://").unwrap()).unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut socket, _) = tungstenite::client(url, stream).unwrap();
    send(&mut socket, &Frame::Hello { protocol_version: 1, session: "many" });
    let challenge = socket.read().unwrap().into_data();
    let Ok(Frame::Challenge { nonce }) = Frame::decode(&challenge) else { panic!("a challenge") };
    let (public, signature) = (key.public(), key.sign(nonce));
    send(&mut socket, &Frame::Auth { pubkey: public.as_bytes(), signature: &signature });
    send(&mut socket, &Frame::Join { channel, token: None });
    let from = Path { user: "", machine: "", session: "" };
    for nth in 0..count {
        let text = nth.to_string();
        send(&mut socket, &Frame::ChannelMsg { channel, from, payload: Payload::Plain(&text) });
    }
    let mut acknowledged = 0;
    while acknowledged < count {
        let answer = socket.read().unwrap().into_data();
        match Frame::decode(&answer).unwrap() {
            Frame::Ack { .. } => acknowledged += 1,
            Frame::Error(error) => panic!("{error:?}"),
            _ => {}
        }
    }
}

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
