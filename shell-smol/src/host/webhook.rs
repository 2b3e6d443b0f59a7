//! Doors for other systems: an HTTP POST with a signature becomes a message, and a message becomes such a POST.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::net::TcpStream;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use conclave_core::body;
use conclave_core::bridge::body as text_of;
use conclave_core::host::reply_id;
use conclave_core::link::Proof;
use conclave_core::protocol::Stamped;
use conclave_core::record::ChannelId;
use conclave_core::time::UnixMillis;
use conclave_shell::clock::Clock;
use conclave_store::config::ConfigFile;
use conclave_store::state::Reader;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use smol::channel::{Receiver, bounded};
use smol::future::FutureExt as _;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::{Async, LocalExecutor, Timer};
use tracing::{info, warn};

use super::config::{Way, Webhook};
use super::follower::{Arrived, Follower, Happened, Word};
use super::work::{Known, Session};
use super::{Dialing, HostError, follow};

/// The shortest secret, in bytes.
const MIN_SECRET: usize = 16;
/// The largest head and body of a request.
const MAX_HEAD: usize = 8 * 1024;
const MAX_BODY: usize = 64 * 1024;
/// Requests at once; a request may take [`PATIENCE`].
const AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(10);
/// How far a timestamp may be from now, in seconds. Within it a signature is taken once.
const WINDOW: i64 = 300;
/// Signatures that are remembered within the window; while there are so many, further requests are refused.
const MAX_SEEN: usize = 10_000;
/// The first wait after a failed POST, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

const TIMESTAMP: &str = "X-Conclave-Timestamp";
const SIGNATURE: &str = "X-Conclave-Signature";

/// A secret, which is never shown.
#[derive(Clone)]
struct Secret(Vec<u8>);

impl Secret {
    fn load(path: &Path) -> Result<Self, HostError> {
        let read = |source| HostError::Read { path: path.into(), source };
        let wrong = |what| HostError::Secret { path: path.into(), what };
        let metadata = fs::metadata(path).map_err(read)?;
        if std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0 {
            return Err(wrong("can be read by others: its file must have mode 0600"));
        }
        let mut bytes = Vec::new();
        fs::File::open(path).and_then(|file| file.take(4096).read_to_end(&mut bytes)).map_err(read)?;
        let secret = bytes.trim_ascii().to_vec();
        if secret.len() < MIN_SECRET { Err(wrong("has less than 16 bytes")) } else { Ok(Self(secret)) }
    }

    fn mac(&self, timestamp: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(timestamp.as_bytes());
        mac.update(b".");
        mac.update(body);
        Some(mac)
    }

    fn sign(&self, timestamp: &str, body: &[u8]) -> String {
        let tag = self.mac(timestamp, body).map(|mac| mac.finalize().into_bytes());
        let hex = tag.iter().flatten().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("sha256={hex}")
    }

    /// Whether the signature is that of the body at that time, compared in constant time.
    fn verifies(&self, timestamp: &str, body: &[u8], signature: &str) -> bool {
        let hex = signature.strip_prefix("sha256=").unwrap_or(signature);
        let bytes: Option<Vec<u8>> = (hex.len() == 64 && hex.is_ascii())
            .then(|| (0..64).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect())
            .flatten();
        match (self.mac(timestamp, body), bytes) {
            (Some(mac), Some(bytes)) => mac.verify_slice(&bytes).is_ok(),
            _ => false,
        }
    }
}

/// Starts a door.
pub(super) fn start(
    dialing: &mut Dialing<'_>,
    hook: &Webhook,
    executor: &Rc<LocalExecutor<'static>>,
    clock: Clock,
) -> Result<(), HostError> {
    let secret = Secret::load(&hook.secret_file)?;
    let out = matches!(hook.way, Way::Out(_));
    // The way in reads nothing: nobody is to wait for it.
    let (driver, kept) = dialing.link(&hook.name, &hook.server, out)?;
    let (hear, heard) = bounded(4);
    let follower = Follower {
        name: hook.name.to_string(),
        url: hook.server.clone(),
        kept,
        pins: ConfigFile::in_dir(&dialing.options.dir),
        channels: vec![hook.channel.clone()],
        mailbox: false,
        events: hear,
        id: 0,
    };
    let session = Session {
        url: hook.server.clone(),
        signing: dialing.signing(&hook.server),
        state: dialing.state.clone(),
        words: follow(executor, follower, driver),
        clock,
        known: RefCell::new(None),
    };
    let door = Rc::new(Door { hook: hook.clone(), secret, session, stream: RefCell::new(None) });
    match &hook.way {
        Way::In(address) => {
            let listener = std::net::TcpListener::bind(address)?;
            info!(webhook = hook.name.as_str(), address = %listener.local_addr()?, "listens");
            executor.spawn(hear_of(door.clone(), heard)).detach();
            executor.spawn(listen(door, Async::new(listener)?, executor.clone())).detach();
        }
        Way::Out(url) => executor.spawn(post_all(door, url.clone(), heard)).detach(),
    }
    Ok(())
}

struct Door {
    hook: Webhook,
    secret: Secret,
    session: Session,
    /// The channel's stream, once it is known.
    stream: RefCell<Option<ChannelId>>,
}

impl Door {
    fn note_up(&self, happened: &Happened) {
        if let Happened::Up { path, user, server } = happened {
            let reader = Reader { server: *server, handle: self.hook.name.clone() };
            *self.session.known.borrow_mut() = Some(Known { path: path.clone(), user: *user, reader });
        }
    }

    /// The channel's stream: the server is asked once.
    async fn stream(&self) -> Option<ChannelId> {
        let known = *self.stream.borrow();
        if known.is_some() {
            return known;
        }
        let found = self.session.locate(&self.hook.channel).await;
        *self.stream.borrow_mut() = found;
        found
    }
}

// In.

async fn hear_of(door: Rc<Door>, heard: Receiver<(usize, Happened)>) {
    while let Ok((_, happened)) = heard.recv().await {
        door.note_up(&happened);
    }
}

async fn listen(
    door: Rc<Door>,
    listener: Async<std::net::TcpListener>,
    executor: Rc<LocalExecutor<'static>>,
) {
    let (free, take) = bounded(AT_ONCE);
    for _ in 0..AT_ONCE {
        let _ = free.try_send(());
    }
    let seen = Rc::new(RefCell::new(BTreeMap::new()));
    while take.recv().await.is_ok() {
        let Ok((stream, _)) = listener.accept().await else {
            Timer::after(Duration::from_millis(100)).await;
            let _ = free.try_send(());
            continue;
        };
        let (door, seen, free) = (door.clone(), seen.clone(), free.clone());
        let task = async move {
            let late = async { _ = Timer::after(PATIENCE).await };
            async { drop(serve(&door, stream, &seen).await) }.or(late).await;
            let _ = free.try_send(());
        };
        executor.spawn(task).detach();
    }
}

/// Signatures that were taken, and when they may be forgotten.
type Seen = RefCell<BTreeMap<String, i64>>;

async fn serve(door: &Door, mut stream: Async<TcpStream>, seen: &Seen) -> io::Result<()> {
    let (status, said) = match request(&mut stream).await {
        Ok(request) => take(door, &request, seen).await,
        Err(refused) => refused,
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{said}\n",
        said.len() + 1
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.close().await
}

type Refused = (&'static str, &'static str);

struct Request {
    timestamp: String,
    signature: String,
    body: Vec<u8>,
}

/// Reads one request: a POST with a length.
async fn request(stream: &mut Async<TcpStream>) -> Result<Request, Refused> {
    const BAD: Refused = ("400 Bad Request", "this is no HTTP request that is understood here");
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut headers);
        let parsed = head.parse(&bytes).map_err(|_| BAD)?;
        if let httparse::Status::Complete(length) = parsed {
            if head.method != Some("POST") {
                return Err(("405 Method Not Allowed", "POST only"));
            }
            let header = |name: &str| {
                let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
                found
                    .and_then(|header| std::str::from_utf8(header.value).ok())
                    .unwrap_or_default()
                    .trim()
                    .to_owned()
            };
            let size: usize = header("Content-Length")
                .parse()
                .map_err(|_| ("411 Length Required", "say Content-Length"))?;
            if size > MAX_BODY {
                return Err(("413 Content Too Large", "a body has at most 64 KiB"));
            }
            let (timestamp, signature) = (header(TIMESTAMP), header(SIGNATURE));
            let mut body = bytes.split_off(length);
            while body.len() < size {
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return Err(BAD),
                    Ok(read) => body.extend_from_slice(&buffer[..read]),
                }
            }
            body.truncate(size);
            return Ok(Request { timestamp, signature, body });
        }
        if bytes.len() > MAX_HEAD {
            return Err(("431 Request Header Fields Too Large", "a head has at most 8 KiB"));
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return Err(BAD),
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

/// Checks a request, and posts what it says.
async fn take(door: &Door, request: &Request, seen: &Seen) -> Refused {
    let now = door.session.clock.now().wall.0 / 1000;
    let signature = match check(&door.secret, request, now, &mut seen.borrow_mut()) {
        Ok(signature) => signature,
        Err(refused) => {
            warn!(webhook = door.hook.name.as_str(), status = refused.0, "refused");
            return refused;
        }
    };
    let Ok(said) = std::str::from_utf8(&request.body) else {
        return ("415 Unsupported Media Type", "the body is no UTF-8 text");
    };
    let text = format!("[from outside: {}]\n{said}", door.hook.name);
    let (Some(known), Some(stream)) = (door.session.known(), door.stream().await) else {
        seen.borrow_mut().remove(&signature);
        return ("503 Service Unavailable", "not connected to the server: try again");
    };
    // A replay that outlives a restart of this host has the same id: the server stores it once.
    let at = UnixMillis(request.timestamp.parse::<i64>().unwrap_or(now).saturating_mul(1000));
    let server = &known.reader.server;
    let id = reply_id(door.hook.name.as_str(), server, (stream, 0), at, &signature);
    match door.session.post(server, stream, id, &text, body::Context::default()).await {
        Ok(()) => {
            info!(webhook = door.hook.name.as_str(), bytes = request.body.len(), "posted");
            ("202 Accepted", "posted")
        }
        Err(refusal) => {
            warn!(webhook = door.hook.name.as_str(), %refusal, "the server does not take it");
            ("502 Bad Gateway", "the server does not take it")
        }
    }
}

/// Whether a request is signed, fresh and new. Returns its signature, in the one way of writing it.
fn check(
    secret: &Secret,
    Request { timestamp, signature, body }: &Request,
    now: i64,
    seen: &mut BTreeMap<String, i64>,
) -> Result<String, Refused> {
    const NO: Refused = ("401 Unauthorized", "the signature or the timestamp is missing or wrong");
    let at: i64 = timestamp.parse().map_err(|_| NO)?;
    if !secret.verifies(timestamp, body, signature) {
        return Err(NO);
    }
    if now.abs_diff(at) > WINDOW.unsigned_abs() {
        return Err(("401 Unauthorized", "the timestamp is more than 5 minutes from now"));
    }
    seen.retain(|_, until| *until >= now);
    if seen.len() >= MAX_SEEN {
        return Err(("429 Too Many Requests", "too many requests within 5 minutes"));
    }
    let signature = secret.sign(timestamp, body);
    // It may be ahead of now, and is then valid for twice as long.
    match seen.insert(signature.clone(), at.saturating_add(WINDOW)) {
        None => Ok(signature),
        Some(_) => Err(("409 Conflict", "this request was taken before")),
    }
}

// Out.

/// Posts what is said on the channel, in order, each until it is taken.
async fn post_all(door: Rc<Door>, url: String, heard: Receiver<(usize, Happened)>) {
    let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).max_redirects(0);
    let agent = ureq::Agent::new_with_config(config.http_status_as_error(false).build());
    while let Ok((_, happened)) = heard.recv().await {
        door.note_up(&happened);
        let Happened::Message(arrived) = happened else { continue };
        let Arrived { channel, stream, message, proof } = *arrived;
        let place = channel.as_ref().map_or(String::new(), ToString::to_string);
        let content = described(&place, &message, proof);
        let mut wait = FIRST_WAIT;
        while let Err(why) = deliver(&agent, &url, &door.secret, content.clone(), door.session.clock).await {
            warn!(webhook = door.hook.name.as_str(), why, again_in = ?wait, "not taken");
            Timer::after(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        info!(webhook = door.hook.name.as_str(), seq = message.seq, "delivered");
        let _ = door.session.words.send(Word::Seen(stream, message.seq)).await;
    }
}

fn described(channel: &str, message: &Stamped, proof: Proof) -> String {
    let signed = message.origin.signed.as_ref();
    let id = signed.map(|signed| signed.id.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    serde_json::json!({
        "channel": channel,
        "from": message.from.to_string(),
        "at": message.ts.rfc3339(),
        "seq": message.seq,
        "message_id": id,
        "signature": proof.as_str(),
        "text": text_of(&message.payload),
    })
    .to_string()
}

async fn deliver(
    agent: &ureq::Agent,
    url: &str,
    secret: &Secret,
    content: String,
    clock: Clock,
) -> Result<(), String> {
    let timestamp = (clock.now().wall.0 / 1000).to_string();
    let signature = secret.sign(&timestamp, content.as_bytes());
    let (agent, url) = (agent.clone(), url.to_owned());
    smol::unblock(move || {
        let request = agent.post(&url).header(TIMESTAMP, timestamp).header(SIGNATURE, signature);
        match request.header("Content-Type", "application/json").send(content) {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("status {}", answer.status())),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret(b"0123456789abcdef".to_vec())
    }

    fn request(at: i64, body: &str) -> Request {
        let timestamp = at.to_string();
        let signature = secret().sign(&timestamp, body.as_bytes());
        Request { timestamp, signature, body: body.into() }
    }

    #[test]
    fn a_signature_is_the_one_that_everybody_computes() {
        // printf '1700000000.hello' | openssl dgst -sha256 -hmac 0123456789abcdef
        let expected = "sha256=adc6dd484b44cd99e9825b07b9475d45999b82cf8071c60272358d4a51fe73e9";
        assert_eq!(secret().sign("1700000000", b"hello"), expected);
    }

    #[test]
    fn a_request_is_taken_once_while_it_is_fresh() {
        let mut seen = BTreeMap::new();
        let mut status =
            |request: &Request, now| check(&secret(), request, now, &mut seen).map_err(|it| it.0);
        assert!(status(&request(1000, "a"), 1000).is_ok());
        assert_eq!(status(&request(1000, "a"), 1001), Err("409 Conflict"));
        let mut upper = request(1000, "a");
        upper.signature = upper.signature.replace("sha256=", "").to_uppercase();
        assert_eq!(status(&upper, 1001), Err("409 Conflict"), "another way of writing it");
        assert!(status(&request(1000, "b"), 1300).is_ok());
        assert_eq!(status(&request(1000, "c"), 1301), Err("401 Unauthorized"));
        assert!(status(&request(1600, "d"), 1300).is_ok());
        assert_eq!(status(&request(1600, "d"), 1900), Err("409 Conflict"));
        let mut altered = request(1900, "e");
        altered.body.push(b'!');
        assert_eq!(status(&altered, 1900), Err("401 Unauthorized"));
        let mut moved = request(1900, "e");
        moved.timestamp = "1901".into();
        assert_eq!(status(&moved, 1900), Err("401 Unauthorized"));
        for signature in ["", "sha256=", "zz", &"é".repeat(32)] {
            let unsigned = Request { signature: signature.into(), ..request(1900, "f") };
            assert_eq!(status(&unsigned, 1900), Err("401 Unauthorized"), "{signature}");
        }
        assert_eq!(
            status(&Request { timestamp: "soon".into(), ..request(1900, "g") }, 1900),
            Err("401 Unauthorized")
        );
    }

    #[test]
    fn a_flood_of_signed_requests_fills_no_memory() {
        let mut seen = BTreeMap::new();
        for nth in 0..MAX_SEEN {
            assert!(check(&secret(), &request(1000, &nth.to_string()), 1000, &mut seen).is_ok());
        }
        let more = check(&secret(), &request(1000, "more"), 1000, &mut seen);
        assert_eq!(more.map_err(|it| it.0), Err("429 Too Many Requests"));
        assert!(check(&secret(), &request(1400, "later"), 1400, &mut seen).is_ok());
        assert_eq!(seen.len(), 1);
    }

    #[test]
    fn a_secret_that_others_can_read_or_guess_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let write = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Secret::load(&path)
        };
        assert!(write("0123456789abcdef\n", 0o600).is_ok_and(|it| it.0 == secret().0));
        assert!(write("0123456789abcdef", 0o640).is_err());
        assert!(write("short", 0o600).is_err());
    }
}
