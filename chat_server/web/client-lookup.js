/** Looks in history for an unanswered command, once the server may have forgotten the key. */

import { ChatError, textOf, toJson } from "./client-common.js";

/** Pages of history searched for a publication. */
const MAX_PAGES = 10;
const PAGE = 300;

export function unknown(why) {
  return new ChatError("unknown_outcome", `it may have been sent: ${why}`);
}

/**
 * Look in history for the outcome of a command.
 *
 * Returns the answer that was lost; null if the command is certainly not stored; or undefined if the
 * outcome is unknown but a repetition is harmless.
 *
 * @param {import("./client-connection.js").Connection} connection
 * @param {any} sent `command`; `position`, the lowest position of the topic at the time of sending, if
 *   known; and for an append by the only writer, `before`: the message's `{text}` before the append.
 * @param {function} isEmptyBehind whether nothing was stored behind a position.
 */
export async function lookUp(connection, sent, isEmptyBehind) {
  try {
    if (sent.command.type === "publish") return await findMessage(connection, sent, isEmptyBehind);
    if (sent.command.type === "read") return undefined; // the cursor never moves back
    return await findChange(connection, sent);
  } catch (error) {
    const told = error.transient || ["connection_lost", "unknown_outcome"].includes(error.code);
    if (told) throw error;
    throw unknown(`history cannot be read: ${error.message}`);
  }
}

async function findMessage(connection, { command, position }, isEmptyBehind) {
  const { topic, data } = command;
  const json = toJson(data);
  const { epoch, messages } = await readBehind(connection, topic, position, isEmptyBehind);
  const own = messages.filter(({ from }) => from?.user === connection.user);
  const same = own.filter((message) => toJson(message.data) === json);
  if (same.length > 1) throw unknown("several such messages are in history");
  if (same.length === 0) {
    const isOther = ({ deleted, edited_at }) => deleted || edited_at !== undefined;
    if (own.some(isOther)) throw unknown("the message may have been changed since");
    return null;
  }
  const [{ seq, at }] = same;
  return { topic, seq, epoch, at, duplicate: true };
}

/** Look at the target of a change; its state tells whether the change is stored. */
async function findChange(connection, { command, position, before }) {
  const { type, topic, seq: target } = command;
  const page = await connection.command({ type: "history", topic, after: target - 1, limit: 1 });
  const { epoch } = page;
  const [message] = page.messages;
  if (message?.seq !== target) throw unknown("history does not have the message any more");
  if ((command.epoch ?? position?.epoch ?? epoch) !== epoch) throw unknown("the topic began anew");
  const seq = message.version ?? message.seq;
  const found = { topic, seq, target, epoch, at: message.edited_at ?? message.at, duplicate: true };
  if (seq <= position?.seq) return null;
  if (type === "delete") return message.deleted ? found : null;
  if (message.deleted) throw unknown("the message has been deleted since");
  if (type === "react" && !command.remove) return undefined; // a second one like it is not stored
  if (type === "edit" && message.edited_at && toJson(message.data) === toJson(command.data)) {
    return found;
  }
  if (before) {
    const text = textOf(message.data);
    if (text === before.text + command.text && message.state === command.state) {
      return { ...found, length: [...text].length };
    }
    if (text === before.text) return null;
  }
  throw unknown("the message has been changed since");
}

/**
 * Read all messages stored behind a position, or since a topic's beginning.
 *
 * Throws `unknown_outcome` if history has lost a part.
 */
async function readBehind(connection, topic, position, isEmptyBehind) {
  let { epoch, seq: after } = position ?? { epoch: null, seq: 0 };
  let from = Math.max(after - 1, 0);
  const found = [];
  for (let pages = 0; pages < MAX_PAGES; pages += 1) {
    const command = { type: "history", topic, after: from, limit: PAGE };
    const page = await connection.command(command);
    if (epoch !== page.epoch) {
      if (found.length > 0) throw unknown("the topic began anew");
      if (epoch !== null) {
        // The old epoch is lost; all stored messages belong to the new one.
        [epoch, after, from] = [null, 0, 0];
        continue;
      }
      epoch = page.epoch;
    }
    if (from === Math.max(after - 1, 0) && page.messages[0]?.seq !== Math.max(after, 1)) {
      // History is trimmed at its old end, so an older message proves that nothing behind it is missing.
      const isWhole = await hasOlder(connection, topic, after + 1);
      const isEmpty = page.messages.length === 0 && isEmptyBehind({ epoch, seq: after });
      if (!isWhole && !isEmpty) throw unknown("history does not go back far enough");
    }
    found.push(...page.messages.filter(({ seq }) => seq > after));
    if (!page.more) return { epoch, messages: found };
    from = page.messages.at(-1).seq;
  }
  throw unknown("too much was written since");
}

/** Whether history has a message with a lower seq; some seqs belong to changes. */
async function hasOlder(connection, topic, before) {
  const { messages } = await connection.command({ type: "history", topic, before, limit: 1 });
  return messages.length > 0;
}
