/**
 * Readers of a topic in which messages change, over connections that break: what they made of the
 * events must be what history says in the end, and growing messages must have all that was written.
 *
 * Takes one argument, JSON: `{url, tokens: {ann, bob, eve}, seed, steps}`.
 */

import assert from "node:assert/strict";
import { ChatClient, Messages } from "./client.js";
import { Faults, faultyWebSocket, generator } from "./faulty_socket.mjs";

const { url, tokens, seed, steps } = JSON.parse(process.argv[2]);
const TOPIC = "room:folding";
const SETTLE_MS = 60_000;
const LAST = 300;
/** Behind this time nothing breaks any more: a busy machine does little between two faults. */
const FAULTY_MS = 20_000;
/** What a change may be refused with: its message may be another's, deleted, or have no text. */
const REFUSALS = new Set(["gone", "forbidden", "not_found", "bad_request"]);

const random = generator(seed);
const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));
/** Faults that are noticed at once: a round is to be short. */
class QuickFaults extends Faults {
  chance(name, probability) {
    return !["stalled", "swallowed"].includes(name) && super.chance(name, probability);
  }
}

const faults = new QuickFaults(random, 300);
const calm = new Faults(random, 0);
calm.active = false;

const connect = (user, conditions) =>
  new ChatClient({ url, token: tokens[user], WebSocket: faultyWebSocket(conditions) });
const writers = [connect("ann", faults), connect("bob", faults)];
const judge = connect("eve", calm);

// Readers --------------------------------------------------------------------------------------

class Reader {
  messages = new Messages(LAST);
  gaps = 0;
  types = {};

  constructor() {
    this.client = connect("eve", faults);
    this.subscription = this.client.subscribe(TOPIC, { last: 20, onEvent: (event) => this.take(event) });
  }

  take(event) {
    const type = event.first === undefined ? event.type : "merged";
    this.types[type] = (this.types[type] ?? 0) + 1;
    this.messages.apply(event);
    if (event.type === "gap") this.reload((this.gaps += 1));
  }

  /** As an application does behind a gap: read what history still has. */
  async reload(gaps) {
    while (this.gaps === gaps) {
      const page = await this.client.history(TOPIC, { limit: LAST }).catch(() => null);
      if (page) return this.messages.add(page.messages);
      await sleep(50);
    }
    return undefined;
  }
}

// Writers --------------------------------------------------------------------------------------

const seqs = [];
const calls = [];
const outcomes = {};
const grown = [];

function note(verb, promise) {
  const done = promise.then(
    ({ seq }) => {
      outcomes[verb] = (outcomes[verb] ?? 0) + 1;
      if (verb === "publish") seqs.push(seq);
    },
    (error) => {
      if (!REFUSALS.has(error.code)) throw error;
      outcomes[error.code] = (outcomes[error.code] ?? 0) + 1;
    },
  );
  calls.push(done);
  return done;
}

function changeSomething(number) {
  const client = random.pick(writers);
  const seq = seqs.length > 0 && !random.chance(0.3) ? random.pick(seqs) : seqs.at(-1);
  const emoji = random.pick(["👍", "👎", "🎉"]);
  if (seq === undefined || random.chance(0.2)) {
    const data = random.pick([`text ${number}`, { text: `text ${number} 😀` }, number, null]);
    note("publish", client.publish(TOPIC, data));
  } else if (random.chance(0.4)) {
    note("append", client.append(TOPIC, seq, random.pick([` +${number}`, "ü😀", "\n"])));
  } else if (random.chance(0.6)) {
    note("react", client.react(TOPIC, seq, emoji, { remove: random.chance(0.3) }));
  } else if (random.chance(0.8)) {
    note("edit", client.edit(TOPIC, seq, random.pick([`edit ${number}`, { text: `e ${number}` }, [1]])));
  } else {
    note("delete", client.delete(TOPIC, seq));
  }
}

/** Write messages that grow one token at a time, while all else goes on. */
async function stream(client) {
  while (!over) {
    const message = await client.stream(TOPIC);
    const entry = { seq: message.seq, text: "", state: random.pick(["complete", "cancelled"]) };
    for (let count = random.between(5, 60); count > 0; count -= 1) {
      const token = `${grown.length}.${Math.floor(count)} `;
      entry.text += token;
      await message.write(token);
      if (random.chance(0.7)) await sleep(random.between(0, 15));
    }
    await (entry.state === "complete" ? message.complete() : message.cancel());
    grown.push(entry);
  }
}

async function write() {
  for (let number = 0; number < steps; number += 1) {
    changeSomething(number);
    if (random.chance(0.5)) await sleep(random.between(0, 20));
    if (random.chance(0.02)) await Promise.all(calls);
  }
}

// The round ------------------------------------------------------------------------------------

let over = false;
const readers = [new Reader()];
const busy = writers.map(stream);
setTimeout(() => (faults.active = false), FAULTY_MS).unref();
const late = sleep(1_000).then(() => readers.push(new Reader()));
await write();
await late;
over = true;
faults.active = false;
await Promise.all([...calls, ...busy]);
const { seq: last } = await judge.publish(TOPIC, "the end");
const deadline = performance.now() + SETTLE_MS;
while (readers.some(({ messages }) => !messages.get(last))) {
  assert.ok(performance.now() < deadline, "not all readers have seen the end");
  await sleep(20);
}
const { messages } = await judge.history(TOPIC, { limit: LAST });
const bySeq = new Map(messages.map((message) => [message.seq, message]));
for (const reader of readers) {
  const made = [...reader.messages];
  const expected = messages.filter(({ seq }) => seq >= made[0].seq);
  assert.deepEqual(made, expected);
  assert.ok(made.length >= 20 || messages.length < 20);
}
for (const { seq, text, state } of grown) {
  const message = bySeq.get(seq);
  // Others react to it only: they know no seq of it.
  assert.deepEqual([message.data, message.state], [text, state]);
}
for (const client of [...writers, judge, ...readers.map((reader) => reader.client)]) client.close();
const report = { outcomes, grown: grown.length, faults: faults.counts, read: readers.map(({ types }) => types) };
process.stdout.write(JSON.stringify(report), () => process.exit());
