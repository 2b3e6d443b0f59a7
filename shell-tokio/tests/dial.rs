//! Dialing real sockets: every way in which a server can fail to be one is told apart.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conclave_shell_tokio::client::{CertificateFault, DialError, DialOptions, Stage, dial};
use conclave_store::config::ServerUrl;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// A listener, and what it does with the first connection.
async fn server<F: Future<Output = ()> + Send>(serve: impl FnOnce(TcpStream) -> F + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream).await;
    });
    port
}

fn url(text: &str) -> ServerUrl {
    text.parse().unwrap()
}

fn options(millis: u64) -> DialOptions {
    DialOptions { timeout: Duration::from_millis(millis), ca: None, subprotocol: None }
}

#[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
async fn websocket(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let named = |_: &Request, mut response: Response| {
        response.headers_mut().insert("x-conclave-server-id", "the-id".parse().unwrap());
        Ok(response)
    };
    let _ = accept_hdr_async(stream, named).await;
}

#[tokio::test]
async fn a_server_is_reached_and_tells_its_id() {
    let port = server(websocket).await;
    let dialed = dial(&url(&format!("ws://127.0.0.1:{port}")), &options(5000)).await.unwrap();
    assert_eq!(dialed.greeting.server_id.as_deref(), Some("the-id"));
    assert_eq!(dialed.route.peer.unwrap().port(), port);
}

#[tokio::test]
async fn nobody_there_is_told_with_what_to_check() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = dial(&url(&format!("ws://127.0.0.1:{port}")), &options(5000)).await.err().unwrap();
    assert!(matches!(error, DialError::Connect { .. }), "{error}");
    assert!(error.advice().contains("conclave serve"));
}

#[tokio::test]
async fn an_unknown_host_is_told() {
    let error = dial(&url("ws://no-such-host.invalid"), &options(5000)).await.err().unwrap();
    let told = matches!(error, DialError::Resolve { .. } | DialError::Timeout { stage: Stage::Resolve, .. });
    assert!(told, "{error}");
}

#[tokio::test]
async fn a_server_that_never_answers_meets_the_deadline() {
    let start = Instant::now();
    for scheme in ["ws", "wss"] {
        let port = server(|stream| async move {
            let _stream = stream;
            std::future::pending().await
        })
        .await;
        let error = dial(&url(&format!("{scheme}://127.0.0.1:{port}")), &options(150)).await.err().unwrap();
        let stage = if scheme == "ws" { Stage::WebSocket } else { Stage::Tls };
        assert!(matches!(error, DialError::Timeout { stage: at, .. } if at == stage), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn what_is_no_conclave_server_is_told() {
    for answer in
        ["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "220 smtp\r\n", ""]
    {
        let port = server(move |mut stream| async move {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        })
        .await;
        let error = dial(&url(&format!("ws://127.0.0.1:{port}")), &options(5000)).await.err().unwrap();
        assert!(matches!(error, DialError::WebSocket { .. }), "{answer}: {error}");
        assert!(!error.to_string().contains('\n'));
    }
}

#[tokio::test]
async fn a_server_that_takes_no_more_connections_is_told_in_its_own_words() {
    let port = server(|mut stream| async move {
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await;
        let answer = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 9\r\n\r\ntoo \x1bmany";
        let _ = stream.write_all(answer).await;
    })
    .await;
    let error = dial(&url(&format!("ws://127.0.0.1:{port}")), &options(5000)).await.err().unwrap();
    assert!(error.to_string().contains("for now: too \\u{1b}many"), "{error}");
    assert!(error.advice().contains("wait"), "{error}");
}

struct Issued {
    chain: String,
    acceptor: TlsAcceptor,
}

fn issue(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
    let key = KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    change(&mut params);
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    Issued { chain: certificate.pem(), acceptor: TlsAcceptor::from(Arc::new(config)) }
}

async fn dial_tls(issued: &Issued, trusted: bool) -> Result<(), DialError> {
    let acceptor = issued.acceptor.clone();
    let port = server(|stream| async move {
        if let Ok(stream) = acceptor.accept(stream).await {
            websocket(stream).await;
        }
    })
    .await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(issued.chain.as_bytes()).unwrap();
    let ca = trusted.then(|| file.path().to_owned());
    let dialed = dial(&url(&format!("wss://localhost:{port}")), &DialOptions { ca, ..options(5000) }).await?;
    assert!(dialed.route.tls.is_some());
    Ok(())
}

fn fault(result: Result<(), DialError>) -> CertificateFault {
    match result {
        Err(DialError::Certificate { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_is_accepted_or_refused_for_its_reason() {
    let good = issue(&["localhost"], |_| ());
    dial_tls(&good, true).await.unwrap();
    assert_eq!(fault(dial_tls(&good, false).await), CertificateFault::Issuer);

    let other = issue(&["elsewhere.example"], |_| ());
    assert_eq!(fault(dial_tls(&other, true).await), CertificateFault::Name);

    let old = issue(&["localhost"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    assert_eq!(fault(dial_tls(&old, true).await), CertificateFault::Expired);

    let young = issue(&["localhost"], |params| params.not_before = rcgen::date_time_ymd(4000, 1, 1));
    assert_eq!(fault(dial_tls(&young, true).await), CertificateFault::Early);
}

#[tokio::test]
async fn tls_with_a_server_that_has_none_is_told() {
    let port = server(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    let error = dial(&url(&format!("wss://127.0.0.1:{port}")), &options(5000)).await.err().unwrap();
    assert!(matches!(error, DialError::Tls { .. }), "{error}");
    assert!(error.advice().contains("ws://"));
}

#[tokio::test]
async fn a_file_without_certificates_is_refused() {
    for content in ["", "no certificate", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let options = DialOptions { ca: Some(file.path().into()), ..options(5000) };
        let error = dial(&url("wss://127.0.0.1:1"), &options).await.err().unwrap();
        assert!(matches!(error, DialError::Roots { .. }), "{content}: {error}");
    }
}
