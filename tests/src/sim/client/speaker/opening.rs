//! The handshake of version 2, from its description: who signs what, and over which bytes.

use conclave_core::key;
use sha2::{Digest as _, Sha256};

use super::super::super::notation::{Node, Pen};
use super::super::super::world::World;
use super::super::key as key_of;
use super::Speaker;

/// A handshake that waits for the server's next frame.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    json: bool,
    transcript: Sha256,
    server_key: Option<Vec<u8>>,
    /// Everything is said: the welcome is to come.
    done: bool,
}

impl Opening {
    /// Begins; says the first frame, too.
    pub(super) fn start(json: bool, nonce: &[u8; 32]) -> (Self, Vec<u8>) {
        let hello =
            Pen::new(json).number(1, "features", 1).text(2, "client", "sim/1").bytes(3, "nonce", nonce);
        let hello = Pen::new(json).message(1, "hello", hello).finish();
        let mut opening = Self { json, transcript: Sha256::new(), server_key: None, done: false };
        opening.add(0, &hello);
        (opening, hello)
    }

    fn add(&mut self, side: u8, frame: &[u8]) {
        self.transcript.update([side]);
        self.transcript.update((frame.len() as u32).to_be_bytes());
        self.transcript.update(frame);
    }

    fn signed(&self, context: &str) -> Vec<u8> {
        let mut signed = context.as_bytes().to_vec();
        signed.push(0);
        signed.extend_from_slice(&self.transcript.clone().finalize());
        signed
    }
}

impl Speaker {
    /// Takes a frame of the handshake: true once the session is open.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn open(
        &mut self,
        world: &mut World,
        opening: &mut Opening,
        (kind, node, bytes): (&str, Node<'_>, &[u8]),
    ) -> Result<bool, String> {
        match (kind, &opening.server_key) {
            ("challenge", None) => {
                let server_key = node.bytes(1, "serverKey");
                if node.bytes(2, "nonce").len() != 32 || node.number(3, "features") != 1 {
                    return Err("a challenge without its nonce, or of another level".into());
                }
                if server_key != world.identity.key.public().as_bytes() {
                    return Err("another server's key".into());
                }
                opening.server_key = Some(server_key);
                opening.add(1, bytes);
                Ok(false)
            }
            ("proof", Some(server_key)) if !opening.done => {
                let signed = opening.signed("conclave v2 server handshake");
                if key::verify(server_key, &signed, &node.bytes(1, "signature")).is_none() {
                    return Err("the server did not prove its key".into());
                }
                opening.add(1, bytes);
                let secret = key_of(self.key);
                let identity = Pen::new(opening.json)
                    .bytes(1, "machineKey", secret.public().as_bytes())
                    .text(2, "handle", &self.handle)
                    .flag(4, "keep", self.keep);
                let identity = Pen::new(opening.json).message(2, "identity", identity).finish();
                opening.add(0, &identity);
                let signature = secret.sign(&opening.signed("conclave v2 client handshake"));
                let proof = Pen::new(opening.json).bytes(1, "signature", &signature);
                let proof = Pen::new(opening.json).message(3, "proof", proof).finish();
                opening.done = true;
                if let Some(wire) = self.wire {
                    world.send_up(wire, identity);
                    world.send_up(wire, proof);
                }
                Ok(false)
            }
            ("welcome", _) if opening.done => {
                let you = node.child(1, "you").ok_or("a welcome to nobody")?;
                let path =
                    format!("{}/{}/{}", you.text(1, "user"), you.text(2, "machine"), you.text(3, "handle"));
                // A spare key's machine has another name.
                let user = super::super::super::user(self.user);
                let own = |machine| format!("{user}/{machine}/{}", self.handle);
                if path != own("m") && path != own("spare") {
                    return Err(format!("it is {} and was welcomed as {path}", own("m")));
                }
                self.path = path;
                self.reader = node.number(2, "reader");
                if (node.number(2, "reader") != 0) != self.keep {
                    return Err("it has a reader and did not ask for one, or the other way round".into());
                }
                Ok(true)
            }
            _ => Err(format!("an unexpected {kind} in the handshake")),
        }
    }
}
