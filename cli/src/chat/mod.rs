//! `conclave chat`: conversations on a terminal. State ([`app`]), keys ([`keys`]) and drawing ([`draw`]) are apart; what is known
//! of a server, and what follows from it, is the desk's (`conclave_core::desk`).

mod app;
mod composer;
mod draw;
mod keep;
mod keys;
#[cfg(test)]
mod tests;
mod theme;
mod wrap;

use std::future::{pending, poll_fn};
use std::io::{self, IsTerminal as _};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use conclave_core::bridge::Scope;
use conclave_core::desk::{Desk, Input, Output, Place};
use conclave_core::level::Level;
use conclave_core::link::{Action, Config, Input as ToLink, RequestId};
use conclave_core::name::{ChannelName, Handle};
use conclave_core::protocol::Command;
use conclave_core::stream::{StreamCommand, StreamRef};
use conclave_shell_tokio::client::{LinkDriver, link};
use conclave_store::config::{Change, Pin, ServerUrl};
use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::{execute, terminal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use self::app::{App, Server};
use self::keep::Store;
use self::theme::Theme;
use crate::args::Chat;
use crate::connect::{newest, options, pin_at, runtime};
use crate::{Context, Failure};

/// The session's handle unless another is typed. It is kept, so that messages wait for it.
const HANDLE: &str = "chat";
/// At most so often the screen is drawn.
const FRAME: Duration = Duration::from_millis(16);
/// How long the end waits for the servers to learn what was seen.
const FAREWELL: Duration = Duration::from_secs(1);

/// A server: its link, and what is kept of it.
struct Line {
    url: ServerUrl,
    driver: LinkDriver,
    store: Store,
    has_pin: bool,
}

/// Runs the verb.
pub(crate) fn run(chat: Chat, context: &Context) -> Result<(), Failure> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::usage(
            "chat needs a terminal",
            "in a script: conclave tail --json, conclave send",
        ));
    }
    let urls = match &chat.servers[..] {
        [] => context.config()?.servers.iter().map(|it| it.url.clone()).collect(),
        named => {
            let named = named.iter().map(|name| context.server(Some(name)));
            named.collect::<Result<Vec<_>, _>>()?
        }
    };
    // The error says what to do.
    if urls.is_empty() {
        context.server(None)?;
    }
    let handle = match &chat.handle {
        Some(handle) => handle.clone(),
        None => Handle::new(HANDLE).map_err(|error| Failure::new(error.to_string(), ""))?,
    };
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let (mut lines, mut servers) = (Vec::new(), Vec::new());
        for url in urls {
            let (line, server) = open(&chat, context, url, handle.clone()).await?;
            lines.push(line);
            servers.push(server);
        }
        let has_color = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
        let Some(now) = lines.first().map(|it: &Line| it.driver.now()) else { return Ok(()) };
        let mut app = App::new(servers, Theme { has_color }, TimeZone::system(), now);
        let mut screen = Screen::open()?;
        let ended = follow(&mut app, &mut lines, &mut screen, context, chat.channel.as_ref()).await;
        drop(screen);
        farewell(&app, &mut lines).await;
        ended
    });
    runtime.shutdown_background();
    ended
}

async fn open(
    chat: &Chat,
    context: &Context,
    url: ServerUrl,
    handle: Handle,
) -> Result<(Line, Server), Failure> {
    let config = context.config()?;
    let key = context.key()?;
    let options = options(&chat.dial, &config, &url);
    let pin = pin_at(Some(&config), &url, &key, &options).await?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| Failure::new(format!("the system has no random numbers: {error}"), ""))?;
    let store = Store::open(context, handle.clone(), pin.map(|it| it.server_key))?;
    let mut desk = Desk::new(store.kept(chat.channel.clone())?);
    for (user, machine, key) in store.machines() {
        desk.pin(user, machine, key);
    }
    let link_config =
        Config { defaulted: chat.handle.is_none(), handle, key, seed, newest: Some(newest(pin, true)) };
    let mut driver = link(url.clone(), link_config, options);
    store.pins(&mut driver)?;
    let label = url.as_str().to_owned();
    let of = url.clone();
    let level = move |place: &Place| match place {
        Place::Channel(channel) => config.level(&of, &Scope::Channel(channel.clone())),
        Place::Person(_) => Level::default(),
    };
    let server = Server { label, desk, outputs: Vec::new(), level: Box::new(level) };
    Ok((Line { url, driver, store, has_pin: pin.is_some() }, server))
}

/// What wakes the loop.
enum Woken {
    Key(Event),
    Link(usize, Action),
    Due,
    Ended,
}

async fn follow(
    app: &mut App,
    lines: &mut [Line],
    screen: &mut Screen,
    context: &Context,
    wanted: Option<&ChannelName>,
) -> Result<(), Failure> {
    let mut keys = keys_of_terminal();
    let mut signals = Signals::new()?;
    let mut drawn = Instant::now().checked_sub(FRAME).unwrap_or_else(Instant::now);
    let mut dirty = true;
    loop {
        app.settle(wanted);
        carry_out(app, lines)?;
        if dirty && drawn + FRAME <= Instant::now() {
            screen.terminal.draw(|frame| draw::draw(app, frame))?;
            drawn = Instant::now();
            dirty = std::mem::take(&mut app.is_stale);
            // What is on the screen now is seen.
            carry_out(app, lines)?;
        }
        let redraw = dirty.then_some(drawn + FRAME);
        let due = app.servers.iter().filter_map(|it| it.desk.next_deadline()).min();
        let due =
            due.zip(lines.first()).map(|(due, line)| Instant::now() + due.since(line.driver.now().mono));
        let wake = [redraw, due].into_iter().flatten().min();
        let woken = {
            let next = next_action(lines);
            tokio::select! {
                biased;
                () = signals.next() => Woken::Ended,
                key = keys.recv() => key.map_or(Woken::Ended, Woken::Key),
                (nth, action) = next => Woken::Link(nth, action),
                () = async { match wake { Some(at) => sleep_until(at).await, None => pending().await } } => Woken::Due,
            }
        };
        if let Some(line) = lines.first() {
            app.now = line.driver.now();
        }
        match woken {
            Woken::Ended => return Ok(()),
            Woken::Key(event) => {
                dirty = true;
                app.terminal(event);
                while let Ok(event) = keys.try_recv() {
                    app.terminal(event);
                }
            }
            Woken::Link(nth, action) => {
                dirty = true;
                take(app, lines, nth, action, context)?;
                while let Some(action) = lines[nth].driver.pending() {
                    take(app, lines, nth, action, context)?;
                }
            }
            Woken::Due if redraw.is_none() => {
                dirty = true;
                (0..app.servers.len()).for_each(|nth| app.tell(nth, Input::Tick));
            }
            Woken::Due => {}
        }
        if app.has_ended {
            carry_out(app, lines)?;
            return Ok(());
        }
    }
}

/// The next thing that a link tells.
async fn next_action(lines: &mut [Line]) -> (usize, Action) {
    poll_fn(|cx| {
        for (nth, line) in lines.iter_mut().enumerate() {
            if let Poll::Ready(action) = pin!(line.driver.next()).poll(cx) {
                return Poll::Ready((nth, action));
            }
        }
        Poll::Pending
    })
    .await
}

/// Takes what a link tells: keys are looked at, the rest is the desk's.
fn take(
    app: &mut App,
    lines: &mut [Line],
    nth: usize,
    action: Action,
    context: &Context,
) -> Result<(), Failure> {
    let line = &mut lines[nth];
    match &action {
        Action::Up { server_key, .. } => {
            line.store.up(*server_key, &mut line.driver)?;
            if let (Some(server_key), false) = (*server_key, line.has_pin) {
                let config = context.config()?;
                if config.server(&line.url).is_some() && config.pin(&line.url).is_none() {
                    let pin = Pin { server_key, derived: false };
                    context.config_file()?.change(&[Change::SetPin(line.url.clone(), pin)])?;
                }
                line.has_pin = true;
            }
        }
        Action::SenderKey { user, name, machine, key } => {
            if let Some(news) = line.store.sender(&mut line.driver, (*user, name), *machine, key)? {
                app.note = Some(news);
            }
        }
        Action::Renamed { to, .. } => app.note = Some(format!("another chat runs: this one is {to}")),
        Action::Collision { handle } => {
            app.note = Some(format!("another session is {handle}, too: choose a name with --as"));
        }
        _ => {}
    }
    app.tell(nth, Input::Link(action));
    Ok(())
}

/// Does what the desks want.
fn carry_out(app: &mut App, lines: &mut [Line]) -> Result<(), Failure> {
    for (server, line) in app.servers.iter_mut().zip(lines) {
        for output in std::mem::take(&mut server.outputs) {
            match output {
                Output::Link(input) => line.driver.input(input),
                Output::Keep(keep) => line.store.keep(keep)?,
            }
        }
    }
    Ok(())
}

/// Tells the servers how far it came, then ends the links. A server that does not answer in time learns it in the next run.
async fn farewell(app: &App, lines: &mut [Line]) {
    let until = Instant::now() + FAREWELL;
    let mut open = 0;
    for (server, line) in app.servers.iter().zip(lines.iter_mut()) {
        for (nth, (stream, delivered, seen)) in (0..).zip(server.desk.positions()) {
            let report = StreamCommand::Report { stream: StreamRef::Number(stream), delivered, seen };
            let id = RequestId(u64::MAX - nth);
            line.driver.input(ToLink::Request { id, command: Command::Stream(report), deadline: None });
            open += 1;
        }
    }
    while open > 0 {
        tokio::select! {
            (_, action) = next_action(lines) => {
                if let Action::Replied { id, .. } = action && id.0 > u64::MAX / 2 {
                    open -= 1;
                }
            }
            () = sleep_until(until) => break,
        }
    }
    for line in lines {
        line.driver.input(ToLink::Stop);
    }
}

/// Events of the terminal. A thread waits for them, and ends with the process.
fn keys_of_terminal() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(256);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The terminal, in its own screen; as it was when this is dropped.
struct Screen {
    terminal: Terminal<CrosstermBackend<io::Stdout>>,
}

impl Screen {
    fn open() -> Result<Self, Failure> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            before(info);
        }));
        terminal::enable_raw_mode()?;
        execute!(
            io::stdout(),
            terminal::EnterAlternateScreen,
            event::EnableMouseCapture,
            event::EnableBracketedPaste,
            event::EnableFocusChange
        )?;
        Ok(Self { terminal: Terminal::new(CrosstermBackend::new(io::stdout()))? })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    // There is nobody to tell when the terminal is gone.
    let _ = execute!(
        io::stdout(),
        event::DisableFocusChange,
        event::DisableBracketedPaste,
        event::DisableMouseCapture,
        terminal::LeaveAlternateScreen,
        ratatui::crossterm::cursor::Show
    );
    let _ = terminal::disable_raw_mode();
}

/// What asks the process to end.
#[cfg(unix)]
struct Signals([tokio::signal::unix::Signal; 2]);

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self([signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let [terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Result<Self, Failure> {
        Ok(Self)
    }

    async fn next(&mut self) {
        pending().await
    }
}
