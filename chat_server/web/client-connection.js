/** One WebSocket of the browser client, from its opening to its end. */

import {
  ChatError, backoff, clamp, claims, later, now, toError, toJson, withResolvers,
} from "./client-common.js";

const OPEN_TIMEOUT_MS = 10_000;
const PONG_TIMEOUT_MS = 10_000;
/** Milliseconds without an answer after which the client asks whether the answer will come. */
const ANSWER_TIMEOUT_MS = 10_000;
/** Milliseconds without an answer that end the connection: a server may hold a publication for a minute. */
const LONGEST_ANSWER_MS = 90_000;

const HEARTBEAT_MS = 25_000;
const SHORTEST_HEARTBEAT_MS = 1_000;
/** The longest heartbeat. With a longer one, users would notice a dead connection before the client. */
const LONGEST_HEARTBEAT_MS = 600_000;
/** Milliseconds before its end at which a token is renewed; a short token is renewed in mid-life. */
const RENEW_AHEAD_MS = 60_000;
/** Random part of `RENEW_AHEAD_MS`, so that not all clients ask for tokens at once. */
const RENEW_JITTER = 0.25;
/** Milliseconds between two renewals at least, whatever the token's lifetime. */
const SHORTEST_RENEWAL_MS = 1_000;
const LONGEST_RENEWAL_WAIT_MS = 10_000;
/** Milliseconds that commands wait for a token that the server accepts. */
const LONGEST_HOLD_MS = 120_000;
const IDEMPOTENCY_MS = 300_000;

/** Close codes that refuse a frame of the client, sent by the server or a proxy. */
const BLAMING = new Set([1002, 1003, 1007, 1009, 4400]);

/** An open WebSocket: matches answers to commands, renews the token, and detects a dead connection. */
export class Connection {
  /** `welcome.user` and `welcome.limits`, after the welcome. */
  user = null;
  limits = null;
  /** Milliseconds for which the server remembers idempotency keys. */
  idempotencyMs = IDEMPOTENCY_MS;

  #socket;
  #token;
  #tokens;
  /** The callbacks `onWelcome`, `onPush` and `onEnd`. */
  #owner;
  #over = false;
  #since = null;
  #goodbye = null;
  #lastId = 0;
  #answers = new Map();
  /** Number of received messages. A growing number is a sign of life that no clock can forge. */
  #heard = 0;
  #heardAt = 0;
  #verdictAt = Infinity;
  /** The promise that commands await without an accepted token, or null. */
  #admission = null;
  #expiresAt = undefined;
  #renewing = false;
  #renewedAt = -Infinity;
  #deadline;
  #verdict;
  #heartbeat;
  #renewal;
  #patience;
  #asking = false;

  /**
   * Begin to connect.
   *
   * @param {object} options
   * @param {WebSocket} options.socket a new one.
   * @param {string} options.token the token in the handshake.
   * @param {import("./client-token.js").Tokens} options.tokens
   * @param {function} options.onWelcome called once commands can be sent.
   * @param {function} options.onPush called with each message that answers no command.
   * @param {function} options.onEnd called once, with `{code, reason, goodbye, lastedMs}`;
   *   `lastedMs` is null if no welcome came.
   */
  constructor({ socket, token, tokens, ...owner }) {
    this.#socket = socket;
    this.#token = token;
    this.#tokens = tokens;
    this.#owner = owner;
    this.#deadline = later(() => this.end(0, "no answer"), OPEN_TIMEOUT_MS);
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code, reason }) => this.end(code, reason, BLAMING.has(code));
    // A close event follows and says as much, but not in Node 22 when there is nobody to connect to.
    socket.onerror = (/** @type {any} */ { message }) => {
      if (this.#since === null) this.end(0, message);
    };
  }

  /**
   * Send a command and return a promise of its answer.
   *
   * Commands wait while the token is being renewed. A command refused for an expired token is sent
   * again.
   *
   * @param {object} command the command, without `id`.
   * @param {object} [options]
   * @param {function} [options.onSent] called at each sending.
   * @param {function} [options.onRefused] called before another sending: the last one had no effect.
   * @param {function} [options.onAnswer] called with the answer before any later message is read.
   */
  async command(command, options) {
    for (let refusedAt = null; ; ) {
      while (this.#admission) await this.#admission.promise;
      try {
        return await this.#exchange(command, options);
      } catch (error) {
        if (error.code !== "unauthorized" || !this.#tokens.renewable) throw error;
        options?.onRefused?.();
        refusedAt ??= now();
        if (now() - refusedAt >= LONGEST_HOLD_MS) throw error;
        this.#hold();
      }
    }
  }

  /** Ask for a sign of life; without one within `patienceMs` the connection has ended. */
  checkLife(patienceMs = PONG_TIMEOUT_MS) {
    const due = now() + patienceMs;
    if (this.#over || this.#since === null || this.#verdictAt <= due) return;
    this.#verdictAt = due;
    clearTimeout(this.#verdict);
    const heard = this.#heard;
    this.#verdict = later(() => {
      this.#verdictAt = Infinity;
      if (this.#heard === heard) this.end(0, "no sign of life");
    }, patienceMs);
    this.#exchange({ type: "ping" }).catch(() => {});
  }

  /**
   * End the connection, unless it has ended.
   *
   * @param {number} code the close code; 0 if the client ends the connection.
   * @param {string} reason
   * @param {boolean} blamed whether an unanswered command may be the cause.
   */
  end(code, reason, blamed = false) {
    if (this.#over) return;
    this.#over = true;
    const timers = [this.#deadline, this.#verdict, this.#heartbeat, this.#renewal, this.#patience];
    for (const timer of timers) clearTimeout(timer);
    this.#socket.onmessage = this.#socket.onclose = null;
    try {
      this.#socket.close();
    } catch {
      // It is abandoned all the same.
    }
    this.#admit();
    const answers = [...this.#answers.values()];
    this.#answers.clear();
    const error = new ChatError("connection_lost", `the connection broke: ${reason || code}`);
    error.blamed = blamed;
    for (const { reject, timer } of answers) {
      clearTimeout(timer);
      reject(error);
    }
    const lastedMs = this.#since === null ? null : now() - this.#since;
    this.#owner.onEnd({ code, reason, goodbye: this.#goodbye, lastedMs });
  }

  // Commands and answers -------------------------------------------------------------------------

  #exchange(command, options) {
    if (this.#over || this.#since === null) {
      return Promise.reject(new ChatError("connection_lost", "there is no connection"));
    }
    const id = ++this.#lastId;
    const frame = toJson({ ...command, id });
    const most = this.limits?.max_message_bytes;
    if (new TextEncoder().encode(frame).length > most) {
      // The server would close the connection with 1009.
      return Promise.reject(new ChatError("too_large", `message: may have ${most} bytes at most`));
    }
    return new Promise((resolve, reject) => {
      const timer = later(() => this.#overdue(id, now()), ANSWER_TIMEOUT_MS);
      this.#answers.set(id, { resolve, reject, onAnswer: options?.onAnswer, timer });
      options?.onSent?.();
      try {
        // On a closing socket `send` would log an error; the close event follows.
        if (!(this.#socket.readyState > 1)) this.#socket.send(frame);
      } catch (error) {
        // Deferred, because the caller of `send` must finish first.
        queueMicrotask(() => this.end(0, error.message));
      }
    });
  }

  /** Handle a command without an answer for a while. */
  #overdue(id, since) {
    const answer = this.#answers.get(id);
    if (!answer) return;
    if (now() - since >= LONGEST_ANSWER_MS - ANSWER_TIMEOUT_MS) {
      this.end(0, "a command was not answered", true);
      return;
    }
    answer.timer = later(() => this.#overdue(id, since), ANSWER_TIMEOUT_MS);
    this.checkLife();
    this.#checkAnswers();
  }

  /**
   * Send a command that every server refuses without effect. Answers come in order, unlike `pong`s, so
   * an earlier command that has no answer by then will get none.
   */
  async #checkAnswers() {
    if (this.#asking) return;
    this.#asking = true;
    await this.#exchange({ type: "unsubscribe", topic: "" }).catch(() => {});
    this.#asking = false;
  }

  #receive(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      message = null;
    }
    if (typeof message?.type !== "string") {
      this.end(0, "the server does not speak chat.v1");
      return;
    }
    this.#heard += 1;
    this.#heardAt = now();
    const answer = this.#answers.get(message.id);
    if (answer) this.#answered(answer, message);
    else if (message.id != null) return; // a second answer
    else if (message.type === "welcome") this.#welcomed(message);
    else if (message.type === "goodbye") this.#goodbye = message;
    else if (message.type === "error" && message.topic === undefined) this.#complained(message);
    else this.#owner.onPush(message);
  }

  #answered({ resolve, reject, onAnswer, timer }, message) {
    const [oldest] = this.#answers.keys();
    if (oldest < message.id && message.type !== "pong") {
      this.end(0, "a command was not answered", true);
      return;
    }
    clearTimeout(timer);
    this.#answers.delete(message.id);
    if (message.type === "error") {
      reject(toError(message));
      return;
    }
    // Called directly, because several messages may be read before a `then` runs.
    onAnswer?.(message);
    resolve(message);
  }

  #welcomed({ user, limits, heartbeat_seconds, expires_at }) {
    if (this.#since !== null) return;
    clearTimeout(this.#deadline);
    this.#since = now();
    this.user = user;
    this.limits = limits ?? {};
    const seconds = this.limits.idempotency_seconds;
    if (seconds >= 0) this.idempotencyMs = seconds * 1000;
    const asked = heartbeat_seconds * 1000 || HEARTBEAT_MS;
    const period = clamp(asked, SHORTEST_HEARTBEAT_MS, LONGEST_HEARTBEAT_MS);
    this.#heartbeat = setInterval(() => {
      if (now() - this.#heardAt >= period / 2) this.checkLife();
    }, period);
    this.#trust(this.#token, expires_at);
    this.#owner.onWelcome();
  }

  /** Handle an error that answers no command: an expired token, or an unreadable message of ours. */
  #complained({ code }) {
    if (code === "unauthorized") this.#hold();
    else {
      this.checkLife();
      this.#checkAnswers();
    }
  }

  // Tokens ---------------------------------------------------------------------------------------

  /** Let waiting commands go. */
  #admit() {
    this.#admission?.resolve();
    this.#admission = null;
  }

  /** Let waiting commands go, and schedule the renewal of the token. */
  #trust(token, expiresAt) {
    this.#admit();
    clearTimeout(this.#patience);
    clearTimeout(this.#renewal);
    this.#expiresAt = expiresAt;
    if (!this.#tokens.renewable || !Number.isFinite(expiresAt)) return;
    const left = lifetimeMs(token, expiresAt);
    const ahead = Math.min(left / 2, RENEW_AHEAD_MS) * (1 - RENEW_JITTER * Math.random());
    this.#renewal = later(() => this.#renewToken(), Math.max(left - ahead, SHORTEST_RENEWAL_MS));
  }

  /** Hold commands until the server has accepted a new token, or the connection ends. */
  #hold() {
    if (!this.#tokens.renewable || this.#over) return;
    if (!this.#admission) {
      this.#admission = withResolvers();
      this.#patience = later(() => this.end(0, "there is no fresh token"), LONGEST_HOLD_MS);
    }
    this.#renewToken();
  }

  async #renewToken() {
    if (this.#renewing) return;
    this.#renewing = true;
    await this.#pause(this.#renewedAt + SHORTEST_RENEWAL_MS - now());
    for (let attempts = 0; !this.#over; attempts += 1) {
      try {
        this.#renewedAt = now();
        await this.#authenticate(await this.#tokens.fresh());
        this.#renewing = false;
        return;
      } catch {
        // In the end the server closes the connection with 4401, and the client reconnects.
        await this.#pause(backoff(attempts, LONGEST_RENEWAL_WAIT_MS));
      }
    }
  }

  async #authenticate(token) {
    try {
      const { expires_at } = await this.#exchange({ type: "auth", token });
      // Applications cache tokens, so this may be the expiring token again.
      if (expires_at <= this.#expiresAt) throw new ChatError("token_failed", "it is not fresh");
      this.#trust(token, expires_at);
    } catch (error) {
      const { sub } = claims(token);
      if (error.code === "unauthorized" && sub !== undefined && sub !== this.user) {
        // A new connection learns the user from the welcome.
        this.end(0, "the token is another user's");
      }
      throw error;
    }
  }

  #pause(ms) {
    if (ms <= 0 || this.#over) return undefined;
    return new Promise((wake) => (this.#renewal = later(wake, ms)));
  }
}

/**
 * Return how long a token will live, in milliseconds.
 *
 * The local clock may be wrong by hours. A fresh token lives from `iat` to `exp` by any clock, so the
 * shorter of both times counts. If neither makes sense, the server will report the expired token.
 */
function lifetimeMs(token, expiresAt) {
  const left = expiresAt * 1000 - Date.now();
  const whole = (expiresAt - claims(token).iat) * 1000;
  return Math.min(...[left, whole].filter((ms) => ms > 0));
}
