//! A server that does nothing: what `conclave bench` reaches against it is the bench's own limit.

use std::sync::Arc;
use std::time::Duration;

use conclave_core::wire::v1::{Frame, Path, Payload};
use conclave_core::wire::websocket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError::{Disconnected, Empty};

use super::{BODY, Failure};

/// Deliveries of one write.
const BURST: usize = 256;
const NOBODY: Path<'static> = Path { user: "u", machine: "m", session: "s" };

pub(super) async fn run(address: &str, time: Duration) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).await?;
    let mut delivery = Vec::new();
    let body = "0".repeat(BODY);
    frame(
        &mut delivery,
        &Frame::ChannelMsg { channel: "bench-0123456789ab", from: NOBODY, payload: Payload::Plain(&body) },
    );
    let burst: Arc<[u8]> = delivery.repeat(BURST).into();
    let accept = async {
        while let Ok((stream, _)) = listener.accept().await {
            let burst = burst.clone();
            tokio::spawn(async move {
                // A client that leaves is no failure.
                let _ = serve(stream, burst).await;
            });
        }
    };
    let _ = tokio::time::timeout(time, accept).await;
    Ok(())
}

async fn serve(stream: TcpStream, burst: Arc<[u8]>) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let stream = tokio_tungstenite::accept_async(stream).await?.into_inner();
    let (mut reader, writer) = stream.into_split();
    let (answers, waiting) = mpsc::unbounded_channel();
    tokio::spawn(write(writer, waiting, burst));
    let (mut buffer, mut end) = (vec![0; 64 << 10], 0);
    loop {
        let read = reader.read(&mut buffer[end..]).await?;
        if read == 0 {
            return Ok(());
        }
        end += read;
        let (mut at, mut out, mut joined) = (0, Vec::new(), false);
        // The masks of the bench are zeros.
        while let Some(content) = websocket::content(&buffer[at..end]).filter(|it| it.end <= end - at) {
            match Frame::decode(&buffer[at + content.start..at + content.end])? {
                Frame::Hello { .. } => frame(&mut out, &Frame::Challenge { nonce: &[0; 32] }),
                Frame::Auth { .. } => {
                    frame(&mut out, &Frame::Established { path: NOBODY });
                    frame(&mut out, &Frame::ServerInfo { admin: false });
                }
                Frame::Register { .. } => {}
                Frame::Join { channel, .. } => {
                    frame(&mut out, &Frame::Joined { channel });
                    joined = true;
                }
                _ => frame(&mut out, &Frame::Ack { detail: None }),
            }
            at += content.end;
        }
        buffer.copy_within(at..end, 0);
        end -= at;
        if answers.send((out, joined)).is_err() {
            return Ok(());
        }
    }
}

/// Writes answers first; to whoever has joined, deliveries for as long as they are taken.
async fn write(
    mut writer: OwnedWriteHalf,
    mut waiting: mpsc::UnboundedReceiver<(Vec<u8>, bool)>,
    burst: Arc<[u8]>,
) -> std::io::Result<()> {
    let mut joined = false;
    loop {
        let next = if joined { waiting.try_recv() } else { waiting.recv().await.ok_or(Disconnected) };
        match next {
            Ok((answers, joins)) => {
                writer.write_all(&answers).await?;
                joined |= joins;
            }
            Err(Empty) => writer.write_all(&burst).await?,
            Err(Disconnected) => return Ok(()),
        }
    }
}

/// Appends a frame as a server's WebSocket message.
fn frame(out: &mut Vec<u8>, frame: &Frame<'_>) {
    websocket::append(out, |out| frame.encode(out));
}
