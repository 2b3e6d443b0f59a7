//! Reading history, page by page.

use std::time::Instant;

use conclave_core::name::ChannelName;
use conclave_core::wire::v1::{AdminOp, Frame, Path, Payload, Visibility};
use serde::Serialize;

use super::host::Host;
use super::peer::{self, ACK, ERROR, Peer, User};
use super::{Args, Latency, bar, histogram};
use crate::{Context, Failure};

/// Posts on their way at once while the history is made.
const WINDOW: usize = 200;

#[derive(Debug, Serialize)]
struct Report {
    rows: usize,
    pages: u64,
    seconds: f64,
    rows_per_second: f64,
    page_us: Latency,
    server_cpu_per_row_us: Option<f64>,
}

/// Makes a history of `rows` messages, unless it is to be one that exists, and reads it.
pub(super) async fn run(
    address: &str,
    rows: usize,
    bench: &Args,
    host: &Host,
    context: &Context,
) -> Result<(), Failure> {
    let user = User::new();
    let channel = bench.of.as_ref().map_or(user.name.as_str(), ChannelName::as_str);
    let mut peer = Peer::connect(address, &user, "first", true).await?;
    if bench.of.is_none() {
        let create = AdminOp::CreateChannel { name: channel, visibility: Visibility::Public };
        peer.request(&Frame::Admin(create), |_| ()).await?;
    }
    peer.request(&Frame::Join { channel, token: None }, |_| ()).await?;
    if bench.of.is_none() {
        fill(&mut peer, channel, rows, bench.size, context).await?;
    }

    let mut latencies = histogram();
    let progress = bar(context, rows as u64, "{bar:40} {pos}/{len} rows read");
    let (start, cpu) = (Instant::now(), host.cpu());
    let (mut since_ms, mut read, mut pages) = (0, 0, 0);
    while read < rows {
        let asked = Instant::now();
        let request = Frame::ReadSince { channel, since_ms };
        let (count, last) = peer
            .request(&request, |reply| match reply {
                Frame::History { messages, .. } => (messages.len(), messages.last().map(|it| it.ts_ms)),
                _ => (0, None),
            })
            .await?;
        let Some(last) = last else { break };
        latencies.saturating_record(asked.elapsed().as_micros() as u64);
        (since_ms, read, pages) = (last, read + count, pages + 1);
        progress.set_position(read as u64);
    }
    let seconds = start.elapsed().as_secs_f64();
    progress.finish_and_clear();
    let used = host.cpu().zip(cpu).map(|(after, before)| (after - before).as_secs_f64());
    let report = Report {
        rows: read,
        pages,
        seconds,
        rows_per_second: read as f64 / seconds,
        page_us: Latency::of(&latencies),
        server_cpu_per_row_us: used.map(|used| used * 1e6 / read.max(1) as f64),
    };
    let shown = format!(
        "history       {:>12.0} rows/s   {} rows in {} pages, a page: {}",
        report.rows_per_second, report.rows, report.pages, report.page_us,
    );
    context.output.result(shown, &report)?;
    if bench.of.is_none() && read != rows {
        return Err(Failure::new(format!("{rows} messages were acknowledged and {read} read back"), ""));
    }
    Ok(())
}

async fn fill(
    peer: &mut Peer,
    channel: &str,
    rows: usize,
    size: usize,
    context: &Context,
) -> Result<(), Failure> {
    let progress = bar(context, rows as u64, "{bar:40} {pos}/{len} rows posted");
    let body = "x".repeat(size);
    let nobody = Path { user: "", machine: "", session: "" };
    let mut post = Vec::new();
    peer::append(&mut post, &Frame::ChannelMsg { channel, from: nobody, payload: Payload::Plain(&body) });
    let lost = |why| Failure::new(format!("the connection was lost: {why}"), "look at the server's log");
    let (mut sent, mut acked) = (0, 0);
    while acked < rows {
        let more = (rows - sent).min(WINDOW - (sent - acked));
        peer.write(&post.repeat(more)).await.map_err(lost)?;
        sent += more;
        peer.fill().await.map_err(lost)?;
        let mut refused = false;
        peer.drain(|message| match message.first() {
            Some(&ACK) => acked += 1,
            Some(&ERROR) => refused = true,
            _ => {}
        });
        if refused {
            return Err(Failure::new("the server refused a post", "start it with --limit all=off"));
        }
        progress.set_position(acked as u64);
    }
    progress.finish_and_clear();
    Ok(())
}
