/** Subscriptions: resumed, refused, left and taken again. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { app, client, clock, connect, server } from "./setup.mjs";
import { Application, failure, settle } from "./virtual.mjs";

beforeEach(() => connect());

const texts = () => app.events.map(({ data }) => data);

test("a topic is resumed behind what came", async () => {
  client.subscribe("room:a", app);
  await settle();
  server.store("room:a", 1);
  await settle();
  server.current.shut();
  server.store("room:a", 2);
  await clock.pass(1_000);
  server.store("room:a", 3);
  await settle();
  assert.deepEqual(texts(), [1, 2, 3]);
  assert.deepEqual(server.of("subscribe").at(-1).since, { epoch: "e1", seq: 1 });
});

test("a topic that was left while its join was refused is not joined for nobody", async () => {
  server.answer = ({ type }) => (type === "subscribe" ? failure("unavailable") : undefined);
  const first = client.subscribe("room:a", app);
  await clock.pass(100);
  client.unsubscribe(first);
  client.subscribe("room:b", app);
  server.answer = () => undefined;
  await clock.pass(60_000);
  assert.deepEqual([...server.current.subscribed], ["room:b"]);
  client.subscribe("room:a", app);
  await clock.pass(1_000);
  server.store("room:a", "hello");
  await settle();
  assert.deepEqual(texts(), ["hello"]);
  assert.deepEqual(app.errors, []);
});

test("what the server holds for nobody is given back and taken anew", async () => {
  server.current.subscribed.add("room:a");
  client.subscribe("room:a", app);
  await clock.pass(1_000);
  server.store("room:a", "hello");
  await settle();
  assert.deepEqual(texts(), ["hello"]);
  assert.deepEqual(app.errors, []);
  assert.deepEqual(
    server.commands.map(({ type }) => type),
    ["subscribe", "unsubscribe", "subscribe"],
  );
});

test("a server that says so for ever is believed in the end", async () => {
  server.answer = ({ type }) => (type === "subscribe" ? failure("already_subscribed") : undefined);
  client.subscribe("room:a", app);
  await clock.pass(60_000);
  assert.deepEqual(app.errors.map(({ code }) => code), ["already_subscribed"]);
  assert.ok(server.commands.length < 10);
});

test("an unsubscribe that is refused is repeated", async () => {
  const room = client.subscribe("room:a", app);
  await settle();
  let refusals = 3;
  server.answer = ({ type }) =>
    type === "unsubscribe" && refusals-- > 0 ? failure("rate_limited", { retry_in_ms: 20 }) : undefined;
  client.unsubscribe(room);
  await clock.pass(5_000);
  assert.equal(server.current.subscribed.size, 0);
  assert.equal(server.of("unsubscribe").length, 4);
  assert.ok(server.of("unsubscribe").every(({ id }) => id > 0));
});

test("leaving and joining at once ends in a subscription of the new one", async () => {
  let room = client.subscribe("room:a", app);
  const later = new Application();
  for (let times = 0; times < 5; times += 1) {
    client.unsubscribe(room);
    room = client.subscribe("room:a", later);
    if (times % 2) await settle();
  }
  await clock.pass(1_000);
  server.store("room:a", "hello");
  await settle();
  assert.deepEqual(later.events.map(({ data }) => data), ["hello"]);
  assert.deepEqual(app.events, []);
  assert.throws(() => client.subscribe("room:a", app), { code: "already_subscribed" });
});

/** Let the server take `burst` commands at once and then `rate` a second, as the real one does. */
function limited(burst, rate, counts = () => true) {
  let tokens = burst;
  let at = clock.monotonic;
  const refused = [];
  server.answer = (command) => {
    tokens = Math.min(burst, tokens + ((clock.monotonic - at) / 1000) * rate);
    at = clock.monotonic;
    if (!counts(command)) return undefined;
    if (tokens >= 1) {
      tokens -= 1;
      return undefined;
    }
    refused.push(command);
    return failure("rate_limited", { retry_in_ms: Math.ceil(((1 - tokens) / rate) * 1000) });
  };
  return refused;
}

test("250 topics come back within seconds, a few at a time", async () => {
  const topics = Array.from({ length: 250 }, (_, number) => `room:${number}`);
  for (const topic of topics) client.subscribe(topic, app);
  await clock.pass(1_000);
  server.current.shut();
  const refused = limited(100, 50);
  await clock.pass(6_000);
  assert.equal(server.current.subscribed.size, 250);
  assert.ok(refused.length <= 30, `${refused.length} refusals`);
  server.store("room:249", "hello");
  await settle();
  assert.deepEqual(texts(), ["hello"]);
});

test("of 250 topics never more than 16 are asked for at once", async () => {
  const waiting = new Set();
  let most = 0;
  server.answer = (command, connection) => {
    waiting.add(command);
    most = Math.max(most, waiting.size);
    setTimeout(() => {
      waiting.delete(command);
      connection.deliver({ ...server.carryOut(connection, command), id: command.id });
    }, 20);
    return null;
  };
  for (let number = 0; number < 250; number += 1) client.subscribe(`room:${number}`, app);
  await clock.pass(1_000);
  assert.equal(server.current.subscribed.size, 250);
  assert.equal(most, 16);
});

test("a store that is away is asked with growing waits, each topic at a time of its own", async () => {
  server.answer = ({ type }) => (type === "subscribe" ? failure("unavailable") : undefined);
  for (let number = 0; number < 50; number += 1) client.subscribe(`room:${number}`, app);
  await clock.pass(120_000);
  const asked = server.of("subscribe");
  assert.ok(asked.length < 50 * 15, `${asked.length} in two minutes`);
  const second = asked.slice(50, 100).map(({ at }) => at);
  assert.ok(new Set(second).size > 25, "they do not come all at once");
  server.answer = () => undefined;
  await clock.pass(45_000);
  assert.equal(server.current.subscribed.size, 50);
});

for (const retry_in_ms of [0, -1, NaN, 1e300, "soon", undefined, null]) {
  test(`retry_in_ms of ${retry_in_ms} is kept within bounds`, async () => {
    const refuse = () => failure("rate_limited", { retry_in_ms });
    server.answer = refuse;
    client.subscribe("room:a", app);
    const publication = app.publish(client, "room:a", 1);
    await clock.pass(60_000);
    assert.ok(server.commands.length < 200, `${server.commands.length} commands in a minute`);
    server.answer = () => undefined;
    await clock.pass(120_000);
    assert.equal(server.current.subscribed.size, 1);
    assert.ok(publication.stored);
  });
}

for (const before of [-5, 0, NaN, 1e300, "x", null, 2 ** 54]) {
  test(`a gap before ${before} does not spoil the position`, async () => {
    const room = client.subscribe("room:a", app);
    await settle();
    server.store("room:a", 1);
    await settle();
    for (const epoch of ["e1", "e2"]) {
      const gap = { topic: "room:a", epoch, after: 0, before, reason: "expired" };
      server.current.deliver({ type: "gap", ...gap });
    }
    assert.deepEqual(room.position, { epoch: "e1", seq: 1 });
    assert.deepEqual(app.events.map(({ type }) => type), ["message"]);
  });
}

test("a lost history is told as a gap", async () => {
  const room = client.subscribe("room:a", app);
  await settle();
  server.store("room:a", 1);
  await settle();
  server.topics.set("room:a", { epoch: "e2", messages: [], keys: new Map() });
  server.current.shut();
  await clock.pass(1_000);
  const { type, after, before, epoch } = app.events.at(-1);
  assert.deepEqual({ type, after, before, epoch }, { type: "gap", after: 0, before: 1, epoch: "e2" });
  assert.deepEqual(room.position, { epoch: "e2", seq: 0 });
});

test("a subscription that the server ends is told, and can be had again", async () => {
  client.subscribe("room:a", app);
  await settle();
  server.current.subscribed.delete("room:a");
  server.current.deliver(failure("forbidden", { topic: "room:a" }));
  assert.deepEqual(app.errors.map(({ code }) => code), ["forbidden"]);
  client.subscribe("room:a", app);
  await settle();
  assert.equal(server.current.subscribed.size, 1);
});

test("exceptions in callbacks are reported, and everybody else is told all the same", async (t) => {
  const reports = [];
  t.mock.method(console, "error", (error) => reports.push(error.message));
  const thrower = (name) => () => {
    throw new Error(name);
  };
  client.subscribe("room:a", { onEvent: thrower("onEvent"), onReady: thrower("onReady") });
  client.subscribe("room:b", { onEvent: async () => thrower("async")(), onReady: () => reports.push("ready") });
  server.answer = ({ topic }) => (topic === "room:c" ? failure("forbidden") : undefined);
  client.subscribe("room:c", { onError: thrower("onError") });
  client.subscribe("room:d", app);
  await settle();
  for (const topic of ["room:a", "room:b", "room:d"]) server.store(topic, topic);
  await settle();
  assert.deepEqual(texts(), ["room:d"]);
  assert.deepEqual(reports.sort(), ["async", "onError", "onEvent", "onReady", "ready"]);
  server.current.shut();
  await clock.pass(1_000);
  assert.deepEqual([...server.current.subscribed].sort(), ["room:a", "room:b", "room:d"]);
});

test("the last topic but one is left before the last is taken", async () => {
  server.answer = ({ type, topic }, { subscribed }) =>
    type === "subscribe" && subscribed.size >= 1 && !subscribed.has(topic)
      ? failure("too_many_topics")
      : undefined;
  const room = client.subscribe("room:a", app);
  await settle();
  client.unsubscribe(room);
  client.subscribe("room:b", app);
  await clock.pass(5_000);
  assert.deepEqual([...server.current.subscribed], ["room:b"]);
  client.subscribe("room:c", app);
  await clock.pass(5_000);
  assert.deepEqual(app.errors.map(({ code }) => code), ["too_many_topics"]);
});

test("a subscription that is made where another was refused is kept and resumed", async () => {
  server.answer = ({ type, last }) =>
    type === "subscribe" && last ? failure("forbidden") : undefined;
  client.subscribe("room:a", {
    last: 50,
    onError: () => client.subscribe("room:a", app),
  });
  await settle();
  server.store("room:a", 1);
  await settle();
  assert.deepEqual(texts(), [1]);
  server.current.shut();
  server.store("room:a", 2);
  await clock.pass(1_000);
  assert.deepEqual(texts(), [1, 2]);
});

test("a subscription of a closed client is told so, later", async () => {
  client.close();
  client.subscribe("room:a", app);
  assert.deepEqual(app.errors, []);
  await clock.pass(10);
  client.subscribe("room:a", app);
  await clock.pass(10);
  assert.deepEqual(app.errors.map(({ code }) => code), ["closed", "closed"]);
});

test("messages that come as they now are leave no gap, and the topic goes on behind the answer", async () => {
  for (const text of ["a", "b", "c"]) server.store("room:a", text);
  for (let number = 0; number < 5; number += 1) server.change("room:a", "reaction", 2, { emoji: "👍" });
  const room = client.subscribe("room:a", { ...app, last: 2 });
  await settle();
  assert.deepEqual(app.events.map(({ type, seq }) => [type, seq]), [["message", 2], ["message", 3]]);
  assert.deepEqual(room.position, { epoch: "e1", seq: 8 });
  server.store("room:a", "d");
  await settle();
  assert.deepEqual(app.events.at(-1).seq, 9);
});

test("of fewer messages than were asked for, what they show does not come again", async () => {
  for (const text of ["a", "b"]) server.store("room:a", text);
  server.change("room:a", "appended", 1, { text: "!", length: 2 });
  client.subscribe("room:a", { ...app, last: 50 });
  await settle();
  server.current.shut();
  server.store("room:a", "c");
  server.change("room:a", "appended", 1, { text: "!", length: 3 });
  await clock.pass(1_000);
  assert.deepEqual(server.of("subscribe").at(-1).since, { epoch: "e1", seq: 2 });
  assert.deepEqual(app.events.map(({ type, seq }) => [type, seq]), [
    ...[["message", 1], ["message", 2], ["message", 4], ["appended", 5]],
  ]);
});

test("a connection that breaks among them goes on behind the last that came", async () => {
  for (const text of ["a", "b", "c"]) server.store("room:a", text);
  server.change("room:a", "reaction", 1, { emoji: "👍" });
  server.change("room:a", "reaction", 3, { emoji: "👍" });
  const { onEvent } = app;
  client.subscribe("room:a", {
    last: 3,
    onEvent: (event) => {
      onEvent(event);
      if (app.events.length === 2) server.current.shut();
    },
  });
  await clock.pass(2_000);
  assert.deepEqual(app.events.map(({ type, seq }) => [type, seq]), [
    ...[["message", 1], ["message", 2], ["message", 3], ["reaction", 5]],
  ]);
});

test("before the first of them came, all are asked for again", async () => {
  for (const text of ["a", "b"]) server.store("room:a", text);
  server.answer = (command, connection) => {
    if (command.type !== "subscribe") return undefined;
    server.answer = () => undefined;
    const ok = { type: "ok", id: command.id, topic: "room:a", epoch: "e1", seq: 2, replayed: 2 };
    connection.deliver({ ...ok, recovered: true });
    connection.shut();
    return null;
  };
  client.subscribe("room:a", { ...app, last: 2 });
  await clock.pass(2_000);
  assert.deepEqual(server.of("subscribe").map(({ last, since }) => [last, since]), [
    ...[[2, undefined], [2, undefined]],
  ]);
  assert.deepEqual(texts(), ["a", "b"]);
});

test("appends that come as one stand for all of them", async () => {
  const room = client.subscribe("room:a", app);
  await settle();
  server.store("room:a", "a");
  await settle();
  const merged = { type: "appended", topic: "room:a", seq: 9, first: 2, target: 1, text: "b", length: 9 };
  server.current.deliver(merged);
  server.current.deliver({ ...merged, seq: 8, first: undefined });
  assert.deepEqual(app.events.map(({ type }) => type), ["message", "appended"]);
  assert.deepEqual(room.position, { epoch: "e1", seq: 9 });
});

test("a strict subscription ends where it cannot go on, and tells where the topic stands", async () => {
  client.subscribe("room:a", { ...app, since: { epoch: "e0", seq: 4 }, strict: true });
  server.store("room:a", 1);
  await settle();
  const [{ code, reason, epoch, seq }] = app.errors;
  assert.deepEqual([code, reason, epoch, seq], ["unrecoverable", "epoch_changed", "e1", 1]);
  assert.deepEqual(app.events, []);
  client.subscribe("room:a", { ...app, since: { epoch, seq }, strict: true });
  server.store("room:a", 2);
  await settle();
  server.topics.set("room:a", { epoch: "e2", messages: [], keys: new Map() });
  server.current.shut();
  await clock.pass(1_000);
  assert.deepEqual(app.errors.map(({ code }) => code), ["unrecoverable", "unrecoverable"]);
  assert.deepEqual(texts(), [2]);
});

test("who is there comes with the subscription, and anew with each connection", async () => {
  const page = { count: 1, connections: 1, users: [{ user: "alice", connections: 1 }], more: false };
  server.answer = (command, connection) =>
    command.presence ? { ...server.carryOut(connection, command), presence: page } : undefined;
  const room = client.subscribe("room:a", { ...app, presence: true });
  await settle();
  assert.deepEqual(room.presence, page);
  page.count = 2;
  server.current.shut();
  await clock.pass(1_000);
  assert.equal(room.presence.count, 2);
  assert.ok(server.of("subscribe").every(({ presence }) => presence));
});

test("what has no place in the order is passed on, whatever seq it bears", async () => {
  const room = client.subscribe("room:a", app);
  await settle();
  server.store("room:a", 1);
  await settle();
  for (const type of ["join", "leave", "presence", "read", "poll"]) {
    server.current.deliver({ type, topic: "room:a", user: "bob", seq: type === "read" ? 1 : undefined });
  }
  assert.deepEqual(app.events.map(({ type }) => type), [
    ...["message", "join", "leave", "presence", "read", "poll"],
  ]);
  assert.deepEqual(room.position, { epoch: "e1", seq: 1 });
});
