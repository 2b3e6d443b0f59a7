//! A piece of network that can be cut: it carries connections to a server, or drops them all.

use std::io;

use conclave_store::config::ServerUrl;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(super) struct Relay {
    /// The server, seen through the relay.
    pub(super) url: ServerUrl,
    whole: watch::Sender<bool>,
}

impl Relay {
    pub(super) async fn start(server: &ServerUrl) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ws://{}", listener.local_addr()?).parse().map_err(io::Error::other)?;
        let whole = watch::Sender::new(true);
        tokio::spawn(accept(listener, server.clone(), whole.subscribe()));
        Ok(Self { url, whole })
    }

    pub(super) fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub(super) fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn accept(listener: TcpListener, server: ServerUrl, whole: watch::Receiver<bool>) {
    while let Ok((client, _)) = listener.accept().await {
        if *whole.borrow() {
            tokio::spawn(carry(client, server.clone(), whole.clone()));
        }
    }
}

async fn carry(mut client: TcpStream, server: ServerUrl, mut whole: watch::Receiver<bool>) {
    let carried = async {
        let mut server = TcpStream::connect((server.host(), server.port())).await?;
        copy_bidirectional(&mut client, &mut server).await
    };
    tokio::select! {
        _ = carried => {}
        _ = whole.wait_for(|whole| !whole) => {}
    }
}
