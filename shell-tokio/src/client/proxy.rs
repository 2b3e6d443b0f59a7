//! The way through a proxy.

use conclave_shell::client::{DialError, Proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

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
    let broke = |error| proxy.broke(&error);
    stream.write_all(proxy.request(host, port).as_bytes()).await.map_err(broke)?;
    let mut head = Vec::with_capacity(256);
    loop {
        head.push(stream.read_u8().await.map_err(broke)?);
        if let Some(answer) = proxy.answer(&head, host, port) {
            return answer;
        }
    }
}
