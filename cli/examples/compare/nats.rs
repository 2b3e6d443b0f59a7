//! Core NATS under the load of `conclave bench`, over plain TCP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{BODY, Failure, cpu};

pub(super) struct Load {
    pub(super) address: String,
    pub(super) subscribers: usize,
    pub(super) posters: usize,
    pub(super) in_flight: usize,
    pub(super) seconds: u64,
}

pub(super) async fn run(load: Load) -> Result<(), Failure> {
    let delivered = Arc::new(AtomicU64::new(0));
    let posted = Arc::new(AtomicU64::new(0));
    for _ in 0..load.subscribers {
        let mut socket = greeted(&load.address).await?;
        socket.write_all(b"SUB b 1\r\nPING\r\n").await?;
        let delivered = delivered.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 256 << 10];
            // A message is its head, `MSG b 1 128`, and its body, each with a line's end.
            let whole = "MSG b 1 128\r\n".len() + BODY + 2;
            let mut bytes = 0;
            while let Ok(read) = socket.read(&mut buffer).await {
                if read == 0 {
                    break;
                }
                bytes += read;
                delivered.fetch_add((bytes / whole) as u64, Ordering::Relaxed);
                bytes %= whole;
            }
        });
    }
    for _ in 0..load.posters {
        let mut socket = greeted(&load.address).await?;
        let posted = posted.clone();
        let mut batch = Vec::new();
        for _ in 0..load.in_flight {
            batch.extend_from_slice(b"PUB b 128\r\n");
            batch.extend_from_slice(&[b'x'; BODY]);
            batch.extend_from_slice(b"\r\n");
        }
        batch.extend_from_slice(b"PING\r\n");
        tokio::spawn(async move {
            let mut pong = [0; 6];
            while socket.write_all(&batch).await.is_ok() && socket.read_exact(&mut pong).await.is_ok() {
                posted.fetch_add(load.in_flight as u64, Ordering::Relaxed);
            }
        });
    }
    let pid = std::env::var("NATS_PID").unwrap_or_default();
    let stat = format!("/proc/{pid}/stat");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before =
        (Instant::now(), delivered.load(Ordering::Relaxed), posted.load(Ordering::Relaxed), cpu(&stat));
    tokio::time::sleep(Duration::from_secs(load.seconds)).await;
    let elapsed = before.0.elapsed().as_secs_f64();
    let deliveries = delivered.load(Ordering::Relaxed) - before.1;
    let posts = posted.load(Ordering::Relaxed) - before.2;
    println!(
        "{{\"what\":\"nats\",\"subscribers\":{},\"deliveries_per_second\":{:.0},\"posts_per_second\":{:.0},\
         \"server_cpu_per_delivery_us\":{:.4}}}",
        load.subscribers,
        deliveries as f64 / elapsed,
        posts as f64 / elapsed,
        (cpu(&stat) - before.3).as_secs_f64() * 1e6 / deliveries.max(1) as f64,
    );
    Ok(())
}

/// A connection that has read the server's greeting and sent its own.
async fn greeted(address: &str) -> Result<tokio::net::TcpStream, Failure> {
    let mut socket = tokio::net::TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut byte = [0];
    while byte != *b"\n" {
        socket.read_exact(&mut byte).await?;
    }
    socket.write_all(b"CONNECT {\"verbose\":false}\r\n").await?;
    Ok(socket)
}
