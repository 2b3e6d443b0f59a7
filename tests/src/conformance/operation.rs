//! Starting, stopping, and certificates.

use std::fs;
use std::thread;

use conclave_core::wire::v1::{Frame, ProtocolError, Visibility};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::CertificateDer;

use super::shell::{Options, RunningServer};
use super::{ServerShell, Test, World, list};
use crate::client::{Dial, Peer, Socket, post, why};

pub(super) fn tests<S: ServerShell>() -> Vec<Test> {
    list!["operation":
        a_drain_answers_every_accepted_post_and_tells_everyone,
        a_drain_takes_no_new_connections,
        a_directory_is_one_servers,
        tls_is_served_and_its_certificate_reloaded,
    ]
}

fn a_drain_answers_every_accepted_post_and_tells_everyone<S: ServerShell>() {
    let mut world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    let posters: Vec<_> = (0..4)
        .map(|nth| {
            let mut poster = world.register(&format!("poster{nth}"));
            poster.join("c");
            thread::spawn(move || {
                let (mut sent, mut acknowledged) = (0, 0);
                loop {
                    for _ in 0..20 {
                        poster.send(&post("c", &format!("{nth} {sent}")));
                        sent += 1;
                    }
                    for _ in 0..20 {
                        match poster.next() {
                            Some(Frame::Ack { .. }) => acknowledged += 1,
                            Some(Frame::ChannelMsg { .. }) => {}
                            // Refused while draining, or the last word.
                            Some(Frame::Error(ProtocolError::Unauthorized(why))) => {
                                assert_eq!(why, "server shutting down");
                            }
                            None => return (nth, acknowledged),
                            Some(other) => panic!("{other:?}"),
                        }
                    }
                }
            })
        })
        .collect();
    // In the middle of it.
    ann.texts(500);
    world.server().begin_stop();
    let last = ann.last_word();
    assert!(matches!(last, ProtocolError::Unauthorized(_)));
    assert_eq!(why(&last), "server shutting down");
    let acknowledged: Vec<(i32, usize)> = posters.into_iter().map(|poster| poster.join().unwrap()).collect();
    world.restart(|_| {});
    let mut ann = world.connect("ann", "s");
    ann.join("c");
    let kept = ann.history_texts("c");
    for (nth, acknowledged) in acknowledged {
        let own = format!("{nth} ");
        let own = kept.iter().filter(|text| text.starts_with(&own)).count();
        // Every post that was kept was acknowledged, too: that is what accepting means.
        assert_eq!(own, acknowledged, "of poster {nth}");
    }
}

fn a_drain_takes_no_new_connections<S: ServerShell>() {
    let mut world = World::<S>::start();
    let mut ann = world.register("ann");
    let address = world.address();
    world.server().begin_stop();
    assert_eq!(why(&ann.last_word()), "server shutting down");
    world.stop();
    assert!(Socket::dial(&Dial::plain(address)).is_err());
}

fn a_directory_is_one_servers<S: ServerShell>() {
    let mut world = World::<S>::start();
    let refused = RunningServer::start::<S>(world.dir(), Options::default()).err();
    assert!(refused.as_deref().is_some_and(|why| why.contains("in use")), "{refused:?}");
    assert!(world.register("ann").is_alive());
    world.restart(|_| {});
    assert!(world.connect("ann", "s").is_alive());
}

fn tls_is_served_and_its_certificate_reloaded<S: ServerShell>() {
    let files = tempfile::tempdir().unwrap();
    let (certificate, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    let renew = || -> CertificateDer<'static> {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(&certificate, cert.pem()).unwrap();
        fs::write(&key, signing_key.serialize_pem()).unwrap();
        cert.der().clone()
    };
    let first = renew();
    let world = World::<S>::with(|options| options.tls = Some((certificate.clone(), key.clone())));
    let mut ann = Peer::new(Socket::dial(&Dial::tls(world.address(), first.clone())).unwrap());
    ann.hello("s");
    assert!(ann.prove("ann", "m", &crate::client::key("ann")).is_ok());
    ann.create("c", Visibility::Public);
    let second = renew();
    // Not before it is told to.
    assert!(Socket::dial(&Dial::tls(world.address(), first.clone())).is_ok());
    world.server().reload_tls();
    assert!(Socket::dial(&Dial::tls(world.address(), first)).is_err());
    let mut bob = Peer::new(Socket::dial(&Dial::tls(world.address(), second)).unwrap());
    bob.hello("s");
    assert!(bob.prove("bob", "m", &crate::client::key("bob")).is_ok());
    bob.join("c");
    // Who was connected stays so; large things pass both ways.
    let large = "x".repeat(900_000);
    ann.post("c", &large);
    assert!(bob.texts(1) == [&large]);
    assert!(bob.history_texts("c") == [&large]);
    // Plain text gets nothing.
    assert!(Socket::dial(&Dial::plain(world.address())).is_err());
}
