"""A client of conclave: version 2 of the protocol, in JSON. docs/protocol-v2.md describes what it does.

    pip install websockets cryptography
    python client.py ws://127.0.0.1:4390 --user ann --machine m --channel ops --send hello

Prints each message in order: number, sender, signature (signed, unsigned, unknown or FORGED) and text. --state keeps
keys and the position. Only a message that was printed right before a crash may be printed twice.
"""

import argparse, hashlib, json, os, pathlib, secrets, sys, time
from base64 import b64decode, b64encode
from collections import deque
from contextlib import suppress

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

def b64(data):
    return b64encode(data).decode()

def varint(number):
    out = b""
    while number >= 0x80:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])

def field(number, value):
    """A field of protobuf: bytes, a text, or a number. An empty one is left out."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value) if value else b""
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data if data else b""

def encode_body(body):
    """The canonical protobuf encoding of a `Body` that is given as JSON: what signatures cover."""
    if "sealed" in body:
        number, it = 2, body["sealed"]
        inner = field(1, b64decode(it.get("ciphertext", ""))) + field(2, it.get("keyId", ""))
    else:
        number, it = 1, body["content"]
        mentions = b"".join(varint(int(user)) for user in it.get("mentions", []))
        inner = field(1, it.get("mediaType", "")) + field(2, it.get("text", "")) + field(3, int(it.get("replyTo", 0)))
        inner += field(4, mentions) + field(5, it.get("data", ""))
    return varint(number << 3 | 2) + varint(len(inner)) + inner

def new_id():
    """A UUID of version 7: ids that grow with time are found faster."""
    head = time.time_ns() // 1_000_000 << 16 | 7 << 12 | secrets.randbits(12)
    return (head << 64 | 2 << 62 | secrets.randbits(62)).to_bytes(16, "big")

def write(path, text):
    """Replaces a file so that a crash leaves the old one or the new one."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)

def pin(path, text):
    """The file's content, which is `text` the first time and stays that."""
    if not path.exists():
        write(path, text)
    return path.read_text()

class Refused(Exception):
    """An `Error` or a `Goodbye`."""

class Session:
    def __init__(self, args, posts, ws):
        self.args, self.posts, self.ws = args, posts, ws
        self.transcript, self.requests, self.aside = hashlib.sha256(), 0, deque()
        self.position_file = args.state / f"position-{args.channel.encode().hex()}"
        self.position = int(pin(self.position_file, "0"))

    def note(self, side, text):
        """Adds a frame to the transcript, which counts until the session is open."""
        self.transcript.update(bytes([side]) + len(text.encode()).to_bytes(4, "big") + text.encode())
        return text

    def send(self, frame):
        self.ws.send(self.note(0, json.dumps(frame)))

    def receive(self):
        try:
            frame = json.loads(self.note(1, self.ws.recv(timeout=20)))
        except TimeoutError:
            self.request({"ping": {}})
            return self.receive()
        if "goodbye" in frame:
            raise Refused(frame["goodbye"])
        return frame

    def handshake(self, claim):
        self.send({"hello": {"features": 1, "client": "client.py/1", "nonce": b64(secrets.token_bytes(32))}})
        self.server = b64decode(self.receive()["challenge"]["serverKey"])
        signed = b"conclave v2 server handshake\0" + self.transcript.digest()
        proof = b64decode(self.receive()["proof"]["signature"])
        Ed25519PublicKey.from_public_bytes(self.server).verify(proof, signed)
        if pin(self.args.state / "server", b64(self.server)) != b64(self.server):
            sys.exit(f"the server's key has changed to {b64(self.server)}: remove {self.args.state}/server if it may")
        seed = b64decode(pin(self.args.state / "key", b64(secrets.token_bytes(32))))
        seed = HKDF(SHA256(), 32, b"conclave v2 machine key", self.server).derive(seed)
        self.key = Ed25519PrivateKey.from_private_bytes(seed)
        identity = {"machineKey": b64(self.key.public_key().public_bytes_raw()), "handle": "client.py", "keep": True}
        if claim:
            identity["claim"] = {"user": self.args.user, "machine": self.args.machine}
        self.send({"identity": identity})
        signature = self.key.sign(b"conclave v2 client handshake\0" + self.transcript.digest())
        self.send({"proof": {"signature": b64(signature)}})
        write(self.args.state / "user", self.receive()["welcome"]["you"]["user"])

    def request(self, what):
        self.requests += 1
        self.ws.send(json.dumps({"request": {"id": self.requests, **what}}))
        return str(self.requests)

    def ask(self, what):
        number = self.request(what)
        while True:
            frame = self.receive()
            if frame.get("reply", {}).get("id") != number:
                self.aside.append(frame)
            elif "error" in frame["reply"]:
                raise Refused(frame["reply"]["error"])
            else:
                return frame["reply"]

    def to_sign(self, message_id, body):
        place = self.server + int(self.stream).to_bytes(8, "big") + message_id
        return b"conclave v2 message\0" + place + hashlib.sha256(encode_body(body)).digest()

    def post(self, message_id, text):
        body = {"content": {"text": text}}
        signature = b64(self.key.sign(self.to_sign(message_id, body)))
        post = {"stream": {"number": self.stream}, "messageId": b64(message_id), "body": body, "signature": signature}
        return int(self.ask({"post": post})["stored"]["seq"])

    def check(self, message):
        """What the signature says. A machine's name and key are pinned when it is first heard from."""
        sender = message["from"]
        if "signature" not in message:
            return "unsigned"
        file = self.args.state / f"machine-{int(sender['machineId'])}"
        if not file.exists():
            with suppress(Refused):
                for it in self.ask({"keys": {"user": sender["user"]}})["machines"]["machines"]:
                    pin(self.args.state / f"machine-{int(it['id'])}", json.dumps([sender["user"], it["name"], it["key"]]))
        if not file.exists():
            return "unknown"
        user, machine, key = json.loads(file.read_text())
        try:
            signed = self.to_sign(b64decode(message["messageId"]), message["body"])
            Ed25519PublicKey.from_public_bytes(b64decode(key)).verify(b64decode(message["signature"]), signed)
        except InvalidSignature:
            return "FORGED"
        return "signed" if [user, machine] == [sender["user"], sender["machine"]] else "FORGED"

    def deliver(self, messages):
        for message in messages:
            sender, content = message["from"], message["body"].get("content", {})
            if int(message["seq"]) != self.position + 1:
                sys.exit(f"message {self.position + 1} was expected, {message['seq']} came")
            path = "/".join(sender[part] for part in ("user", "machine", "handle"))
            print(message["seq"], path, self.check(message), json.dumps(content.get("text")), sep="\t", flush=True)
            self.position += 1
            write(self.position_file, str(self.position))
        # Only now: the claims are to be true.
        self.ask({"report": {"stream": {"number": self.stream}, "delivered": self.position, "seen": self.position}})

    def run(self):
        subscribe = {"stream": {"channel": self.args.channel}, "after": self.position}
        self.stream = self.ask({"subscribe": subscribe})["subscribed"]["stream"]
        live, last = False, 0
        while not (self.args.exit and live and not self.posts and self.position >= last):
            if live and self.posts:
                # A post stays in the list until it is stored. If the connection is lost, it goes out again as it was.
                last = self.post(*self.posts[0])
                print("stored", last, self.posts.pop(0)[0].hex(), sep="\t", flush=True)
                continue
            frame = self.aside.popleft() if self.aside else self.receive()
            if "deliveries" in frame:
                self.deliver(frame["deliveries"]["messages"])
            elif "gap" in frame:
                print("gap", frame["gap"]["from"], frame["gap"]["to"], sep="\t", flush=True)
                self.position = int(frame["gap"]["to"])
            elif "subscriptionEnded" in frame.get("event", {}):
                sys.exit(f"the subscription ended: {frame['event']['subscriptionEnded']['reason']}")
            live = live or "live" in frame

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    for name in ("--user", "--machine", "--channel"):
        parser.add_argument(name, required=True)
    parser.add_argument("--state", type=pathlib.Path, default="conclave-client")
    parser.add_argument("--send", action="append", default=[], metavar="TEXT")
    parser.add_argument("--message-id", help="32 hexadecimal digits: the id of the first text")
    parser.add_argument("--exit", action="store_true", help="end when all is sent and printed")
    args = parser.parse_args()
    os.umask(0o077)
    args.state.mkdir(parents=True, exist_ok=True)
    posts = [(new_id(), text) for text in args.send]
    if args.message_id:
        posts[0] = (bytes.fromhex(args.message_id), args.send[0])
    while True:
        claim = not (args.state / "user").exists()
        try:
            with connect(args.url, subprotocols=["conclave.v2.json"], max_size=16 << 20, compression=None) as ws:
                session = Session(args, posts, ws)
                session.handshake(claim)
                return session.run()
        except Refused as why:
            if claim and why.args[0].get("code") == "ERROR_CODE_FAILED_PRECONDITION":
                write(args.state / "user", args.user)  # Registered before, but the welcome did not arrive.
            elif why.args[0].get("reason") != "GOODBYE_REASON_SHUTDOWN":
                sys.exit(why.args[0].get("message"))
        except InvalidSignature:
            sys.exit("the server could not prove its key")
        except (ConnectionClosed, OSError) as why:
            print(f"no connection, trying again: {why}", file=sys.stderr, flush=True)
        time.sleep(1)

if __name__ == "__main__":
    main()
