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

import { ChatError, copied, later, now } from "./client-common.js";
import { Link } from "./client-link.js";
import { Messages, changed, isChange } from "./client-messages.js";
import { Outbox } from "./client-outbox.js";
import { Streams } from "./client-stream.js";
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

/** Who types says so again after this time, and is taken to have stopped after twice as long. */
const TYPING_MS = 3_000;

export class ChatClient {
  #topics = new Topics();
  #outbox = new Outbox(this.#topics);
  #streams = new Streams(this.#outbox, () => this.#link.online?.limits);
  /** When the user was last said to be typing, by topic. */
  #typedAt = new Map();
  #link;

  /**
   * Begin to connect.
   *
   * @param {ClientOptions} options
   */
  constructor(options) {
    this.#link = new Link(options, {
      onOnline: (connection) => {
        this.#topics.connected(connection);
        this.#outbox.connected(connection);
      },
      onOffline: () => {
        this.#topics.disconnected();
        this.#outbox.disconnected();
      },
      onPush: (message) => {
        if (message.type === "signal") this.#streams.heard(message);
        this.#topics.receive(message);
      },
      onEnd: (error) => {
        this.#outbox.end(error);
        this.#streams.end();
      },
    });
  }

  /**
   * The user's name on the server, once connected.
   *
   * @returns {string | null}
   */
  get user() {
    return this.#link.user;
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
    const { closed } = this.#link;
    if (closed) {
      this.#topics.remove(subscription);
      later(() => subscription.refused(closed), 0);
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
    await this.#link.ask(copied({ type: "signal", topic, data }).command);
  }

  /**
   * Say that the user is typing; to be called at each key. Every 3 seconds one call is sent.
   *
   * Whoever receives `{typing: true}` shows it for 6 seconds.
   *
   * @param {string} topic
   */
  typing(topic) {
    if (now() - this.#typedAt.get(topic) < TYPING_MS || !this.#link.online) return;
    this.#typedAt.set(topic, now());
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
    return this.#link.ask({ type: "history", topic, before, after, limit });
  }

  /**
   * Read where a topic stands now; resolves to `{epoch, seq}`.
   *
   * For who then loads a snapshot, and subscribes with `since` behind it. It is asked by HTTP.
   *
   * @param {string} topic
   * @returns {Promise<Position>}
   */
  position(topic) {
    return this.#link.position(topic);
  }

  /**
   * Count what the user has not read, by topic.
   *
   * @param {...(string | { readers?: boolean })} topics the last one may be options: `readers` asks who
   *   else has read how far, too.
   * @returns {Promise<Record<string, Unread>>}
   */
  async unread(...topics) {
    /** @type {any} */
    const { readers } = typeof topics.at(-1) === "object" ? topics.pop() : {};
    return (await this.#link.ask({ type: "unread", topics, readers })).topics;
  }

  /**
   * Read who is in a topic: users behind `after`, for the next page; at most `limit`, 1 to 1,000.
   *
   * @param {string} topic
   * @param {{ after?: string, limit?: number }} [options]
   * @returns {Promise<Presence>}
   */
  presence(topic, { after, limit } = {}) {
    return this.#link.ask({ type: "presence", topic, after, limit });
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
    return (await this.#link.ask(copied({ type: "call", method, data }).command)).data;
  }

  /** Close for good: no timer, listener or socket of the client is left. */
  close() {
    this.#link.end(new ChatError("closed", "the client is closed"));
  }

  /** The same as `close`. */
  dispose() {
    this.close();
  }
}
