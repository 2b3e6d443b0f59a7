//! A hostile server.

use std::net::TcpStream;
use std::thread;

use conclave_core::wire::v1::{Frame, Path};
use serde_json::{Value, json};
use tungstenite::handshake::server::{Request, Response};

use super::mcp::Agent;
use super::scene::Scene;
use super::session::{send, server};

const ID: &str = "x-conclave-server-id";

/// A server of version 1 that calls itself like another one and lets everybody in, as `alice/m/one`.
fn echoes(id: String) -> String {
    server(move |stream| {
        #[allow(clippy::result_large_err, reason = "tungstenite wants it so")]
        let name = |_: &Request, mut response: Response| {
            response.headers_mut().insert(ID, id.parse().unwrap());
            Ok(response)
        };
        let mut socket = tungstenite::accept_hdr(stream, name).unwrap();
        let _ = socket.read();
        send(&mut socket, &Frame::Challenge { nonce: &[7; 32] });
        let _ = socket.read();
        send(&mut socket, &Frame::Established { path: Path { user: "alice", machine: "m", session: "one" } });
        send(&mut socket, &Frame::ServerInfo { admin: false });
        thread::park();
    })
}

#[test]
fn a_server_that_calls_itself_like_another_one_does_not_switch_that_link_off() {
    let mut scene = Scene::new(&["alice"]);
    let stream = TcpStream::connect(scene.url().strip_prefix("ws://").unwrap()).unwrap();
    let (_, response) = tungstenite::client(scene.url(), stream).unwrap();
    let id = response.headers()[ID].to_str().unwrap().to_owned();
    let hostile = echoes(id);
    let entry = format!("\n[[servers]]\nurl = \"{hostile}\"\nusername = \"alice\"\nmachine = \"m\"\n");
    let config = scene.dir().join("alice/config.toml");
    let known = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, known + &entry).unwrap();

    // The hostile one is there first.
    scene.kill_server();
    let mut alice = Agent::new(scene.bridge("alice", &["--as", "one"]));
    let connected = |alice: &mut Agent, url: &str| {
        let status = alice.call("status", json!({}));
        let servers = status["structuredContent"]["servers"].as_array().unwrap();
        servers.iter().any(|server: &Value| server["server"] == url && server["connected"] == true)
    };
    while !connected(&mut alice, &hostile) {}
    scene.start_server();
    while !connected(&mut alice, scene.url()) {
        let off = |notice: &Value| notice.to_string().contains("switched off");
        assert!(!alice.notices_left().iter().any(off));
    }
    assert!(connected(&mut alice, &hostile));
}
