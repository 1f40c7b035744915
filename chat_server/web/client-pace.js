/** Schedules the browser client's reconnections: backoff, or the server's `retry_in_ms`. */

import { backoff, clamp, now } from "./client-common.js";

/** Close codes after which the client backs off for longer, from the server or a proxy. */
const LONG_BACKOFF = new Set([1013, 4429]);
const PATIENT_WAIT_MS = 10_000;
const LONGEST_PATIENT_WAIT_MS = 80_000;
const SHORTEST_ASKED_MS = 100;
const LONGEST_ASKED_MS = 300_000;
/** Milliseconds of a healthy connection, after which the backoff begins anew. */
const STEADY_MS = 10_000;
/**
 * Fresh tokens are refused at least so often, and for so long, before the client gives up: a key
 * that the issuer has just begun to use may be unknown to the server for a minute.
 */
const MAX_REFUSALS = 3;
const REFUSED_MS = 120_000;
/** Milliseconds in which events of a flapping network shorten at most one wait. */
const HURRY_MS = 1_000;

export class Pace {
  #attempts = 0;
  #refusals = 0;
  #refusedAt = 0;
  #hurriedAt = -Infinity;
  /** Whether the server has said when to come back. */
  #asked = false;

  /** The server has accepted the client. */
  welcomed() {
    this.#refusals = 0;
  }

  /**
   * Return the milliseconds until the next attempt.
   *
   * @param {object} [ending] how the last connection ended.
   * @param {number} [ending.code] its code, of the goodbye if there was one.
   * @param {number} [ending.askedMs] what the server asked for; it grows if that does not help.
   * @param {number | null} [ending.lastedMs]
   */
  wait({ code, askedMs = 0, lastedMs = null } = {}) {
    if (lastedMs >= STEADY_MS) this.#attempts = 0;
    const attempts = this.#attempts++;
    const own = LONG_BACKOFF.has(code)
      ? backoff(attempts, LONGEST_PATIENT_WAIT_MS, PATIENT_WAIT_MS)
      : backoff(attempts);
    this.#asked = askedMs > 0;
    if (!this.#asked) return own;
    const wait = clamp(askedMs, SHORTEST_ASKED_MS, LONGEST_ASKED_MS) * (1 + 0.1 * Math.random());
    return attempts === 0 ? wait : Math.max(wait, own);
  }

  /** Count a refusal of a fresh token; return whether it was one too many. */
  isRefusedForGood() {
    if (this.#refusals++ === 0) this.#refusedAt = now();
    return this.#refusals >= MAX_REFUSALS && now() - this.#refusedAt >= REFUSED_MS;
  }

  /**
   * Return whether a wait may be cut short now.
   *
   * Not if the server has said when: the client may be one of very many that it sent away.
   */
  mayHurry() {
    if (this.#asked || now() - this.#hurriedAt < HURRY_MS) return false;
    this.#hurriedAt = now();
    return true;
  }
}
