/** Virtual time, and a scripted server behind a WebSocket class, for unit tests of the client. */

import { setImmediate as realImmediate } from "node:timers";
import { changed } from "./client.js";

const CHANGES = { edit: "edited", append: "appended", delete: "deleted", react: "reaction" };

/** Replaces timers and clocks; `performance.now` and `Date.now` can be moved apart. */
export class Clock {
  monotonic = 1_000;
  wall = 1_800_000_000_000;
  #timers = new Map();
  #last = 0;
  #slept = 0;

  install() {
    globalThis.setTimeout = (callback, ms = 0) => this.#add(callback, ms, null);
    globalThis.setInterval = (callback, ms) => this.#add(callback, ms, Math.max(this.#delay(ms), 1));
    globalThis.clearTimeout = globalThis.clearInterval = (id) => this.#timers.delete(id);
    performance.now = () => this.monotonic;
    Date.now = () => this.wall;
    return this;
  }

  /** Let time pass, with all that is due in it. */
  async pass(ms) {
    const end = this.monotonic + ms;
    await settle();
    for (let fired = 0; ; fired += 1) {
      if (fired > 100_000) throw new Error("timers run wild");
      const [id, next] = [...this.#timers].sort((a, b) => a[1].at - b[1].at)[0] ?? [];
      if (!next || next.at > end) break;
      this.#move(Math.max(next.at - this.monotonic, 0));
      if (next.period === null) this.#timers.delete(id);
      else next.at += next.period;
      next.callback();
      await settle();
    }
    this.#move(end - this.monotonic);
  }

  /** Let a machine sleep: neither timers nor the monotonic clock notice. */
  sleep(ms) {
    this.wall += ms;
    this.#slept += ms;
  }

  /** Put the clock on the wall forward or back. */
  set(ms) {
    this.wall += ms;
  }

  /** The time of everybody else: of a server, for one. */
  get elsewhere() {
    return this.monotonic + this.#slept;
  }

  get pending() {
    return this.#timers.size;
  }

  #move(ms) {
    this.monotonic += ms;
    this.wall += ms;
  }

  /** As browsers and Node do: a delay that is too long is none. */
  #delay(ms) {
    return ms > 2 ** 31 - 1 || !(ms >= 0) ? 1 : ms;
  }

  #add(callback, ms, period) {
    this.#last += 1;
    this.#timers.set(this.#last, { at: this.monotonic + this.#delay(ms), callback, period });
    return this.#last;
  }
}

/** Let everything run that waits for nothing but its turn. */
export async function settle() {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((wake) => realImmediate(wake));
}

/** A server in the test's hands. Its attributes may be changed at any time. */
export class Server {
  connections = [];
  /** Every command of every connection, with `connection`, its number. */
  commands = [];
  topics = new Map();
  user = "alice";
  expiresAt = undefined;
  limits = { max_message_bytes: 65_536, messages_per_second: 50, idempotency_seconds: 300 };
  heartbeatSeconds = 25;
  /** Answers in place of the usual ones: `(command) => message | null | undefined`. */
  answer = () => undefined;
  /** Whether the answer to a command is lost, though it is carried out. */
  loses = () => false;
  /** What happens when a connection opens, in place of a welcome: `(connection) => void`. */
  onOpen = null;

  constructor(clock) {
    this.clock = clock;
    const server = this;
    this.WebSocket = class extends Socket {
      constructor(url, protocols) {
        super(server, url, protocols);
      }
    };
  }

  /** The connection that is open, if one is. */
  get current() {
    return this.connections.findLast(({ isOpen }) => isOpen);
  }

  of(type) {
    return this.commands.filter((command) => command.type === type);
  }

  topic(name) {
    if (!this.topics.has(name)) this.topics.set(name, { epoch: "e1", messages: [], keys: new Map() });
    const topic = this.topics.get(name);
    topic.events ??= [];
    return topic;
  }

  store(name, data, user = this.user, more = {}) {
    const message = { data, ...more };
    return this.#push(name, "message", user, message);
  }

  /** Change a message; `fields` are those of the event. */
  change(name, type, target, fields, user = this.user) {
    const event = this.#push(name, type, user, { target, ...fields });
    const { messages } = this.topic(name);
    const index = messages.findIndex(({ seq }) => seq === target);
    messages[index] = changed(messages[index], event);
    return event;
  }

  #push(name, type, user, fields) {
    const topic = this.topic(name);
    const event = { type, topic: name, seq: topic.events.length + 1, at: 1, from: { user }, ...fields };
    topic.events.push(event);
    if (type === "message") topic.messages.push(event);
    this.broadcast(event);
    return event;
  }

  broadcast(message) {
    for (const { subscribed, deliver } of this.connections) {
      if (subscribed.has(message.topic)) queueMicrotask(() => deliver(message));
    }
  }

  texts(name) {
    return this.topic(name).messages.map(({ data }) => data);
  }

  welcome(connection) {
    connection.deliver({
      type: "welcome",
      user: this.user,
      limits: this.limits,
      heartbeat_seconds: this.heartbeatSeconds,
      expires_at: this.expiresAt,
    });
  }

  carryOut(connection, command) {
    const { type, topic } = command;
    if (type === "ping") return { type: "pong" };
    if (type === "auth") return { type: "ok", user: this.user, expires_at: this.expiresAt };
    if (type === "publish") return this.#publish(command);
    if (type === "history") return this.#history(command);
    if (CHANGES[type]) return this.#change(command);
    if (type === "signal") {
      this.broadcast({ type, topic, from: { user: this.user }, data: command.data, at: 1 });
      return { type: "ok", topic };
    }
    if (type === "read") return { type: "ok", topic, seq: command.seq, unread: 0 };
    if (type === "call") return { type: "ok", data: [command.method, command.data] };
    if (type === "unread") return { type: "ok", topics: {} };
    if (type === "presence") return { type: "ok", topic, count: 0, connections: 0, users: [], more: false };
    if (type === "unsubscribe") {
      return connection.subscribed.delete(topic) ? { type: "ok", topic } : failure("not_subscribed");
    }
    if (connection.subscribed.has(topic)) return failure("already_subscribed");
    return this.#subscribe(connection, command);
  }

  #subscribe(connection, { topic: name, since, last, strict }) {
    const { epoch, events, messages } = this.topic(name);
    const seq = events.length;
    const recovered = !since || since.epoch === epoch;
    if (strict && !recovered) return failure("unrecoverable", { reason: "epoch_changed", epoch, seq });
    connection.subscribed.add(name);
    const missed = since ? events.slice(since.seq) : messages.slice(-last || Infinity);
    for (const event of missed) queueMicrotask(() => connection.deliver(event));
    const replayed = missed.length && seq - missed[0].seq + 1;
    return { type: "ok", topic: name, epoch, seq, replayed, recovered };
  }

  #publish({ topic: name, data, key, state }) {
    const topic = this.topic(name);
    const more = state && { state };
    return this.#once(topic, key, () => {
      const { seq } = this.store(name, data, this.user, more);
      return { type: "ok", topic: name, seq, epoch: topic.epoch, at: 1 };
    });
  }

  #change({ type, topic: name, seq: target, key, ...rest }) {
    const topic = this.topic(name);
    return this.#once(topic, key, () => {
      const message = topic.messages.find(({ seq }) => seq === target);
      if (!message) return failure("not_found");
      if (message.deleted || /complete|cancelled/.test(message.state)) return failure("gone");
      const { data, text, state = "streaming", emoji, remove } = rest;
      const length = [...(message.data?.text ?? message.data ?? "")].length + [...(text ?? "")].length;
      const fields = { edit: { data }, append: { text, state, length }, react: { emoji, remove }, delete: {} };
      const { seq } = this.change(name, CHANGES[type], target, fields[type]);
      const answer = { type: "ok", topic: name, seq, target, epoch: topic.epoch, at: 1 };
      return text === undefined ? answer : { ...answer, length };
    });
  }

  /** Carry out what has a key once within the window. */
  #once(topic, key, carryOut) {
    const known = topic.keys.get(key);
    const window = (this.limits.idempotency_seconds ?? 300) * 1000;
    if (known && this.clock.elsewhere - known.at < window) return { ...known.answer, duplicate: true };
    const answer = carryOut();
    if (answer.type === "error") return answer;
    topic.keys.set(key, { answer, at: this.clock.elsewhere });
    return { ...answer, duplicate: false };
  }

  #history({ topic: name, after = 0, before, limit = 50 }) {
    const { epoch, messages, trimmed = 0 } = this.topic(name);
    const left = messages.filter(({ seq }) => seq > trimmed && seq > after && !(seq >= before));
    const page = before === undefined ? left.slice(0, limit) : left.slice(-limit);
    return { type: "ok", epoch, messages: page, more: left.length > limit };
  }
}

export function failure(code, more = {}) {
  return { type: "error", code, message: code, ...more };
}

/** The client's end of a connection, and the server's in one. */
class Socket {
  isOpen = false;
  subscribed = new Set();
  onmessage = null;
  onclose = null;

  constructor(server, url, protocols) {
    this.server = server;
    this.url = url;
    this.token = protocols[1].slice("bearer.".length);
    this.number = server.connections.push(this);
    queueMicrotask(() => {
      this.isOpen = true;
      if (server.onOpen) server.onOpen(this);
      else server.welcome(this);
    });
  }

  send(frame) {
    const { server } = this;
    const command = JSON.parse(frame);
    server.commands.push({ ...command, connection: this.number, frame, at: server.clock.monotonic });
    queueMicrotask(() => {
      if (!this.isOpen) return;
      let answer = server.answer(command, this);
      if (answer === null) return;
      answer ??= server.carryOut(this, command);
      if (!server.loses(command)) this.deliver({ ...answer, id: command.id });
    });
  }

  close() {
    this.isOpen = false;
    this.subscribed.clear();
  }

  deliver = (message) => {
    if (this.isOpen) this.onmessage?.({ data: JSON.stringify(message) });
  };

  /** End the connection from the server's side. */
  shut(code = 1006, reason = "", goodbye = false, reconnect_in_ms = 0) {
    if (goodbye) this.deliver({ type: "goodbye", code, reason, reconnect_in_ms });
    this.close();
    this.onclose?.({ code, reason });
  }
}

/** Record what an application sees of a client. */
export class Application {
  states = [];
  events = [];
  errors = [];
  outcomes = [];

  onState = (state, details) => this.states.push({ state, ...details });
  onEvent = (event) => this.events.push(event);
  onError = (error) => this.errors.push(error);

  /** Publish, and note what becomes of it. */
  publish(client, topic, data, options) {
    const entry = { data, stored: null, error: null };
    this.outcomes.push(entry);
    client.publish(topic, data, options).then(
      (answer) => (entry.stored = answer),
      (error) => (entry.error = error),
    );
    return entry;
  }

  get state() {
    return this.states.at(-1)?.state;
  }
}
