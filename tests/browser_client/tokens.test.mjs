/** Tokens: renewed ahead of their end, fetched by functions that are slow, fail and hang. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { app, client, clock, connect as open, server } from "./setup.mjs";
import { failure, settle } from "./virtual.mjs";

async function connect(token, options = {}) {
  await open({ token, ...options });
  await clock.pass(0);
}

const wait = (ms) => new Promise((wake) => setTimeout(wake, ms));

/** Make the server enforce tokens that live for `seconds`, as the real one does. */
function expiring(seconds, graceSeconds = 25) {
  let number = 0;
  const claims = () => ({ iat: clock.wall / 1000, exp: clock.wall / 1000 + seconds });
  const mint = () => `x.${btoa(JSON.stringify({ ...claims(), number: (number += 1) }))}.x`;
  const ends = new Map();
  const end = (token) => JSON.parse(atob(token.split(".")[1])).exp;
  const enforce = async (connection) => {
    while (connection.isOpen) {
      const left = ends.get(connection) * 1000 - clock.wall;
      if (left > 0) {
        await wait(left);
      } else {
        connection.deliver(failure("unauthorized"));
        await wait(graceSeconds * 1000);
        if (clock.wall >= ends.get(connection) * 1000) connection.shut(4401, "expired", true);
      }
    }
  };
  server.onOpen = (connection) => {
    server.expiresAt = end(connection.token);
    ends.set(connection, server.expiresAt);
    if (clock.wall >= server.expiresAt * 1000) return connection.shut(4401, "expired", true);
    server.welcome(connection);
    enforce(connection);
  };
  server.answer = (command, connection) => {
    const expired = clock.wall >= ends.get(connection) * 1000;
    if (command.type === "auth") {
      if (clock.wall >= end(command.token) * 1000) return failure("unauthorized");
      server.expiresAt = end(command.token);
      ends.set(connection, server.expiresAt);
    } else if (expired && command.type !== "ping") {
      return failure("unauthorized");
    }
    return undefined;
  };
  return mint;
}

for (const [seconds, delay] of [
  [6, 0],
  [6, 300],
  [6, 2_000],
  [3, 2_500],
]) {
  test(`tokens of ${seconds} s from a function of ${delay} ms cost no publication`, async () => {
    const mint = expiring(seconds);
    await connect(async () => {
      const token = mint();
      await wait(delay);
      return token;
    });
    for (let number = 0; number < 1_000; number += 1) {
      app.publish(client, "room:a", number);
      await clock.pass(50);
    }
    await clock.pass(5_000);
    assert.deepEqual(app.outcomes.filter(({ error }) => error), []);
    assert.deepEqual(server.texts("room:a"), app.outcomes.map(({ data }) => data));
    // What begins at half of the life that is left, or up to a quarter of that later, must be in time.
    // Otherwise the token has expired for some of the time, which the server bears only so long.
    if (delay < 0.75 * ((1_000 * seconds - delay) / 2)) assert.equal(server.connections.length, 1);
  });
}

test("a token is renewed before it expires, not by all clients at once", async () => {
  const mint = expiring(600);
  const { random } = Math;
  try {
    for (const [luck, soonest] of [[0, 540_000], [0.999, 554_000]]) {
      Math.random = () => luck;
      await connect(mint);
      const before = server.of("auth").length;
      await clock.pass(soonest - 1_000);
      assert.equal(server.of("auth").length, before);
      await clock.pass(2_000);
      assert.equal(server.of("auth").length, before + 1);
      client.close();
    }
  } finally {
    Math.random = random;
  }
});

for (const hours of [-10, -0.2, 0.2, 10]) {
  test(`a clock that is wrong by ${hours} hours costs no publication`, async () => {
    const real = expiring(120);
    // The server has the right time, and so has who mints tokens; only the client's is wrong.
    const right = () => clock.wall;
    await connect(real);
    Date.now = () => right() + hours * 3_600_000;
    for (let number = 0; number < 120; number += 1) {
      app.publish(client, "room:a", number);
      await clock.pass(5_000);
    }
    assert.deepEqual(app.outcomes.filter(({ stored }) => !stored), []);
    assert.ok(server.of("auth").length <= 60, `${server.of("auth").length} renewals in 10 min`);
    assert.equal(server.connections.length, 1);
  });
}

for (const expiresAt of [1, -1, 1e300, NaN, "soon", undefined]) {
  test(`expires_at of ${expiresAt} makes no renewal run wild`, async () => {
    server.expiresAt = expiresAt;
    let calls = 0;
    await connect(() => `token${(calls += 1)}`);
    await clock.pass(600_000);
    assert.equal(calls, 1);
    assert.equal(app.state, "online");
  });
}

test("commands wait while an expired token is replaced, subscriptions and history too", async () => {
  const mint = expiring(6);
  let slow = 0;
  await connect(async () => {
    const [token, delay] = [mint(), slow];
    await wait(delay);
    return token;
  });
  slow = 4_000; // begun at 3 s to 3.75 s, so that the token is away from 6 s to 7 s at least
  await clock.pass(6_100);
  client.subscribe("room:a", app);
  const publication = app.publish(client, "room:a", "held");
  let page = null;
  client.history("room:a").then((answer) => (page = answer));
  await clock.pass(2_000);
  assert.equal(publication.stored.seq, 1);
  assert.equal(page.messages.length, 1);
  assert.deepEqual(app.events.map(({ data }) => data), ["held"]);
  assert.deepEqual(app.errors, []);
});

test("a renewal that fails is repeated, and a refused one too", async () => {
  const mint = expiring(60);
  let calls = 0;
  await connect(() => {
    calls += 1;
    if (calls === 2 || calls === 4) throw new Error("the issuer is away");
    return calls === 3 ? `x.${btoa(JSON.stringify({ exp: 1 }))}.x` : mint();
  });
  await clock.pass(58_000);
  assert.equal(calls, 5);
  assert.equal(server.connections.length, 1);
});

test("a function that hangs is waited for within a deadline, at the start", async () => {
  const mint = expiring(60);
  let calls = 0;
  await connect(() => ((calls += 1) <= 2 ? new Promise(() => {}) : mint()));
  await clock.pass(9_900);
  assert.equal(calls, 1);
  await clock.pass(200);
  assert.equal(app.states.at(-1).error.code, "token_failed");
  await clock.pass(20_000);
  assert.equal(app.state, "online");
});

test("a function that hangs is waited for within a deadline, in a renewal", async () => {
  const mint = expiring(30);
  let calls = 0;
  await connect(() => ((calls += 1) === 2 ? new Promise(() => {}) : mint()));
  await clock.pass(29_800);
  assert.equal(calls, 3);
  assert.equal(server.of("auth").length, 1);
});

test("a function that hangs for ever loses and doubles nothing", async () => {
  const mint = expiring(10, 5);
  let hangs = false;
  await connect(() => (hangs ? new Promise(() => {}) : mint()));
  hangs = true;
  for (let number = 0; number < 60; number += 1) {
    app.publish(client, "room:a", number);
    await clock.pass(1_000);
  }
  assert.ok(app.outcomes.at(-1).stored === null);
  hangs = false;
  await clock.pass(60_000);
  assert.deepEqual(server.texts("room:a"), app.outcomes.map(({ data }) => data));
  assert.ok(app.outcomes.every(({ stored }) => stored));
});

for (const [what, token] of [
  ["throws", () => { throw new Error("no"); }],
  ["is rejected", async () => { throw new Error("no"); }],
  ["is rejected with nothing", () => Promise.reject()],
  ["returns nothing", () => undefined],
  ["returns a number", () => 7],
]) {
  test(`a function that ${what} is asked again, with growing waits`, async () => {
    let calls = 0;
    await connect(() => {
      calls += 1;
      return token();
    });
    assert.equal(app.state, "reconnecting");
    assert.equal(app.states.at(-1).error.code, "token_failed");
    await clock.pass(300_000);
    assert.ok(calls >= 10 && calls <= 60, `${calls} calls in 5 min`);
  });
}

test("fresh tokens that are refused for a while do not end a client", async () => {
  server.onOpen = (connection) => connection.shut(4401, "unknown key", true);
  await connect(() => "t");
  await clock.pass(70_000);
  assert.equal(app.state, "reconnecting");
  assert.equal(app.states.at(-1).error.code, "unauthorized");
  assert.ok(server.connections.length <= 20);
  server.onOpen = null;
  await clock.pass(31_000);
  assert.equal(app.state, "online");
});

test("fresh tokens that are refused for minutes do", async () => {
  server.onOpen = (connection) => connection.shut(4401, "not for you", true);
  await connect(() => "t");
  await clock.pass(240_000);
  assert.equal(app.state, "closed");
  assert.equal(app.states.at(-1).error.code, "unauthorized");
});

test("a token that is a string ends with its token", async () => {
  const mint = expiring(10, 5);
  await connect(mint());
  await clock.pass(11_000);
  const publication = app.publish(client, "room:a", 1);
  await clock.pass(100);
  assert.equal(publication.error.code, "unauthorized");
  assert.equal(publication.error.mayBeSent, false);
  await clock.pass(10_000);
  assert.equal(app.states.at(-1).error.code, "unauthorized");
});

test("another user's token does not send what waits", async () => {
  await connect(() => "t");
  server.answer = () => null;
  const publication = app.publish(client, "room:a", "alice's");
  await settle();
  server.user = "mallory";
  server.answer = () => undefined;
  server.current.shut();
  await clock.pass(1_000);
  assert.equal(app.state, "closed");
  assert.equal(publication.error.mayBeSent, true);
  assert.deepEqual(server.texts("room:a"), []);
});

test("a token that is no fresher than the one before is no renewal", async () => {
  const mint = expiring(6);
  const { answer } = server;
  server.answer = (command, connection) => {
    if (command.type !== "auth") return answer(command, connection);
    // As a server that lets clocks differ: it takes a token that has just expired.
    const taken = answer({ ...command }, connection);
    const { exp } = JSON.parse(atob(command.token.split(".")[1]));
    return taken ? { type: "ok", user: "alice", expires_at: exp } : undefined;
  };
  let [calls, kept, until] = [0, null, 0];
  await connect(() => {
    calls += 1;
    if (clock.wall > until + 2_000) [kept, until] = [mint(), clock.wall + 6_000];
    return kept;
  });
  for (let number = 0; number < 600; number += 1) {
    app.publish(client, "room:a", number);
    await clock.pass(100);
  }
  await clock.pass(20_000);
  assert.deepEqual(app.outcomes.filter(({ stored }) => !stored), []);
  assert.deepEqual(server.texts("room:a"), app.outcomes.map(({ data }) => data));
  assert.ok(calls <= 120, `${calls} calls in 80 s`);
});

test("a server that keeps saying that the token has expired gets one each second at most", async () => {
  let calls = 0;
  await connect(() => `token${(calls += 1)}`);
  for (let turn = 0; turn < 1_400; turn += 1) {
    server.current.deliver(failure("unauthorized"));
    await clock.pass(10);
  }
  assert.ok(calls >= 10 && calls <= 16, `${calls} calls in 14 s`);
});

test("a server that takes tokens and refuses commands ends them, in time", async () => {
  await connect(() => "t");
  server.answer = ({ type }) => (type === "publish" ? failure("unauthorized") : undefined);
  const publication = app.publish(client, "room:a", 1);
  await clock.pass(100_000);
  assert.equal(publication.error, null);
  await clock.pass(30_000);
  assert.equal(publication.error.code, "unauthorized");
  assert.equal(publication.error.mayBeSent, false);
  assert.ok(server.of("auth").length <= 130);
});

test("a renewal with another user's token ends the client at once", async () => {
  const token = (sub) => `x.${btoa(JSON.stringify({ sub }))}.x`;
  let sub = "alice";
  await connect(() => token(sub));
  sub = "bob";
  server.answer = ({ type }) => (type === "ping" ? undefined : failure("unauthorized"));
  const publication = app.publish(client, "room:a", "alice's");
  server.user = "bob";
  await clock.pass(1_000);
  assert.equal(app.state, "closed");
  assert.equal(app.states.at(-1).error.code, "unauthorized");
  assert.equal(publication.error.code, "unauthorized");
  assert.equal(publication.error.mayBeSent, false);
  assert.deepEqual(server.texts("room:a"), []);
});

test("changes, streams and questions lose nothing while tokens expire", async () => {
  const mint = expiring(6);
  await connect(async () => {
    const token = mint();
    await wait(3_500); // longer than from a renewal to the end
    return token;
  });
  await clock.pass(3_500);
  const opening = client.stream("room:a");
  await clock.pass(10);
  const stream = await opening;
  const failures = [];
  let expected = "";
  for (let number = 0; number < 200; number += 1) {
    expected += `${number} `;
    stream.write(`${number} `).catch((error) => failures.push(error));
    client.react("room:a", stream.seq, "👍", { remove: number % 2 > 0 }).catch((error) => failures.push(error));
    client.unread("room:a").catch((error) => failures.push(error));
    await clock.pass(100);
  }
  const done = stream.complete();
  await clock.pass(5_000);
  await done;
  assert.deepEqual(failures, []);
  const [message] = server.topic("room:a").messages;
  assert.deepEqual([message.data, message.state, message.reactions], [expected, "complete", undefined]);
  const reactions = server.topic("room:a").events.filter(({ type }) => type === "reaction");
  assert.equal(reactions.length, 200);
  assert.ok(reactions.every(({ remove }, index) => Boolean(remove) === index % 2 > 0));
});
