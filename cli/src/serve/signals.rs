//! What an operator tells a running server: SIGTERM and Ctrl-C end it, SIGHUP reads the certificate anew. On a terminal
//! SIGHUP ends it: the terminal was closed, and a server that nobody sees any more would hold its port and directory.

#[cfg(unix)]
use std::io::IsTerminal as _;

use conclave_shell_tokio::server::{Stop, Tls};
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(unix)]
use tracing::{error, info, warn};

use super::lines::Lines;

/// The signals, listened to from when this is made.
#[cfg(unix)]
pub(super) struct Signals(Option<Listening>);

#[cfg(unix)]
struct Listening {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Whether there is a terminal; one that was closed since is none.
    on_terminal: bool,
}

#[cfg(unix)]
impl Signals {
    /// Listens, on a runtime: to be done before anyone is told that the server runs.
    pub(super) fn listen() -> Self {
        // Past a limit on file sizes a write fails, and that is enough: the signal would end the server.
        let past_file_size = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
        if let Err(why) = signal(past_file_size) {
            warn!(%why, "a limit on file sizes would end this server");
        }
        let listen = || {
            Ok::<_, std::io::Error>(Listening {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                hangup: signal(SignalKind::hangup())?,
                on_terminal: std::io::stdin().is_terminal() || std::io::stdout().is_terminal(),
            })
        };
        Self(listen().inspect_err(|why| error!(%why, "no signals: end this server by killing it")).ok())
    }

    /// Does what they say.
    pub(super) async fn attend(self, stop: Stop, tls: Option<Tls>, log: Lines) {
        let Some(Listening { mut terminate, mut interrupt, mut hangup, on_terminal }) = self.0 else {
            return;
        };
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => match tls.as_ref().filter(|_| !on_terminal).map(Tls::reload) {
                    _ if on_terminal => break,
                    Some(Ok(())) => info!("the certificate was read anew"),
                    Some(Err(why)) => error!(%why, "the certificate was not read anew: the old one stays"),
                    None => info!("SIGHUP reads the certificate anew, and there is none"),
                },
            }
        }
        stop.stop();
        // A second signal does not wait for the drain.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        warn!("told to stop twice: ending without waiting");
        log.flush();
        std::process::exit(1);
    }
}

/// Ctrl-C, where there is nothing else.
#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(super) fn listen() -> Self {
        Self
    }

    pub(super) async fn attend(self, stop: Stop, _tls: Option<Tls>, _log: Lines) {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.stop();
        }
    }
}
