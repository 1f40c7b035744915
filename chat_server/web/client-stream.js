/** Messages that grow while somebody, a model for example, writes them. */

import { ChatError, Waits, clamp, now, textOf, withResolvers } from "./client-common.js";

/** @import { Grown } from "./client-types.js" */

/** From so many characters that wait on, `write` waits. */
const PATIENT_CHARACTERS = 16_384;
/** And so many are refused: whoever writes does not wait for `write`. */
const MAX_CHARACTERS = 2 ** 20;
/** One append has so many at most; with three bytes each they fit into a message of the server. */
const MAX_APPEND = 8_192;
/** The part of the server's rate that appends take, so that there is room for all else. */
const RATE_PART = 0.8;
const RATE = 50;
const MAX_RATE = 1_000;
const FULL_RETRY_MS = 1_000;
/** After these there is nothing to end: the message is gone, or its client. */
const OVER = new Set(["gone", "closed", "not_found", "forbidden"]);

const HIGH_SURROGATE = /[\ud800-\udbff]$/;

/** The growing messages of one client: paces their appends, and hears that they are to end. */
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

  /** Publish a message that will grow; resolves to its `Stream`. */
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
    // After the store was lost the name may be another stream's.
    if (this.#open.get(name) === stream) this.#open.delete(name);
  }

  /** Hear a signal of a topic that is subscribed to. */
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

  /** Wake all who wait, and let nobody wait any more: the outbox tells them that the client is closed. */
  end() {
    this.#nextAt = NaN;
    this.#waits.end();
  }
}

/**
 * A message that grows; made by `ChatClient.stream`.
 *
 * What is written while an append is under way leaves with the next one, so that a fast writer stays
 * within the server's rate.
 */
export class Stream {
  /** Whether somebody has asked, by the signal `{cancel: seq}`, that the message end. */
  cancelled = false;
  /**
   * What this stream has written and the server has stored, behind the text that it began with. It stays
   * that when somebody edits the message meanwhile.
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
  /** Those who wait for room: a promise, and the function that resolves it. */
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
   * Add to the message's text; resolves at once unless too much waits to be sent.
   *
   * It is rejected if the message has ended, or if an earlier text could not be stored.
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
   * Store what waits and end the message; resolves to what its last append was answered.
   *
   * A message that somebody has cancelled ends as cancelled.
   *
   * @returns {Promise<Grown>}
   */
  complete() {
    return this.#end(this.cancelled ? "cancelled" : "complete");
  }

  /**
   * Store what waits and end the message, as one that is not complete.
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

  /** Return how many of the characters that wait can leave now: no half of a surrogate pair. */
  #next() {
    const length = Math.min(this.#waiting.length, MAX_APPEND);
    const isLast = length === this.#waiting.length && this.#state !== "streaming";
    const isHalf = !isLast && HIGH_SURROGATE.test(this.#waiting.slice(0, length));
    return isHalf ? length - 1 : length;
  }

  async #append(text, state) {
    const { topic, seq, epoch } = this;
    const command = { type: "append", topic, seq, epoch, text, state };
    // Only this one writes to the message, so its text tells whether an append is stored.
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
    // Nobody is to wait for a message that will not be finished.
    const { topic, seq, epoch } = this;
    const command = { type: "append", topic, seq, epoch, text: "", state: "cancelled" };
    this.#outbox.add(command).catch(() => {});
  }
}

function nameOf({ topic, seq }) {
  return `${seq} ${topic}`;
}
