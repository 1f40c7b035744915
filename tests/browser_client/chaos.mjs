/**
 * People use the browser client while everything goes wrong; prints what they were promised.
 *
 * Takes one argument, JSON: `{url, secret, seed, seconds, topics, windowMs}`.
 */

import { createHmac } from "node:crypto";
import { ChatClient } from "./client.js";
import { Faults, faultyWebSocket, generator } from "./faulty_socket.mjs";

const { url, secret, seed, seconds, topics, windowMs } = JSON.parse(process.argv[2]);
const SETTLE_MS = 60_000;

const random = generator(seed);
const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));
const reports = [];
console.error = (error) => reports.push(error);

/** A network that changes makes the client hurry, so that more happens in a round. */
const network = new EventTarget();
globalThis.addEventListener = network.addEventListener.bind(network);
globalThis.removeEventListener = network.removeEventListener.bind(network);

async function flap() {
  while (!healthy) {
    await sleep(random.between(300, 1_200));
    network.dispatchEvent(new Event(random.pick(["online", "online", "offline"])));
  }
}

// Tokens ---------------------------------------------------------------------------------------

const ALLOWED = { subscribe: ["**"], publish: ["room:**", "quiet:**"], history: ["room:**"] };

function mint(sub, ttlSeconds) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const iat = Math.floor(Date.now() / 1000);
  const claims = { sub, iat, exp: iat + ttlSeconds, topics: ALLOWED };
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

const tokens = { calls: 0, failed: 0, hung: 0, stale: 0 };
let healthy = false;

/** A token function as they are: mostly good, sometimes slow, stale, failing or hanging. */
async function aliceToken() {
  tokens.calls += 1;
  if (healthy) return mint("alice", 6);
  if (random.chance(0.04) && (tokens.hung += 1)) return new Promise(() => {});
  await sleep(random.between(0, 800));
  if (random.chance(0.1) && (tokens.failed += 1)) throw new Error("the issuer is away");
  if (random.chance(0.05) && (tokens.stale += 1)) return mint("alice", -10);
  return mint("alice", Math.ceil(random.between(2, 6)));
}

// Callbacks ------------------------------------------------------------------------------------

let thrown = 0;

/** Note what a callback is told, and throw every now and then. */
function careless(note) {
  return (...values) => {
    note(...values);
    if (!healthy && random.chance(0.1)) throw new Error(`thrown ${(thrown += 1)}`);
  };
}

const states = {};
const faults = new Faults(random, windowMs * 1.1);
const alice = new ChatClient({
  url,
  token: aliceToken,
  tokenTimeoutMs: 1_500,
  WebSocket: faultyWebSocket(faults),
  onState: careless((state) => (states[state] = (states[state] ?? 0) + 1)),
});
const calm = new Faults(random, 0);
calm.active = false;
const bob = new ChatClient({
  url,
  token: () => mint("bob", 60),
  WebSocket: faultyWebSocket(calm),
});

// Subscriptions --------------------------------------------------------------------------------

const seen = {};
const ended = [];
const rooms = Array.from({ length: topics }, (_, number) => `room:${number}`);

function subscribe(topic) {
  const events = (seen[topic] = []);
  return alice.subscribe(topic, {
    last: 1,
    onEvent: careless(({ type, seq, first, target, epoch, after, before, data }) =>
      events.push({ type, seq, first, target, epoch, after, before, data }),
    ),
    onError: careless(({ code }) => ended.push({ topic, code })),
  });
}

const subscriptions = new Map(rooms.map((topic) => [topic, subscribe(topic)]));

/** Leave rooms and join them again; those that are written to are kept. */
async function wander() {
  while (!healthy) {
    await sleep(random.between(50, 400));
    const topic = random.pick(rooms.slice(WRITTEN.length));
    alice.unsubscribe(subscriptions.get(topic));
    if (random.chance(0.5)) await sleep(random.between(0, 200));
    subscriptions.set(topic, subscribe(topic));
  }
}

// Publications ---------------------------------------------------------------------------------

const WRITTEN = ["room:0", "room:1", "room:2", "quiet:0"];
const publications = [];
const open = () => publications.filter(({ outcome }) => outcome === null);

function publish(topic, data, more = {}) {
  const entry = { topic, n: publications.length, ...more, outcome: null };
  publications.push(entry);
  const onDelay = careless(() => (entry.delays = (entry.delays ?? 0) + 1));
  return alice.publish(topic, { n: entry.n, ...data }, { onDelay }).then(
    ({ seq, epoch, duplicate }) => (entry.outcome = { seq, epoch, duplicate }),
    ({ code, mayBeSent }) => (entry.outcome = { code, mayBeSent }),
  );
}

function publishSomething() {
  const topic = random.pick(WRITTEN);
  if (random.chance(0.02)) return publish("secret:0", {}, { refused: "forbidden" });
  if (random.chance(0.02)) return publish(topic, { x: "x".repeat(70_000) }, { refused: "too_large" });
  if (random.chance(0.02)) return publish(topic, { x: 1n }, { refused: "bad_request" });
  if (random.chance(0.05)) return publish(topic, { x: "half of 😀".slice(0, 9) });
  return publish(topic, {});
}

const outcomes = [];

async function write() {
  while (!healthy) {
    outcomes.push(publishSomething());
    // Mostly one after the other; sometimes more than the server takes.
    const burst = random.chance(0.01) ? 60 : 0;
    for (let number = 0; number < burst; number += 1) outcomes.push(publishSomething());
    await sleep(random.between(5, 50));
    while (open().length > 200) await sleep(50);
  }
}

// Changes --------------------------------------------------------------------------------------

/** Messages that grow: what was written, and what became of it. */
const grown = [];

async function grow() {
  for (let number = 0; !healthy; number += 1) {
    const entry = { text: "", code: null };
    const message = await alice.stream("room:1", { data: { text: "" } }).catch(() => null);
    if (!message) continue;
    entry.seq = message.seq;
    grown.push(entry);
    try {
      for (let count = 0; count < 40 && !healthy; count += 1) {
        const token = `${number}.${count} `;
        entry.text += token;
        await message.write(token);
        await sleep(random.between(0, 60));
      }
      await message.complete();
    } catch ({ code }) {
      entry.code = code;
    }
  }
}

/** A message that is edited, and reacted to, again and again: each edit has the next number. */
const edits = [];
const toggles = [];

async function alter() {
  const { seq } = await alice.publish("room:2", { edit: 0 });
  for (let number = 1; !healthy; number += 1) {
    const done = (entry) => [
      () => (entry.outcome = "stored"),
      ({ code, mayBeSent }) => (entry.outcome = { code, mayBeSent }),
    ];
    const edit = { seq, edit: number };
    edits.push(edit);
    const toggle = { seq, remove: number % 2 === 0 };
    toggles.push(toggle);
    await Promise.all([
      alice.edit("room:2", seq, { edit: number }).then(...done(edit)),
      alice.react("room:2", seq, "👍", { remove: toggle.remove }).then(...done(toggle)),
    ]);
    await sleep(random.between(0, 100));
  }
}

async function writeBeside() {
  while (!healthy) {
    await sleep(random.between(50, 200));
    await bob.publish(random.pick(WRITTEN), { bob: true });
  }
}

// The round ------------------------------------------------------------------------------------

async function until(what, condition) {
  const deadline = performance.now() + SETTLE_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not in ${SETTLE_MS} ms: ${what()}`);
    await sleep(50);
  }
}

const busy = [flap(), wander(), write(), grow(), alter(), writeBeside()];
await sleep(seconds * 1000);
healthy = true;
faults.active = false;
network.dispatchEvent(new Event("online"));
await Promise.all(busy);
await until(() => `${open().length} publications have no outcome`, () => open().length === 0);
const heard = (topic) => seen[topic].some(({ data }) => data?.marker);
for (const topic of rooms) await bob.publish(topic, { marker: true });
const deaf = () => rooms.filter((topic) => !heard(topic));
await until(() => `${deaf().join(" ")} are silent`, () => deaf().length === 0);
alice.close();
bob.close();
const written = Object.fromEntries(WRITTEN.map((topic) => [topic, seen[topic] ?? []]));
const changes = { grown, edits, toggles };
const report = { publications, ...changes, seen: written, ended, states, tokens, thrown, faults: faults.counts };
const text = JSON.stringify({ ...report, reports: reports.map(String) });
process.stdout.write(text, () => process.exit());
