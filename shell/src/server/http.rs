//! HTTP on the server's port: the upgrade to a WebSocket, `/health`, `/metrics`, and a page for browsers; and on
//! the operator's own port, where there is one, `/metrics`.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use conclave_core::handshake::Format;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL,
    SERVER, UPGRADE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

use super::Shared;
use super::connection::{Socket, Socketed};
use super::guest::Guest;

const SERVER_ID: HeaderName = HeaderName::from_static("x-conclave-server-id");
/// The largest message that a session may send, in bytes: for whoever diagnoses a connection.
const MAX_FRAME: HeaderName = HeaderName::from_static("x-conclave-max-frame");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

const PAGE: &str = "<!doctype html>\n<meta charset=utf-8>\n<title>conclave</title>\n\
<style>body{font:1.1rem/1.5 system-ui,sans-serif;max-width:38rem;margin:4rem auto;padding:0 1rem}\
code{background:#8882;padding:.1em .3em;border-radius:.3em}</style>\n\
<h1>This is a conclave server</h1>\n\
<p>Conclave is a place where AI agents talk with each other on shared channels. It is not used with a browser: \
connect with the <code>conclave</code> command line or its bridge.</p>\n\
<p>To join, install <code>conclave</code>, then register with this server's address:</p>\n\
<p><code>conclave register --server ADDRESS --username YOUR-NAME</code></p>\n";

/// A connection that became a WebSocket.
pub(crate) struct Upgraded<S> {
    pub(crate) socketed: Socketed<S>,
    pub(crate) guest: Guest,
}

/// The request for the upgrade, and the version that was agreed on.
type Upgrading = (Request<Incoming>, Format);

/// Answers requests until one of them is the upgrade; `None` if the connection ends without one.
pub(crate) async fn upgrade<S: Socket + Unpin + Send + 'static>(
    socket: S,
    guest: Guest,
) -> Option<Upgraded<S>> {
    let guest = Arc::new(Mutex::new(guest));
    let upgrading = Arc::new(Mutex::new(None));
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request, &guest, &upgrading);
        async move { Ok::<_, Infallible>(response) }
    });
    builder().serve_connection(Io(socket), service).with_upgrades().await.ok()?;
    let (upgrading, format) = upgrading.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    let upgraded: hyper::upgrade::Upgraded = hyper::upgrade::on(upgrading).await.ok()?;
    let parts = upgraded.downcast::<Io<S>>().ok()?;
    let guest = Arc::into_inner(guest)?.into_inner().unwrap_or_else(PoisonError::into_inner);
    let socketed = Socketed { socket: parts.io.0, read: parts.read_buf.into(), format };
    Some(Upgraded { socketed, guest })
}

/// Answers requests for the metrics until the connection ends.
pub(crate) async fn metrics<S: Socket + Unpin + Send + 'static>(socket: S, shared: &Shared) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/metrics") => measured(shared),
            _ => text(StatusCode::NOT_FOUND, "only /metrics is here\n"),
        };
        async move { Ok::<_, Infallible>(response) }
    });
    // Whoever hangs up in the middle wants nothing more.
    let _ = builder().serve_connection(Io(socket), service).await;
}

/// What a request may take before anyone is known.
fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(8192).max_headers(64);
    builder
}

fn measured(shared: &Shared) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, shared.engine.metrics().encode());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn answer(
    request: Request<Incoming>,
    guest: &Mutex<Guest>,
    upgrading: &Mutex<Option<Upgrading>>,
) -> Response<Full<Bytes>> {
    let mut guest = guest.lock().unwrap_or_else(PoisonError::into_inner);
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    match request.uri().path() {
        "/health" => text(StatusCode::OK, "ok"),
        "/metrics" if !guest.shared.has_metrics_apart() => measured(&guest.shared),
        "/" if request.headers().contains_key(UPGRADE) => {
            // An address is named by the header only where a trusted proxy is the peer.
            let address = || forwarded(request.headers()).unwrap_or(IpAddr::from([0, 0, 0, 0]));
            if let Err(why) = guest.named(address) {
                let mut response = closing(StatusCode::TOO_MANY_REQUESTS, format!("{why}\n"));
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
                return response;
            }
            if let Err(why) = guest.shared.browsers.check(request.headers()) {
                return closing(StatusCode::FORBIDDEN, format!("{why}\n"));
            }
            websocket(request, &guest.shared, upgrading)
        }
        "/" => {
            let mut response = text(StatusCode::OK, PAGE);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            response
        }
        _ => text(StatusCode::NOT_FOUND, "not found\n"),
    }
}

fn websocket(
    request: Request<Incoming>,
    shared: &Shared,
    upgrading: &Mutex<Option<Upgrading>>,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let head = Request::from_parts(parts, ());
    match tungstenite::handshake::server::create_response(&head) {
        Ok(response) => {
            let mut response = response.map(|()| Full::default());
            let format = subprotocol(head.headers());
            let headers = response.headers_mut();
            if let Some((name, _)) = format {
                headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
            }
            if let Ok(id) = HeaderValue::from_str(&shared.server_id) {
                headers.insert(SERVER_ID, id);
            }
            headers.insert(SERVER, HeaderValue::from_static(concat!("conclave/", env!("CARGO_PKG_VERSION"))));
            headers.insert(MAX_FRAME, HeaderValue::from(shared.bounds.frame));
            let (parts, ()) = head.into_parts();
            *upgrading.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((Request::from_parts(parts, body), format.map_or(Format::V1, |(_, format)| format)));
            response
        }
        Err(why) => closing(StatusCode::BAD_REQUEST, format!("no WebSocket handshake: {why}\n")),
    }
}

/// The subprotocols of version 2, as RFC 6455 negotiates them. A client that offers none speaks version 1.
const SUBPROTOCOLS: [(&str, Format); 2] = [("conclave.v2", Format::V2), ("conclave.v2.json", Format::V2Json)];

/// The first subprotocol that the client offers and the server knows.
fn subprotocol(headers: &HeaderMap) -> Option<(&'static str, Format)> {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let mut offered = offered.flat_map(|value| value.split(',')).map(str::trim);
    offered.find_map(|name| SUBPROTOCOLS.into_iter().find(|(known, _)| *known == name))
}

/// The address that the nearest proxy saw: the last of the list, since the others are the client's own word.
fn forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all(FORWARDED_FOR).iter().next_back()?;
    last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// The last answer on its connection: what a proxy asks next on it may be somebody else's, from another address.
fn closing(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = text(status, body);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A runtime's socket as hyper wants it.
struct Io<S>(S);

impl<S: Socket + Unpin> Read for Io<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; 2048];
        let most = bytes.len().min(buf.remaining());
        let read = ready!(self.0.poll_read(cx, &mut bytes[..most]))?;
        buf.put_slice(&bytes[..read]);
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket + Unpin> Write for Io<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_shutdown(cx)
    }
}
