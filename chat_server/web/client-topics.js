/** The subscriptions of the browser client, over any number of connections. */

import {
  ChatError, backoff, call, clamp, isSeq, later, retryDelay, toError,
} from "./client-common.js";

/** Subscriptions that are asked for at once; hundreds of topics come back one after the other. */
const MAX_IN_FLIGHT = 16;
/** Factor by which the client is slower than the server allows, after the first refusal by the rate limit. */
const SPACING_FACTOR = 1.25;
const LONGEST_SPACING_MS = 1_000;
/** Refusals in a row, because the server has the subscription already, before the client gives up. */
const MAX_GHOSTS = 3;

const STORED = new Set(["message", "edited", "appended", "deleted", "reaction"]);
/** Stands for a subscription on the server that the client does not know. */
const GHOST = Symbol("ghost");

const NOTHING_FOLDED = { until: 0, upTo: 0, left: 0 };

/** @import { Position, Presence, SubscribeOptions } from "./client-types.js" */

/** One topic's events; made by `ChatClient.subscribe`. */
export class Subscription {
  /**
   * The position of the last received event, or null before the first answer.
   *
   * @type {Position | null}
   */
  position = null;
  /**
   * With the option `presence`, the users present when the connection subscribed, else null.
   *
   * @type {Presence | null}
   */
  presence = null;
  #options;
  /** Whether nothing was received yet, so that the client asks for the newest messages. */
  #isNew;
  /** The messages of `last`, with all changes up to `until` folded in; the last one is at `upTo`. */
  #folded = NOTHING_FOLDED;

  /**
   * @internal
   * @param {string} topic
   * @param {SubscribeOptions} [options]
   */
  constructor(topic, options = {}) {
    /** @type {string} */
    this.topic = topic;
    this.#options = { ...options };
    this.position = options.since ?? null;
    this.#isNew = !options.since;
  }

  /** @internal */
  command() {
    const { last, strict, presence } = this.#options;
    const start = this.#isNew
      ? { last: last || undefined }
      : { since: this.position, strict: strict || undefined };
    return { type: "subscribe", topic: this.topic, presence: presence || undefined, ...start };
  }

  /** @internal */
  accepted({ epoch, seq, replayed, recovered, reason, presence }) {
    const asked = this.#isNew ? null : this.position;
    const end = clamp(seq, 0, Infinity);
    const start = { epoch, seq: Math.max(end - clamp(replayed, 0, Infinity), 0) };
    this.position = start;
    this.presence = presence ?? null;
    if (asked === null) {
      this.#isNew = Boolean(this.#options.last) && start.seq < end;
      this.#folded = { until: end, upTo: 0, left: this.#isNew ? this.#options.last : 0 };
    } else {
      // A replay now brings the original events.
      this.#folded = asked.epoch === epoch ? { ...this.#folded, left: 0 } : NOTHING_FOLDED;
    }
    if (asked && !recovered) {
      // After a new epoch, only the new position is known.
      const sameOrder = asked.epoch === epoch && asked.seq <= start.seq;
      const after = sameOrder ? asked.seq : 0;
      const gap = { epoch, after, before: start.seq + 1, reason: reason ?? "expired" };
      call(this.#options.onEvent, { type: "gap", topic: this.topic, ...gap });
    }
    call(this.#options.onReady);
  }

  /** @internal */
  refused(error) {
    call(this.#options.onError, error);
  }

  /** @internal */
  receive(event) {
    const here = this.position;
    if (event.type === "gap") {
      if (!isSeq(event.before - 1)) return;
      if (event.epoch === here.epoch && event.before - 1 <= here.seq) return;
      if (event.epoch !== here.epoch) this.#folded = NOTHING_FOLDED;
      this.position = { epoch: event.epoch, seq: event.before - 1 };
      this.#isNew = false;
    } else if (STORED.has(event.type)) {
      if (!isSeq(event.seq) || event.seq <= here.seq) return;
      this.position = { epoch: here.epoch, seq: this.#reached(event) };
      this.#isNew = false;
      if (this.#isShown(event)) return;
    }
    call(this.#options.onEvent, event);
  }

  /** Return how far the topic is known with an event: its `seq`, unless it is the end of `last`. */
  #reached({ seq }) {
    const { until, left } = this.#folded;
    if (left === 0 || seq > until) return seq;
    this.#folded = { until, upTo: seq, left: left - 1 };
    return left === 1 ? until : seq;
  }

  /** Whether a message already contains a change, which comes again after a lost connection. */
  #isShown({ type, seq, target }) {
    return type !== "message" && seq <= this.#folded.until && target <= this.#folded.upTo;
  }
}

/** A topic: the wanted subscription, and the subscription on the server. */
class Place {
  /** The subscription that the application wants, or null. */
  wanted = null;
  /** The subscription that the server has on this connection: a subscription, `GHOST` or null. */
  held = null;
  /** The `{epoch, seq}` at which the server accepted the subscription on this connection. */
  accepted = null;
  /** Whether the topic waits for a turn, an answer or a timer. */
  busy = false;
  timer = null;
  refusals = 0;
  ghosts = 0;

  constructor(topic) {
    this.topic = topic;
  }

  get settled() {
    return this.held === this.wanted;
  }
}

/** Reconciles the server's subscriptions with the application's. */
export class Topics {
  #places = new Map();
  #connection = null;
  #queue = [];
  #inFlight = 0;
  #spacing = 0;
  #pause = null;

  add(topic, options) {
    const place = this.#places.get(topic) ?? new Place(topic);
    if (place.wanted) throw new ChatError("already_subscribed", topic);
    place.wanted = new Subscription(topic, options);
    this.#places.set(topic, place);
    this.#changed(place);
    return place.wanted;
  }

  remove(subscription) {
    const place = this.#places.get(subscription.topic);
    if (place?.wanted !== subscription) return;
    place.wanted = null;
    this.#changed(place);
  }

  /** Return the position of the application's subscription to a topic, if known. */
  position(topic) {
    return this.#places.get(topic)?.wanted?.position;
  }

  /** Return the position at which this connection's subscription began, if any. */
  accepted(topic) {
    return this.#places.get(topic)?.accepted;
  }

  connected(connection) {
    this.#connection = connection;
    for (const place of this.#places.values()) this.#settle(place);
  }

  disconnected() {
    this.#connection = null;
    clearTimeout(this.#pause);
    this.#pause = null;
    this.#queue = [];
    this.#inFlight = this.#spacing = 0;
    for (const place of this.#places.values()) {
      clearTimeout(place.timer);
      place.held = place.accepted = place.timer = null;
      place.busy = false;
      place.refusals = place.ghosts = 0;
      if (!place.wanted) this.#places.delete(place.topic);
    }
  }

  /** Take a message that answers no command. */
  receive(message) {
    const place = this.#places.get(message.topic);
    if (!place?.wanted || !place.settled) return; // it is meant for an earlier subscription
    if (message.type === "error") {
      place.held = null;
      this.#refused(place, place.wanted, toError(message));
    } else {
      place.wanted.receive(message);
    }
  }

  // One topic ------------------------------------------------------------------------------------

  /** Note a new wish of the application, and cancel the wait for another attempt. */
  #changed(place) {
    if (place.timer !== null) {
      clearTimeout(place.timer);
      place.timer = null;
      place.busy = false;
    }
    this.#settle(place);
  }

  /** Make the server's subscription to a topic the wanted one. */
  #settle(place) {
    if (place.busy) return;
    if (this.#connection !== null && !place.settled) {
      place.busy = true;
      this.#queue.push(place);
      this.#pump();
    } else if (!place.wanted && this.#places.get(place.topic) === place) {
      // A refused subscription's own onError may have replaced the subscription.
      this.#places.delete(place.topic);
    }
  }

  #pump() {
    while (this.#connection && this.#pause === null && this.#inFlight < MAX_IN_FLIGHT) {
      const place = this.#queue.shift();
      if (!place) {
        this.#spacing = 0;
        return;
      }
      if (place.settled) {
        place.busy = false;
        this.#settle(place);
        continue;
      }
      this.#reconcile(place);
      if (this.#spacing > 0) this.#rest(this.#spacing);
    }
  }

  #rest(ms) {
    clearTimeout(this.#pause);
    this.#pause = later(() => {
      this.#pause = null;
      this.#pump();
    }, ms);
  }

  async #reconcile(place) {
    const connection = this.#connection;
    const subscription = place.wanted;
    let error = null;
    this.#inFlight += 1;
    try {
      if (place.held !== null) await this.#leave(place, connection);
      else await this.#join(place, subscription, connection);
    } catch (failure) {
      error = failure;
    }
    if (this.#connection !== connection) return;
    this.#inFlight -= 1;
    place.busy = place.timer !== null;
    if (error) this.#refused(place, subscription, error);
    else place.refusals = 0;
    this.#settle(place);
    this.#pump();
  }

  async #leave(place, connection) {
    try {
      await connection.command({ type: "unsubscribe", topic: place.topic });
    } catch (error) {
      if (error.transient || error.code === "connection_lost") throw error;
    }
    place.held = place.accepted = null;
  }

  async #join(place, subscription, connection) {
    const onAnswer = (answer) => {
      place.held = subscription;
      place.accepted = { epoch: answer.epoch, seq: answer.seq };
      place.ghosts = 0;
      if (place.wanted === subscription) subscription.accepted(answer);
    };
    await connection.command(subscription.command(), { onAnswer });
  }

  #refused(place, subscription, error) {
    place.refusals += 1;
    if (error.code === "rate_limited") {
      this.#slowDown(place, error);
    } else if (error.transient) {
      this.#retryLater(place, Math.max(retryDelay(error, 0), backoff(place.refusals)));
    } else if (error.code === "already_subscribed" && ++place.ghosts <= MAX_GHOSTS) {
      place.held = GHOST;
    } else if (error.code === "too_many_topics" && this.#leaving) {
      this.#retryLater(place, backoff(place.refusals));
    } else if (error.code !== "connection_lost" && place.wanted === subscription) {
      place.wanted = null;
      this.#settle(place);
      subscription.refused(error);
    }
  }

  /** Whether the server still has unwanted subscriptions. */
  get #leaving() {
    return [...this.#places.values()].some(({ held, wanted }) => held !== null && held !== wanted);
  }

  /** Make all topics wait, because the rate limit is the connection's. */
  #slowDown(place, error) {
    const period = 1000 / this.#connection.limits.messages_per_second;
    this.#spacing = SPACING_FACTOR * clamp(period, 1, LONGEST_SPACING_MS);
    place.busy = true;
    this.#queue.unshift(place);
    this.#rest(retryDelay(error, place.refusals));
  }

  #retryLater(place, ms) {
    place.busy = true;
    place.timer = later(() => {
      place.timer = null;
      place.busy = false;
      this.#settle(place);
    }, ms);
  }
}
