/** Messages as they now are, made of events. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Messages, changed } from "./client.js";

const message = (seq, data, more = {}) => ({ type: "message", seq, at: 1, from: { user: "ann" }, data, ...more });
const reaction = (seq, target, user, more = {}) => ({
  type: "reaction", seq, target, at: 1, from: { user }, emoji: "👍", ...more,
});

/** Apply events to messages; return the data of what they made. */
function fold(...events) {
  const messages = new Messages();
  for (const event of events) messages.apply(event);
  return messages;
}

test("an event that a message shows already changes nothing", () => {
  const known = message(3, "abc", { version: 7 });
  const event = { type: "appended", target: 3, at: 1, text: "c", length: 3, seq: 7 };
  assert.equal(changed(known, event), known);
  assert.equal(changed(known, { ...event, seq: 8, length: 4, text: "d" }).data, "abcd");
  assert.equal(changed(message(3, "a"), { ...event, seq: 3 }).data, "a");
});

test("of appends that came as one, only what is missing is added", () => {
  const event = { type: "appended", seq: 9, first: 5, target: 1, at: 1, text: "b😀c😀", length: 5 };
  for (const [known, version] of [["a", 4], ["ab", 5], ["ab😀", 6], ["ab😀c", 8]]) {
    assert.equal(changed(message(1, known, { version }), event).data, "ab😀c😀");
  }
  const object = message(1, { text: "ab", model: "m" }, { version: 6 });
  assert.deepEqual(changed(object, event).data, { text: "ab😀c😀", model: "m" });
  assert.deepEqual(object.data, { text: "ab", model: "m" }, "messages are not changed in place");
});

test("the state of a message follows its appends", () => {
  const event = { type: "appended", seq: 2, target: 1, at: 1, text: "b", length: 2, state: "complete" };
  const messages = fold(message(1, "a", { state: "streaming" }), event);
  assert.deepEqual(messages.get(1), message(1, "ab", { state: "complete", version: 2 }));
});

test("a deleted message has nothing left, and ignores what follows", () => {
  const messages = fold(
    message(1, "a", { state: "streaming" }),
    reaction(2, 1, "bob"),
    { type: "edited", seq: 3, target: 1, at: 2, data: "b" },
    { type: "deleted", seq: 4, target: 1, at: 3, from: { user: "ann" } },
    { type: "edited", seq: 5, target: 1, at: 4, data: "c" },
    reaction(6, 1, "bob"),
  );
  assert.deepEqual(messages.get(1), message(1, null, { deleted: true, version: 4 }));
});

test("reactions are counted, and the first ten who react are named", () => {
  const users = Array.from({ length: 12 }, (_, number) => `user${number}`);
  const messages = fold(message(1, "a"), ...users.map((user, index) => reaction(2 + index, 1, user)));
  assert.deepEqual(messages.get(1).reactions, { "👍": { count: 12, users: users.slice(0, 10) } });
  messages.apply(reaction(14, 1, "user3", { remove: true }));
  messages.apply(reaction(15, 1, "user11", { remove: true }));
  messages.apply(reaction(16, 1, "late"));
  const { count, users: named } = messages.get(1).reactions["👍"];
  assert.equal(count, 11);
  assert.deepEqual(named, users.slice(0, 11).filter((user) => user !== "user3"));
  for (let seq = 17; seq < 2_017; seq += 1) messages.apply(reaction(seq, 1, `more${seq}`));
  assert.equal(messages.get(1).reactions["👍"].count, 2_011);
  messages.apply(reaction(3_000, 1, "user0", { remove: true }));
  assert.equal(messages.get(1).reactions["👍"].users.length, 9, "what is remembered is bounded");
});

test("whom history names is named, as far as it was told", () => {
  let last = 1;
  const random = (below) => (last = (last * 48_271) % 2_147_483_647) % below;
  for (let round = 0; round < 300; round += 1) {
    let there = [];
    const shown = () => (there.length > 0 ? { "👍": { count: there.length, users: there.slice(0, 10) } } : undefined);
    const [seen, late] = [new Messages(), new Messages()];
    seen.add([message(1, "a")]);
    const from = random(60);
    let named;
    for (let seq = 2; seq < 120; seq += 1) {
      const user = `user${random(14)}`;
      const remove = random(3) === 0;
      if (there.includes(user) === remove) {
        there = remove ? there.filter((other) => other !== user) : [...there, user];
        const event = reaction(seq, 1, user, remove ? { remove } : {});
        for (const messages of [seen, late]) messages.apply(event);
        if (named && !remove) named.add(user);
      }
      if (seq === from + 2) {
        const reactions = shown();
        named = new Set(reactions?.["👍"].users);
        late.add([message(1, "a", reactions ? { version: seq, reactions } : { version: seq })]);
      }
      assert.deepEqual(seen.get(1).reactions, shown());
      if (!named) continue;
      const reactions = late.get(1).reactions?.["👍"];
      assert.equal(reactions?.count ?? 0, there.length);
      const first = there.slice(0, 10);
      const unknown = first.findIndex((other) => !named.has(other));
      assert.deepEqual(reactions?.users ?? [], unknown < 0 ? first : first.slice(0, unknown));
    }
  }
});

test("the last reaction that is taken back leaves no trace", () => {
  const taken = reaction(3, 1, "bob", { remove: true });
  const messages = fold(message(1, "a"), reaction(2, 1, "bob"), taken);
  assert.deepEqual(messages.get(1), message(1, "a", { version: 3 }));
  const others = fold(message(1, "a"), reaction(2, 1, "bob"), reaction(3, 1, "bob", { emoji: "__proto__" }));
  assert.deepEqual(Object.keys(others.get(1).reactions), ["👍", "__proto__"]);
});

test("an answer of history may come behind changes that it does not contain", () => {
  const messages = fold(message(9, "z"), reaction(10, 1, "bob"));
  messages.add([message(1, "a"), message(4, "b", { version: 8 })]);
  assert.deepEqual([...messages].map(({ seq }) => seq), [1, 4, 9]);
  assert.deepEqual(messages.get(1).reactions, { "👍": { count: 1, users: ["bob"] } });
  messages.add([message(4, "old", { version: 6 }), message(9, "new", { version: 11 })]);
  assert.deepEqual([messages.get(4).data, messages.get(9).data], ["b", "new"]);
});

test("what is held is bounded, and what is remembered of others too", () => {
  const messages = new Messages(3);
  for (let seq = 1; seq <= 10; seq += 1) messages.apply(message(seq, seq));
  for (let seq = 11; seq <= 2_000; seq += 1) messages.apply(reaction(seq, 1, "bob"));
  assert.deepEqual([...messages].map(({ seq }) => seq), [8, 9, 10]);
  assert.equal(messages.size, 3);
  const roomy = new Messages();
  for (let seq = 11; seq <= 2_000; seq += 1) roomy.apply(reaction(seq, 1, "bob"));
  roomy.add([message(1, "a", { version: 10 })]);
  assert.equal(roomy.get(1).reactions["👍"].count, 256);
});

test("what is no change of a message leaves it as it is", () => {
  const known = message(1, "a");
  for (const type of ["message", "signal", "toString", undefined]) {
    assert.equal(changed(known, { type, seq: 5, target: 1 }), known);
  }
});

test("a gap empties the messages, and other events change nothing", () => {
  const messages = fold(message(1, "a"));
  for (const type of ["signal", "join", "leave", "presence", "read", "toString", "poll"]) {
    assert.equal(messages.apply({ type, seq: 5, target: 1 }), undefined);
  }
  assert.equal(messages.size, 1);
  messages.apply({ type: "gap", after: 1, before: 5, epoch: "e" });
  assert.equal(messages.size, 0);
  assert.equal(messages.apply(message(1, "b")).data, "b");
});
