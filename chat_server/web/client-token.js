/** The tokens of the browser client: one text, or the results of a function. */

import { ChatError, later, withResolvers } from "./client-common.js";

/** Asks the application for tokens, with a timeout, and at most until the client's end. */
export class Tokens {
  #token;
  #timeoutMs;
  #closed;

  /**
   * @param {string | (() => string | Promise<string>)} token
   * @param {number} timeoutMs milliseconds that the function may take.
   * @param {AbortSignal} closed aborted with the error that ends the client.
   */
  constructor(token, timeoutMs, closed) {
    this.#token = token;
    this.#timeoutMs = timeoutMs;
    this.#closed = closed;
  }

  /** Whether the application can give further tokens. */
  get renewable() {
    return typeof this.#token === "function";
  }

  /** Return a promise of a token; it is rejected with `token_failed`, or with the client's end. */
  async fresh() {
    this.#closed.throwIfAborted();
    if (typeof this.#token !== "function") return this.#token;
    const { promise: deadline, reject: giveUp } = withResolvers();
    const timer = later(() => giveUp(new Error("it took too long")), this.#timeoutMs);
    this.#closed.addEventListener("abort", giveUp);
    try {
      // A function that throws at once, too, may have closed the client before.
      const token = await Promise.race([deadline, (async () => this.#token())()]);
      if (typeof token !== "string") throw new TypeError("it returned no text");
      return token;
    } catch (error) {
      this.#closed.throwIfAborted();
      throw new ChatError("token_failed", `the token function failed: ${error?.message ?? error}`);
    } finally {
      clearTimeout(timer);
      this.#closed.removeEventListener("abort", giveUp);
    }
  }
}
