//! Doors for other systems, both ways.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

use super::stage::Stage;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// HMAC (RFC 2104), not by the code that is tested.
fn hmac(message: &str) -> String {
    let pad = |with: u8| {
        let mut block = [with; 64];
        SECRET.bytes().zip(&mut block).for_each(|(secret, byte)| *byte ^= secret);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn secret(stage: &Stage) -> String {
    let path = stage.path("secret");
    fs::write(&path, SECRET).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// Posts to the door; the status line.
fn post(port: u16, timestamp: u64, body: &str, signature: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: x\r\nX-Conclave-Timestamp: {timestamp}\r\nX-Conclave-Signature: {signature}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

#[test]
fn what_comes_from_outside_is_signed_framed_and_taken_once() {
    let mut stage = Stage::new(&[]);
    let secret = secret(&stage);
    // A port of the system's: free for the moment, and nobody else asks for it.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let hook = format!(
        "[[webhook]]\nname = \"ci\"\nchannel = \"ops\"\nsecret_file = \"{secret}\"\nlisten = \"127.0.0.1:{port}\"\n"
    );
    let script = "echo run >> $DIR/runs; cat > /dev/null; echo hi";
    stage.agent("reviewer", script, "anyone_may_mention = false\n").declare(&hook).start();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let body = "build 7 failed, @reviewer";
    let signature = format!("sha256={}", hmac(&format!("{now}.{body}")));
    assert!(post(port, now, body, &signature).contains(" 202 "));
    assert!(post(port, now, body, &signature).contains(" 409 "), "a replay");
    assert!(post(port, now, "build 8 failed", &signature).contains(" 401 "), "another body");
    assert!(post(port, now + 1, body, &signature).contains(" 401 "), "another time");
    let old = now - 1000;
    let stale = hmac(&format!("{old}.{body}"));
    assert!(post(port, old, body, &stale).contains(" 401 "), "too old");
    let texts = |stage: &Stage| {
        let posts = stage.posts().into_iter().filter(|it| it["session"] == "ci");
        posts.map(|it| it["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(texts(&stage), [format!("[from outside: ci]\n{body}")]);
    // A replay that outlives a restart is the same message.
    stage.kill();
    stage.start();
    stage.until("taken", |_| post(port, now, body, &signature).contains(" 409 ") || texts(&stage).len() == 1);
    assert_eq!(texts(&stage).len(), 1);
    // It is not its user's word: it wakes nobody whom it may not.
    stage.aaron.run(["send", "ops", "@reviewer look", "--wait", "acknowledged", "--timeout", "50s"]).ok();
    assert_eq!(stage.lines("runs").len(), 1);
}

#[test]
fn what_is_said_is_posted_signed_in_order_until_it_is_taken_and_across_restarts() {
    let mut stage = Stage::new(&[]);
    let (secret, listener) = (secret(&stage), TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let hook = format!(
        "[[webhook]]\nname = \"forge\"\nchannel = \"ops\"\nsecret_file = \"{secret}\"\nurl = \"{url}\"\n"
    );
    stage.declare(&hook).start();
    // The next request, checked; it is answered with a status.
    let take = |status: &str| {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(&stream);
        let (mut length, mut timestamp, mut signature) = (0, String::new(), String::new());
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim().split_once(": ") else {
                if line.trim().is_empty() {
                    break;
                }
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "x-conclave-timestamp" => timestamp = value.to_owned(),
                "x-conclave-signature" => signature = value.to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body = String::from_utf8(body).unwrap();
        assert_eq!(signature, format!("sha256={}", hmac(&format!("{timestamp}.{body}"))));
        write!(&stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        let said: serde_json::Value = serde_json::from_str(&body).unwrap();
        said["text"].as_str().unwrap().to_owned()
    };
    for text in ["one", "two"] {
        stage.say(text);
    }
    assert_eq!(take("503 Busy"), "one");
    assert_eq!(take("200 OK"), "one");
    assert_eq!(take("500 Oops"), "two");
    stage.kill();
    stage.say("three");
    stage.start();
    assert_eq!(take("204 Fine"), "two");
    assert_eq!(take("204 Fine"), "three");
    let last = serde_json::json!({ "seq": 3 });
    stage.until("seen", |stage| stage.state(&last, "forge") == "seen");
}
