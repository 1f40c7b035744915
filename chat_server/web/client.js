/**
 * A client of `chat.v1` for browsers: no dependencies, no build step. docs/browser.md describes it.
 *
 *     import { ChatClient } from "/static/client.js";
 *
 *     const chat = new ChatClient({ url: "ws://127.0.0.1:8000/ws", token });
 *     chat.subscribe("room:lobby", { last: 50, onEvent: (event) => console.log(event) });
 *     await chat.publish("room:lobby", { text: "hello" });
 *
 * The client reconnects by itself. Subscriptions resume at their positions, without a hole or a repeat; an
 * event of type `gap` reports events that are lost. Publications and changes without a connection are
 * kept, and later sent in the order of each topic, each once.
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

/** Milliseconds between two typing signals; a user without a signal for twice as long has stopped. */
const TYPING_MS = 3_000;

export class ChatClient {
  #topics = new Topics();
  #outbox = new Outbox(this.#topics);
  #streams = new Streams(this.#outbox, () => this.#link.online?.limits);
  /** Times of the last typing signals, by topic. */
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
   * If the promise is rejected, `error.mayBeSent` tells whether the message may be stored all the same.
   * Messages of one topic leave one after the other, and so keep their order even if the server refuses one
   * for a while; the client then calls `onDelay`.
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
  // All changes keep the promises of `publish`, and take its options.
  //
  // A further option is `epoch`: from the answer with the `seq` (`publish`, `history`), or from the
  // subscription's `position` when the event came. After a loss of the store a `seq` may name another
  // message; with the old `epoch` the change then fails as `not_found`.

  /**
   * Replace the data of the message `seq`.
   *
   * @param {string} topic
   * @param {number} seq
   * @param {unknown} data as in `publish`.
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
   * Delete the data of the message `seq` for good.
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
   * Add the user's reaction to the message `seq`, or remove the reaction with `remove: true`.
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
   * Publish a streaming message; resolves to its stream: `write(text)`, `complete()`, `cancel()`.
   *
   * Text written while an append is under way leaves with the next append. If the store has lost the
   * message, the next append fails as `not_found`, and never reaches another message.
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
   * Send `data` to the present subscribers; rejected without a connection.
   *
   * @param {string} topic
   * @param {unknown} data any value that JSON can express.
   * @returns {Promise<void>}
   */
  async signal(topic, data) {
    await this.#link.ask(copied({ type: "signal", topic, data }).command);
  }

  /**
   * Signal that the user is typing; to be called at each key. Every 3 seconds one call is sent.
   *
   * Receivers of `{typing: true}` show the user as typing for 6 seconds.
   *
   * @param {string} topic
   */
  typing(topic) {
    if (now() - this.#typedAt.get(topic) < TYPING_MS || !this.#link.online) return;
    this.#typedAt.set(topic, now());
    this.signal(topic, { typing: true }).catch(() => {}); // the next one may arrive
  }

  /**
   * Ask the author of the streaming message `seq` to end it.
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
   * Read the position of a topic, by HTTP; resolves to `{epoch, seq}`.
   *
   * The caller may then load a snapshot, and subscribe with the position as `since`.
   *
   * @param {string} topic
   * @returns {Promise<Position>}
   */
  position(topic) {
    return this.#link.position(topic);
  }

  /**
   * Count the user's unread messages, by topic.
   *
   * @param {...(string | { readers?: boolean })} topics the last argument may be options: `readers` asks for
   *   the read cursors of others, too.
   * @returns {Promise<Record<string, Unread>>}
   */
  async unread(...topics) {
    /** @type {any} */
    const { readers } = typeof topics.at(-1) === "object" ? topics.pop() : {};
    return (await this.#link.ask({ type: "unread", topics, readers })).topics;
  }

  /**
   * Read the users present in a topic: users behind `after`, for the next page; at most `limit`, 1 to 1,000.
   *
   * @param {string} topic
   * @param {{ after?: string, limit?: number }} [options]
   * @returns {Promise<Presence>}
   */
  presence(topic, { after, limit } = {}) {
    return this.#link.ask({ type: "presence", topic, after, limit });
  }

  /**
   * Call a method of the application around the server; resolves to the method's result.
   *
   * The call is sent once. After a rejection with `connection_lost`, the call may have had effects.
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
