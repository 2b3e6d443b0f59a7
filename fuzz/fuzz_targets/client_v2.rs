//! A client of version 2 whose session is open, whatever the server sends, in either encoding: each request is answered
//! once, and by nothing that was not asked. The first byte chooses the encoding.

#![no_main]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use conclave_core::key::SecretKey;
use conclave_core::name::{ChannelName, Handle};
use conclave_core::protocol::Command;
use conclave_core::stream::{Start, StreamCommand, StreamRef};
use conclave_core::wire::client::{Client, Credentials, Event, KeyUse, RequestNumber, Session};
use conclave_core::wire::v2::encoding::Encoding;
use conclave_core::wire::v2::handshake::{Handshake, ServerIdentity, Step};
use conclave_core::wire::v2::schema::{self, reply, server_frame};
use libfuzzer_sys::fuzz_target;

mod parts;

static OPEN: LazyLock<[Client; 2]> = LazyLock::new(|| [open(Encoding::Protobuf), open(Encoding::Json)]);

fn open(encoding: Encoding) -> Client {
    let server = ServerIdentity {
        key: SecretKey::from_seed(&[9; 32]),
        name: "fuzzed",
        frame_bytes: 1 << 20,
        posts_per_second: 0,
        post_bytes_per_second: 0,
        retention_ms: 0,
    };
    let credentials = Credentials {
        key: SecretKey::from_seed(&[7; 32]),
        handle: Handle::new("s").expect("a handle"),
        claim: None,
    };
    let session = Session { nonce: [3; 32], pinned: None, key: KeyUse::PerServer, keep: true };
    let mut sent = Vec::new();
    let mut client = Client::start_v2(encoding, credentials, session, |frame| sent.push(frame));
    let Step::Continue { send, .. } = Handshake::new(server.into(), encoding, [8; 32]).on_frame(&sent[0])
    else {
        panic!("a hello");
    };
    send.iter().for_each(|frame| assert!(client.on_message(frame, |_| {}).is_none()));
    let you = Some(schema::Participant {
        user: "u".into(),
        machine: "m".into(),
        handle: "s".into(),
        ..Default::default()
    });
    let welcome = schema::Welcome { you, ..Default::default() };
    let welcome = encoding.encode_server(server_frame::Kind::Welcome(welcome));
    assert!(matches!(client.on_message(&welcome, |_| {}), Some(Event::Established(_))));
    client
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, mut input)) = input.split_first() else { return };
    let nth = usize::from(choice % 2);
    let encoding = [Encoding::Protobuf, Encoding::Json][nth];
    let (mut client, mut asked, mut last) = (OPEN[nth].clone(), BTreeSet::new(), 0);
    while let Some((kind, content)) = parts::next(&mut input) {
        let event = match kind % 8 {
            0 | 1 => {
                last += 1;
                let number = RequestNumber(last);
                asked.insert(number);
                let stream = StreamRef::Channel(ChannelName::new("c").expect("a name"));
                let command = match kind / 8 % 5 {
                    0 => Command::Ping,
                    1 => Command::Stream(StreamCommand::Subscribe {
                        stream,
                        from: Start::After(1),
                        invite: None,
                    }),
                    2 => Command::Stream(StreamCommand::Receipts { stream, seq: 1 }),
                    3 => Command::ListChannels,
                    // Version 2 has no such request: it is answered at once.
                    _ => Command::Join { channel: ChannelName::new("c").expect("a name"), token: None },
                };
                client.request(number, &command, |frame| assert!(encoding.decode_client(&frame).is_ok()))
            }
            2 => {
                // A reply to something that is asked, of a kind that may be wrong.
                let id = asked.iter().nth(usize::from(kind / 8) % asked.len().max(1)).map_or(0, |it| it.0);
                let what = match content.len() % 4 {
                    0 => reply::What::Done(schema::Done {}),
                    1 => reply::What::Error(schema::Error { code: i32::from(kind), ..Default::default() }),
                    2 => reply::What::Subscribed(schema::Subscribed::default()),
                    _ => reply::What::Receipts(schema::ReceiptList::default()),
                };
                let reply = schema::Reply { id, what: Some(what) };
                client.on_message(&encoding.encode_server(server_frame::Kind::Reply(reply)), |_| {})
            }
            _ => client.on_message(content, |_| panic!("an open session answers nothing by itself")),
        };
        match event {
            Some(Event::Reply { request, .. }) => assert!(asked.remove(&request), "answered twice"),
            Some(Event::Ended { .. } | Event::Violation(_)) => return,
            Some(Event::Established(_) | Event::HandshakeFailed(_)) => panic!("it is established"),
            _ => {}
        }
    }
});
