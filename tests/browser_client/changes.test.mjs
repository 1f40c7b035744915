/** Changes of messages: stored once and in order, or rejected with the truth. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { app, client, clock, connect, server } from "./setup.mjs";
import { failure, settle } from "./virtual.mjs";

beforeEach(() => connect());

const TOPIC = "room:a";
const types = () => server.topic(TOPIC).events.map(({ type }) => type);
const message = (seq = 1) => server.topic(TOPIC).messages.find((one) => one.seq === seq);

/** Call a verb, and note what becomes of it. */
function note(promise) {
  const entry = { answer: null, error: null };
  promise.then(
    (answer) => (entry.answer = answer),
    (error) => (entry.error = error),
  );
  return entry;
}

const VERBS = {
  edit: () => client.edit(TOPIC, 1, { text: "b" }),
  append: () => client.append(TOPIC, 1, "b", { state: "complete" }),
  delete: () => client.delete(TOPIC, 1),
  react: () => client.react(TOPIC, 1, "👍"),
};

for (const [verb, call] of Object.entries(VERBS)) {
  test(`${verb} is stored once, though its answer is lost`, async () => {
    server.store(TOPIC, "a");
    server.loses = ({ type }) => type === verb;
    const change = note(call());
    await settle();
    server.loses = () => false;
    server.current.shut();
    await clock.pass(1_000);
    assert.equal(server.of(verb).length, 2);
    assert.equal(types().length, 2);
    assert.deepEqual([change.answer.target, change.answer.seq], [1, 2]);
    assert.equal(change.answer.duplicate, true);
  });

  test(`${verb} waits for a connection and for a rate that allows it`, async () => {
    server.store(TOPIC, "a");
    server.current.shut();
    const change = note(call());
    let refusals = 2;
    server.answer = ({ type }) =>
      type === verb && refusals-- > 0 ? failure("rate_limited", { retry_in_ms: 20 }) : undefined;
    await clock.pass(2_000);
    assert.equal(change.answer.seq, 2);
  });

  test(`${verb} of no message is refused, and changes nothing`, async () => {
    const change = note(call());
    await settle();
    assert.deepEqual([change.error.code, change.error.mayBeSent], ["not_found", false]);
  });
}

const AT = { epoch: "e0" };
const NAMED = {
  edit: () => client.edit(TOPIC, 1, { text: "b" }, AT),
  append: () => client.append(TOPIC, 1, "b", AT),
  delete: () => client.delete(TOPIC, 1, AT),
  react: () => client.react(TOPIC, 1, "👍", AT),
  read: () => client.read(TOPIC, 1, AT),
};

for (const [verb, call] of Object.entries(NAMED)) {
  test(`${verb} keeps the epoch of its seq, however often it is sent`, async () => {
    server.store(TOPIC, "a");
    server.loses = ({ type }) => type === verb;
    note(call());
    await settle();
    server.loses = () => false;
    server.current.shut();
    await clock.pass(1_000);
    assert.deepEqual(server.of(verb).map(({ epoch }) => epoch), ["e0", "e0"]);
  });
}

test("without an epoch a seq is sent bare", async () => {
  server.store(TOPIC, "a");
  for (const call of Object.values(VERBS)) await note(call());
  await settle();
  assert.equal(server.commands.length, 4);
  assert.ok(server.commands.every((command) => !("epoch" in command)));
});

test("publications and changes keep their order", async () => {
  server.current.shut();
  client.publish(TOPIC, "a");
  client.append(TOPIC, 1, "b");
  client.react(TOPIC, 1, "👍", { key: "one" });
  client.react(TOPIC, 1, "👍", { remove: true });
  client.publish(TOPIC, "c");
  client.edit(TOPIC, 5, { text: "d" });
  client.delete(TOPIC, 1);
  await clock.pass(2_000);
  assert.deepEqual(types(), [
    ...["message", "appended", "reaction", "reaction", "message", "edited", "deleted"],
  ]);
  assert.equal(server.of("react")[0].key, "one");
});

test("the cursor of reading, presence and signals are asked for as the protocol says", async () => {
  assert.equal((await client.read(TOPIC, 7)).seq, 7);
  assert.deepEqual(await client.unread(TOPIC, "room:b"), {});
  assert.deepEqual(await client.unread(TOPIC, { readers: true }), {});
  assert.equal((await client.presence(TOPIC, { after: "ann", limit: 3 })).count, 0);
  await client.signal(TOPIC, { wave: true });
  assert.deepEqual(await client.call("roll", { sides: 6 }), ["roll", { sides: 6 }]);
  assert.deepEqual(await client.call("roll"), ["roll", null]);
  await assert.rejects(client.call("roll", NaN), { code: "bad_request" });
  const [read, unread, readers, presence, signal] = server.commands;
  assert.deepEqual([read.type, read.topic, read.seq], ["read", TOPIC, 7]);
  assert.deepEqual([unread.type, unread.topics], ["unread", [TOPIC, "room:b"]]);
  assert.equal("readers" in unread, false);
  assert.deepEqual([readers.type, readers.topics, readers.readers], ["unread", [TOPIC], true]);
  assert.deepEqual([presence.after, presence.limit], ["ann", 3]);
  assert.deepEqual([signal.type, signal.data], ["signal", { wave: true }]);
  server.current.shut();
  await assert.rejects(client.unread(TOPIC), { code: "connection_lost" });
});

test("a cursor whose answer is lost is set again, however late", async () => {
  server.loses = ({ type }) => type === "read";
  const read = note(client.read(TOPIC, 3));
  await settle();
  server.loses = () => false;
  clock.sleep(3_600_000);
  server.current.shut();
  await clock.pass(1_000);
  assert.equal(read.answer.seq, 3);
  assert.equal(server.of("history").length, 0);
});

/** Subscribe, change the message "a", lose the answer or the command, and come back in an hour. */
async function comeBackLater(call, arrives, meanwhile = () => {}) {
  client.subscribe(TOPIC, app);
  server.store(TOPIC, "a");
  await settle();
  server.loses = () => true;
  if (!arrives) server.answer = () => null;
  const change = note(call());
  await settle();
  server.loses = () => false;
  server.answer = () => undefined;
  meanwhile();
  clock.sleep(3_600_000);
  server.current.shut();
  await clock.pass(1_000);
  return change;
}

test("when the key is forgotten, what is stored is found in the message", async () => {
  const edit = await comeBackLater(VERBS.edit, true);
  assert.deepEqual(edit.error, null);
  assert.deepEqual([edit.answer.seq, edit.answer.duplicate], [2, true]);
  assert.deepEqual(types(), ["message", "edited"]);
});

test("when the key is forgotten, a deleted message is deleted", async () => {
  const deletion = await comeBackLater(VERBS.delete, true);
  assert.deepEqual([deletion.answer.seq, deletion.answer.duplicate], [2, true]);
  assert.equal(server.of("delete").length, 1);
});

for (const [verb, call] of Object.entries(VERBS)) {
  test(`when the key is forgotten, ${verb} of a message that is as it was is sent again`, async () => {
    const change = await comeBackLater(call, false);
    assert.deepEqual([change.answer.seq, change.answer.duplicate], [2, false]);
    assert.equal(types().length, 2);
  });
}

test("when the key is forgotten and the message is another, the outcome is unknown", async () => {
  for (const [verb, arrives] of [["append", true], ["append", false], ["edit", false]]) {
    server.topics.clear();
    const change = await comeBackLater(VERBS[verb], arrives, () =>
      server.change(TOPIC, "edited", 1, { data: "z" }, "bob"),
    );
    assert.deepEqual([change.error?.code, change.error?.mayBeSent], ["unknown_outcome", true], verb);
    assert.equal(server.of(verb).length, 1);
    client.close();
    server.commands.length = 0;
    await connect();
  }
});

test("a publication is found though the positions around it are those of changes", async () => {
  client.subscribe(TOPIC, app);
  server.store(TOPIC, "a");
  server.change(TOPIC, "reaction", 1, { emoji: "👍" }, "bob");
  await settle();
  server.loses = ({ type }) => type === "publish";
  const publication = app.publish(client, TOPIC, "b");
  await settle();
  server.loses = () => false;
  server.change(TOPIC, "reaction", 1, { emoji: "👎" }, "bob");
  clock.sleep(3_600_000);
  server.current.shut();
  await clock.pass(1_000);
  assert.deepEqual([publication.error, publication.stored?.seq], [null, 3]);
  assert.equal(server.of("publish").length, 1);
});

test("a message of one's own that was edited may be the publication", async () => {
  client.subscribe(TOPIC, app);
  await settle();
  server.loses = ({ type }) => type === "publish";
  const publication = app.publish(client, TOPIC, "b");
  await settle();
  server.loses = () => false;
  server.change(TOPIC, "edited", 1, { data: "c" });
  clock.sleep(3_600_000);
  server.current.shut();
  await clock.pass(1_000);
  assert.deepEqual([publication.error?.code, publication.error?.mayBeSent], ["unknown_outcome", true]);
  assert.equal(message().data, "c");
});

test("typing is said once in three seconds for each topic, and only to those who are there", async () => {
  for (let key = 0; key < 100; key += 1) {
    client.typing(TOPIC);
    if (key === 50) client.typing("room:b");
    await clock.pass(100);
  }
  assert.equal(server.of("signal").filter(({ topic }) => topic === TOPIC).length, 4);
  assert.deepEqual(server.of("signal")[0].data, { typing: true });
  assert.equal(server.of("signal").length, 5);
  server.current.shut();
  client.typing(TOPIC);
  client.close();
  assert.equal(clock.pending, 0);
});

test("changes of no value are refused before anything is sent", async () => {
  for (const call of [
    () => client.edit(TOPIC, 1, undefined),
    () => client.edit(TOPIC, NaN, 1),
    () => client.delete(TOPIC, 1, { key: "" }),
    () => client.react(TOPIC, 1n, "👍"),
    () => client.signal(TOPIC, { n: Infinity }),
    () => client.signal(TOPIC),
  ]) {
    await assert.rejects(call(), { code: "bad_request", mayBeSent: false });
  }
  assert.equal(server.commands.length, 0);
});
