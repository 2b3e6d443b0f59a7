//! A verb's connection to its server: opened with this machine's key, asked, closed.

use std::path::Path;
use std::time::{Duration, Instant};

use conclave_core::body::View;
use conclave_core::handshake::{Claim, HandshakeError};
use conclave_core::key::{PublicKey, SecretKey};
use conclave_core::link::Newest;
use conclave_core::name::{Handle, SessionPath, sanitize};
use conclave_core::protocol::{Command, Reply};
use conclave_core::stream::{Notice, StreamReply};
use conclave_core::wire::client::{KeyUse, Session as Terms};
use conclave_shell_tokio::client::{
    Arrival, Credentials, DialOptions, Session, SessionError, dial as dial_url,
};
use conclave_store::config::{Change, Config, Pin, Server, ServerUrl};
use tokio::runtime::Runtime;

use crate::args::{Dial, Net};
use crate::error::Failure;
use crate::explain;
use crate::{Context, output::line};

/// A session and the runtime that carries it, for verbs that ask and end.
pub(crate) struct Connection<'a> {
    context: &'a Context,
    runtime: Option<Runtime>,
    session: Option<Session>,
    key: KeyUse,
    /// The server.
    pub(crate) url: ServerUrl,
}

impl<'a> Connection<'a> {
    /// Opens a session on the server that is meant.
    pub(crate) fn open(context: &'a Context, net: &Net) -> Result<Self, Failure> {
        let url = context.server(net.server.as_deref())?;
        let (config, key) = (context.config()?, context.key()?);
        let pin = pin_now(Some(&config), &url, &key, &net.dial)?;
        let key = Pin::key(pin, key);
        let public = key.public();
        let credentials = Credentials { key, handle: own_handle(ONE_SHOT)?, claim: None };
        let connection = Self::with(context, url, credentials, None, &net.dial);
        let connection = connection?
            .map_err(|(url, error)| explain::opening(&url, config.server(&url), &public, &error))?;
        connection.learn(&net.dial, pin)?;
        Ok(connection)
    }

    /// Opens a session of version 2 where the server speaks it, otherwise one of version 1.
    pub(crate) fn open_newest(context: &'a Context, net: &Net) -> Result<Self, Failure> {
        Self::open_as(context, net, None)
    }

    /// The same, as a session that is kept, if a handle is given.
    pub(crate) fn open_as(context: &'a Context, net: &Net, handle: Option<Handle>) -> Result<Self, Failure> {
        let url = context.server(net.server.as_deref())?;
        let config = context.config()?;
        let key = context.key()?;
        let pin = pin_now(Some(&config), &url, &key, &net.dial)?;
        let public = Pin::key(pin, key.clone()).public();
        let keep = handle.is_some();
        let handle = match handle {
            Some(handle) => handle,
            None => own_handle(ONE_SHOT)?,
        };
        let credentials = Credentials { key, handle, claim: None };
        let derived = pin.is_some_and(|pin| pin.derived);
        let terms = terms(pin, if derived { KeyUse::PerServer } else { KeyUse::Shared })?;
        let terms = Terms { keep, ..terms };
        let connection = Self::with(context, url, credentials, Some(terms), &net.dial);
        let connection = connection?
            .map_err(|(url, error)| explain::opening(&url, config.server(&url), &public, &error))?;
        let pin = pin.or_else(|| Some(Pin { server_key: connection.server_key()?, derived: false }));
        connection.learn(&net.dial, pin)?;
        Ok(connection)
    }

    /// Opens a session that claims a name. Fails as the server says, with the URL that was tried.
    pub(crate) fn register(
        context: &'a Context,
        url: ServerUrl,
        claim: Option<Claim>,
        key: KeyUse,
        dial: &Dial,
    ) -> Result<Result<Self, (ServerUrl, SessionError)>, Failure> {
        let credentials = Credentials { key: context.key()?, handle: own_handle(ONE_SHOT)?, claim };
        let terms = terms(context.config()?.pin(&url), key)?;
        Self::with(context, url, credentials, Some(terms), dial)
    }

    fn with(
        context: &'a Context,
        url: ServerUrl,
        credentials: Credentials,
        terms: Option<Terms>,
        dial: &Dial,
    ) -> Result<Result<Self, (ServerUrl, SessionError)>, Failure> {
        let runtime = runtime()?;
        let options = options(dial, &context.config().unwrap_or_default(), &url);
        let key = terms.as_ref().map_or(KeyUse::Shared, |terms| terms.key);
        context.output.detail(format_args!("connecting to {url}"));
        let opened = match terms {
            None => runtime.block_on(Session::open(&url, credentials, &options)),
            Some(terms) => runtime.block_on(Session::open_newest(&url, credentials, terms, &options)),
        };
        match opened {
            Ok(session) => {
                context.output.detail(format_args!("established as {}", line(&session.path().to_string())));
                Ok(Ok(Self { context, runtime: Some(runtime), session: Some(session), key, url }))
            }
            Err(error) => {
                runtime.shutdown_background();
                Ok(Err((url, error)))
            }
        }
    }

    /// Who this is on the server, as the configuration keeps it.
    pub(crate) fn registration(&self) -> Option<Server> {
        let path = self.session.as_ref()?.path();
        Some(Server { url: self.url.clone(), username: path.user.clone(), machine: path.machine.clone() })
    }

    /// Which key of this machine a session of version 2 was opened with.
    pub(crate) fn key_use(&self) -> KeyUse {
        self.key
    }

    /// The session.
    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Writes down where this machine turned out to be enrolled: by `machine add` on another one, say.
    fn learn(&self, dial: &Dial, pin: Option<Pin>) -> Result<(), Failure> {
        let Some(server) = self.registration() else { return Ok(()) };
        let config = self.context.config()?;
        let pin = pin.filter(|pin| config.pin(&self.url) != Some(*pin));
        let pin = pin.map(|pin| Change::SetPin(self.url.clone(), pin));
        if config.server(&self.url) == Some(&server) {
            if let Some(pin) = pin {
                self.context.config_file()?.change(&[pin])?;
            }
            return Ok(());
        }
        if let Some(known) = self.known_as(&config, &server, dial) {
            let text = format_args!("{} is the server that is known as {known}", self.url);
            self.context.output.detail(text);
            return Ok(());
        }
        let changes: Vec<Change> = [Change::AddServer(server.clone())].into_iter().chain(pin).collect();
        self.context.config_file()?.change(&changes)?;
        let shown = format!("{}/{}", server.username, server.machine);
        self.context.output.note(format_args!("noted: this machine is {} on {}", line(&shown), self.url));
        Ok(())
    }

    /// The URL under which this very server is known already: a second one would have to be told from it for ever.
    fn known_as(&self, config: &Config, server: &Server, dial: &Dial) -> Option<ServerUrl> {
        let (runtime, session) = (self.runtime.as_ref()?, self.session.as_ref()?);
        let id = session.greeting().server_id.as_ref()?;
        let mut alike = config
            .servers
            .iter()
            .filter(|other| other.username == server.username && other.machine == server.machine);
        let is_it = |other: &&Server| {
            let timeout = dial.timeout().min(ALIAS_TIMEOUT);
            let options = DialOptions { timeout, ..options(dial, config, &other.url) };
            let dialed = runtime.block_on(dial_url(&other.url, &options));
            dialed.is_ok_and(|dialed| dialed.greeting.server_id.as_ref() == Some(id))
        };
        alike.find(is_it).map(|other| other.url.clone())
    }

    /// The server's key, if the session speaks version 2.
    pub(crate) fn server_key(&self) -> Option<PublicKey> {
        self.session.as_ref()?.server_key()
    }

    /// Asks the server for something.
    pub(crate) fn request(&mut self, command: &Command) -> Result<Reply, Failure> {
        self.ask(command).map_err(|error| explain::request(&self.url, command, &error))
    }

    /// Asks the server for something, for a caller who may try again.
    pub(crate) fn ask(&mut self, command: &Command) -> Result<Reply, SessionError> {
        let (Some(runtime), Some(session)) = (&self.runtime, &mut self.session) else {
            return Err(SessionError::Ended { why: None, sent: false });
        };
        self.context.output.detail(format_args!("asking: {}", command.kind()));
        runtime.block_on(session.request(command))
    }

    /// Waits for the next whisper to this session: from whom, and its text.
    pub(crate) fn whisper(&mut self, patience: Duration) -> Result<Option<(SessionPath, String)>, Failure> {
        let (Some(runtime), Some(session)) = (&self.runtime, &mut self.session) else { return Ok(None) };
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let arrived = runtime.block_on(session.arrival(left));
            match arrived.map_err(|error| explain::request(&self.url, &Command::Ping, &error))? {
                Some(Arrival::Whispered { from, payload }) => {
                    if let Ok(View::Text(text)) = payload.view() {
                        return Ok(Some((from, text.to_owned())));
                    }
                }
                Some(Arrival::Posted { .. }) => {}
                None => return Ok(None),
            }
        }
    }

    /// Waits for the next notice of version 2.
    pub(crate) fn notice(&mut self, patience: Duration) -> Result<Option<Notice>, Failure> {
        let (Some(runtime), Some(session)) = (&self.runtime, &mut self.session) else {
            return Err(Failure::new("the connection has ended", "type it again"));
        };
        let waited = runtime.block_on(session.notice(patience));
        waited.map_err(|error| explain::request(&self.url, &Command::Ping, &error))
    }

    /// Asks for something whose answer says no more than that it was done.
    pub(crate) fn done(&mut self, command: &Command) -> Result<(), Failure> {
        match self.request(command)? {
            Reply::Done(_) | Reply::Sent | Reply::Joined(_) | Reply::Pong => Ok(()),
            Reply::Stream(StreamReply::Done) => Ok(()),
            _ => Err(unexpected(&self.url)),
        }
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            if let Some(session) = self.session.take() {
                runtime.block_on(session.close());
            }
            // A name that is still being looked up is nobody's business any more.
            runtime.shutdown_background();
        }
    }
}

/// The server answered something else than what was asked.
pub(crate) fn unexpected(url: &ServerUrl) -> Failure {
    Failure::new(
        format!("{url} answered something else than what was asked"),
        "compare its version with `conclave --version`: `conclave doctor` shows it",
    )
}

/// A runtime on this thread, for the few sockets of a client.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::new(format!("this process cannot open sockets: {error}"), "look at `ulimit -n`")
    })
}

/// The server's key and which key of this machine it knows. A server that the configuration knows by another URL only
/// is recognized by the key that it proves.
pub(crate) async fn pin_at(
    config: Option<&Config>,
    url: &ServerUrl,
    machine: &SecretKey,
    options: &DialOptions,
) -> Result<Option<Pin>, Failure> {
    if let Some(config) = config
        && (config.server(url).is_some() || !config.pins.iter().any(|(_, pin)| pin.derived))
    {
        return Ok(config.pin(url));
    }
    let credentials = Credentials { key: machine.clone(), handle: own_handle(ONE_SHOT)?, claim: None };
    let terms = terms(None, KeyUse::PerServer)?;
    let session = Session::open_newest(url, credentials, terms, options).await.ok();
    let server_key = session.and_then(|session| session.server_key());
    Ok(server_key.map(|server_key| Pin { server_key, derived: true }))
}

/// [`pin_at`], on a runtime of its own.
pub(crate) fn pin_now(
    config: Option<&Config>,
    url: &ServerUrl,
    machine: &SecretKey,
    dial: &Dial,
) -> Result<Option<Pin>, Failure> {
    let runtime = runtime()?;
    let options = options(dial, config.unwrap_or(&Config::default()), url);
    let pin = runtime.block_on(pin_at(config, url, machine, &options));
    runtime.shutdown_background();
    pin
}

/// The key that a server proves now. Nothing is said to it about this machine.
pub(crate) fn proven_key(context: &Context, url: &ServerUrl, dial: &Dial) -> Result<PublicKey, Failure> {
    // A key that no server has: the handshake ends with the server's own, before anybody has to say who they are.
    let nobody = Pin { server_key: PublicKey::from_trusted([0; 32]), derived: false };
    let credentials =
        Credentials { key: SecretKey::from_seed(&[0; 32]), handle: own_handle(ONE_SHOT)?, claim: None };
    let terms = terms(Some(nobody), KeyUse::Shared)?;
    let options = options(dial, &context.config()?, url);
    let runtime = runtime()?;
    let opened = runtime.block_on(Session::open_newest(url, credentials, terms, &options));
    runtime.shutdown_background();
    match opened {
        Err(SessionError::Handshake(HandshakeError::ServerKeyChanged { found, .. })) => Ok(found),
        Err(SessionError::Downgrade) => Err(Failure::new(
            format!("{url} proves no key: it speaks version 1 only"),
            "ask its operator to update it",
        )),
        Err(error) => Err(explain::general(url, &error)),
        Ok(_) => Err(unexpected(url)),
    }
}

/// What a session of version 2 that ends soon asks for.
fn terms(pin: Option<Pin>, key: KeyUse) -> Result<Terms, Failure> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce)
        .map_err(|error| Failure::new(format!("the system has no random numbers: {error}"), ""))?;
    Ok(Terms { nonce, pinned: pin.map(|pin| pin.server_key), key, keep: false })
}

/// How a session that goes on speaks version 2.
pub(crate) fn newest(pin: Option<Pin>, keep: bool) -> Newest {
    let key = if pin.is_some_and(|pin| pin.derived) { KeyUse::PerServer } else { KeyUse::Shared };
    Newest { pinned: pin.map(|pin| pin.server_key), key, keep }
}

/// How to dial a server, as typed or remembered.
pub(crate) fn options(dial: &Dial, config: &Config, url: &ServerUrl) -> DialOptions {
    let ca = dial.ca.clone().or_else(|| config.ca(url).map(Path::to_path_buf));
    DialOptions { timeout: dial.timeout(), ca, subprotocol: None }
}

/// How long another server may take to say whether it is this one.
const ALIAS_TIMEOUT: Duration = Duration::from_secs(2);

/// What the handles of verbs that ask and go begin with.
pub(crate) const ONE_SHOT: &str = "cli";

/// Whether a verb that asks and goes has this handle: nobody waits there for anything. Whoever only begins a name
/// alike is somebody.
pub(crate) fn is_one_shot(handle: &Handle) -> bool {
    let Some((ONE_SHOT, rest)) = handle.as_str().split_once('-') else { return false };
    rest.split_once('-').is_some_and(|(process, random)| {
        process.parse::<u32>().is_ok() && random.len() == 8 && u32::from_str_radix(random, 16).is_ok()
    })
}

/// A handle that no other process has, so that none supersedes another.
pub(crate) fn own_handle(verb: &str) -> Result<Handle, Failure> {
    let mut random = [0; 4];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::new(format!("the system has no random numbers: {error}"), ""))?;
    let handle = format!("{verb}-{}-{:08x}", std::process::id(), u32::from_le_bytes(random));
    Handle::new(&sanitize(&handle, verb)).map_err(|error| Failure::new(error.to_string(), ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_verb_calls_itself_is_a_verb() {
        assert!(is_one_shot(&own_handle(ONE_SHOT).unwrap()));
        for name in ["cli", "cli-2", "cli-tools", "cli-tools-2", "cli-1-xyz", "tail-12-0011aabb"] {
            assert!(!is_one_shot(&Handle::new(name).unwrap()), "{name}");
        }
    }
}
