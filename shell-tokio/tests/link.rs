//! Links over real sockets, to a real server in this process.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::path::Path;
use std::time::Duration;

use conclave_core::handshake::Claim;
use conclave_core::key::SecretKey;
use conclave_core::link::{Action, Config, Input, JoinFrom, Refused, RequestId};
use conclave_core::name::{ChannelName, Handle, MachineName, UserName};
use conclave_core::opaque::Opaque;
use conclave_core::payload::Payload;
use conclave_core::protocol::{Admin, Command, Reply, Visibility};
use conclave_shell_tokio::client::{
    self, Credentials, DialError, DialOptions, LinkDriver, Session, SessionError,
};
use conclave_shell_tokio::server::{self, Options, Server, Stop, listen};
use conclave_store::config::ServerUrl;
use conclave_store::journal::{self, Journal};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

async fn server() -> (ServerUrl, Stop) {
    let journal =
        Journal::open(Path::new(""), journal::Options { ephemeral: true, ..Default::default() }).unwrap();
    let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
    let mut options = Options::default();
    options.hub.limits = options.hub.limits.without_rates();
    let server = Server::new(listener, None, journal, options).unwrap();
    let url = format!("ws://{}", server.address().unwrap()).parse().unwrap();
    let stop = Stop::new();
    tokio::spawn(server::run(server, stop.clone()));
    (url, stop)
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn credentials(seed: u8, handle: &str, user: Option<&str>) -> Credentials {
    let claim = user.map(|user| Claim {
        user: UserName::new(user).unwrap(),
        machine: MachineName::new("m").unwrap(),
        invite: None,
    });
    Credentials { key: key(seed), handle: Handle::new(handle).unwrap(), claim }
}

fn link(url: &ServerUrl, seed: u8, handle: &str) -> LinkDriver {
    let handle = Handle::new(handle).unwrap();
    let config = Config { handle, defaulted: false, key: key(seed), seed: [9; 32], newest: None };
    client::link(url.clone(), config, DialOptions::default())
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

async fn wait<T>(link: &mut LinkDriver, find: impl Fn(Action) -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = find(link.next().await) {
                return found;
            }
        }
    };
    timeout(PATIENCE, search).await.expect("in time")
}

#[tokio::test]
async fn a_session_asks_and_is_answered() {
    let (url, _stop) = server().await;
    let options = DialOptions::default();
    let mut session = Session::open(&url, credentials(1, "a", Some("ann")), &options).await.unwrap();
    assert_eq!(session.path().to_string(), "ann/m/a");
    assert!(session.greeting().server_id.is_some() && session.greeting().max_frame.is_some());
    let create = Admin::CreateChannel { name: channel("ops"), visibility: Visibility::Public };
    let done = session.request(&Command::Admin(create.clone())).await.unwrap();
    assert_eq!(done, Reply::Done(Opaque("ops".into())));
    let refused = session.request(&Command::Admin(create)).await.unwrap_err();
    assert!(matches!(refused, SessionError::Refused(_)), "{refused}");
    assert_eq!(session.request(&Command::Ping).await.unwrap(), Reply::Pong, "a refusal ends nothing");
    session.close().await;
    let stranger = Session::open(&url, credentials(2, "a", None), &options).await.err().unwrap();
    assert!(matches!(stranger, SessionError::Handshake(_)), "{stranger}");
}

#[tokio::test]
async fn a_link_whose_owner_keeps_changing_its_mind_loses_nothing() {
    let (url, _stop) = server().await;
    let options = DialOptions::default();
    let mut session = Session::open(&url, credentials(1, "a", Some("ann")), &options).await.unwrap();
    let create = Admin::CreateChannel { name: channel("ops"), visibility: Visibility::Public };
    session.request(&Command::Admin(create)).await.unwrap();
    session.request(&Command::Join { channel: channel("ops"), token: None }).await.unwrap();
    let mut link = link(&url, 1, "b");
    link.input(Input::Join { channel: channel("ops"), token: None, from: JoinFrom::Live });
    wait(&mut link, |action| matches!(action, Action::CaughtUp { .. }).then_some(())).await;

    const COUNT: usize = 300;
    let poster = tokio::spawn(async move {
        for nth in 0..COUNT {
            let payload = Payload::Plain(nth.to_string());
            session.request(&Command::Post { channel: channel("ops"), payload }).await.unwrap();
        }
    });
    let mut heard = Vec::new();
    while heard.len() < COUNT {
        // Cancelled after a poll or two, again and again.
        tokio::select! {
            biased;
            action = link.next() => {
                if let Action::Deliver { payload: Payload::Plain(text), .. } = action {
                    heard.push(text);
                }
            }
            () = tokio::task::yield_now() => {}
        }
    }
    poster.await.unwrap();
    assert_eq!(heard, (0..COUNT).map(|nth| nth.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_request_through_a_link_is_answered_and_the_link_can_be_ended() {
    let (url, _stop) = server().await;
    Session::open(&url, credentials(1, "a", Some("ann")), &DialOptions::default())
        .await
        .unwrap()
        .close()
        .await;
    let mut link = link(&url, 1, "b");
    let deadline = Some(link.now().mono + PATIENCE);
    link.input(Input::Request { id: RequestId(7), command: Command::ListMachines, deadline });
    let machines = wait(&mut link, |action| match action {
        Action::Replied { id: RequestId(7), result: Ok(Reply::Machines(machines)) } => Some(machines),
        _ => None,
    });
    assert_eq!(machines.await.len(), 1);
    link.input(Input::Stop);
    assert!(timeout(Duration::from_millis(50), link.next()).await.is_err(), "nothing comes any more");
}

#[tokio::test]
async fn a_link_tells_why_it_cannot_be() {
    let (url, _stop) = server().await;
    let mut refused = link(&url, 3, "b");
    let refused = wait(&mut refused, |action| match action {
        Action::Refused(refused) => Some(refused),
        _ => None,
    });
    assert!(matches!(refused.await, Refused::Key(_)));

    let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
    let nobody = format!("ws://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let mut link = link(&nobody, 3, "b");
    wait(&mut link, |action| matches!(action, Action::Down(_)).then_some(())).await;
    assert!(matches!(link.dial_error(), Some(DialError::Connect { .. })));
}

#[tokio::test]
async fn a_server_that_stops_says_so_to_its_links() {
    let (url, stop) = server().await;
    Session::open(&url, credentials(1, "a", Some("ann")), &DialOptions::default())
        .await
        .unwrap()
        .close()
        .await;
    let mut link = link(&url, 1, "b");
    wait(&mut link, |action| matches!(action, Action::Up { .. }).then_some(())).await;
    stop.stop();
    let why = wait(&mut link, |action| match action {
        Action::Down(reason) => Some(reason.to_string()),
        _ => None,
    });
    assert!(why.await.contains("shutting down"));
}
