/**
 * A client of `chat.v1` for browsers: one file, no dependencies, no build step.
 *
 *     import { ChatClient } from "/static/client.js";
 *
 *     const chat = new ChatClient({ url: "ws://127.0.0.1:8000/ws", token });
 *     chat.subscribe("room:lobby", { last: 50, onEvent: (event) => console.log(event) });
 *     await chat.publish("room:lobby", { text: "hello" });
 *
 * It reconnects by itself. Subscriptions go on where they stood, without a hole or a repeat; what
 * cannot be had any more is told by an event of type `gap`. What is published while there is no
 * connection is kept, and sent in its order, each message once.
 */

/** After these close codes the server does not want the client back (docs/protocol.md, section 6). */
const STOP = new Set([1000, 1003, 1007, 1009, 4400, 4403]);
/** After these it wants to be left alone for a while. */
const LONG_BACKOFF = new Set([1013, 4429]);
const UNAUTHORIZED = 4401;
const NO_CLOSE_FRAME = 1006;

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const PATIENT_WAIT_MS = 10_000;
/** A connection that lasted this long shows that all is well: after it, waits begin short again. */
const STEADY_MS = 10_000;
const OPEN_TIMEOUT_MS = 10_000;
const PONG_TIMEOUT_MS = 10_000;
const RETRY_MS = 1_000;
/** Fresh tokens refused in a row before the client gives up. */
const MAX_REFUSALS = 3;
const MAX_OUTBOX = 1_000;

const STORED = new Set(["message", "edited", "deleted", "reaction"]);

/** An error of the protocol (`code` is one of its section 5), or `closed` or `connection_lost`. */
export class ChatError extends Error {
  constructor(code, message, retryInMs) {
    super(message);
    this.name = "ChatError";
    this.code = code;
    this.retryInMs = retryInMs;
  }

  /** Whether the same command may succeed later. */
  get transient() {
    return this.code === "rate_limited" || this.code === "unavailable";
  }
}

/** One topic's events, over any number of connections; made by `ChatClient.subscribe`. */
class Subscription {
  /** Where the last event that came stands: `{epoch, seq}`, or null before the first answer. */
  position = null;
  #standing = false;

  constructor(topic, { last, since, onEvent, onReady = () => {}, onError = () => {} }) {
    this.topic = topic;
    this.last = last;
    this.position = since ?? null;
    this.onEvent = onEvent;
    this.onReady = onReady;
    this.onError = onError;
  }

  command() {
    const command = { type: "subscribe", topic: this.topic };
    if (this.position) command.since = this.position;
    else if (this.last) command.last = this.last;
    return command;
  }

  accepted({ epoch, seq, replayed, recovered, reason }) {
    const asked = this.position;
    const start = { epoch, seq: seq - replayed };
    this.position = start;
    this.#standing = true;
    if (asked && !recovered) {
      // Of an order that is lost nothing can be said but where the new one stands.
      const sameOrder = asked.epoch === epoch && asked.seq <= start.seq;
      const after = sameOrder ? asked.seq : 0;
      const gap = { epoch, after, before: start.seq + 1, reason: reason ?? "expired" };
      this.onEvent({ type: "gap", topic: this.topic, ...gap });
    }
    this.onReady();
  }

  receive(event) {
    if (!this.#standing) return; // it is meant for an earlier subscription to this topic
    const here = this.position;
    if (event.type === "gap") {
      if (event.epoch === here.epoch && event.before - 1 <= here.seq) return;
      this.position = { epoch: event.epoch, seq: event.before - 1 };
    } else if (STORED.has(event.type)) {
      if (event.seq <= here.seq) return;
      this.position = { epoch: here.epoch, seq: event.seq };
    }
    this.onEvent(event);
  }
}

export class ChatClient {
  /** The user's name on the server, once connected. */
  user = null;

  #url;
  #token;
  #onState;
  #socket = null;
  #online = false;
  #closed = null;
  #goodbye = null;
  #asked = false;
  #limits = null;
  #lastId = 0;
  #answers = new Map();
  #subscriptions = new Map();
  #outbox = [];
  #sending = false;
  #attempts = 0;
  #refusals = 0;
  #since = 0;
  #heardAt = 0;
  #retry = null;
  #deadline = null;
  #heartbeat = null;
  #onNetwork = () => this.#networkChanged();

  /**
   * Begin to connect.
   *
   * @param {string} options.url the address of the WebSocket.
   * @param {string | function} options.token a JWT, or a function that returns a fresh one (or a
   *   promise of one) for each connection.
   * @param {function} options.onState called with "connecting", "online", "reconnecting" or
   *   "closed", and with `{error, retryInMs}` where they apply.
   */
  constructor({ url, token, onState = () => {} }) {
    this.#url = url;
    this.#token = token;
    this.#onState = onState;
    window.addEventListener("online", this.#onNetwork);
    document.addEventListener("visibilitychange", this.#onNetwork);
    this.#open("connecting");
  }

  /**
   * Receive a topic's events.
   *
   * @param {number} options.last begin with so many stored events, 1 to 300.
   * @param {object} options.since begin behind this position, `Subscription.position` of earlier.
   * @param {function} options.onEvent called with each event: `message`, `signal`, `gap`, …
   * @param {function} options.onReady called with each answer that the subscription stands.
   * @param {function} options.onError called with the `ChatError` that ended it.
   */
  subscribe(topic, options) {
    const subscription = new Subscription(topic, options);
    if (this.#subscriptions.has(topic)) throw new ChatError("already_subscribed", topic);
    this.#subscriptions.set(topic, subscription);
    if (this.#online) this.#resume(subscription);
    return subscription;
  }

  /** End a subscription. */
  unsubscribe(subscription) {
    if (this.#subscriptions.get(subscription.topic) !== subscription) return;
    this.#subscriptions.delete(subscription.topic);
    if (this.#online) this.#send({ type: "unsubscribe", topic: subscription.topic });
  }

  /**
   * Append a message to a topic; resolves to `{seq, epoch, at, duplicate}` once it is stored.
   *
   * Messages leave one after the other, so that they keep their order even if the server refuses one
   * for a while; `onDelay` is told of that.
   */
  publish(topic, data, { key = newKey(), onDelay = () => {} } = {}) {
    if (this.#closed) return Promise.reject(this.#closed);
    if (this.#outbox.length >= MAX_OUTBOX) {
      return Promise.reject(new ChatError("unavailable", "too many messages wait to be sent"));
    }
    return new Promise((resolve, reject) => {
      this.#outbox.push({ command: { type: "publish", topic, data, key }, onDelay, resolve, reject });
      this.#flush();
    });
  }

  /** Read stored messages; resolves to `{messages, more}`. */
  history(topic, { before, after, limit } = {}) {
    return this.#request({ type: "history", topic, before, after, limit });
  }

  /** Close for good. */
  close() {
    this.#end(new ChatError("closed", "the client is closed"));
  }

  // Connecting -----------------------------------------------------------------------------------

  async #open(state) {
    clearTimeout(this.#retry);
    this.#retry = null;
    this.#onState(state, {});
    let socket;
    try {
      const token = typeof this.#token === "function" ? await this.#token() : this.#token;
      if (this.#closed || this.#socket) return;
      socket = new WebSocket(this.#url, ["chat.v1.json", `bearer.${token}`]);
    } catch (error) {
      // A token with characters that no token has, or one that could not be fetched.
      if (typeof this.#token === "function") this.#reconnect(0, String(error));
      else this.#end(new ChatError("unauthorized", "this is not a token"));
      return;
    }
    this.#socket = socket;
    this.#goodbye = null;
    this.#deadline = setTimeout(() => this.#lost(socket, 0, "no answer"), OPEN_TIMEOUT_MS);
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.#lost(socket, code, reason);
  }

  #lost(socket, code, reason) {
    if (socket !== this.#socket) return;
    socket.onmessage = socket.onclose = null;
    socket.close();
    this.#socket = null;
    this.#online = false;
    clearTimeout(this.#deadline);
    clearInterval(this.#heartbeat);
    const answers = [...this.#answers.values()];
    this.#answers.clear();
    const error = new ChatError("connection_lost", "the connection broke");
    for (const { reject } of answers) reject(error);
    if (Date.now() - this.#since >= STEADY_MS) this.#attempts = 0;
    this.#since = Infinity;
    // The close frame may be lost where the goodbye before it was not.
    if (code === NO_CLOSE_FRAME && this.#goodbye) ({ code, reason } = this.#goodbye);
    this.#reconnect(code, reason);
  }

  #reconnect(code, reason) {
    if (this.#closed) return;
    if (code === UNAUTHORIZED) {
      this.#refusals += 1;
      if (typeof this.#token !== "function" || this.#refusals >= MAX_REFUSALS) {
        this.#end(new ChatError("unauthorized", reason));
        return;
      }
    }
    if (STOP.has(code)) {
      this.#end(new ChatError(code === 4403 ? "forbidden" : "closed", reason));
      return;
    }
    const wait = this.#wait(code);
    this.#onState("reconnecting", { retryInMs: wait });
    this.#retry = setTimeout(() => this.#open("reconnecting"), wait);
  }

  #wait(code) {
    const attempts = this.#attempts++;
    const asked = this.#goodbye?.reconnect_in_ms;
    this.#goodbye = null;
    this.#asked = Boolean(asked);
    if (asked) return asked * (1 + 0.1 * Math.random());
    if (LONG_BACKOFF.has(code)) {
      return PATIENT_WAIT_MS * 2 ** Math.min(attempts, 3) * (0.5 + Math.random() / 2);
    }
    return Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(attempts, 20)) * Math.random();
  }

  #end(error) {
    if (this.#closed) return;
    this.#closed = error;
    window.removeEventListener("online", this.#onNetwork);
    document.removeEventListener("visibilitychange", this.#onNetwork);
    clearTimeout(this.#retry);
    if (this.#socket) this.#lost(this.#socket, 1000, "");
    for (const { reject } of this.#outbox.splice(0)) reject(error);
    this.#onState("closed", { error });
  }

  /** A network that comes back need not be waited for, and one that changed may be dead. */
  #networkChanged() {
    if (document.visibilityState === "hidden") return;
    if (this.#retry !== null) {
      // Unless the server has said when: it may be one of very many that it sent away.
      if (!this.#asked) this.#open("reconnecting");
    } else if (this.#online) this.#checkLife();
  }

  #checkLife() {
    const socket = this.#socket;
    const asked = Date.now();
    this.#request({ type: "ping" }).catch(() => {});
    setTimeout(() => {
      if (this.#heardAt < asked) this.#lost(socket, 0, "no answer");
    }, PONG_TIMEOUT_MS);
  }

  // Messages -------------------------------------------------------------------------------------

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #request(command) {
    if (!this.#online) {
      return Promise.reject(new ChatError("connection_lost", "there is no connection"));
    }
    const frame = JSON.stringify({ ...command, id: ++this.#lastId });
    const most = this.#limits.max_message_bytes;
    if (frame.length > most / 4 && new TextEncoder().encode(frame).length > most) {
      // The server would close the connection with 1009.
      return Promise.reject(new ChatError("too_large", `more than ${most} bytes`));
    }
    return new Promise((resolve, reject) => {
      this.#answers.set(this.#lastId, { resolve, reject });
      this.#socket.send(frame);
    });
  }

  #receive(message) {
    this.#heardAt = Date.now();
    const answer = message.id && this.#answers.get(message.id);
    if (answer) {
      this.#answers.delete(message.id);
      if (message.type === "error") answer.reject(toError(message));
      else answer.resolve(message);
    } else if (message.type === "welcome") {
      this.#welcomed(message);
    } else if (message.type === "goodbye") {
      this.#goodbye = message;
    } else if (message.type === "error") {
      this.#complained(message);
    } else {
      this.#subscriptions.get(message.topic)?.receive(message);
    }
  }

  #welcomed({ user, limits, heartbeat_seconds }) {
    clearTimeout(this.#deadline);
    this.#online = true;
    this.#since = Date.now();
    this.#refusals = 0;
    this.user = user;
    this.#limits = limits;
    const period = heartbeat_seconds * 1000;
    this.#heartbeat = setInterval(() => {
      if (Date.now() - this.#heardAt >= period) this.#checkLife();
    }, period);
    this.#onState("online", {});
    for (const subscription of this.#subscriptions.values()) this.#resume(subscription);
    this.#flush();
  }

  /** An error that answers no command: the token has expired, or a subscription has ended. */
  async #complained(message) {
    const subscription = this.#subscriptions.get(message.topic);
    if (message.code === "unauthorized" && typeof this.#token === "function") {
      try {
        await this.#request({ type: "auth", token: await this.#token() });
      } catch {
        // The server will close the connection with 4401, and then all begins anew.
      }
    } else if (subscription && message.code !== "not_subscribed") {
      this.#refused(subscription, toError(message));
    }
  }

  async #resume(subscription) {
    const socket = this.#socket;
    const current = () =>
      this.#online &&
      this.#socket === socket &&
      this.#subscriptions.get(subscription.topic) === subscription;
    try {
      const answer = await this.#request(subscription.command());
      if (current()) subscription.accepted(answer);
    } catch (error) {
      if (current()) this.#refused(subscription, error);
    }
  }

  #refused(subscription, error) {
    const socket = this.#socket;
    if (error.transient) {
      setTimeout(() => {
        if (this.#online && this.#socket === socket) this.#resume(subscription);
      }, error.retryInMs ?? RETRY_MS);
    } else if (error.code !== "connection_lost") {
      this.#subscriptions.delete(subscription.topic);
      subscription.onError(error);
    }
  }

  async #flush() {
    if (this.#sending) return;
    this.#sending = true;
    while (this.#online && this.#outbox.length > 0) {
      const { command, onDelay, resolve, reject } = this.#outbox[0];
      try {
        const answer = await this.#request(command);
        this.#outbox.shift();
        resolve(answer);
      } catch (error) {
        if (error.code === "connection_lost") break; // it is sent again, with its key
        if (error.transient) {
          onDelay(error);
          await new Promise((wake) => setTimeout(wake, error.retryInMs ?? RETRY_MS));
          continue;
        }
        this.#outbox.shift();
        reject(error);
      }
    }
    this.#sending = false;
  }
}

function toError({ code, message, retry_in_ms }) {
  return new ChatError(code, message, retry_in_ms);
}

/** Return a key for a publication; `crypto.randomUUID` does not exist on plain http:// addresses. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
