/** Messages that grow: all that was written is in them, once and in order. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { app, client, clock, connect, server } from "./setup.mjs";
import { failure, settle } from "./virtual.mjs";

beforeEach(() => connect());

const TOPIC = "room:a";
const message = (seq = 1) => server.topic(TOPIC).messages.find((one) => one.seq === seq);

test("a message grows and is completed", async () => {
  const stream = await client.stream(TOPIC, { data: { text: "", model: "m" } });
  assert.equal(message().state, "streaming");
  for (const token of ["one ", "two ", "three"]) {
    await stream.write(token);
    await clock.pass(100);
  }
  const done = stream.complete();
  await clock.pass(100);
  assert.deepEqual({ ...message().data }, { text: "one two three", model: "m" });
  assert.equal(message().state, "complete");
  assert.equal((await done).length, 13);
  assert.deepEqual([stream.seq, stream.topic, stream.text], [1, TOPIC, "one two three"]);
  await assert.rejects(stream.write("more"), { code: "gone" });
});

test("what is written while an append is under way leaves with the next", async () => {
  const stream = await client.stream(TOPIC);
  for (let number = 0; number < 1_000; number += 1) {
    await stream.write(`${number} `);
    await clock.pass(1);
  }
  await clock.pass(100);
  const expected = Array.from({ length: 1_000 }, (_, number) => `${number} `).join("");
  assert.equal(message().data, expected);
  const appends = server.of("append").length;
  assert.ok(appends > 20 && appends <= 45, `${appends} appends in a second, of 50 messages`);
});

test("the text of a stream is what it wrote, whatever others make of the message", async () => {
  const stream = await client.stream(TOPIC, { data: "So: " });
  await stream.write("one");
  await clock.pass(100);
  await client.edit(TOPIC, stream.seq, "Edited.");
  await stream.write(" two");
  const done = stream.complete();
  await clock.pass(100);
  await done;
  assert.equal(message().data, "Edited. two");
  assert.equal(stream.text, "So: one two");
});

test("many messages of one client share its rate", async () => {
  const streams = await Promise.all(Array.from({ length: 10 }, () => client.stream(TOPIC)));
  for (let number = 0; number < 200; number += 1) {
    for (const stream of streams) stream.write("x");
    await clock.pass(10);
  }
  assert.ok(server.of("append").length <= 85, `${server.of("append").length} in two seconds`);
  const done = Promise.all(streams.map((stream) => stream.complete()));
  await clock.pass(2_000);
  await done;
  assert.deepEqual(server.topic(TOPIC).messages.map(({ data }) => data), Array(10).fill("x".repeat(200)));
});

test("who writes faster than the server takes waits, and without waiting is refused", async () => {
  const stream = await client.stream(TOPIC);
  server.answer = ({ type }) => (type === "append" ? null : undefined);
  let written = 0;
  (async () => {
    for (;;) {
      await stream.write("x".repeat(1_000));
      written += 1;
    }
  })().catch(() => {});
  await clock.pass(5_000);
  assert.ok(written < 30, `${written} kilobytes wait`);
  stream.write("x".repeat(2 ** 20 - 32_000)).catch(() => {});
  await assert.rejects(stream.write("x".repeat(32_000)), { code: "outbox_full" });
});

test("connections that break lose and double nothing", async () => {
  const stream = await client.stream(TOPIC);
  let expected = "";
  for (let number = 0; number < 200; number += 1) {
    expected += `${number} `;
    stream.write(`${number} `);
    if (number % 20 === 10) server.loses = ({ type }) => type === "append";
    if (number % 20 === 15) {
      server.loses = () => false;
      server.current?.shut();
    }
    await clock.pass(50);
  }
  const done = stream.complete();
  await clock.pass(40_000); // longer than from one attempt to connect to the next
  await done;
  assert.equal(message().data, expected);
  assert.equal(stream.text, expected);
});

test("its appends name the epoch in which the message is", async () => {
  const stream = await client.stream(TOPIC);
  for (const [epoch, text] of [["e1", "a"], ["e2", "b"], ["e2", "c"]]) {
    server.topic(TOPIC).epoch = epoch; // one that takes the message over
    await stream.write(text);
    await clock.pass(100);
    assert.equal(stream.epoch, epoch);
  }
  assert.deepEqual(server.of("append").map(({ epoch }) => epoch), ["e1", "e1", "e2"]);
});

test("what is not there any more is not ended", async () => {
  const stream = await client.stream(TOPIC);
  server.answer = ({ type }) => (type === "append" ? failure("not_found") : undefined);
  await stream.write("a");
  await assert.rejects(stream.complete(), { code: "not_found" });
  await clock.pass(1_000);
  assert.equal(server.of("append").length, 1);
});

for (const arrives of [true, false]) {
  test(`behind a sleep an append that ${arrives ? "arrived" : "did not arrive"} is told by the text`, async () => {
    const stream = await client.stream(TOPIC);
    await stream.write("one ");
    await clock.pass(100);
    server.loses = () => true;
    if (!arrives) server.answer = () => null;
    await stream.write("two ");
    await clock.pass(100);
    server.loses = () => false;
    server.answer = () => undefined;
    clock.sleep(3_600_000);
    server.current.shut();
    await clock.pass(1_000);
    const done = stream.complete();
    await clock.pass(100);
    await done;
    assert.equal(message().data, "one two ");
    assert.equal(server.of("append").length, arrives ? 3 : 4);
  });
}

test("a reader stops it by a signal", async () => {
  client.subscribe(TOPIC, app);
  const stream = await client.stream(TOPIC);
  for (const cancel of ["1", 2, null, [1], true]) {
    server.current.deliver({ type: "signal", topic: TOPIC, from: { user: "bob" }, data: { cancel } });
  }
  server.current.deliver({ type: "signal", topic: "room:b", from: null, data: { cancel: 1 } });
  server.current.deliver({ type: "signal", topic: TOPIC, from: null, data: null });
  assert.equal(stream.cancelled, false);
  await client.cancel(TOPIC, stream.seq);
  await settle();
  assert.equal(stream.cancelled, true);
  await stream.write("the last words");
  const done = stream.complete();
  await clock.pass(100);
  await done;
  assert.deepEqual([message().data, message().state], ["the last words", "cancelled"]);
  assert.deepEqual(app.events.filter(({ data }) => data?.cancel === 1).length, 1);
});

test("a text that is refused ends the message, and tells who writes", async () => {
  const stream = await client.stream(TOPIC);
  server.answer = ({ type, text }) => (type === "append" && text ? failure("too_large") : undefined);
  await stream.write("too much");
  await clock.pass(100);
  await assert.rejects(stream.write("more"), { code: "too_large" });
  await assert.rejects(stream.complete(), { code: "too_large" });
  assert.equal(message().state, "cancelled");
});

test("a message that somebody deletes is gone", async () => {
  const stream = await client.stream(TOPIC);
  server.change(TOPIC, "deleted", 1, {}, "moderator");
  await stream.write("x");
  await clock.pass(100);
  await assert.rejects(stream.cancel(), { code: "gone" });
  await clock.pass(10_000);
  assert.equal(server.of("append").length, 1);
});

test("closing the client ends it", async () => {
  const stream = await client.stream(TOPIC);
  server.answer = () => null;
  await stream.write("x");
  await stream.write("y".repeat(16_000));
  const waits = stream.write("z".repeat(1_000));
  client.close();
  await assert.rejects(waits, { code: "closed" });
  await assert.rejects(stream.complete(), { code: "closed" });
  await assert.rejects(client.stream(TOPIC), { code: "closed" });
  assert.equal(clock.pending, 0);
});

test("a surrogate pair may be written in two halves", async () => {
  const stream = await client.stream(TOPIC);
  for (const token of ["a\ud83d", "\ude00b", "\ud83d", "\ud83d", "\ude00"]) {
    await stream.write(token);
    await clock.pass(100);
  }
  await stream.write("\ud83d");
  const done = stream.complete();
  await clock.pass(100);
  await done;
  assert.equal(message().data, "a😀b\ufffd😀\ufffd");
  assert.equal(stream.text, message().data);
});

test("a text longer than a message of the server leaves in parts", async () => {
  const stream = await client.stream(TOPIC);
  const text = "😀".repeat(10_000);
  stream.write("x" + text);
  const done = stream.complete();
  await clock.pass(2_000);
  await done;
  assert.equal(message().data, "x" + text);
  assert.ok(server.of("append").every(({ frame }) => frame.length < 9_000));
});

test("what is no text is refused", async () => {
  await assert.rejects(client.stream(TOPIC, { data: { n: 1 } }), { code: "bad_request" });
  await assert.rejects(client.stream(TOPIC, { data: null }), { code: "bad_request" });
  const stream = await client.stream(TOPIC);
  await assert.rejects(stream.write(1), { code: "bad_request" });
  await assert.rejects(stream.write(), { code: "bad_request" });
  assert.equal(server.of("append").length, 0);
});
