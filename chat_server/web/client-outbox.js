/** The browser client's commands that store something, kept until each outcome is known. */

import { ChatError, Waits, call, copied, retryDelay, stopwatch, withResolvers } from "./client-common.js";
import { lookUp, unknown } from "./client-lookup.js";

const MAX_ENTRIES = 1_000;
const MAX_CHARACTERS = 16 * 2 ** 20;
/** A valid idempotency key: a short text without half surrogate pairs. */
const KEY = /^\P{Surrogate}{1,64}$/su;
/**
 * The part of the server's idempotency window within which a command is sent again. The rest is
 * reserve for delays on the way, because the server stores a command later than the client sends it.
 */
const SAFE_PART = 0.8;
/** Connections that one command may cost before it is given up. */
const MAX_BLAMES = 3;
const MAX_POSITIONS = 1_000;
/** Commands under way at once, each of another topic; the server allows a connection 64. */
const MAX_IN_FLIGHT = 8;

/** A command to be stored, without an outcome yet. */
class Entry {
  /**
   * Since when the command may be stored: a stopwatch, and the topic's position at that time, if known.
   * Null while the command is certainly not stored.
   */
  doubt = null;
  blames = 0;
  refusals = 0;

  constructor({ command, characters }, { onDelay, before }) {
    this.command = command;
    this.characters = characters;
    this.onDelay = onDelay;
    this.before = before;
    this.outcome = withResolvers();
  }

  fail({ code, message, retryInMs }) {
    const error = new ChatError(code, message, retryInMs);
    error.mayBeSent = this.doubt !== null || code === "internal" || code === "unknown_outcome";
    this.outcome.reject(error);
  }
}

/** The commands of one topic, sent one after the other to keep their order. */
class Lane {
  entries = [];
  /** Whether the first entry is under way, or waits for another attempt. */
  busy = false;
}

/**
 * Sends the commands of each topic one after the other, and different topics side by side.
 *
 * Each command's promise is exact: the promise resolves if the command is stored, once. The promise is
 * rejected with `mayBeSent` false if the command is not stored, and with true if the outcome is unknown.
 */
export class Outbox {
  #topics;
  #connection = null;
  #lanes = new Map();
  #count = 0;
  #characters = 0;
  #inFlight = 0;
  #ended = null;
  #positions = new Map();
  /** Waits, which end with the connection. */
  #waits = new Waits();

  /** @param {import("./client-topics.js").Topics} topics knows where subscribed topics stand. */
  constructor(topics) {
    this.#topics = topics;
  }

  /**
   * Send a command until the outcome is known; resolves to the answer.
   *
   * @param {object} command without `id` and `key`.
   * @param {object} [options]
   * @param {string} [options.key] the idempotency key.
   * @param {function} [options.onDelay] called with the `ChatError` that makes the command wait.
   * @param {object} [options.before] for an append by the message's only writer: the message's `{text}`
   *   before the append.
   */
  add(command, { key = newKey(), onDelay, before } = {}) {
    // A shortened or repaired key could equal another command's key.
    if (typeof key !== "string" || !KEY.test(key)) {
      return refuse("bad_request", "key: must be a text of 1 to 64 characters");
    }
    let copy;
    try {
      copy = copied({ ...command, key });
    } catch (error) {
      return Promise.reject(error);
    }
    // After the copy: a `toJSON` of the application may have closed the client.
    if (this.#ended) return Promise.reject(this.#ended);
    const full = this.#characters + copy.characters > MAX_CHARACTERS && this.#count > 0;
    if (full || this.#count >= MAX_ENTRIES) {
      return refuse("outbox_full", "too many messages wait to be sent");
    }
    const entry = new Entry(copy, { onDelay, before });
    const { topic } = copy.command;
    if (!this.#lanes.has(topic)) this.#lanes.set(topic, new Lane());
    this.#lanes.get(topic).entries.push(entry);
    this.#count += 1;
    this.#characters += entry.characters;
    this.#pump();
    return entry.outcome.promise;
  }

  connected(connection) {
    this.#connection = connection;
    this.#pump();
  }

  disconnected() {
    this.#connection = null;
    this.#waits.end();
  }

  /** Reject all commands, later ones too. */
  end(error) {
    this.#ended = error;
    const entries = [...this.#lanes.values()].flatMap((lane) => lane.entries.splice(0));
    this.#lanes.clear();
    this.#waits.end();
    for (const entry of entries) entry.fail(error);
  }

  #pump() {
    const most = this.#hasSuspect ? 1 : MAX_IN_FLIGHT;
    for (const [topic, lane] of this.#lanes) {
      if (!this.#connection || this.#inFlight >= most) return;
      if (!lane.busy) this.#send(topic, lane);
    }
  }

  /** Whether some command may have broken the connection; then each goes alone, so that only one is blamed. */
  get #hasSuspect() {
    return [...this.#lanes.values()].some(({ entries: [first] }) => first.blames > 0);
  }

  /** Send the first entry of a topic. */
  async #send(topic, lane) {
    const [entry] = lane.entries;
    lane.busy = true;
    this.#inFlight += 1;
    let wait = 0;
    try {
      const answer = await this.#deliver(entry, this.#connection);
      if (this.#remove(topic, lane, entry)) entry.outcome.resolve(answer);
    } catch (error) {
      wait = this.#failed(topic, lane, entry, error);
    }
    this.#inFlight -= 1;
    if (wait > 0 && this.#connection && lane.entries[0] === entry) {
      this.#pump();
      await this.#waits.until(wait);
    }
    lane.busy = false;
    this.#pump();
  }

  #remove(topic, lane, entry) {
    if (lane.entries[0] !== entry) return false; // it was rejected when the client was closed
    lane.entries.shift();
    this.#count -= 1;
    this.#characters -= entry.characters;
    // The topic goes behind all others, so that each has its turn.
    this.#lanes.delete(topic);
    if (lane.entries.length > 0) this.#lanes.set(topic, lane);
    return true;
  }

  /** Return the milliseconds until the next attempt of a failed entry. */
  #failed(topic, lane, entry, error) {
    if (error.code === "connection_lost") {
      if (error.blamed && entry.doubt) entry.blames += 1;
      if (entry.blames < MAX_BLAMES) return 0; // it is sent again, with its key
      error = unknown(`${MAX_BLAMES} connections ended after it was sent`);
    } else if (error.transient) {
      const wait = retryDelay(error, entry.refusals++);
      call(entry.onDelay, error);
      return wait;
    }
    if (this.#remove(topic, lane, entry)) entry.fail(error);
    return 0;
  }

  /** Send an entry; resolves to the server's answer. */
  async #deliver(entry, connection) {
    const { command, before } = entry;
    const { topic } = command;
    if (entry.doubt && entry.doubt.elapsed() >= SAFE_PART * connection.idempotencyMs) {
      // The server may have forgotten the key, and so may no longer recognize a repetition.
      const sent = { command, before, position: entry.doubt.position };
      const found = await lookUp(connection, sent, (place) => this.#nothingSince(topic, place));
      if (found) return found;
      if (found === null) entry.doubt = null;
    }
    const doubt = entry.doubt;
    const onSent = () => {
      entry.doubt ??= { elapsed: stopwatch(), position: this.#position(topic) };
    };
    const onRefused = () => {
      entry.doubt = doubt;
    };
    try {
      const answer = await connection.command(command, { onSent, onRefused });
      this.#note(topic, answer);
      return answer;
    } catch (error) {
      // After these two errors the command may be stored; after others nothing has changed.
      if (error.code !== "connection_lost" && error.code !== "unavailable") onRefused();
      throw error;
    }
  }

  // Where topics stand ---------------------------------------------------------------------------

  /** Return the lowest position that a topic may have now, if known. */
  #position(topic) {
    const own = this.#positions.get(topic);
    const seen = this.#topics.position(topic);
    return own && (!seen || (own.epoch === seen.epoch && own.seq > seen.seq)) ? own : seen;
  }

  #note(topic, { epoch, seq }) {
    if (epoch === undefined) return; // of `read`, whose answer is a cursor
    this.#positions.delete(topic);
    this.#positions.set(topic, { epoch, seq });
    if (this.#positions.size > MAX_POSITIONS) {
      const [oldest] = this.#positions.keys();
      this.#positions.delete(oldest);
    }
  }

  /** Whether a history is empty because nothing was stored behind a position. */
  #nothingSince(topic, { epoch, seq }) {
    const accepted = this.#topics.accepted(topic);
    return accepted?.epoch === epoch && accepted.seq === seq;
  }
}

function refuse(code, message) {
  return Promise.reject(new ChatError(code, message));
}

/** Return a key for a publication; `crypto.randomUUID` does not exist on plain http:// addresses. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
