//! The conformance suite: what a shell's server and client must do, over real sockets and real files.
//!
//! A shell implements [`ServerShell`], [`ClientShell`] or both, and stands once in `tests/tests/conformance.rs`.

mod abuse;
mod bounds;
mod channels;
mod events;
mod http;
mod identity;
mod links;
mod mailboxes;
mod membership;
mod messages;
mod operation;
mod positions;
mod rates;
mod sealed;
mod shell;
mod smol;
mod streams;
mod tokio;
mod world;

pub use shell::{ClientShell, Options, RunningLink, RunningServer, ServerShell, Version2, Word};
pub use smol::Smol;
pub use tokio::Tokio;
pub use world::{Response, World, get, http, metric};

/// A test: its module, its name, and what it runs.
pub type Test = (&'static str, &'static str, fn());

/// Lists a module's tests for a shell `S`, and for a client `C` where there is one.
macro_rules! list {
    ($module:literal: $($name:ident),* $(,)?) => {
        vec![$(($module, stringify!($name), $name::<S> as fn())),*]
    };
    (links $module:literal: $($name:ident),* $(,)?) => {
        vec![$(($module, stringify!($name), $name::<S, C> as fn())),*]
    };
}
use list;

/// What every server must pass.
pub fn server_tests<S: ServerShell>() -> Vec<Test> {
    [
        identity::tests::<S>(),
        channels::tests::<S>(),
        membership::tests::<S>(),
        messages::tests::<S>(),
        rates::tests::<S>(),
        bounds::tests::<S>(),
        abuse::tests::<S>(),
        http::tests::<S>(),
        operation::tests::<S>(),
        streams::tests::<S>(),
        mailboxes::tests::<S>(),
        sealed::tests::<S>(),
        events::tests::<S>(),
    ]
    .concat()
}

/// What every pair of a server and a client must pass.
pub fn link_tests<S: ServerShell, C: ClientShell>() -> Vec<Test> {
    let of_version_2 = if C::newest().is_some() { positions::tests::<S, C>() } else { Vec::new() };
    [links::tests::<S, C>(), of_version_2].concat()
}
