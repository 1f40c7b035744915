/** What the browser client was told to publish, until it is known what became of it. */

import { ChatError, call, later, retryDelay, stopwatch, toJson } from "./client-common.js";

const MAX_ENTRIES = 1_000;
const MAX_CHARACTERS = 16 * 2 ** 20;
const KEY = /^\P{Surrogate}{1,64}$/su;
/**
 * The part of the server's idempotency window within which a publication is sent again. The rest is
 * for what may delay it on its way: it is stored later than it is sent.
 */
const SAFE_PART = 0.8;
/** Connections that one publication may cost before it is given up. */
const MAX_BLAMES = 3;
/** How far history is searched for a publication. */
const MAX_PAGES = 10;
const PAGE = 300;
const MAX_POSITIONS = 1_000;

/** A publication that has no outcome yet. */
class Entry {
  /**
   * Since when it may be stored, if so: a stopwatch, and the topic's position then if it was known.
   * Null as long as it is certain that it is not.
   */
  doubt = null;
  blames = 0;
  refusals = 0;

  constructor(topic, json, key, onDelay) {
    this.topic = topic;
    // A copy: what the application changes later is not what it asked to be sent.
    this.data = JSON.parse(json);
    this.characters = json.length;
    this.key = key;
    this.onDelay = onDelay;
    this.outcome = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
  }

  fail({ code, message, retryInMs }) {
    const error = new ChatError(code, message, retryInMs);
    error.mayBeSent = this.doubt !== null || code === "internal" || code === "unknown_outcome";
    this.reject(error);
  }
}

/**
 * Sends publications one after the other, so that they keep their order.
 *
 * The promise of each says the truth: it resolves if the message is stored, once; it is rejected
 * with `mayBeSent` false if it is not stored, and with `mayBeSent` true if nobody can know.
 */
export class Outbox {
  #topics;
  #connection = null;
  #entries = [];
  #characters = 0;
  #running = false;
  #positions = new Map();
  #wake = () => {};

  /** @param {Topics} topics knows where subscribed topics stand. */
  constructor(topics) {
    this.#topics = topics;
  }

  add(topic, data, { key = newKey(), onDelay = () => {} } = {}) {
    let json;
    try {
      json = toJson(data, onlyFinite);
    } catch (error) {
      return refuse("bad_request", `data: ${error.message}`);
    }
    if (json === undefined) return refuse("bad_request", "data: JSON has no such value");
    // A key that is changed could become another's.
    if (!isKey(key)) {
      return refuse("bad_request", "key: must be a text of 1 to 64 characters");
    }
    const full = this.#characters + json.length > MAX_CHARACTERS && this.#entries.length > 0;
    if (full || this.#entries.length >= MAX_ENTRIES) {
      return refuse("outbox_full", "too many messages wait to be sent");
    }
    const entry = new Entry(topic, json, key, onDelay);
    this.#entries.push(entry);
    this.#characters += json.length;
    this.#run();
    return entry.outcome;
  }

  connected(connection) {
    this.#connection = connection;
    this.#run();
  }

  disconnected() {
    this.#connection = null;
    this.#wake();
  }

  /** Reject everything; nothing is added later. */
  end(error) {
    const entries = this.#entries.splice(0);
    this.#characters = 0;
    this.#wake();
    for (const entry of entries) entry.fail(error);
  }

  async #run() {
    if (this.#running) return;
    this.#running = true;
    while (this.#connection && this.#entries.length > 0) {
      const [entry] = this.#entries;
      try {
        const answer = await this.#deliver(entry, this.#connection);
        if (this.#remove(entry)) entry.resolve(answer);
      } catch (error) {
        await this.#failed(entry, error);
      }
    }
    this.#running = false;
  }

  #remove(entry) {
    if (this.#entries[0] !== entry) return false; // it was rejected when the client was closed
    this.#entries.shift();
    this.#characters -= entry.characters;
    return true;
  }

  async #failed(entry, error) {
    if (error.code === "connection_lost") {
      if (error.blamed && entry.doubt) entry.blames += 1;
      if (entry.blames < MAX_BLAMES) return; // it is sent again, with its key
      error = unknown(`${MAX_BLAMES} connections ended after it was sent`);
    } else if (error.transient) {
      const wait = retryDelay(error, entry.refusals++);
      call(entry.onDelay, error);
      if (this.#connection && this.#entries[0] === entry) await this.#pause(wait);
      return;
    }
    if (this.#remove(entry)) entry.fail(error);
  }

  /** Wait, but no longer than the connection lasts. */
  #pause(ms) {
    return new Promise((resolve) => {
      const timer = later(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Publish an entry; resolves to the server's answer. */
  async #deliver(entry, connection) {
    const { topic, data, key } = entry;
    if (entry.doubt && entry.doubt.elapsed() >= SAFE_PART * connection.idempotencyMs) {
      // The server may have forgotten the key, so it cannot tell a repetition any more.
      const found = await this.#find(entry, connection);
      if (found) return found;
      entry.doubt = null;
    }
    const before = entry.doubt;
    const onSent = () => {
      entry.doubt ??= { elapsed: stopwatch(), position: this.#position(topic) };
    };
    const onRefused = () => {
      entry.doubt = before;
    };
    try {
      const command = { type: "publish", topic, data, key };
      const answer = await connection.command(command, { onSent, onRefused });
      this.#note(topic, answer);
      return answer;
    } catch (error) {
      // Only these two say nothing about whether it is stored; others leave what was before.
      if (error.code !== "connection_lost" && error.code !== "unavailable") onRefused();
      throw error;
    }
  }

  // Messages of unknown outcome ------------------------------------------------------------------

  /** Return the position that a topic has at least, if it is known. */
  #position(topic) {
    const own = this.#positions.get(topic);
    const seen = this.#topics.position(topic);
    return own && (!seen || (own.epoch === seen.epoch && own.seq > seen.seq)) ? own : seen;
  }

  #note(topic, { epoch, seq }) {
    this.#positions.delete(topic);
    this.#positions.set(topic, { epoch, seq });
    if (this.#positions.size > MAX_POSITIONS) {
      const [oldest] = this.#positions.keys();
      this.#positions.delete(oldest);
    }
  }

  /**
   * Look in history for a publication that was sent and never answered.
   *
   * Returns what the server would have answered, or null if it is certain that it is not stored.
   */
  async #find(entry, connection) {
    const { topic, doubt } = entry;
    const json = toJson(entry.data);
    try {
      const { epoch, messages } = await readBehind(connection, topic, doubt.position, (page) =>
        this.#nothingSince(topic, page),
      );
      const own = messages.filter(
        ({ from, data }) => from?.user === connection.user && toJson(data) === json,
      );
      if (own.length > 1) throw unknown("several such messages are in history");
      if (own.length === 0) return null;
      const [{ seq, at }] = own;
      return { topic, seq, epoch, at, duplicate: true };
    } catch (error) {
      const told = error.transient || ["connection_lost", "unknown_outcome"].includes(error.code);
      if (told) throw error;
      throw unknown(`history cannot be read: ${error.message}`);
    }
  }

  /** Whether an empty history is so because nothing was stored behind a position. */
  #nothingSince(topic, { epoch, seq }) {
    const accepted = this.#topics.accepted(topic);
    return accepted?.epoch === epoch && accepted.seq === seq;
  }
}

/**
 * Read all that was stored behind a position, or since a topic's beginning.
 *
 * Throws `unknown_outcome` if history does not have all of it any more.
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
        // The order of that time is lost; what is stored now stands in the new one.
        [epoch, after, from] = [null, 0, 0];
        continue;
      }
      epoch = page.epoch;
    }
    if (from === Math.max(after - 1, 0) && page.messages[0]?.seq !== Math.max(after, 1)) {
      // History is trimmed at its old end: with this message it would have all behind it.
      if (page.messages.length > 0 || !isEmptyBehind({ epoch, seq: after })) {
        throw unknown("history does not go back far enough");
      }
    }
    found.push(...page.messages.filter(({ seq }) => seq > after));
    if (!page.more) return { epoch, messages: found };
    from = page.messages.at(-1).seq;
  }
  throw unknown("too much was written since");
}

function unknown(why) {
  return new ChatError("unknown_outcome", `it may have been sent: ${why}`);
}

function refuse(code, message) {
  return Promise.reject(new ChatError(code, message));
}

/** As a replacer: `JSON.stringify` would make `null` of these numbers, and say nothing. */
function onlyFinite(name, value) {
  if (typeof value === "number" && !Number.isFinite(value)) throw new TypeError(`JSON has no ${value}`);
  return value;
}

/** Return whether the server takes `key`: a short text without half surrogate pairs. */
function isKey(key) {
  return typeof key === "string" && KEY.test(key);
}

/** Return a key for a publication; `crypto.randomUUID` does not exist on plain http:// addresses. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
