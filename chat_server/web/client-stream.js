/** Messages that grow while somebody, a model for example, writes them. */

import { ChatError, Waits, clamp, now, textOf, withResolvers } from "./client-common.js";

/** @import { Grown } from "./client-types.js" */

/** Characters in the buffer from which `write` waits. */
const PATIENT_CHARACTERS = 16_384;
/** Characters in the buffer from which `write` fails, because the caller does not await `write`. */
const MAX_CHARACTERS = 2 ** 20;
/** Characters of one append; with three bytes each, they fit into a message of the server. */
const MAX_APPEND = 8_192;
/** The part of the server's rate limit for appends; the rest is for other commands. */
const RATE_PART = 0.8;
const RATE = 50;
const MAX_RATE = 1_000;
const FULL_RETRY_MS = 1_000;
/** Errors after which a stream need not be ended, because the message or the client is gone. */
const OVER = new Set(["gone", "closed", "not_found", "forbidden"]);

const HIGH_SURROGATE = /[\ud800-\udbff]$/;

/** The streams of one client: paces appends, and receives requests to cancel. */
export class Streams {
  #outbox;
  #limits;
  #open = new Map();
  #nextAt = -Infinity;
  #waits = new Waits();

  /**
   * @param {import("./client-outbox.js").Outbox} outbox
   * @param {function} limits returns `welcome.limits`, undefined without a connection.
   */
  constructor(outbox, limits) {
    this.#outbox = outbox;
    this.#limits = limits;
  }

  /** Publish a streaming message; resolves to its `Stream`. */
  async open(topic, data) {
    if (textOf(data) === undefined) {
      throw new ChatError("bad_request", "data: must be a text, or a map with a text in `text`");
    }
    const place = await this.#outbox.add({ type: "publish", topic, data, state: "streaming" });
    const stream = new Stream(this, this.#outbox, place, textOf(data).toWellFormed());
    this.#open.set(nameOf(stream), stream);
    return stream;
  }

  /** Forget a stream that has ended. */
  over(stream) {
    const name = nameOf(stream);
    // After a loss of the store, another stream may have the name.
    if (this.#open.get(name) === stream) this.#open.delete(name);
  }

  /** Take a signal of a subscribed topic. */
  heard({ topic, data }) {
    if (!Number.isSafeInteger(data?.cancel)) return;
    const stream = this.#open.get(nameOf({ topic, seq: data.cancel }));
    if (stream) stream.cancelled = true;
  }

  /** Wait until another append fits into the server's rate. */
  turn() {
    const rate = clamp(this.#limits()?.messages_per_second ?? RATE, 1, MAX_RATE) * RATE_PART;
    const at = Math.max(this.#nextAt, now());
    this.#nextAt = at + 1000 / rate;
    const wait = at - now();
    return wait > 0 ? this.pause(wait) : undefined;
  }

  /** Wait for a while, or until the client is closed. */
  pause(ms) {
    return this.#waits.until(ms);
  }

  /** End all waits, present and future: the outbox then rejects, because the client is closed. */
  end() {
    this.#nextAt = NaN;
    this.#waits.end();
  }
}

/**
 * A streaming message; made by `ChatClient.stream`.
 *
 * Text written while an append is under way leaves with the next append, so that a fast writer stays
 * within the server's rate limit.
 */
export class Stream {
  /** Whether a user has asked, by the signal `{cancel: seq}`, to end the message. */
  cancelled = false;
  /**
   * The initial text, and behind it the stored text of this stream. Edits by other users do not change
   * `text`.
   *
   * @type {string}
   */
  text;

  #streams;
  #outbox;
  #waiting = "";
  #state = "streaming";
  #error = null;
  #sending = false;
  #outcome = withResolvers();
  /** The wait for room in the buffer: a promise, and the function that resolves the promise. */
  #room = null;

  /** @internal */
  constructor(streams, outbox, place, text) {
    /** @type {string} */
    this.topic = place.topic;
    /** @type {number} */
    this.seq = place.seq;
    /** @type {string} */
    this.epoch = place.epoch;
    this.text = text;
    this.#streams = streams;
    this.#outbox = outbox;
    this.#outcome.promise.catch(() => {}); // who writes is told by `write` as well
  }

  /**
   * Add to the message's text; resolves at once unless the buffer is full.
   *
   * The promise is rejected if the message has ended, or if an earlier text could not be stored.
   *
   * @param {string} text
   * @returns {Promise<void>}
   */
  async write(text) {
    if (this.#error) throw this.#error;
    if (typeof text !== "string") throw new ChatError("bad_request", "text: must be a text");
    if (this.#state !== "streaming") throw new ChatError("gone", "the message has ended");
    if (this.#waiting.length + text.length > MAX_CHARACTERS) {
      throw new ChatError("outbox_full", "too much of the message waits: wait for `write`");
    }
    this.#waiting += text;
    this.#send();
    while (this.#waiting.length >= PATIENT_CHARACTERS && !this.#error) {
      this.#room ??= withResolvers();
      await this.#room.promise;
    }
    if (this.#error) throw this.#error;
  }

  /**
   * Store the buffer and end the message; resolves to the answer to the last append.
   *
   * A cancelled message ends as cancelled.
   *
   * @returns {Promise<Grown>}
   */
  complete() {
    return this.#end(this.cancelled ? "cancelled" : "complete");
  }

  /**
   * Store the buffer and end the message as cancelled, that is, incomplete.
   *
   * @returns {Promise<Grown>}
   */
  cancel() {
    return this.#end("cancelled");
  }

  #end(state) {
    if (this.#state === "streaming") this.#state = state;
    this.#send();
    return this.#outcome.promise;
  }

  async #send() {
    if (this.#sending || this.#error) return;
    this.#sending = true;
    try {
      while (this.#next() > 0 || this.#state !== "streaming") {
        await this.#streams.turn();
        const length = this.#next();
        const text = this.#waiting.slice(0, length);
        this.#waiting = this.#waiting.slice(length);
        this.#room?.resolve();
        this.#room = null;
        const state = this.#waiting ? "streaming" : this.#state;
        const answer = await this.#append(text.toWellFormed(), state);
        if (state === "streaming") continue;
        this.#streams.over(this);
        this.#outcome.resolve(answer);
        return;
      }
      this.#sending = false;
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Return how many buffered characters can leave now, without half a surrogate pair. */
  #next() {
    const length = Math.min(this.#waiting.length, MAX_APPEND);
    const isLast = length === this.#waiting.length && this.#state !== "streaming";
    const isHalf = !isLast && HIGH_SURROGATE.test(this.#waiting.slice(0, length));
    return isHalf ? length - 1 : length;
  }

  async #append(text, state) {
    const { topic, seq, epoch } = this;
    const command = { type: "append", topic, seq, epoch, text, state };
    // This stream is the only writer, so the message's text tells whether an append is stored.
    const before = { text: this.text };
    for (;;) {
      try {
        const answer = await this.#outbox.add(command, { before });
        this.epoch = answer.epoch; // another one may have taken the message over
        this.text += text;
        return answer;
      } catch (error) {
        if (error.code !== "outbox_full") throw error;
        await this.#streams.pause(FULL_RETRY_MS);
      }
    }
  }

  #fail(error) {
    this.#error = error;
    this.#waiting = "";
    this.#streams.over(this);
    this.#room?.resolve();
    this.#outcome.reject(error);
    if (OVER.has(error.code)) return;
    // Readers should not wait for a message without an end.
    const { topic, seq, epoch } = this;
    const command = { type: "append", topic, seq, epoch, text: "", state: "cancelled" };
    this.#outbox.add(command).catch(() => {});
  }
}

function nameOf({ topic, seq }) {
  return `${seq} ${topic}`;
}
