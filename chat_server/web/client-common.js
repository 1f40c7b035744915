/** What the modules of the browser client share: errors, callbacks, times. */

/** @import { ErrorCode } from "./client-types.js" */

/** The longest delay of a timer, in milliseconds; a timer with a longer delay would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const RETRY_MS = 1_000;
const SHORTEST_RETRY_MS = 10;
const LONGEST_RETRY_MS = 60_000;

/**
 * The reason of a failure: `code` is from the protocol (docs/protocol.md, section 5) or the client's
 * own (docs/browser.md).
 */
export class ChatError extends Error {
  /**
   * For `unrecoverable`: the reason, and the topic's present position.
   *
   * @type {string | undefined}
   */
  reason;
  /** @type {string | undefined} */
  epoch;
  /** @type {number | undefined} */
  seq;
  /** Whether the rejected publication or change may be stored after all. */
  mayBeSent = false;
  /**
   * Whether the connection broke in a way that a command without an answer may have caused.
   *
   * @internal
   */
  blamed = false;

  /**
   * @param {ErrorCode} code
   * @param {string} message
   * @param {number} [retryInMs] when the server takes the command, as it says.
   */
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

/** Return the `ChatError` for a message of type `error`. */
export function toError({ code, message, retry_in_ms, reason, epoch, seq }) {
  return Object.assign(new ChatError(code, message, retry_in_ms), { reason, epoch, seq });
}

/** Call the application's callback, if any; its exceptions are reported, and have no effect here. */
export function call(callback, ...values) {
  // Rejections of an asynchronous callback too, which would end a Node process.
  (async () => callback?.(...values))().catch(report);
}

/** Pages may collect errors from `reportError`, which would end a Deno or Bun process. */
function report(error) {
  if (globalThis.document) globalThis.reportError(error);
  else console.error(error);
}

/** Call `callback` after `ms` milliseconds, bounded, because servers may send any number. */
export function later(callback, ms) {
  return setTimeout(callback, clamp(ms, 0, MAX_TIMER_MS));
}

/**
 * Return a promise with the functions that settle it, as `Promise.withResolvers` does, which Node 20 lacks.
 *
 * @returns {{ promise: Promise<any>, resolve: (value?: any) => void, reject: (error?: any) => void }}
 */
export function withResolvers() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return /** @type {any} */ (made);
}

/** A group of waits with a common end. */
export class Waits {
  #wakes = new Map();

  /** Return a promise that resolves after `ms` milliseconds, or at the next `end`. */
  until(ms) {
    const { promise, resolve } = withResolvers();
    const timer = later(() => this.#wakes.delete(timer) && resolve(), ms);
    this.#wakes.set(timer, resolve);
    return promise;
  }

  end() {
    for (const [timer, wake] of this.#wakes) {
      clearTimeout(timer);
      wake();
    }
    this.#wakes.clear();
  }
}

/** Return `value` within bounds; `low` for non-numbers. */
export function clamp(value, low, high) {
  return value >= low ? Math.min(value, high) : low;
}

/** Return the milliseconds of a monotonic clock. */
export function now() {
  return performance.now();
}

/**
 * Return a function that returns the milliseconds since now, rather too many than too few.
 *
 * Some systems stop the monotonic clock during sleep. The wall clock goes on, but can be set.
 */
export function stopwatch() {
  const monotonic = now();
  const wall = Date.now();
  return () => Math.max(now() - monotonic, Date.now() - wall);
}

/** Return the wait before the next attempt: exponential backoff with jitter. */
export function backoff(attempts, longest = LONGEST_WAIT_MS, first = FIRST_WAIT_MS) {
  return Math.min(longest, first * 2 ** attempts) * (0.25 + 0.75 * Math.random());
}

/** Return the delay of a refused command: the server's, longer after each refusal in a row. */
export function retryDelay(error, refusals) {
  const asked = clamp(error.retryInMs ?? RETRY_MS, SHORTEST_RETRY_MS, LONGEST_RETRY_MS);
  const grown = Math.min(SHORTEST_RETRY_MS * 2 ** refusals, LONGEST_WAIT_MS);
  return Math.max(asked, grown) * (1 + 0.25 * Math.random());
}

/** Return whether `value` can be a `seq`. */
export function isSeq(value) {
  return Number.isSafeInteger(value) && value >= 0;
}

/** Return the text of a message's data, which appends extend; undefined without a text. */
export function textOf(data) {
  const text = typeof data === "string" ? data : data?.text;
  return typeof text === "string" ? text : undefined;
}

/** Return the unverified claims of a token; an unreadable token has no claims. */
export function claims(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) ?? {};
  } catch {
    return {};
  }
}

/**
 * Return `value` as JSON text without half surrogate pairs, which no UTF-8 can express.
 *
 * `replacer` is the one of `JSON.stringify`.
 */
export function toJson(value, replacer) {
  const text = JSON.stringify(value, replacer);
  if (!text?.includes("\\ud")) return text;
  // Only halves are escaped. Escapes are taken one by one: the text may hold a backslash and "ud8".
  return text.replace(/\\(?:u(d[89a-f]..)|.)/g, (escape, half) => (half ? "\ufffd" : escape));
}

/**
 * Return a copy of a command as it will arrive, and its size: `{command, characters}`.
 *
 * What the application changes later is not what it asked to be sent. Throws a `ChatError` for what
 * JSON cannot express.
 */
export function copied(command) {
  let json;
  try {
    json = toJson(command, onlyFinite);
  } catch (error) {
    throw new ChatError("bad_request", `${"data" in command ? "data: " : ""}${error.message}`);
  }
  const copy = JSON.parse(json);
  if ("data" in command && !("data" in copy)) {
    throw new ChatError("bad_request", "data: JSON has no such value");
  }
  return { command: copy, characters: json.length };
}

/** As a replacer: `JSON.stringify` would make `null` of these numbers, and say nothing. */
function onlyFinite(name, value) {
  if (typeof value === "number" && !Number.isFinite(value)) throw new TypeError(`JSON has no ${value}`);
  return value;
}
