//! What the server's port answers to plain HTTP.

use std::collections::BTreeSet;

use conclave_core::wire::v1::Visibility;

use super::{ServerShell, Test, World, get, http, list};
use crate::client::{Dial, Peer, Socket, post};

pub(super) fn tests<S: ServerShell>() -> Vec<Test> {
    list!["http":
        health_is_ok,
        the_page_says_what_this_is,
        metrics_are_prometheus_text,
        metrics_count_what_happens_and_show_nothing_of_it,
        other_paths_and_methods_are_refused,
        a_head_that_is_too_large_is_refused,
        the_servers_id_is_its_data_directorys,
        several_requests_share_a_connection,
    ]
}

fn health_is_ok<S: ServerShell>() {
    let world = World::<S>::start();
    let health = get(world.address(), "/health");
    assert_eq!((health.status, &*health.body), (200, "ok"));
    let head = http(world.address(), "HEAD /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!((head.status, &*head.body), (200, ""));
}

fn the_page_says_what_this_is<S: ServerShell>() {
    let world = World::<S>::start();
    let page = get(world.address(), "/");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert!(page.body.contains("conclave register --server"), "{}", page.body);
}

/// Checks a page of metrics line by line; gives back the names of its samples.
fn samples(page: &str) -> BTreeSet<String> {
    let (mut families, mut names) = (BTreeSet::new(), BTreeSet::new());
    let name_of = |text: &str| {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
        assert!(!text.is_empty() && text.bytes().all(valid), "{text}");
        assert!(!text.as_bytes()[0].is_ascii_digit(), "{text}");
        text.to_owned()
    };
    let body = page.strip_suffix("# EOF\n").unwrap();
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("HELP"), Some(name), Some(help)) => {
                    assert!(!help.is_empty());
                    name_of(name);
                }
                (Some("TYPE"), Some(name), Some(kind)) => {
                    assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                    assert!(families.insert(name_of(name)), "{name} stands twice");
                }
                (Some("UNIT"), Some(name), Some(unit)) => assert!(name.ends_with(unit), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let _: f64 = value.parse().unwrap();
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let name = name_of(name);
        assert!(families.iter().any(|family| name.starts_with(family)), "{name} has no type");
        for label in labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()) {
            let (label, quoted) = label.split_once('=').unwrap();
            name_of(label);
            assert!(quoted.starts_with('"') && quoted.ends_with('"') && quoted.len() > 1, "{line}");
        }
        names.insert(name);
    }
    names
}

fn metrics_are_prometheus_text<S: ServerShell>() {
    let world = World::<S>::start();
    let before = get(world.address(), "/metrics");
    assert_eq!(before.status, 200);
    let kind = before.header("content-type").unwrap();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    samples(&before.body);
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    ann.post("c", "text");
    let _ = ann.refused(&post("absent", "text"));
    let names = samples(&get(world.address(), "/metrics").body);
    for name in [
        "conclave_sessions",
        "conclave_subscriptions",
        "conclave_users",
        "conclave_channels",
        "conclave_connections",
        "conclave_queue_depth",
        "conclave_posts_total",
        "conclave_deliveries_total",
        "conclave_whispers_total",
        "conclave_refusals_total",
        "conclave_commits_failed_total",
        "conclave_commit_duration_seconds_count",
        "conclave_sent_bytes_total",
        "conclave_received_bytes_total",
    ] {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
}

fn metrics_count_what_happens_and_show_nothing_of_it<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut ann, mut bob) = (world.register("ann-secret"), world.register("bob"));
    ann.create("channel-secret", Visibility::Public);
    bob.join("channel-secret");
    (0..5).for_each(|_| ann.post("channel-secret", "body-secret"));
    assert_eq!(bob.texts(5).len(), 5);
    let token = ann.invite("channel-secret", None, None);
    let _ = bob.refused(&post("absent", "text"));
    assert_eq!(world.metric("conclave_posts_total"), 5.0);
    assert_eq!(world.metric("conclave_deliveries_total"), 5.0);
    assert_eq!(world.metric("conclave_refusals_total{kind=\"not_found\"}"), 1.0);
    assert_eq!(world.metric("conclave_connections{state=\"session\"}"), 2.0);
    let page = get(world.address(), "/metrics").body;
    assert!(!page.contains("secret") && !page.contains(token), "{page}");
}

fn other_paths_and_methods_are_refused<S: ServerShell>() {
    let world = World::<S>::start();
    for path in ["/nothing", "/health/", "/metrics/../x", "//", "/%00", "/index.html"] {
        assert_eq!(get(world.address(), path).status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        let request =
            format!("{method} /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(http(world.address(), &request).status, 405, "{method}");
    }
    let upgrade = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // A WebSocket is at `/` alone.
    assert_ne!(http(world.address(), upgrade).status, 101);
}

fn a_head_that_is_too_large_is_refused<S: ServerShell>() {
    let world = World::<S>::start();
    let long = format!("A: {}\r\n", "x".repeat(20_000));
    for headers in [long, "A: b\r\n".repeat(500)] {
        let request = format!("GET /health HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
        let status = http(world.address(), &request).status;
        // The connection may break before the answer is read: the rest of the head is not taken.
        assert!(status == 431 || status == 0, "{status}");
    }
    assert_eq!(get(world.address(), "/health").status, 200);
}

fn the_servers_id_is_its_data_directorys<S: ServerShell>() {
    let mut world = World::<S>::start();
    let id = |world: &World<S>| {
        let socket = Socket::dial(&Dial::plain(world.address())).unwrap();
        socket.header("x-conclave-server-id").map(str::to_owned).unwrap()
    };
    let first = id(&world);
    assert!(first.len() >= 16 && first.is_ascii(), "{first}");
    assert_eq!(id(&world), first);
    world.restart(|_| {});
    assert_eq!(id(&world), first);
    assert_ne!(id(&World::<S>::start()), first);
}

fn several_requests_share_a_connection<S: ServerShell>() {
    let world = World::<S>::start();
    let one = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = http(world.address(), &format!("{one}{one}{last}"));
    assert_eq!(format!("{}\r\n\r\n{}", answer.head, answer.body).matches("HTTP/1.1 200 OK").count(), 3);
    // And what came with the upgrade is the session's.
    let mut peer = Peer::new(Socket::dial(&Dial::plain(world.address())).unwrap());
    peer.hello("s");
    assert!(peer.prove("ann", "m", &crate::client::key("ann")).is_ok());
}
