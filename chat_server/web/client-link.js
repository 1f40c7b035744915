/** Keeps the browser client connected: replaces lost connections until the client ends. */

import { ChatError, call, later } from "./client-common.js";
import { Connection } from "./client-connection.js";
import { watchNetwork } from "./client-network.js";
import { Pace } from "./client-pace.js";
import { readPosition } from "./client-position.js";
import { Tokens } from "./client-token.js";

/** @import { ClientOptions, Position } from "./client-types.js" */

/**
 * Codes of a goodbye after which the client must not reconnect (docs/protocol.md, section 6). Without a
 * goodbye the code may be a proxy's, and the connection is merely lost.
 */
const STOP = new Set([1000, 1003, 1007, 1009, 4400, 4403]);
const UNAUTHORIZED = 4401;
const BLOCKED = 4403;

const TOKEN_TIMEOUT_MS = 10_000;

export class Link {
  /** @type {string | null} */
  user = null;
  /** The connection that takes commands, or null. */
  online = null;

  #url;
  #tokens;
  #onState;
  #WebSocket;
  /** The callbacks `onOnline`, `onOffline`, `onPush` and `onEnd`. */
  #owner;
  /** The open or opening connection. */
  #connection = null;
  #pace = new Pace();
  #retry = null;
  #lastError = undefined;
  /** The current attempt to connect; results of earlier attempts are ignored. */
  #attempt = null;
  /** Whether the page is in the back/forward cache, where a page must hold no connection. */
  #isAway = false;
  /** Aborted with the error of the end: listeners, requests and waits for tokens go with it. */
  #ending = new AbortController();

  /**
   * Begin to connect.
   *
   * @param {ClientOptions} options
   * @param {object} owner
   * @param {(connection: Connection) => void} owner.onOnline
   * @param {() => void} owner.onOffline called also where nobody was online.
   * @param {(message: any) => void} owner.onPush called with each message that answers no command.
   * @param {(error: ChatError) => void} owner.onEnd called once.
   */
  constructor({
    url,
    token,
    onState,
    tokenTimeoutMs = TOKEN_TIMEOUT_MS,
    WebSocket = globalThis.WebSocket,
  }, owner) {
    if (!WebSocket) throw new TypeError("WebSocket: there is none here, so one must be given");
    this.#url = new URL(url, globalThis.location?.href).href;
    this.#tokens = new Tokens(token, tokenTimeoutMs, this.#ending.signal);
    this.#onState = onState;
    this.#WebSocket = WebSocket;
    this.#owner = owner;
    watchNetwork(this.#ending.signal, {
      onChange: () => this.#networkChanged(),
      onLoss: (patienceMs) => this.#connection?.checkLife(patienceMs),
      onLeave: () => this.#leave(),
      onReturn: () => this.#comeBack(),
    });
    this.#open("connecting");
  }

  /** The error that ended the client, if one has. */
  get closed() {
    return this.#ending.signal.reason;
  }

  /** Send a command that stores nothing, without waiting for a connection. */
  ask(command) {
    if (this.online) return this.online.command(command);
    return Promise.reject(new ChatError("connection_lost", "there is no connection"));
  }

  /**
   * Ask for a topic's position by HTTP.
   *
   * @param {string} topic
   * @returns {Promise<Position>}
   */
  async position(topic) {
    return readPosition(this.#url, await this.#tokens.fresh(), topic, this.#ending.signal);
  }

  /** End for good. */
  end(error) {
    if (this.closed) return;
    this.#attempt = null;
    this.#ending.abort(error);
    clearTimeout(this.#retry);
    this.#connection?.end(0, error.message);
    this.#owner.onEnd(error);
    call(this.#onState, "closed", { error });
  }

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
      tokens: this.#tokens,
      onWelcome: () => this.#welcomed(),
      onPush: this.#owner.onPush,
      onEnd: (ending) => this.#lost(ending),
    });
  }

  /** Handle a failure before the handshake: no token, or a WebSocket that cannot be opened. */
  #notOpened(error) {
    if (error.name === "SyntaxError") {
      const code = this.#tokens.renewable ? "token_failed" : "unauthorized";
      error = new ChatError(code, "this is not a token");
    } else if (error.code !== "token_failed") error = new ChatError("cannot_connect", error.message);
    if (error.code === "token_failed") this.#reconnectLater(error, this.#pace.wait());
    else this.end(error);
  }

  #welcomed() {
    const { user } = this.#connection;
    if (this.user !== null && this.user !== user) {
      // The waiting commands belong to the earlier user.
      this.end(new ChatError("unauthorized", `the token is another user's, not ${this.user}'s`));
      return;
    }
    this.user = user;
    this.online = this.#connection;
    this.#pace.welcomed();
    this.#lastError = undefined;
    this.#owner.onOnline(this.online);
    call(this.#onState, "online", {});
  }

  #lost({ code, reason, goodbye, lastedMs }) {
    this.#connection = this.online = null;
    this.#owner.onOffline();
    if (this.closed) return;
    const told = goodbye?.code;
    if (STOP.has(told)) {
      this.end(new ChatError(told === BLOCKED ? "forbidden" : "closed", goodbye.reason ?? reason));
      return;
    }
    let error;
    if (told === UNAUTHORIZED) {
      error = new ChatError("unauthorized", goodbye.reason ?? reason);
      if (!this.#tokens.renewable || (lastedMs === null && this.#pace.isRefusedForGood())) {
        this.end(error);
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

  // The network ----------------------------------------------------------------------------------

  /** Reconnect at once when the network is back, and check a connection after a change. */
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
