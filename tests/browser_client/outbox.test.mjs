/** Publications: stored once, in their order, or rejected with the truth. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { app, client, clock, connect, server } from "./setup.mjs";
import { failure, settle } from "./virtual.mjs";

beforeEach(() => connect());

const stored = () => server.texts("room:a");

/** Publish, lose the answer, and let the connection break. */
async function loseAnswer(data = "x") {
  server.loses = ({ type }) => type === "publish";
  const publication = app.publish(client, "room:a", data);
  await settle();
  server.loses = () => false;
  server.current.shut();
  return publication;
}

test("a lost answer is asked for again, with the key", async () => {
  const publication = await loseAnswer();
  await clock.pass(1_000);
  assert.deepEqual(stored(), ["x"]);
  assert.equal(publication.stored.duplicate, true);
});

for (const [what, sleep] of [
  ["sleep that the clocks of timers do not count", () => clock.sleep(3_600_000)],
  ["absence", () => clock.pass(400_000)],
]) {
  test(`behind a ${what} a stored publication is found, not sent again`, async () => {
    client.subscribe("room:a", app);
    await settle();
    server.store("room:a", "earlier");
    await settle();
    server.onOpen = (connection) => connection.shut();
    const publication = await loseAnswer();
    server.store("room:a", "x", "bob");
    await sleep();
    server.onOpen = null;
    await clock.pass(31_000);
    assert.equal(server.of("publish").length, 1);
    assert.deepEqual(
      { ...publication.stored },
      { topic: "room:a", seq: 2, epoch: "e1", at: 1, duplicate: true },
    );
    assert.deepEqual(stored(), ["earlier", "x", "x"]);
  });
}

test("one that is not in history is sent again", async () => {
  client.subscribe("room:a", app);
  server.answer = ({ type }) => (type === "publish" ? null : undefined);
  const publication = app.publish(client, "room:a", "x");
  await settle();
  server.answer = () => undefined;
  clock.sleep(3_600_000);
  server.current.shut();
  await clock.pass(1_000);
  assert.deepEqual(stored(), ["x"]);
  assert.equal(publication.stored.duplicate, false);
});

test("without a subscription the last answer's position is looked behind", async () => {
  app.publish(client, "room:a", "first");
  await settle();
  const publication = await loseAnswer("first");
  clock.sleep(3_600_000);
  await clock.pass(1_000);
  assert.deepEqual(stored(), ["first", "first"]);
  assert.equal(publication.stored.seq, 2);
});

test("a topic that was read from its beginning needs no position", async () => {
  const publication = await loseAnswer();
  clock.sleep(3_600_000);
  await clock.pass(1_000);
  assert.deepEqual(stored(), ["x"]);
  assert.equal(publication.stored.seq, 1);
});

test("many pages of history are read", async () => {
  client.subscribe("room:a", app);
  await settle();
  const publication = await loseAnswer();
  for (let number = 0; number < 700; number += 1) server.store("room:a", number, "bob");
  clock.sleep(3_600_000);
  await clock.pass(1_000);
  assert.equal(publication.stored.seq, 1);
  assert.equal(server.of("history").length, 3);
});

const UNKNOWN = {
  "history may not be read": () => {
    server.answer = ({ type }) => (type === "history" ? failure("forbidden") : undefined);
  },
  "history is trimmed": () => {
    server.topic("room:a").trimmed = 1;
    server.store("room:a", "later", "bob");
  },
  "history is empty": () => {
    server.topic("room:a").trimmed = 1_000;
    server.store("room:a", "later", "bob");
  },
  "two such messages are there": () => server.store("room:a", "x"),
  "too much was written": () => {
    for (let number = 0; number < 3_100; number += 1) server.store("room:a", number, "bob");
  },
};

for (const [what, prepare] of Object.entries(UNKNOWN)) {
  test(`where ${what} the outcome is unknown, and nothing is sent again`, async () => {
    client.subscribe("room:a", app);
    await settle();
    const publication = await loseAnswer();
    prepare();
    clock.sleep(3_600_000);
    await clock.pass(2_000);
    assert.equal(publication.error?.code, "unknown_outcome");
    assert.equal(publication.error.mayBeSent, true);
    assert.equal(server.of("publish").length, 1);
    const next = app.publish(client, "room:a", "next");
    await clock.pass(1_000);
    assert.ok(next.stored, "the next one is not held up");
  });
}

test("a topic that began anew is looked through from its beginning", async () => {
  client.subscribe("room:a", app);
  await settle();
  server.store("room:a", "old");
  await settle();
  const publication = await loseAnswer();
  server.topics.set("room:a", { epoch: "e2", messages: [], keys: new Map() });
  server.store("room:a", "new", "bob");
  clock.sleep(3_600_000);
  await clock.pass(2_000);
  assert.deepEqual(stored(), ["new", "x"]);
  assert.equal(publication.stored.epoch, "e2");
});

test("history that is refused for a while is asked again", async () => {
  const publication = await loseAnswer();
  let refusals = 3;
  server.answer = ({ type }) =>
    type === "history" && refusals-- > 0 ? failure("unavailable") : undefined;
  clock.sleep(3_600_000);
  await clock.pass(20_000);
  assert.equal(publication.stored.seq, 1);
});

test("the server's window counts, not one of our own", async () => {
  server.limits = { ...server.limits, idempotency_seconds: 2 };
  server.current.shut();
  await clock.pass(1_000);
  const publication = await loseAnswer();
  await clock.pass(1_700);
  await clock.pass(10_000);
  assert.deepEqual(stored(), ["x"]);
  assert.ok(publication.stored);
});

test("what was refused may be sent again after the window, for it is not stored", async () => {
  server.answer = ({ type }) =>
    type === "publish" ? failure("rate_limited", { retry_in_ms: 60_000 }) : undefined;
  const publication = app.publish(client, "room:a", "x");
  await clock.pass(3_600_000);
  server.answer = () => undefined;
  await clock.pass(100_000);
  assert.ok(publication.stored);
  assert.equal(server.of("history").length, 0);
});

test("a refusal of a repetition says nothing of the first", async () => {
  const publication = await loseAnswer();
  server.answer = ({ type }) => (type === "publish" ? failure("forbidden") : undefined);
  await clock.pass(1_000);
  assert.equal(publication.error.code, "forbidden");
  assert.equal(publication.error.mayBeSent, true);
  const next = app.publish(client, "room:a", "y");
  await settle();
  assert.equal(next.error.mayBeSent, false);
});

test("closing tells sent ones from those that waited", async () => {
  server.answer = () => null;
  const sent = app.publish(client, "room:a", 1);
  const waiting = app.publish(client, "room:a", 2);
  await settle();
  client.close();
  await settle();
  assert.deepEqual([sent.error.code, sent.error.mayBeSent], ["closed", true]);
  assert.deepEqual([waiting.error.code, waiting.error.mayBeSent], ["closed", false]);
});

test("an answer that never comes does not hold up the outbox", async () => {
  // Answered without its id, as a frame that cannot be read.
  server.answer = ({ type, data }, connection) => {
    if (type !== "publish" || data !== "poison") return undefined;
    connection.deliver(failure("bad_request"));
    return null;
  };
  const poison = app.publish(client, "room:a", "poison");
  const next = app.publish(client, "room:a", "next");
  await clock.pass(10_000);
  assert.equal(poison.error.code, "unknown_outcome");
  assert.equal(server.of("publish").filter(({ data }) => data === "poison").length, 3);
  assert.ok(next.stored);
});

test("one that is silently dropped is found out by what is answered behind it", async () => {
  let dropped = 0;
  server.answer = ({ type }) => (type === "publish" && dropped++ === 0 ? null : undefined);
  const publication = app.publish(client, "room:a", "x");
  await clock.pass(12_000);
  assert.ok(publication.stored);
  assert.deepEqual(stored(), ["x"]);
});

test("a server that keeps a publication for a minute is waited for", async () => {
  server.answer = ({ type, id, ...rest }, connection) => {
    if (type === "unsubscribe") return null; // answers keep their order, so it waits as well
    if (type !== "publish") return undefined;
    const later = () => connection.deliver({ ...server.carryOut(connection, { type, ...rest }), id });
    setTimeout(later, 60_000);
    return null;
  };
  const publication = app.publish(client, "room:a", "x");
  await clock.pass(65_000);
  assert.equal(publication.stored.duplicate, false);
  assert.ok(server.of("ping").length > 1, "a pong, which does not wait, is the only sign of life");
  assert.equal(server.connections.length, 1);
});

test("one that ends three connections is given up, and the next one goes", async () => {
  server.answer = ({ type, data }, connection) => {
    if (type !== "publish" || data !== "huge") return undefined;
    connection.shut(1009);
    return null;
  };
  const huge = app.publish(client, "room:a", "huge");
  const next = app.publish(client, "room:a", "next");
  await clock.pass(20_000);
  assert.equal(huge.error.code, "unknown_outcome");
  assert.equal(server.of("publish").filter(({ data }) => data === "huge").length, 3);
  assert.ok(next.stored);
});

test("each topic keeps its order, whatever is refused and whenever connections break", async () => {
  let count = 0;
  server.answer = ({ type }, connection) => {
    if (type !== "publish") return undefined;
    count += 1;
    if (count % 41 === 0) connection.shut();
    return count % 3 === 0 ? failure("unavailable", { retry_in_ms: 10 }) : undefined;
  };
  for (let n = 0; n < 120; n += 1) app.publish(client, `room:${n % 3}`, n);
  await clock.pass(120_000);
  assert.ok(app.outcomes.every(({ stored: place }) => place));
  for (let topic = 0; topic < 3; topic += 1) {
    const expected = Array.from({ length: 40 }, (_, n) => 3 * n + topic);
    assert.deepEqual(server.texts(`room:${topic}`), expected);
  }
});

test("a topic that the server refuses for a while keeps up no other", async () => {
  server.answer = ({ type, topic }) =>
    type === "publish" && topic.startsWith("shut:") ? failure("unavailable", { retry_in_ms: 5_000 }) : undefined;
  const refused = Array.from({ length: 20 }, (_, n) => app.publish(client, `shut:${n}`, n));
  const publication = app.publish(client, "room:a", "x");
  await clock.pass(100);
  assert.ok(publication.stored);
  assert.ok(refused.every(({ stored: place }) => !place));
  server.answer = () => undefined;
  await clock.pass(60_000);
  assert.ok(refused.every(({ stored: place }) => place));
});

test("eight commands are under way at most, and every topic has its turn", async () => {
  const held = [];
  server.answer = (command, connection) => {
    if (command.type !== "publish") return undefined;
    held.push(() => connection.deliver({ ...server.carryOut(connection, command), id: command.id }));
    return null;
  };
  for (let n = 0; n < 40; n += 1) app.publish(client, `room:${n % 20}`, n);
  await settle();
  assert.equal(held.length, 8);
  for (let n = 0; n < 20; n += 1) {
    held[n]();
    await settle();
    assert.equal(held.length, 9 + n);
  }
  const topics = server.of("publish").map(({ topic }) => topic);
  assert.equal(new Set(topics.slice(0, 20)).size, 20, "none comes twice before all came once");
  client.close();
});

test("of what is under way when a connection breaks only the culprit is given up", async () => {
  server.answer = ({ type, data }, connection) => {
    if (type !== "publish" || data !== "huge") return undefined;
    connection.shut(1009);
    return null;
  };
  const huge = app.publish(client, "room:huge", "huge");
  const others = [];
  const busy = setInterval(() => {
    for (let n = 0; n < 12; n += 1) others.push(app.publish(client, `room:${n}`, n));
  }, 100);
  await clock.pass(2_000);
  clearInterval(busy);
  await clock.pass(60_000);
  assert.equal(huge.error.code, "unknown_outcome");
  assert.equal(server.of("publish").filter(({ data }) => data === "huge").length, 3);
  assert.ok(others.every(({ stored: place }) => place));
  for (let n = 0; n < 12; n += 1) assert.equal(server.texts(`room:${n}`).length, others.length / 12);
});

test("half a surrogate pair in data is made well-formed before it is sent", async () => {
  const text = "Nice one 😀".slice(0, 10);
  const data = { text, "k\ude00": ["\ud83d\ud83d", "😀", "\\ud83d", '\\"\ud83d'] };
  const publication = app.publish(client, "room:a", data);
  await settle();
  assert.ok(publication.stored);
  assert.deepEqual(stored(), [
    { text: "Nice one \ufffd", "k\ufffd": ["\ufffd\ufffd", "😀", "\\ud83d", '\\"\ufffd'] },
  ]);
  assert.ok(!/\\ud[89a-f]../.test(server.of("publish")[0].frame.replaceAll("\\\\", "")));
});

for (const key of ["a\ud83d", "", 7, null, "x".repeat(65), "😀".repeat(65)]) {
  test(`the key ${JSON.stringify(key).slice(0, 20)} is refused before anything is sent`, async () => {
    const publication = app.publish(client, "room:a", 1, { key });
    await settle();
    assert.equal(publication.error.code, "bad_request");
    assert.equal(server.commands.length, 0);
  });
}

test("a key may have 64 characters, whatever they are", async () => {
  const publication = app.publish(client, "room:a", 1, { key: "😀".repeat(64) });
  await settle();
  assert.ok(publication.stored);
});

const circle = {};
circle.circle = circle;
for (const data of [undefined, () => 1, 1n, circle, Symbol("x")]) {
  test(`data of type ${typeof data} that JSON cannot express is refused`, async () => {
    const publication = app.publish(client, "room:a", data);
    const next = app.publish(client, "room:a", "next");
    await settle();
    assert.equal(publication.error.code, "bad_request");
    assert.equal(publication.error.mayBeSent, false);
    assert.ok(next.stored);
  });
}

test("what is published is what it was then", async () => {
  const data = { text: "then" };
  app.publish(client, "room:a", "before");
  app.publish(client, "room:a", data);
  data.text = "later";
  await settle();
  assert.deepEqual(stored(), ["before", { text: "then" }]);
});

test("what is too large is rejected, in bytes and not in characters", async () => {
  const fits = app.publish(client, "room:a", "ä".repeat(32_000));
  const large = app.publish(client, "room:a", "ä".repeat(33_000));
  await settle();
  assert.ok(fits.stored);
  assert.equal(large.error.code, "too_large");
  assert.match(large.error.message, /^message: may have \d+ bytes/);
  assert.equal(large.error.mayBeSent, false);
});

test("the outbox has bounds", async () => {
  server.current.shut();
  server.onOpen = (connection) => connection.shut();
  for (let number = 0; number < 1_001; number += 1) app.publish(client, "room:a", number);
  await settle();
  assert.equal(app.outcomes.at(-1).error.code, "outbox_full");
  assert.equal(app.outcomes.at(-2).error, null);
  server.onOpen = null;
  await clock.pass(31_000);
  assert.equal(stored().length, 1_000);
  server.current.shut();
  server.onOpen = (connection) => connection.shut();
  const large = "x".repeat(2 ** 20);
  for (let number = 0; number < 20; number += 1) app.publish(client, "room:a", large);
  await settle();
  assert.equal(app.outcomes.slice(-20).filter(({ error }) => error).length, 5);
});

test("an onDelay that throws delays nothing", async (t) => {
  const reports = [];
  t.mock.method(console, "error", (error) => reports.push(error.message));
  let refusals = 2;
  server.answer = () => (refusals-- > 0 ? failure("rate_limited", { retry_in_ms: 10 }) : undefined);
  const onDelay = ({ code }) => {
    throw new Error(code);
  };
  const publication = app.publish(client, "room:a", 1, { onDelay });
  await clock.pass(1_000);
  assert.ok(publication.stored);
  assert.deepEqual(reports, ["rate_limited", "rate_limited"]);
});

test("closing within onDelay rejects what waits", async () => {
  server.answer = () => failure("unavailable");
  const publication = app.publish(client, "room:a", 1, { onDelay: () => client.close() });
  await clock.pass(5_000);
  assert.equal(publication.error.code, "closed");
  assert.equal(publication.error.mayBeSent, true, "`unavailable` says nothing of the outcome");
  assert.equal(clock.pending, 0);
});

test("numbers that JSON does not have are refused, also deep within", async () => {
  for (const data of [NaN, Infinity, { deep: [-Infinity] }]) {
    const publication = app.publish(client, "room:a", data);
    await settle();
    assert.equal(publication.error.code, "bad_request");
    assert.match(publication.error.message, /NaN|Infinity/);
  }
  assert.deepEqual(server.texts("room:a"), []);
});
