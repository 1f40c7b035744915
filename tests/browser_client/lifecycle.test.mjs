/** What comes and goes around a client: networks, pages, sleep, and its own end. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Page, app, client, clock, connect, server } from "./setup.mjs";
import { failure, settle } from "./virtual.mjs";

const LEFT = { persisted: true };
const hang = () => new Promise(() => {});

// Networks ---------------------------------------------------------------------------------------

test("a flapping network is no reason to hurry for ever", async (t) => {
  const page = new Page(t);
  server.onOpen = (connection) => connection.shut(1006);
  await connect();
  for (let times = 0; times < 1_000; times += 1) {
    page.tell("online");
    await clock.pass(10);
  }
  assert.ok(server.connections.length <= 30, `${server.connections.length} in 10 s`);
});

test("offline is checked at once", async (t) => {
  const page = new Page(t);
  await connect();
  page.tell("offline");
  await clock.pass(4_000);
  assert.equal(app.state, "online", "the link is there all the same");
  server.answer = () => null;
  page.tell("offline");
  await clock.pass(3_000);
  assert.equal(app.states.at(2).state, "reconnecting");
});

test("a hidden page does not hurry", async (t) => {
  const page = new Page(t);
  server.onOpen = (connection) => connection.shut(1006);
  await connect();
  globalThis.document.visibilityState = "hidden";
  for (const name of ["visibilitychange", "online", "resume"]) page.tell(name);
  await settle();
  assert.equal(server.connections.length, 1);
});

test("a link that died while the machine slept is found once somebody looks", async (t) => {
  const page = new Page(t);
  await connect();
  clock.sleep(8 * 3_600_000);
  server.answer = () => null;
  page.tell("visibilitychange");
  await clock.pass(10_000);
  assert.equal(app.states[2].error.code, "connection_lost");
});

test("a link that died while the machine slept is found though nobody looks", async () => {
  await connect();
  clock.sleep(8 * 3_600_000);
  server.answer = () => null;
  await clock.pass(35_000);
  assert.equal(app.states[2].error.code, "connection_lost");
});

// The Back button --------------------------------------------------------------------------------

test("a page that is kept lets go of its connection, and goes on when it is shown again", async (t) => {
  const page = new Page(t);
  await connect();
  client.subscribe("room:a", { onEvent: app.onEvent });
  await settle();
  page.tell("pagehide", LEFT);
  assert.equal(server.current, undefined);
  assert.equal(clock.pending, 0, "timers");
  assert.deepEqual(app.states.at(-1).state, "reconnecting");
  server.store("room:a", "missed");
  const published = app.publish(client, "room:a", "meanwhile");
  await clock.pass(3_600_000);
  for (const name of ["online", "visibilitychange", "resume"]) page.tell(name);
  await clock.pass(60_000);
  assert.equal(server.connections.length, 1, "nothing is opened meanwhile");
  page.tell("pageshow", LEFT);
  await clock.pass(0);
  assert.equal(app.state, "online");
  assert.deepEqual(app.events.map(({ data }) => data), ["missed", "meanwhile"]);
  assert.equal(published.stored.seq, 2);
});

test("a page that is not kept, or is shown for the first time, changes nothing", async (t) => {
  const page = new Page(t);
  await connect();
  page.tell("pageshow", { persisted: false });
  page.tell("pagehide", { persisted: false });
  await clock.pass(1_000);
  assert.deepEqual([app.states.length, server.connections.length], [2, 1]);
});

test("a page that is left while it waits connects when it is shown again", async (t) => {
  const page = new Page(t);
  await connect();
  server.current.shut(1012, "restart", true, 60_000);
  page.tell("pagehide", LEFT);
  assert.equal(clock.pending, 0, "timers");
  page.tell("pageshow", LEFT);
  await clock.pass(0);
  assert.equal(app.state, "online");
});

test("a token that is asked for as the page is left opens nothing, then or later", async (t) => {
  const page = new Page(t);
  const waiting = [];
  await connect({ token: () => new Promise((resolve) => waiting.push(resolve)) });
  page.tell("pagehide", LEFT);
  waiting[0]("early");
  await settle();
  assert.equal(server.connections.length, 0);
  page.tell("pageshow", LEFT);
  waiting[1]("late");
  await settle();
  assert.deepEqual(server.connections.map(({ token }) => token), ["late"]);
  assert.equal(app.state, "online");
});

test("a page that comes and goes a thousand times has one connection", async (t) => {
  const page = new Page(t);
  await connect();
  for (let times = 0; times < 1_000; times += 1) {
    page.tell("pagehide", LEFT);
    page.tell("pagehide", LEFT);
    page.tell("pageshow", LEFT);
    page.tell("pageshow", LEFT);
  }
  await clock.pass(100);
  assert.equal(server.connections.filter(({ isOpen }) => isOpen).length, 1);
  assert.equal(app.state, "online");
});

// Servers ----------------------------------------------------------------------------------------

test("a second answer is nobody's event, and ends no subscription", async () => {
  await connect();
  client.subscribe("room:a", { onEvent: app.onEvent, onError: app.onError });
  await settle();
  server.answer = (command, connection) => {
    if (command.type !== "publish") return undefined;
    const answer = { ...server.carryOut(connection, command), id: command.id };
    connection.deliver(answer);
    connection.deliver({ type: "error", code: "forbidden", topic: "room:a", id: command.id });
    return answer;
  };
  const [{ seq }, { data }] = await Promise.all([
    client.publish("room:a", "once"),
    client.publish("room:b", "another").then(() => ({ data: "another" })),
  ]);
  await settle();
  assert.deepEqual([seq, data], [1, "another"]);
  assert.deepEqual(app.events.map((event) => event.type), ["message"]);
  assert.deepEqual(app.errors, []);
  assert.equal(server.connections.length, 1);
});

test("answers out of order cost the connection, and nothing that was published", async () => {
  await connect();
  const held = [];
  server.answer = (command, connection) => {
    if (command.type !== "publish" || connection.number > 1) return undefined;
    held.unshift({ ...server.carryOut(connection, command), id: command.id });
    if (held.length === 3) for (const answer of held) connection.deliver(answer);
    return null;
  };
  const entries = ["room:a", "room:b", "room:c"].map((topic) => app.publish(client, topic, topic));
  await clock.pass(31_000);
  assert.deepEqual(entries.map(({ error, stored }) => [error, stored?.seq]), Array(3).fill([null, 1]));
  assert.equal(server.connections.length, 2);
});

test("a server that never says welcome, and one that says it twice", async () => {
  server.onOpen = () => {};
  await connect();
  await clock.pass(10_000);
  assert.equal(app.states[1].error.code, "cannot_connect");
  server.onOpen = (connection) => {
    server.welcome(connection);
    server.user = "mallory";
    server.welcome(connection);
  };
  await clock.pass(2_000);
  assert.equal(app.state, "online");
  assert.equal(client.user, "alice");
});

// The application --------------------------------------------------------------------------------

test("callbacks that throw break nothing, whatever they throw", async (t) => {
  const page = new Page(t);
  const reports = [];
  globalThis.reportError = (error) => reports.push(error);
  t.after(() => delete globalThis.reportError);
  const thrown = [new Error("an error"), null, undefined, "a text"];
  const failing = () => {
    throw thrown[reports.length % thrown.length];
  };
  const rejecting = async () => failing();
  const hostile = { get then() { throw new Error("a then that throws"); } };
  const onState = (state, details) => {
    app.onState(state, details);
    failing();
  };
  await connect({ onState });
  client.subscribe("room:a", { onEvent: failing, onReady: rejecting });
  client.subscribe("room:b", { onEvent: () => hostile, onReady: failing });
  client.subscribe("room:c", { onEvent: "no function" });
  await settle();
  for (const topic of ["room:a", "room:b", "room:c"]) server.store(topic, "hello");
  await settle();
  page.tell("pagehide", LEFT);
  page.tell("pageshow", LEFT);
  await settle();
  assert.equal(app.state, "online");
  assert.equal((await client.publish("room:a", 1)).seq, 2);
  assert.ok(reports.length >= 11, `${reports.length} reports`);
});

test("no storage is touched", async (t) => {
  for (const name of ["localStorage", "sessionStorage", "indexedDB", "caches"]) {
    Object.defineProperty(globalThis, name, {
      configurable: true,
      get: () => assert.fail(`${name} is touched`),
    });
    t.after(() => delete globalThis[name]);
  }
  await connect();
  client.subscribe("room:a", {});
  await client.publish("room:a", 1);
  server.current.shut();
  await clock.pass(1_000);
  assert.equal(app.state, "online");
});

// The end ----------------------------------------------------------------------------------------

const STAGES = {
  "as it begins": () => {},
  "while a token is asked for": { options: { token: hang } },
  "while it opens": { before: () => (server.onOpen = () => {}) },
  "while it waits": { before: () => (server.onOpen = (connection) => connection.shut(1006)) },
  "while a kept page is away": { then: (page) => page.tell("pagehide", LEFT) },
  "with work under way": {
    then: async () => {
      const ignored = () => {};
      client.subscribe("room:a", {});
      client.subscribe("room:busy", {});
      const streams = await Promise.all([1, 2, 3, 4].map(() => client.stream("room:a")));
      for (const stream of streams) stream.write("text").catch(ignored);
      client.typing("room:a");
      server.answer = ({ type }) => (type === "history" ? null : failure("unavailable"));
      client.publish("room:a", 1).catch(ignored);
      client.history("room:a").catch(ignored);
      client.subscribe("room:refused", {});
      await clock.pass(100);
    },
  },
  "while a token is renewed": {
    options: { token: async () => (server.connections.length ? hang() : "t") },
    before: () => (server.expiresAt = clock.wall / 1000 + 10),
    then: () => clock.pass(9_000),
  },
};

for (const [stage, { options, before, then }] of Object.entries(STAGES)) {
  test(`the end leaves nothing behind, ${stage}`, async (t) => {
    const page = new Page(t);
    before?.();
    await connect(options);
    await then?.(page);
    assert.ok(page.listeners.size > 0);
    client.dispose();
    await settle();
    assert.equal(clock.pending, 0, "timers");
    assert.equal(page.listeners.size, 0, "listeners");
    assert.deepEqual(server.connections.filter(({ isOpen }) => isOpen), []);
    const { length } = server.connections;
    for (const name of ["online", "pageshow", "visibilitychange"]) page.tell(name, LEFT);
    await clock.pass(600_000);
    assert.equal(server.connections.length, length);
    assert.equal(app.states.filter(({ state }) => state === "closed").length, 1);
    client.close();
    await assert.rejects(client.publish("room:a", 3), { code: "closed", mayBeSent: false });
  });
}

test("who waits for a position is told of the end", async () => {
  await connect({ token: hang });
  const asked = client.position("room:a");
  client.dispose();
  await assert.rejects(asked, { code: "closed" });
});
