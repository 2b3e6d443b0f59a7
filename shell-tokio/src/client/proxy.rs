//! The way through a proxy.

use std::io;

use conclave_store::proxy::Proxy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::error::DialError;

/// Asks the proxy at the other end of `stream` for a connection to `host:port`.
///
/// # Errors
/// [`DialError::Proxy`].
pub(super) async fn tunnel(
    proxy: &Proxy,
    stream: &mut TcpStream,
    host: &str,
    port: u16,
) -> Result<(), DialError> {
    let wrong = |what: String| DialError::Proxy { proxy: proxy.address(), what };
    let broke = |error: io::Error| wrong(format!("ended the connection ({error})"));
    stream.write_all(proxy.request(host, port).as_bytes()).await.map_err(broke)?;
    let mut head = Vec::with_capacity(256);
    loop {
        head.push(stream.read_u8().await.map_err(broke)?);
        if let Some(answer) = Proxy::answer(&head, host, port) {
            return answer.map_err(wrong);
        }
    }
}
