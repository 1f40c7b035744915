/** Questions and orders to `/api/admin`, sent with the operator's token. */

import { Refusal } from "./account.js";

const TIMEOUT_MS = 15_000;

/** Return a sentence about an error of a question. */
export function sentence(error) {
  if (!(error instanceof Refusal)) return "The server does not answer.";
  const fields = Object.entries(error.fields).map(([field, text]) => `${field} ${text}.`);
  return [`${error.message.replace(/\.$/, "")}.`, ...fields].join(" ");
}

export class Api {
  #source;
  #distrust;
  #onEnd;

  /**
   * @param {function} options.source resolves to a token.
   * @param {function} [options.distrust] called after a refusal of the token, if a newer one may exist.
   * @param {function} options.onEnd called with a sentence when the server refuses the token for good.
   */
  constructor({ source, distrust, onEnd }) {
    this.#source = source;
    this.#distrust = distrust;
    this.#onEnd = onEnd;
  }

  /** Resolves to the operator's token. */
  token = async () => this.#source();

  /** Resolves to an answer; rejected with a `Refusal`, or with an error of the network. */
  ask(path, query = {}) {
    const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined);
    const words = new URLSearchParams(given).toString();
    return this.#send(`api/admin/${path}${words && `?${words}`}`, {});
  }

  /** Give an order; resolves to the answer, with the workers that obeyed. */
  order(verb, fields) {
    const headers = { "Content-Type": "application/json" };
    return this.#send(`api/admin/${verb}`, { method: "POST", headers, body: JSON.stringify(fields) });
  }

  async #send(path, options, again = false) {
    const response = await fetch(path, {
      ...options,
      headers: { ...options.headers, Authorization: `Bearer ${await this.#source()}` },
      cache: "no-store",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (response.ok) return response.json();
    const error = new Refusal(await response.json().catch(() => ({})), response.status);
    if (error.code !== "unauthorized") throw error;
    if (this.#distrust && !again) {
      this.#distrust();
      return this.#send(path, options, true);
    }
    this.#onEnd(`Your token is not accepted: ${sentence(error)}`);
    throw error;
  }
}
