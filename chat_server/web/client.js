/**
 * A client of `chat.v1` for browsers: no dependencies, no build step. docs/browser.md describes it.
 *
 *     import { ChatClient } from "/static/client.js";
 *
 *     const chat = new ChatClient({ url: "ws://127.0.0.1:8000/ws", token });
 *     chat.subscribe("room:lobby", { last: 50, onEvent: (event) => console.log(event) });
 *     await chat.publish("room:lobby", { text: "hello" });
 *
 * It reconnects by itself. Subscriptions go on where they stood, without a hole or a repeat; what
 * cannot be had any more is told by an event of type `gap`. What is published or changed while there
 * is no connection is kept, and sent in the order of its topic, each once.
 */

import { ChatError, backoff, call, clamp, copied, later, now } from "./client-common.js";
import { Connection } from "./client-connection.js";
import { Messages, changed, isChange } from "./client-messages.js";
import { watchNetwork } from "./client-network.js";
import { Outbox } from "./client-outbox.js";
import { readPosition } from "./client-position.js";
import { Streams } from "./client-stream.js";
import { Tokens } from "./client-token.js";
import { Topics } from "./client-topics.js";

export { ChatError, Messages, changed, isChange };

/**
 * After a goodbye with these codes the server does not want the client back (docs/protocol.md,
 * section 6). Without a goodbye a code may be a gateway's: then the connection is merely lost.
 */
const STOP = new Set([1000, 1003, 1007, 1009, 4400, 4403]);
/** After these the client leaves the server alone for a while, whoever says so. */
const LONG_BACKOFF = new Set([1013, 4429]);
const UNAUTHORIZED = 4401;
const BLOCKED = 4403;

const PATIENT_WAIT_MS = 10_000;
const LONGEST_PATIENT_WAIT_MS = 80_000;
const SHORTEST_ASKED_MS = 100;
const LONGEST_ASKED_MS = 300_000;
/** A connection that lasted this long shows that all is well: after it, waits begin short again. */
const STEADY_MS = 10_000;
const TOKEN_TIMEOUT_MS = 10_000;
/**
 * Fresh tokens are refused at least so often, and for so long, before the client gives up: a key
 * that the issuer has just begun to use may be unknown to the server for a minute.
 */
const MAX_REFUSALS = 3;
const REFUSED_MS = 120_000;
/** Events of the network shorten at most one wait in so long: a flapping one sends many. */
const HURRY_MS = 1_000;
/** Who types says so again after this time, and is taken to have stopped after twice as long. */
const TYPING_MS = 3_000;

export class ChatClient {
  /** The user's name on the server, once connected. */
  user = null;

  #url;
  #tokens;
  #onState;
  #WebSocket;
  #topics = new Topics();
  #outbox = new Outbox(this.#topics);
  #streams = new Streams(this.#outbox, () => this.#connection?.limits);
  /** The topics in which the user was just said to be typing, with the timers that end it. */
  #typing = new Map();
  #connection = null;
  #online = false;
  #closed = null;
  #attempts = 0;
  #refusals = 0;
  #refusedAt = 0;
  #retry = null;
  #lastError = undefined;
  /** Whether the server has said when to come back. */
  #asked = false;
  #hurriedAt = -Infinity;
  /** Names the attempt to connect that is under way: what an earlier one brings is not used. */
  #attempt = null;
  /** Whether the browser keeps the page for the Back button, in which it must hold no connection. */
  #isAway = false;
  /** Aborted with the error of the end: listeners, requests and waits for tokens go with it. */
  #ending = new AbortController();

  /**
   * Begin to connect.
   *
   * @param {object} options
   * @param {string} options.url the address of the WebSocket.
   * @param {string | function} options.token a JWT, or a function that returns a fresh one (or a
   *   promise of one). It is called for each connection, and before the token expires.
   * @param {function} [options.onState] called with "connecting", "online", "reconnecting" or
   *   "closed", and with `{error, retryInMs}` where they apply.
   * @param {number} [options.tokenTimeoutMs] how long the token function may take.
   * @param {function} [options.WebSocket] the class to use where there is no global one.
   */
  constructor({
    url,
    token,
    onState = () => {},
    tokenTimeoutMs = TOKEN_TIMEOUT_MS,
    WebSocket = globalThis.WebSocket,
  }) {
    if (!WebSocket) throw new TypeError("WebSocket: there is none here, so one must be given");
    this.#url = new URL(url, globalThis.location?.href).href;
    this.#tokens = new Tokens(token, tokenTimeoutMs, this.#ending.signal);
    this.#onState = onState;
    this.#WebSocket = WebSocket;
    watchNetwork(this.#ending.signal, {
      onChange: () => this.#networkChanged(),
      onLoss: (patienceMs) => this.#connection?.checkLife(patienceMs),
      onLeave: () => this.#leave(),
      onReturn: () => this.#comeBack(),
    });
    this.#open("connecting");
  }

  /**
   * Receive a topic's events.
   *
   * @param {string} topic
   * @param {object} options
   * @param {number} [options.last] begin with so many messages as they now are, 1 to 300.
   * @param {object} [options.since] begin behind this position, `Subscription.position` of earlier.
   * @param {boolean} [options.strict] end with the error `unrecoverable` instead of telling a gap when
   *   a position cannot be resumed.
   * @param {boolean} [options.presence] also receive `join`, `leave` and `presence`.
   * @param {function} [options.onEvent] called with each event: `message`, `edited`, `signal`, `gap`, …
   * @param {function} [options.onReady] called with each answer that the subscription stands.
   * @param {function} [options.onError] called with the `ChatError` that ended it; of a closed client
   *   with the one that closed it.
   */
  subscribe(topic, options) {
    const subscription = this.#topics.add(topic, options);
    if (this.#closed) {
      this.#topics.remove(subscription);
      later(() => call(subscription.onError, this.#closed), 0);
    }
    return subscription;
  }

  /** End a subscription. */
  unsubscribe(subscription) {
    this.#topics.remove(subscription);
  }

  /**
   * Append a message to a topic; resolves to `{seq, epoch, at, duplicate}` once it is stored.
   *
   * If it is rejected, `error.mayBeSent` tells whether the message may be stored all the same.
   * Those of one topic leave one after the other, so that they keep their order even if the server refuses
   * one for a while; `onDelay` is told of that.
   *
   * @param {string} topic
   * @param {unknown} data any value that JSON can express, so not NaN; half surrogate pairs become U+FFFD.
   * @param {object} [options]
   * @param {string} [options.key] what the server knows a repetition by, 1 to 64 characters.
   * @param {function} [options.onDelay] called with the `ChatError` for which it has to wait.
   */
  publish(topic, data, options) {
    return this.#outbox.add({ type: "publish", topic, data }, options);
  }

  // Messages that change -------------------------------------------------------------------------
  //
  // All of these keep the promises of `publish`, and take its options. They resolve to the change's
  // place, `{seq, target, epoch, at, duplicate}`.
  //
  // They have one more option, `epoch`: that of the answer which named the `seq` (`publish`, `history`),
  // or of the subscription's `position` when the event came. After the store was lost a `seq` may be
  // another message's; with its `epoch` the change is `not_found` then.

  /** Put other data into the message `seq`. */
  edit(topic, seq, data, { epoch, ...options } = {}) {
    return this.#outbox.add({ type: "edit", topic, seq, epoch, data }, options);
  }

  /**
   * Add to the text of the message `seq`; the answer has the text's `length` too.
   *
   * @param {string} topic
   * @param {number} seq
   * @param {string} text may be empty if `state` ends the message.
   * @param {object} [options] those of `publish`, and
   * @param {string} [options.state] `complete` or `cancelled`, after which nothing can be added.
   */
  append(topic, seq, text, { epoch, state, ...options } = {}) {
    return this.#outbox.add({ type: "append", topic, seq, epoch, text, state }, options);
  }

  /** Take the data of the message `seq` away for good. */
  delete(topic, seq, { epoch, ...options } = {}) {
    return this.#outbox.add({ type: "delete", topic, seq, epoch }, options);
  }

  /**
   * Add the user's reaction to the message `seq`, or with `remove: true` take it back.
   *
   * @param {string} topic
   * @param {number} seq
   * @param {string} emoji one visible character.
   * @param {object} [options] those of `publish`, and `remove`.
   */
  react(topic, seq, emoji, { epoch, remove, ...options } = {}) {
    return this.#outbox.add({ type: "react", topic, seq, epoch, emoji, remove }, options);
  }

  /** Note that the user has read up to `seq`; resolves to `{seq, unread}`. */
  read(topic, seq, { epoch, ...options } = {}) {
    return this.#outbox.add({ type: "read", topic, seq, epoch }, options);
  }

  /**
   * Publish a message that grows; resolves to it: `write(text)`, `complete()`, `cancel()`.
   *
   * What is written while an append is under way leaves with the next one. If the store has lost the
   * message, the next append is `not_found`: it never reaches another message.
   *
   * @param {string} topic
   * @param {object} [options]
   * @param {unknown} [options.data] a text, or an object with a text in `text`.
   */
  stream(topic, { data = "" } = {}) {
    return this.#streams.open(topic, data);
  }

  // What is not stored ---------------------------------------------------------------------------

  /** Send `data` to those who are subscribed at the moment; rejected if there is no connection. */
  async signal(topic, data) {
    await this.#ask(copied({ type: "signal", topic, data }).command);
  }

  /**
   * Say that the user is typing; to be called at each key. Every 3 seconds one call is sent.
   *
   * Whoever receives `{typing: true}` shows it for 6 seconds.
   */
  typing(topic) {
    if (this.#typing.has(topic) || !this.#online) return;
    this.#typing.set(topic, later(() => this.#typing.delete(topic), TYPING_MS));
    this.signal(topic, { typing: true }).catch(() => {}); // the next one may arrive
  }

  /** Ask the author of the message `seq`, which grows, to end it. */
  cancel(topic, seq) {
    return this.signal(topic, { cancel: seq });
  }

  // Questions ------------------------------------------------------------------------------------

  /**
   * Read stored messages; resolves to `{epoch, messages, more}`.
   *
   * @param {string} topic
   * @param {object} [options]
   * @param {number} [options.before] read the newest with a lower `seq`; or
   * @param {number} [options.after] the oldest with a higher one.
   * @param {number} [options.limit] at most so many, 1 to 300.
   */
  history(topic, { before, after, limit } = {}) {
    return this.#ask({ type: "history", topic, before, after, limit });
  }

  /**
   * Read where a topic stands now; resolves to `{epoch, seq}`.
   *
   * For who then loads a snapshot, and subscribes with `since` behind it. It is asked by HTTP.
   */
  async position(topic) {
    if (this.#closed) throw this.#closed;
    return readPosition(this.#url, await this.#tokens.fresh(), topic, this.#ending.signal);
  }

  /** Count what the user has not read; resolves to `{topic: {read, seq, unread, more, last?}}`. */
  async unread(...topics) {
    return (await this.#ask({ type: "unread", topics })).topics;
  }

  /**
   * Read who is in a topic; resolves to `{count, connections, users, more}`.
   *
   * @param {string} topic
   * @param {object} [options]
   * @param {string} [options.after] only users behind this one, for the next page.
   * @param {number} [options.limit] at most so many, 1 to 1,000.
   */
  presence(topic, { after, limit } = {}) {
    return this.#ask({ type: "presence", topic, after, limit });
  }

  /**
   * Call a method of the application around the server; resolves to what that returns.
   *
   * It is sent once. If it is rejected with `connection_lost`, it may have had effects.
   *
   * @param {string} method
   * @param {unknown} [data] any value that JSON can express.
   */
  async call(method, data = null) {
    return (await this.#ask(copied({ type: "call", method, data }).command)).data;
  }

  /** Close for good: no timer, listener or socket of the client is left. */
  close() {
    this.#end(new ChatError("closed", "the client is closed"));
  }

  /** The same as `close`. */
  dispose() {
    this.close();
  }

  /** Send a command that stores nothing; it does not wait for a connection. */
  #ask(command) {
    if (this.#online) return this.#connection.command(command);
    return Promise.reject(new ChatError("connection_lost", "there is no connection"));
  }

  // Connecting -----------------------------------------------------------------------------------

  async #open(state) {
    clearTimeout(this.#retry);
    this.#retry = null;
    const attempt = (this.#attempt = Symbol(state));
    call(this.#onState, state, this.#lastError ? { error: this.#lastError } : {});
    let token;
    let socket;
    try {
      token = await this.#tokens.fresh();
      if (this.#attempt !== attempt) return;
      socket = new this.#WebSocket(this.#url, ["chat.v1.json", `bearer.${token}`]);
    } catch (error) {
      if (this.#attempt === attempt) this.#notOpened(error);
      return;
    }
    this.#connection = new Connection({
      socket,
      token,
      renew: this.#tokens.renewable ? () => this.#tokens.fresh() : null,
      onWelcome: () => this.#welcomed(),
      onPush: (message) => this.#received(message),
      onEnd: (ending) => this.#lost(ending),
    });
  }

  /** There is no token, or a browser does not open a WebSocket with it. */
  #notOpened(error) {
    if (error.code === "token_failed") this.#reconnectLater(error, this.#wait());
    else if (error.name !== "SyntaxError") this.#end(new ChatError("cannot_connect", error.message));
    else if (!this.#tokens.renewable) this.#end(new ChatError("unauthorized", "this is not a token"));
    else this.#reconnectLater(new ChatError("token_failed", "this is not a token"), this.#wait());
  }

  #received(message) {
    if (message.type === "signal") this.#streams.heard(message);
    this.#topics.receive(message);
  }

  #welcomed() {
    const { user } = this.#connection;
    if (this.user !== null && this.user !== user) {
      // What waits to be sent was written by somebody else.
      this.#end(new ChatError("unauthorized", `the token is another user's, not ${this.user}'s`));
      return;
    }
    this.user = user;
    this.#online = true;
    this.#refusals = 0;
    this.#lastError = undefined;
    this.#topics.connected(this.#connection);
    this.#outbox.connected(this.#connection);
    call(this.#onState, "online", {});
  }

  #lost({ code, reason, goodbye, lastedMs }) {
    this.#connection = null;
    this.#online = false;
    this.#topics.disconnected();
    this.#outbox.disconnected();
    if (this.#closed) return;
    if (lastedMs >= STEADY_MS) this.#attempts = 0;
    const told = goodbye?.code;
    if (STOP.has(told)) {
      this.#end(new ChatError(told === BLOCKED ? "forbidden" : "closed", goodbye.reason ?? reason));
      return;
    }
    let error;
    if (told === UNAUTHORIZED) {
      error = new ChatError("unauthorized", goodbye.reason ?? reason);
      if (!this.#tokens.renewable || (lastedMs === null && this.#isRefusedForGood())) {
        this.#end(error);
        return;
      }
    } else {
      error = new ChatError(lastedMs === null ? "cannot_connect" : "connection_lost", reason);
    }
    const patient = LONG_BACKOFF.has(told ?? code);
    this.#reconnectLater(error, this.#wait(patient, goodbye?.reconnect_in_ms));
  }

  /** Count a refusal of a fresh token; return whether it was one too many. */
  #isRefusedForGood() {
    if (this.#refusals++ === 0) this.#refusedAt = now();
    return this.#refusals >= MAX_REFUSALS && now() - this.#refusedAt >= REFUSED_MS;
  }

  /** Return the milliseconds until the next attempt: as asked, but growing if that does not help. */
  #wait(patient = false, asked = 0) {
    const attempts = this.#attempts++;
    const own = patient
      ? backoff(attempts, LONGEST_PATIENT_WAIT_MS, PATIENT_WAIT_MS)
      : backoff(attempts);
    this.#asked = asked > 0;
    if (!this.#asked) return own;
    const wait = clamp(asked, SHORTEST_ASKED_MS, LONGEST_ASKED_MS) * (1 + 0.1 * Math.random());
    return attempts === 0 ? wait : Math.max(wait, own);
  }

  #reconnectLater(error, wait) {
    this.#lastError = error;
    if (!this.#isAway) this.#retry = later(() => this.#open("reconnecting"), wait);
    call(this.#onState, "reconnecting", { error, retryInMs: wait });
  }

  #end(error) {
    if (this.#closed) return;
    this.#closed = error;
    this.#attempt = null;
    this.#ending.abort(error);
    for (const timer of [this.#retry, ...this.#typing.values()]) clearTimeout(timer);
    this.#connection?.end(0, error.message);
    this.#outbox.end(error);
    this.#streams.end();
    call(this.#onState, "closed", { error });
  }

  // The network ----------------------------------------------------------------------------------

  /** A network that comes back need not be waited for, and one that changed may be dead. */
  #networkChanged() {
    if (this.#retry === null) {
      this.#connection?.checkLife();
    } else if (!this.#asked && now() - this.#hurriedAt >= HURRY_MS) {
      // Unless the server has said when: it may be one of very many that it sent away.
      this.#hurriedAt = now();
      this.#open("reconnecting");
    }
  }

  #leave() {
    this.#isAway = true;
    this.#attempt = null;
    clearTimeout(this.#retry);
    this.#connection?.end(0, "the page was left");
  }

  #comeBack() {
    if (!this.#isAway) return;
    this.#isAway = false;
    this.#open("reconnecting");
  }
}
