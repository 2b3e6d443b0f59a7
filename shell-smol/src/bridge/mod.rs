//! The loop: lines, link events, settings and deadlines go into the MCP server; its outputs are carried out.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use conclave_core::bridge::{Bridge, Row, Server};
use conclave_core::link::{Config, Newest, ServerRegistry};
use conclave_core::time::Monotonic;
use conclave_core::wire::client::KeyUse;
use conclave_shell::client::trust;
use conclave_shell::clock::Clock;
use conclave_store::config::{ConfigFile, Pin, ServerUrl};
use conclave_store::keystore;
use conclave_store::state::{HandleLease, State};
use smol::channel::{Receiver, Sender, bounded, unbounded};
use smol::future::FutureExt as _;
use smol::{LocalExecutor, Timer};

use crate::dial::Dialer;
use crate::event::Event;
use crate::link::{LinkDriver, Smol};
use crate::mcp::{McpServer, Output, ToLink};
use crate::settings::{servers, settings, watch};
use crate::stdio::Out;
use crate::{Error, Options, log, runtime, stdio};

mod handle;
mod kept;
mod link;

#[cfg(all(feature = "host", unix))]
pub(crate) use kept::{Kept, prove};

/// How long calls under way may still take when the input has ended.
const GRACE: Duration = Duration::from_secs(2);

/// Events that wait to be handled. Few: a line or a message may have megabytes.
const QUEUE: usize = 4;

type Links = BTreeMap<Server, Sender<ToLink>>;

pub(crate) fn run(
    options: &Options,
    input: Box<dyn Read + Send>,
    output: Box<dyn Write + Send>,
) -> Result<(), Error> {
    let clock = Clock::default();
    let file = ConfigFile::in_dir(&options.dir);
    // Before it is read: a change while the bridge starts is seen.
    let known = file.fingerprint();
    let config = file.load()?;
    let servers = servers(options, &config);
    let settings = settings(options, &config, &servers);
    let relays = !settings.approvers.is_empty();
    let (events, happened) = bounded(QUEUE);
    let executor = LocalExecutor::new();
    // The handle is this session's until it ends.
    let (links, _lease) = start_links(options, &config, clock, &servers, &executor, &events)?;
    if links.is_empty() {
        log("no server is configured: conclave register --server URL --username NAME");
    }
    let out = stdio::start(input, output, events.clone())?;
    let names = servers.iter().map(|(server, _)| server.clone()).collect();
    let mut fixed = conclave_core::bridge::Config::new(names);
    fixed.woken = woken();
    // What is no level allows the least that a bridge is of use with.
    fixed.most = std::env::var("CONCLAVE_LEVEL").ok().map(|text| text.parse().unwrap_or_default());
    let bridge = Bridge::new(fixed, settings);
    executor.spawn(watch(file, (known, config), options.clone(), servers, events.clone())).detach();
    executor.spawn(runtime::serve(options.dir.clone(), events)).detach();
    let mcp = McpServer::new(bridge, relays);
    smol::block_on(executor.run(drive(mcp, clock, &happened, &links, &out)));
    out.finish();
    Ok(())
}

fn start_links<'a>(
    options: &Options,
    known: &conclave_store::config::Config,
    clock: Clock,
    servers: &[(Server, ServerUrl)],
    executor: &LocalExecutor<'a>,
    events: &Sender<Event>,
) -> Result<(Links, Option<HandleLease>), Error> {
    let mut links = Links::new();
    if servers.is_empty() {
        return Ok((links, None));
    }
    let key = keystore::load(&options.dir)?;
    let state = State::open(&options.dir).map(Rc::new);
    let state = state.inspect_err(|error| log(&format!("nothing is kept: {error}; {}", error.advice()))).ok();
    let (handle, lease) = match &options.handle {
        Some(chosen) => (chosen.clone(), None),
        None => handle::claim(state.as_deref())?,
    };
    // Most servers have their certificates from the same place.
    let mut trusted = BTreeMap::new();
    let registry = Rc::new(RefCell::new(ServerRegistry::default()));
    let names: Rc<[Server]> = servers.iter().map(|(server, _)| server.clone()).collect();
    for (number, (server, url)) in servers.iter().enumerate() {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(std::io::Error::other)?;
        let config = Config {
            handle: handle.clone(),
            defaulted: options.handle.is_none(),
            key: key.clone(),
            seed,
            newest: Some(newest(known.pin(url))),
        };
        let (requests, asked) = unbounded();
        let ca = options.ca.as_deref().or_else(|| known.ca(url));
        let tls = match trusted.get(&ca) {
            _ if !url.is_secure() => None,
            Some(tls) => Some(Arc::clone(tls)),
            None => Some(trusted.entry(ca).or_insert(trust(ca)?).clone()),
        };
        let dialer = Dialer { url: url.clone(), tls };
        let driver = LinkDriver::new(Smol(dialer), config, clock);
        let pinned = known.pin(url).map(|pin| pin.server_key);
        let task = link::Task {
            server: server.clone(),
            number,
            names: Rc::clone(&names),
            registry: Rc::clone(&registry),
            kept: kept::Kept::new(state.clone(), handle.clone(), pinned),
            pins: ConfigFile::in_dir(&options.dir),
            url: url.clone(),
            events: events.clone(),
        };
        executor.spawn(task.run(driver, asked)).detach();
        links.insert(server.clone(), requests);
    }
    Ok((links, lease))
}

/// The row that messages stand in if `conclave host` started this session's agent. See docs/host.md.
fn woken() -> Row {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    Row { hops: number("CONCLAVE_HOPS"), budget: number("CONCLAVE_BUDGET") }
}

/// How links speak version 2: as the machine is known to the server, under a handle that is kept.
pub(crate) fn newest(pin: Option<Pin>) -> Newest {
    let key = if pin.is_some_and(|pin| pin.derived) { KeyUse::PerServer } else { KeyUse::Shared };
    Newest { pinned: pin.map(|pin| pin.server_key), key, keep: true }
}

async fn drive(mut mcp: McpServer, clock: Clock, happened: &Receiver<Event>, links: &Links, out: &Out) {
    let mut outputs = Vec::new();
    let mut end: Option<Monotonic> = None;
    while end.is_none_or(|end| mcp.is_busy() && clock.now().mono < end) {
        let deadline = mcp.next_deadline().into_iter().chain(end).min();
        let next = async { happened.recv().await.ok() };
        let event = match deadline {
            None => next.await,
            Some(deadline) => {
                let due = async {
                    Timer::at(clock.instant(deadline)).await;
                    None
                };
                next.or(due).await
            }
        };
        let now = clock.now();
        match event {
            Some(Event::Line(line)) => mcp.line(now, &line, &mut outputs),
            Some(Event::Link(server, event)) => mcp.link(now, server, event, &mut outputs),
            Some(Event::Settings(settings, again)) => mcp.configure(now, settings, again, &mut outputs),
            Some(Event::Hook(moment, most, answer)) => {
                let (call, text) = mcp.hook(now, moment, most, &mut outputs);
                if answer.try_send((call, text)).is_err() {
                    mcp.cancel_hook(now, call, &mut outputs);
                }
            }
            Some(Event::HookFailed(call)) => mcp.cancel_hook(now, call, &mut outputs),
            Some(Event::Ended) => end = Some(end.unwrap_or(now.mono + GRACE)),
            None => mcp.tick(now, &mut outputs),
        }
        for output in outputs.drain(..) {
            match output {
                Output::Line(line) => out.line(line.0),
                Output::Hint(line) => out.hint(line.0),
                Output::Log(text) => log(&text),
                Output::Link(server, word) => {
                    if let Some(link) = links.get(&server) {
                        // A link's task lasts as long as this one.
                        let _ = link.try_send(word);
                    }
                }
            }
        }
    }
}
