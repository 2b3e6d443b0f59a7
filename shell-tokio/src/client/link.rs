//! Links on tokio.

use std::pin::Pin;
use std::time::Instant;

use conclave_core::link::{Config, Version};
use conclave_shell::client::{self, DialError, Greeting, Runtime, subprotocol};
use conclave_shell::clock::Clock;
use conclave_store::config::ServerUrl;
use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep_until};
use tokio_tungstenite::WebSocketStream;

use super::dial::{DialOptions, dial};
use super::stream::Stream;

/// A link on tokio.
pub type LinkDriver = client::LinkDriver<Tokio>;

/// A link to the server at `url`. To be made inside a runtime.
pub fn link(url: ServerUrl, config: Config, options: DialOptions) -> LinkDriver {
    LinkDriver::new(Tokio { url, options }, config, Clock::default())
}

/// What a link needs of tokio.
pub struct Tokio {
    url: ServerUrl,
    options: DialOptions,
}

impl Runtime for Tokio {
    type Socket = WebSocketStream<Stream>;
    type Dial = Pin<Box<dyn Future<Output = Result<(Self::Socket, Greeting), DialError>> + Send>>;
    type Sleep = Pin<Box<Sleep>>;

    fn dial(&self, version: Version) -> Self::Dial {
        let (url, mut options) = (self.url.clone(), self.options.clone());
        options.subprotocol = subprotocol(version);
        Box::pin(async move {
            let dialed = dial(&url, &options).await?;
            Ok((dialed.socket, dialed.greeting))
        })
    }

    fn sleep_until(&self, deadline: Instant) -> Self::Sleep {
        Box::pin(sleep_until(deadline.into()))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // A driver may be dropped after its runtime.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(task);
        }
    }
}
