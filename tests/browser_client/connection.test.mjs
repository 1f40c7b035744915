/** Connecting, losing the connection, finding out that it is dead. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ChatClient } from "./client.js";
import { app, client, clock, connect, server } from "./setup.mjs";
import { failure, settle } from "./virtual.mjs";

test("without our goodbye a close is a lost connection, whatever its code", async () => {
  await connect();
  for (const code of [1000, 1001, 1003, 1007, 1009, 4400, 4401, 4403, 4999]) {
    server.current.shut(code, "a gateway's words");
    assert.equal(app.state, "reconnecting", `after ${code}`);
    await clock.pass(31_000);
    assert.equal(app.state, "online", `after ${code}`);
  }
});

test("nothing is sent on a socket that closes, and all of it behind its end", async () => {
  await connect();
  const closing = server.current;
  closing.readyState = 2;
  const before = server.commands.length;
  const entry = app.publish(client, "room:a", "hello");
  await settle();
  assert.equal(server.commands.length, before);
  closing.shut();
  await clock.pass(31_000);
  assert.equal(entry.stored?.seq, 1);
});

test("with our goodbye the codes that say stop are obeyed", async () => {
  for (const code of [1000, 1003, 1007, 1009, 4400, 4403]) {
    await connect();
    const before = server.connections.length;
    server.current.shut(code, "stop", true);
    assert.equal(app.state, "closed", `after ${code}`);
    assert.equal(app.states.at(-1).error.code, code === 4403 ? "forbidden" : "closed");
    await clock.pass(600_000);
    assert.equal(server.connections.length, before);
  }
});

test("a goodbye is believed where its close frame was lost", async () => {
  await connect();
  server.current.deliver({ type: "goodbye", code: 4403, reason: "blocked", reconnect_in_ms: 0 });
  server.current.shut(1006);
  assert.equal(app.states.at(-1).error.code, "forbidden");
});

test("a client that causes 1009 again and again slows down", async () => {
  await connect();
  server.onOpen = (connection) => {
    server.welcome(connection);
    queueMicrotask(() => connection.shut(1009));
  };
  server.current.shut(1009);
  await clock.pass(600_000);
  assert.ok(server.connections.length < 60, `${server.connections.length} connections in 10 min`);
});

for (const reconnect_in_ms of [1, 2 ** 53, -5, NaN, "soon", 1e300]) {
  test(`reconnect_in_ms of ${reconnect_in_ms} is kept within bounds`, async () => {
    await connect();
    server.onOpen = (connection) => {
      server.welcome(connection);
      queueMicrotask(() => connection.shut(1012, "restart", true, reconnect_in_ms));
    };
    server.current.shut(1012, "restart", true, reconnect_in_ms);
    await clock.pass(1_200_000);
    const { length } = server.connections;
    assert.ok(length >= 3 && length < 120, `${length} connections in 20 min`);
  });
}

test("a reconnect_in_ms that helps is obeyed to the letter", async () => {
  await connect();
  server.current.shut(1012, "restart", true, 4_000);
  const { retryInMs } = app.states.at(-1);
  assert.ok(retryInMs >= 4_000 && retryInMs <= 4_400);
});

test("exceptions in onState are reported and change nothing", async (t) => {
  const reports = [];
  const onState = (state, details) => {
    app.onState(state, details);
    throw new Error(`thrown at ${state}`);
  };
  t.mock.method(console, "error", (error) => reports.push(error.message));
  await connect({ onState });
  const room = client.subscribe("room:a", { onEvent: app.onEvent });
  await settle();
  server.current.shut();
  await clock.pass(31_000);
  await settle();
  server.store("room:a", "hello");
  await settle();
  assert.deepEqual(app.events.map(({ data }) => data), ["hello"]);
  assert.equal(room.position.seq, 1);
  const told = ["connecting", "online", "reconnecting", "reconnecting", "online"];
  assert.deepEqual(reports, told.map((state) => `thrown at ${state}`));
  client.close();
});

test("a dead link is found though the clock is put back", async () => {
  await connect();
  server.answer = () => null;
  await clock.pass(1_000);
  clock.wall -= 3_600_000;
  await clock.pass(61_000);
  assert.ok(app.states.some(({ state }) => state === "reconnecting"));
});

test("a clock that is put on ends no connection that lives", async () => {
  await connect();
  for (let hour = 0; hour < 5; hour += 1) {
    clock.wall += 3_600_000;
    await clock.pass(60_000);
  }
  assert.equal(server.connections.length, 1);
});

for (const seconds of [3e6, 2 ** 53, 0, -1, NaN, "often"]) {
  test(`heartbeat_seconds of ${seconds} makes no timer run wild`, async () => {
    server.heartbeatSeconds = seconds;
    await connect();
    await clock.pass(60_000);
    assert.ok(server.of("ping").length <= 61, `${server.of("ping").length} pings in a minute`);
    assert.equal(server.connections.length, 1);
    server.answer = () => null;
    await clock.pass(1_200_000);
    assert.ok(server.connections.length > 1, "a dead link is still found");
  });
}

test("what is no chat.v1 is a lost connection", async () => {
  await connect();
  for (const data of ["<html>", "[]", "null", "7"]) {
    server.current.onmessage({ data });
    assert.equal(app.state, "reconnecting");
    assert.equal(app.states.at(-1).error.code, "connection_lost");
    await clock.pass(31_000);
    assert.equal(app.state, "online");
  }
});

test("a server that cannot be reached is told from a connection that broke", async () => {
  server.onOpen = (connection) => connection.shut(1006);
  await connect();
  assert.equal(app.states.at(-1).error.code, "cannot_connect");
  server.onOpen = null;
  await clock.pass(2_000);
  server.current.shut(1006);
  assert.equal(app.states.at(-1).error.code, "connection_lost");
});

test("an address that is none, and no WebSocket at all, are told at once", () => {
  const { WebSocket } = server;
  assert.throws(() => new ChatClient({ url: "nonsense", token: "t", WebSocket }), TypeError);
  const none = { url: "ws://chat.example/ws", token: "t", WebSocket: undefined };
  const global = globalThis.WebSocket;
  delete globalThis.WebSocket;
  try {
    assert.throws(() => new ChatClient(none), /WebSocket/);
  } finally {
    if (global) globalThis.WebSocket = global;
  }
});

test("an attempt that ends with an error and no close has failed; an error by itself ends nothing else", async () => {
  server.onOpen = (connection) => connection.onerror({ message: "nobody is there" });
  await connect();
  const [, { state, error }] = app.states;
  assert.deepEqual([state, error.code, error.message], ["reconnecting", "cannot_connect", "nobody is there"]);
  server.onOpen = null;
  await clock.pass(1_000);
  server.current.onerror({ message: "something" });
  assert.equal(app.state, "online");
});
