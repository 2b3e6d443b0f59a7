//! The task of one link: requests of the bridge in, events for it out.

use conclave_core::bridge::{BridgedLink, LinkEvent, Server, Step};
use conclave_core::link::{Action, DownReason, RequestId};
use conclave_core::protocol::Command;
use smol::channel::{Receiver, Sender};
use smol::future::FutureExt as _;

use crate::event::Event;
use crate::link::LinkDriver;

enum Next {
    Action(Action),
    Request(RequestId, Command),
    Over,
}

/// Runs a link until the bridge drops the sender of `requests`.
pub(super) async fn run(
    server: Server,
    mut driver: LinkDriver,
    requests: Receiver<(RequestId, Command)>,
    events: Sender<Event>,
) {
    let mut bridged = BridgedLink::default();
    let mut steps = Vec::new();
    loop {
        // Actions that are there already come first: requests depend on them.
        let next = match driver.pending() {
            Some(action) => Next::Action(action),
            None => {
                let request = async {
                    requests.recv().await.map_or(Next::Over, |(id, command)| Next::Request(id, command))
                };
                let action = async { Next::Action(driver.next().await) };
                request.or(action).await
            }
        };
        match next {
            Next::Action(action) => {
                let action = with_advice(action, &mut driver);
                bridged.action(driver.link(), action, &mut steps);
            }
            Next::Request(id, command) => {
                let now = driver.now().mono;
                bridged.request(now, driver.link(), driver.queued(), id, command, &mut steps);
            }
            Next::Over => return,
        }
        for step in steps.drain(..) {
            match step {
                Step::Input(input) => driver.input(input),
                Step::Event(event) => send(&events, &server, event).await,
            }
        }
    }
}

/// Adds to a failed dial what its reader can do about it.
fn with_advice(action: Action, driver: &mut LinkDriver) -> Action {
    match (action, driver.dial_error()) {
        (Action::Down(DownReason::Dial(text)), Some(error)) => {
            Action::Down(DownReason::Dial(format!("{text}; {}", error.advice())))
        }
        (action, _) => action,
    }
}

async fn send(events: &Sender<Event>, server: &Server, event: LinkEvent) {
    // The receiver is gone when the bridge ends.
    let _ = events.send(Event::Link(server.clone(), event)).await;
}
