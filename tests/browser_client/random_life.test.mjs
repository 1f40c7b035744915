/**
 * A client among what pages, networks, clocks, servers and its application do to it at random: at each
 * moment what it says of itself is so, and its end leaves nothing behind.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { generator } from "./faulty_socket.mjs";
import { Page, app, client, clock, connect, server } from "./setup.mjs";
import { failure, settle } from "./virtual.mjs";

const SEED = Number(process.env.CHAT_CLIENT_LIFE_SEED ?? 1);
const LIVES = Number(process.env.CHAT_CLIENT_LIVES ?? 40);
const STEPS = 60;
/** In which all that is left to do is done, in calm. */
const CALM_MS = 900_000;
const TOPICS = ["room:a", "room:b", "room:c"];
const PASSING = [1001, 1006, 1011, 1012, 1013, 4401, 4408, 4429];
const FINAL = [1000, 1003, 4400, 4403];

/** What is done to one client, and what it made of it. */
class Life {
  isCalm = false;
  isAway = false;
  sockets = [];
  promises = [];
  publications = [];
  subscriptions = [];
  streams = [];

  constructor(random, page) {
    this.random = random;
    this.page = page;
    const life = this;
    this.WebSocket = class extends server.WebSocket {
      constructor(...values) {
        if (life.chance(0.02)) throw new DOMException("no such token", "SyntaxError");
        super(...values);
        this.isOver = false;
        life.sockets.push(this);
      }

      send(frame) {
        if (life.chance(0.02)) throw new Error("it cannot be sent");
        super.send(frame);
      }

      close() {
        this.isOver = true;
        super.close();
        if (!this.isShut && life.chance(0.1)) throw new Error("it cannot be closed");
      }

      shut(...values) {
        this.isShut = true;
        super.shut(...values);
      }
    };
    server.onOpen = (connection) => {
      if (this.chance(0.2)) connection.shut(this.random.pick(PASSING), "", this.chance(0.5));
      else if (!this.chance(0.1)) server.welcome(connection);
    };
    server.answer = () => {
      if (this.chance(0.05)) return null;
      return this.chance(0.1) ? failure(this.random.pick(["unavailable", "rate_limited"])) : undefined;
    };
    server.loses = () => this.chance(0.05);
  }

  chance(probability) {
    return !this.isCalm && this.random.chance(probability);
  }

  /** Note a promise: each has to be settled in the end. */
  note(promise) {
    const noted = { isSettled: false };
    this.promises.push(noted);
    promise.catch(() => {}).then(() => (noted.isSettled = true));
  }

  token = () => {
    const rejected = this.misbehave();
    return rejected ?? (this.chance(0.1) ? new Promise(() => {}) : "t");
  };

  /** What callbacks do that break the rules, or change everything within the call. */
  misbehave = () => {
    if (this.chance(0.1)) this.act();
    if (this.chance(0.1)) throw this.random.pick([new Error("thrown"), null]);
    return this.chance(0.05) ? Promise.reject(new Error("rejected")) : undefined;
  };

  onState = (state, details) => {
    app.onState(state, details);
    return this.misbehave();
  };

  /** Do one thing that an application may do. */
  act() {
    const { random, streams } = this;
    const topic = random.pick(TOPICS);
    const callbacks = { onEvent: this.misbehave, onReady: this.misbehave, onError: this.misbehave };
    const acts = {
      subscribe: () => {
        try {
          this.subscriptions.push(client.subscribe(topic, { last: 5, ...callbacks }));
        } catch (error) {
          assert.equal(error.code, "already_subscribed");
        }
      },
      unsubscribe: () => this.subscriptions.length && client.unsubscribe(this.subscriptions.pop()),
      publish: () => {
        const n = this.publications.length;
        const toJSON = () => {
          if (this.chance(0.05)) client.dispose();
          return n;
        };
        const entry = app.publish(client, topic, { toJSON }, { onDelay: this.misbehave });
        this.publications.push({ topic, entry, n });
      },
      stream: () => this.note(client.stream(topic).then((stream) => streams.push(stream))),
      write: () => streams.length && this.note(random.pick(streams).write("text ")),
      complete: () => streams.length && this.note(streams.pop().complete()),
      typing: () => client.typing(topic),
      history: () => this.note(client.history(topic)),
      position: () => this.note(client.position(topic)),
      end: () => random.chance(0.03) && client.dispose(),
    };
    acts[random.pick(Object.keys(acts))]();
  }

  /** Let one thing happen that is not the application's. */
  async happen() {
    const { random, page } = this;
    const events = {
      leave: () => this.leave(),
      comeBack: () => this.comeBack(),
      unkept: () => page.tell("pagehide", { persisted: false }),
      online: () => page.tell("online"),
      offline: () => page.tell("offline"),
      resume: () => page.tell("resume"),
      look: () => {
        globalThis.document.visibilityState = random.pick(["hidden", "visible"]);
        page.tell("visibilitychange");
      },
      sleep: () => clock.sleep(random.between(0, 10 * 3_600_000)),
      // Not back: with a sleep that the other clock misses, nobody could tell how long it was.
      set: () => clock.set(random.between(0, 10 * 3_600_000)),
      shut: () => server.current?.shut(random.pick(PASSING), "", random.chance(0.5), random.pick([0, 3_000])),
      shutForGood: () => random.chance(0.05) && server.current?.shut(random.pick(FINAL), "", true),
      another: () => (server.topic(random.pick(TOPICS)), server.store(random.pick(TOPICS), "hi", "bob")),
      expire: () => (server.expiresAt = random.pick([undefined, clock.wall / 1000 + 30])),
      pass: () => clock.pass(random.between(0, 3_000)),
      wait: () => clock.pass(random.between(0, 100_000)),
    };
    await events[random.pick(Object.keys(events))]();
  }

  leave() {
    this.isAway = true;
    this.page.tell("pagehide", { persisted: true });
  }

  comeBack() {
    this.isAway = false;
    this.page.tell("pageshow", { persisted: true });
  }

  /** See that what the client says is so. */
  async check() {
    await settle();
    const said = app.states.map(({ state }) => state);
    const here = this.sockets.filter(({ isOver }) => !isOver);
    assert.equal(said.indexOf("connecting"), 0);
    assert.equal(said.lastIndexOf("connecting"), 0);
    assert.ok(said.every((state, index) => state !== "online" || said[index - 1] !== "online"));
    assert.ok(here.length <= 1, `${here.length} sockets`);
    if (this.isAway) assert.equal(here.length, 0, "a socket of a page that is kept");
    if (app.state === "online") assert.equal(here[0]?.isOpen, true, "it is not online");
    if (!said.includes("closed")) return;
    await clock.pass(0);
    assert.equal(said.indexOf("closed"), app.states.length - 1, "it speaks after its end");
    assert.deepEqual(here, []);
    assert.equal(clock.pending, 0, "timers");
    assert.equal(this.page.listeners.size, 0, "listeners");
  }
}

async function live(seed, t) {
  const life = new Life(generator(seed), new Page(t));
  await connect({ token: life.token, onState: life.onState, WebSocket: life.WebSocket });
  for (let step = 0; step < STEPS; step += 1) {
    if (life.random.chance(0.5)) life.act();
    else await life.happen();
    await life.check();
  }
  life.isCalm = true;
  life.comeBack();
  server.expiresAt = undefined;
  await clock.pass(CALM_MS);
  await life.check();
  assert.ok(["online", "closed"].includes(app.state), app.state);
  for (const { topic, entry, n } of life.publications) {
    assert.ok(entry.stored || entry.error, "nobody knows what became of a publication");
    const times = server.texts(topic).filter((data) => data === n).length;
    if (entry.stored) assert.equal(times, 1);
    else if (!entry.error.mayBeSent) assert.equal(times, 0, entry.error.message);
  }
  client.dispose();
  await life.check();
  assert.ok(life.promises.every(({ isSettled }) => isSettled), "a promise is open");
  return app.state;
}

for (let number = 0; number < LIVES; number += 1) {
  const seed = (SEED + number) % 2 ** 32;
  test(`CHAT_CLIENT_LIFE_SEED=${seed}`, async (t) => {
    globalThis.reportError = () => {};
    globalThis.fetch = async (address, { signal }) => {
      signal.throwIfAborted();
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    };
    await live(seed, t);
  });
}
