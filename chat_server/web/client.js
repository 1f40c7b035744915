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

import { ChatError, call, copied, later } from "./client-common.js";
import { Connection } from "./client-connection.js";
import { Messages, changed, isChange } from "./client-messages.js";
import { watchNetwork } from "./client-network.js";
import { Outbox } from "./client-outbox.js";
import { Pace } from "./client-pace.js";
import { readPosition } from "./client-position.js";
import { Streams } from "./client-stream.js";
import { Tokens } from "./client-token.js";
import { Topics } from "./client-topics.js";

export { ChatError, Messages, changed, isChange };

/**
 * @typedef {import("./client-types.js").ChangeOptions} ChangeOptions
 * @typedef {import("./client-types.js").Changed} Changed
 * @typedef {import("./client-types.js").ChatEvent} ChatEvent
 * @typedef {import("./client-types.js").ClientOptions} ClientOptions
 * @typedef {import("./client-types.js").ErrorCode} ErrorCode
 * @typedef {import("./client-types.js").Grown} Grown
 * @typedef {import("./client-types.js").History} History
 * @typedef {import("./client-types.js").Message} Message
 * @typedef {import("./client-types.js").Position} Position
 * @typedef {import("./client-types.js").Presence} Presence
 * @typedef {import("./client-types.js").Published} Published
 * @typedef {import("./client-types.js").ReadUpTo} ReadUpTo
 * @typedef {import("./client-types.js").SendOptions} SendOptions
 * @typedef {import("./client-types.js").State} State
 * @typedef {import("./client-types.js").SubscribeOptions} SubscribeOptions
 * @typedef {import("./client-types.js").Unread} Unread
 * @typedef {import("./client-stream.js").Stream} Stream
 * @typedef {import("./client-topics.js").Subscription} Subscription
 */

/**
 * After a goodbye with these codes the server does not want the client back (docs/protocol.md,
 * section 6). Without a goodbye a code may be a gateway's: then the connection is merely lost.
 */
const STOP = new Set([1000, 1003, 1007, 1009, 4400, 4403]);
const UNAUTHORIZED = 4401;
const BLOCKED = 4403;

const TOKEN_TIMEOUT_MS = 10_000;
/** Who types says so again after this time, and is taken to have stopped after twice as long. */
const TYPING_MS = 3_000;

export class ChatClient {
  /**
   * The user's name on the server, once connected.
   *
   * @type {string | null}
   */
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
  #pace = new Pace();
  #retry = null;
  #lastError = undefined;
  /** Names the attempt to connect that is under way: what an earlier one brings is not used. */
  #attempt = null;
  /** Whether the browser keeps the page for the Back button, in which it must hold no connection. */
  #isAway = false;
  /** Aborted with the error of the end: listeners, requests and waits for tokens go with it. */
  #ending = new AbortController();

  /**
   * Begin to connect.
   *
   * @param {ClientOptions} options
   */
  constructor({
    url,
    token,
    onState,
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
   * @param {SubscribeOptions} [options]
   * @returns {Subscription}
   */
  subscribe(topic, options) {
    const subscription = this.#topics.add(topic, options);
    if (this.#closed) {
      this.#topics.remove(subscription);
      later(() => call(subscription.onError, this.#closed), 0);
    }
    return subscription;
  }

  /**
   * End a subscription.
   *
   * @param {Subscription} subscription
   */
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
   * @param {SendOptions} [options]
   * @returns {Promise<Published>}
   */
  publish(topic, data, options) {
    return this.#outbox.add({ type: "publish", topic, data }, options);
  }

  // Messages that change -------------------------------------------------------------------------
  //
  // All of these keep the promises of `publish`, and take its options.
  //
  // They have one more option, `epoch`: that of the answer which named the `seq` (`publish`, `history`),
  // or of the subscription's `position` when the event came. After the store was lost a `seq` may be
  // another message's; with its `epoch` the change is `not_found` then.

  /**
   * Put other data into the message `seq`.
   *
   * @param {string} topic
   * @param {number} seq
   * @param {unknown} data as of `publish`.
   * @param {ChangeOptions} [options]
   * @returns {Promise<Changed>}
   */
  edit(topic, seq, data, { epoch, ...options } = {}) {
    return this.#outbox.add({ type: "edit", topic, seq, epoch, data }, options);
  }

  /**
   * Add to the text of the message `seq`; the answer has the text's `length` too.
   *
   * @param {string} topic
   * @param {number} seq
   * @param {string} text may be empty if `state` ends the message.
   * @param {ChangeOptions & { state?: "complete" | "cancelled" }} [options] after a `state` nothing can
   *   be added.
   * @returns {Promise<Grown>}
   */
  append(topic, seq, text, { epoch, state, ...options } = {}) {
    return this.#outbox.add({ type: "append", topic, seq, epoch, text, state }, options);
  }

  /**
   * Take the data of the message `seq` away for good.
   *
   * @param {string} topic
   * @param {number} seq
   * @param {ChangeOptions} [options]
   * @returns {Promise<Changed>}
   */
  delete(topic, seq, { epoch, ...options } = {}) {
    return this.#outbox.add({ type: "delete", topic, seq, epoch }, options);
  }

  /**
   * Add the user's reaction to the message `seq`, or with `remove: true` take it back.
   *
   * @param {string} topic
   * @param {number} seq
   * @param {string} emoji one visible character.
   * @param {ChangeOptions & { remove?: boolean }} [options]
   * @returns {Promise<Changed>}
   */
  react(topic, seq, emoji, { epoch, remove, ...options } = {}) {
    return this.#outbox.add({ type: "react", topic, seq, epoch, emoji, remove }, options);
  }

  /**
   * Note that the user has read up to `seq`.
   *
   * @param {string} topic
   * @param {number} seq
   * @param {ChangeOptions} [options]
   * @returns {Promise<ReadUpTo>}
   */
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
   * @param {{ data?: string | { text: string, [name: string]: unknown } }} [options]
   * @returns {Promise<Stream>}
   */
  stream(topic, { data = "" } = {}) {
    return this.#streams.open(topic, data);
  }

  // What is not stored ---------------------------------------------------------------------------

  /**
   * Send `data` to those who are subscribed at the moment; rejected if there is no connection.
   *
   * @param {string} topic
   * @param {unknown} data any value that JSON can express.
   * @returns {Promise<void>}
   */
  async signal(topic, data) {
    await this.#ask(copied({ type: "signal", topic, data }).command);
  }

  /**
   * Say that the user is typing; to be called at each key. Every 3 seconds one call is sent.
   *
   * Whoever receives `{typing: true}` shows it for 6 seconds.
   *
   * @param {string} topic
   */
  typing(topic) {
    if (this.#typing.has(topic) || !this.#online) return;
    this.#typing.set(topic, later(() => this.#typing.delete(topic), TYPING_MS));
    this.signal(topic, { typing: true }).catch(() => {}); // the next one may arrive
  }

  /**
   * Ask the author of the message `seq`, which grows, to end it.
   *
   * @param {string} topic
   * @param {number} seq
   */
  cancel(topic, seq) {
    return this.signal(topic, { cancel: seq });
  }

  // Questions ------------------------------------------------------------------------------------

  /**
   * Read stored messages: the newest with a `seq` lower than `before`, or the oldest with a higher one
   * than `after`; at most `limit`, 1 to 300.
   *
   * @param {string} topic
   * @param {{ before?: number, after?: number, limit?: number }} [options]
   * @returns {Promise<History>}
   */
  history(topic, { before, after, limit } = {}) {
    return this.#ask({ type: "history", topic, before, after, limit });
  }

  /**
   * Read where a topic stands now; resolves to `{epoch, seq}`.
   *
   * For who then loads a snapshot, and subscribes with `since` behind it. It is asked by HTTP.
   *
   * @param {string} topic
   * @returns {Promise<Position>}
   */
  async position(topic) {
    if (this.#closed) throw this.#closed;
    return readPosition(this.#url, await this.#tokens.fresh(), topic, this.#ending.signal);
  }

  /**
   * Count what the user has not read, by topic.
   *
   * @param {...string} topics
   * @returns {Promise<Record<string, Unread>>}
   */
  async unread(...topics) {
    return (await this.#ask({ type: "unread", topics })).topics;
  }

  /**
   * Read who is in a topic: users behind `after`, for the next page; at most `limit`, 1 to 1,000.
   *
   * @param {string} topic
   * @param {{ after?: string, limit?: number }} [options]
   * @returns {Promise<Presence>}
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
   * @returns {Promise<any>}
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
    if (error.code === "token_failed") this.#reconnectLater(error, this.#pace.wait());
    else if (error.name !== "SyntaxError") this.#end(new ChatError("cannot_connect", error.message));
    else if (!this.#tokens.renewable) this.#end(new ChatError("unauthorized", "this is not a token"));
    else this.#reconnectLater(new ChatError("token_failed", "this is not a token"), this.#pace.wait());
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
    this.#pace.welcomed();
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
    const told = goodbye?.code;
    if (STOP.has(told)) {
      this.#end(new ChatError(told === BLOCKED ? "forbidden" : "closed", goodbye.reason ?? reason));
      return;
    }
    let error;
    if (told === UNAUTHORIZED) {
      error = new ChatError("unauthorized", goodbye.reason ?? reason);
      if (!this.#tokens.renewable || (lastedMs === null && this.#pace.isRefusedForGood())) {
        this.#end(error);
        return;
      }
    } else {
      error = new ChatError(lastedMs === null ? "cannot_connect" : "connection_lost", reason);
    }
    const askedMs = goodbye?.reconnect_in_ms;
    this.#reconnectLater(error, this.#pace.wait({ code: told ?? code, askedMs, lastedMs }));
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
    if (this.#retry === null) this.#connection?.checkLife();
    else if (this.#pace.mayHurry()) this.#open("reconnecting");
  }

  #leave() {
    this.#isAway = true;
    this.#attempt = null;
    clearTimeout(this.#retry);
    this.#retry = null;
    this.#connection?.end(0, "the page was left");
  }

  #comeBack() {
    if (!this.#isAway) return;
    this.#isAway = false;
    this.#open("reconnecting");
  }
}
