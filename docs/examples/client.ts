/* A client of conclave: version 2 of the protocol, in protobuf. docs/protocol-v2.md describes what it does.

With Node.js 22.18 or newer, in a directory of its own; PROTO stands for the directory `proto` of this project:

    npm init --yes --init-type=module && npm install @bufbuild/protobuf @bufbuild/protoc-gen-es @bufbuild/buf
    npx buf generate PROTO --template '{"version": "v2", "plugins": [{"local": "protoc-gen-es", "out": "."}]}'
    node client.ts ws://127.0.0.1:4390 --user ann --machine m --channel ops --send hello

Prints each message in order: number, sender, signature (signed, unsigned, unknown or FORGED) and text. --state keeps
keys and the position; --exit ends it when all is sent and printed. Only a message that was printed right before a crash
may be printed twice. */

import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import * as crypto from "node:crypto";
import { on } from "node:events";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import * as v2 from "./conclave/v2/conclave_pb.js";

type Kind = v2.ServerFrame["kind"];
type Ask = MessageInitShape<typeof v2.RequestSchema>["what"];
class Refused extends Error {} // By an `Error`.
class Ended extends Error {} // By a `Goodbye`, which is the cause, or without one.
const fail: (why: string) => never = (why) => (console.error(why), process.exit(1));
const one = { type: "string", default: "" } as const;
const options = { user: one, machine: one, channel: one, state: { ...one, default: "conclave-client" },
  send: { type: "string", multiple: true, default: [] as string[] }, exit: { type: "boolean" } } as const;
const { values: args, positionals: [url = ""] } = parseArgs({ allowPositionals: true, options });
const file = (name: string) => `${args.state}/${name}`;
const kept = (name: string) => (existsSync(file(name)) ? readFileSync(file(name), "utf8") : undefined);
/** Replaces a file so that a crash leaves the old one or the new one. */
function write(name: string, content: string) {
  writeFileSync(file(`${name}.new`), content);
  renameSync(file(`${name}.new`), file(name));
}
/** The file's content, which is `content` the first time and stays that. */
const pin = (name: string, content: string) => kept(name) ?? (write(name, content), content);
const b64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");
const big = (number: bigint, bytes: number) => Buffer.from(number.toString(16).padStart(2 * bytes, "0"), "hex");
const der = (head: string, raw: Uint8Array) => Buffer.concat([Buffer.from(head, "hex"), raw]);
const privateKey = (seed: Uint8Array) =>
  crypto.createPrivateKey({ key: der("302e020100300506032b657004220420", seed), format: "der", type: "pkcs8" });
const publicKey = (raw: Uint8Array) =>
  crypto.createPublicKey({ key: der("302a300506032b6570032100", raw), format: "der", type: "spki" });
/** A UUID of version 7: ids that grow with time are found faster. */
const newId = () => big(BigInt(`0x${Date.now().toString(16)}7${crypto.randomUUID().replaceAll("-", "").slice(13)}`), 16);
/** The contents of a field as they were sent: signatures cover these bytes, not a new encoding of them. */
function* contents(message: Uint8Array, field: number) {
  for (const reader = new BinaryReader(message); reader.pos < reader.len; ) {
    const [number, type] = reader.tag();
    if (number === field && type === WireType.LengthDelimited) yield reader.bytes();
    else reader.skip(type, number);
  }
}
class Session {
  transcript = crypto.createHash("sha256"); // Counts until the session is open.
  aside: [Kind, Uint8Array][] = [];
  requests = 0n;
  here = { which: { case: "number" as const, value: 0n } };
  positionFile = `position-${Buffer.from(args.channel).toString("hex")}`;
  position = BigInt(pin(this.positionFile, "0"));
  server!: Uint8Array;
  key?: crypto.KeyObject;
  ws = new WebSocket(url, "conclave.v2");
  frames = on(this.ws as never, "message", { close: ["close"] });
  note(side: number, frame: Uint8Array) {
    this.transcript.update(Buffer.from([side])).update(big(BigInt(frame.length), 4)).update(frame);
  }
  proven = (by: string) => Buffer.concat([Buffer.from(`conclave v2 ${by} handshake\0`), this.transcript.copy().digest()]);
  send(kind: MessageInitShape<typeof v2.ClientFrameSchema>["kind"]) {
    const frame = toBinary(v2.ClientFrameSchema, create(v2.ClientFrameSchema, { kind }));
    this.note(0, frame);
    this.ws.send(frame as BufferSource);
  }
  async receive(): Promise<[Kind, Uint8Array]> {
    const { value, done } = await this.frames.next();
    if (done) throw new Ended("no connection");
    const raw = new Uint8Array(value[0].data);
    this.note(1, raw);
    const { kind } = fromBinary(v2.ServerFrameSchema, raw);
    if (kind.case === "goodbye") throw new Ended(kind.value.message, { cause: kind.value });
    return [kind, raw];
  }
  async handshake(claim: boolean) {
    this.send({ case: "hello", value: { features: 1, client: "client.ts/1", nonce: crypto.randomBytes(32) } });
    this.server = ((await this.receive())[0].value as v2.Challenge).serverKey;
    const signed = this.proven("server");
    const { signature } = (await this.receive())[0].value as v2.Proof;
    if (!crypto.verify(null, signed, publicKey(this.server), signature)) fail("the server could not prove its key");
    if (pin("server", b64(this.server)) !== b64(this.server))
      fail(`the server's key has changed to ${b64(this.server)}: remove ${file("server")} if it may`);
    const secret = Buffer.from(pin("key", b64(crypto.randomBytes(32))), "base64");
    const key = privateKey(Buffer.from(crypto.hkdfSync("sha256", secret, "conclave v2 machine key", this.server, 32)));
    const machineKey = crypto.createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32);
    this.send({ case: "identity", value: { machineKey, handle: "client.ts", keep: true, claim: claim ? args : undefined } });
    this.send({ case: "proof", value: { signature: crypto.sign(null, this.proven("client"), key) } });
    write("user", ((await this.receive())[0].value as v2.Welcome).you!.user);
    this.key = key;
  }
  request = (what: Ask) => this.send({ case: "request", value: { id: ++this.requests, what } });
  async ask(what: Ask) {
    this.request(what);
    for (const id = this.requests; ; ) {
      const [kind, raw] = await this.receive();
      if (kind.case !== "reply") this.aside.push([kind, raw]);
      if (kind.case !== "reply" || kind.value.id !== id) continue; // Another reply is the answer to a ping.
      const reply = kind.value.what;
      if (reply.case === "error") throw new Refused(reply.value.message);
      return reply.value;
    }
  }
  toSign(messageId: Uint8Array, body: Uint8Array) {
    const head = [Buffer.from("conclave v2 message\0"), this.server, big(this.here.which.value, 8), messageId];
    return Buffer.concat([...head, crypto.createHash("sha256").update(body).digest()]);
  }
  async post(messageId: Uint8Array, text: string) {
    const body = create(v2.BodySchema, { kind: { case: "content", value: { text } } });
    const signature = crypto.sign(null, this.toSign(messageId, toBinary(v2.BodySchema, body)), this.key!);
    const stored = await this.ask({ case: "post", value: { stream: this.here, messageId, body, signature } });
    return (stored as v2.Stored).seq;
  }
  /** What the signature says. A machine's name and key are pinned when it is first heard from. */
  async check({ from, messageId, signature }: v2.Delivery, body: Uint8Array) {
    if (signature.length === 0) return "unsigned";
    const { user, machine, machineId } = from!;
    if (!kept(`machine-${machineId}`)) {
      const none = (why: unknown) => (why instanceof Refused ? undefined : Promise.reject(why));
      const list = (await this.ask({ case: "keys", value: { user } }).catch(none)) as v2.MachineList | undefined;
      for (const it of list?.machines ?? []) pin(`machine-${it.id}`, JSON.stringify([user, it.name, b64(it.key)]));
    }
    const [itsUser, itsName, key] = JSON.parse(kept(`machine-${machineId}`) ?? "[]");
    if (!key) return "unknown";
    const signed = crypto.verify(null, this.toSign(messageId, body), publicKey(Buffer.from(key, "base64")), signature);
    return signed && itsUser === user && itsName === machine ? "signed" : "FORGED";
  }
  async deliver(messages: v2.Delivery[], bodies: Uint8Array[]) {
    for (const [nth, message] of messages.entries()) {
      if (message.seq !== this.position + 1n) fail(`message ${this.position + 1n} was expected, ${message.seq} came`);
      const { kind } = fromBinary(v2.BodySchema, bodies[nth]!); // What is printed is what was signed.
      const path = [message.from!.user, message.from!.machine, message.from!.handle].join("/");
      const shown = JSON.stringify(kind.case === "content" ? kind.value.text : null);
      this.print([message.seq, path, await this.check(message, bodies[nth]!), shown], message.seq);
    }
    // Only now: the claims are to be true.
    const value = { stream: this.here, delivered: this.position, seen: this.position };
    await this.ask({ case: "report", value });
  }
  print(line: unknown[], position: bigint) {
    console.log(line.join("\t"));
    write(this.positionFile, String((this.position = position)));
  }
  async run(posts: { id: Buffer; text: string }[]) {
    const stream = { which: { case: "channel", value: args.channel } } as const;
    const value = { stream, from: { case: "after", value: this.position } } as const;
    this.here.which.value = ((await this.ask({ case: "subscribe", value })) as v2.Subscribed).stream;
    for (let live = false, last = 0n; !(args.exit && live && !posts.length && this.position >= last); ) {
      if (live && posts[0]) {
        // A post stays in the list until it is stored. If the connection is lost, it goes out again as it was.
        last = await this.post(posts[0].id, posts[0].text);
        console.log(`stored\t${last}\t${posts.shift()!.id.toString("hex")}`);
        continue;
      }
      const [{ case: name, value }, raw] = this.aside.shift() ?? (await this.receive());
      if (name === "deliveries") {
        const messages = [...contents(raw, 5)].flatMap((frame) => [...contents(frame, 2)]);
        await this.deliver(value.messages, messages.map((it) => [...contents(it, 5)].at(-1) ?? new Uint8Array()));
      } else if (name === "gap") this.print(["gap", value.from, value.to], value.to);
      else if (name === "event" && value.what.case === "subscriptionEnded")
        fail(`the subscription ended: ${v2.EndReason[value.what.value.reason]}`);
      live ||= name === "live";
    }
  }
}
process.umask(0o077);
mkdirSync(args.state, { recursive: true });
const posts = args.send.map((text) => ({ id: newId(), text }));
for (let done = false; !done; done || (await new Promise((then) => setTimeout(then, 1000)))) {
  const [claim, session] = [!kept("user"), new Session()];
  session.ws.binaryType = "arraybuffer";
  const pings = setInterval(() => session.key && session.request({ case: "ping", value: {} }), 20_000);
  try {
    await new Promise((then) => (session.ws.onopen = session.ws.onclose = then));
    if (session.ws.readyState !== WebSocket.OPEN) throw new Ended("no connection");
    if (session.ws.protocol !== "conclave.v2") fail("the server does not speak version 2");
    await session.handshake(claim);
    await session.run(posts);
    done = true;
  } catch (why) {
    if (!(why instanceof Ended)) fail(String(why));
    const { code, reason } = (why.cause ?? {}) as Partial<v2.Goodbye>;
    if (claim && code === v2.ErrorCode.FAILED_PRECONDITION) write("user", args.user); // The welcome did not arrive.
    else if (reason !== undefined && reason !== v2.GoodbyeReason.SHUTDOWN) fail(why.message);
    else console.error(`trying again: ${why.message}`);
  } finally {
    clearInterval(pings);
    session.ws.close();
  }
}
