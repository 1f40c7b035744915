/** Numbers of the server over time, from `/metrics` and from the workers. */

import { WINDOW_MS } from "./admin-plot.js";

const SAMPLE = /^(chat_\w+)(?:\{.*\})? (\S+)/gmu;
const RECEIVED = "chat_messages_received_total";
const SENT = ["chat_messages_sent_total", "chat_deliveries_total"];
const LAG = "chat_loop_lag_seconds";
/** The start of each worker: behind a balancer the next answer may be another server's, with numbers of its own. */
const STARTS = "chat_process_start_seconds";
const REFUSED = /^chat_(handshakes|tokens|rate)_(?:refused|limited)_total\{(?:reason|limit)="(\w+)".*\} (\S+)/gmu;
const WHAT = { handshakes: "handshakes by", tokens: "tokens by", rate: "by the limit" };

/** Return the sum of each metric over its labels. */
export function sums(text) {
  const found = new Map();
  for (const [, name, value] of text.matchAll(SAMPLE)) {
    found.set(name, (found.get(name) ?? 0) + Number(value));
  }
  return found;
}

/** Return what was refused since the start, by kind and reason. */
function refusals(text) {
  const found = new Map();
  for (const [, kind, reason, value] of text.matchAll(REFUSED)) {
    const name = `${WHAT[kind]} ${reason}`;
    found.set(name, (found.get(name) ?? 0) + Number(value));
  }
  return found;
}

/** Counts what was refused in the window. */
export class Refusals {
  #before = null;
  #grown = [];

  /** Add what `/metrics` says at one time, or null; return the counts of the window, the largest first. */
  add(at, text) {
    const now = text && { starts: sums(text).get(STARTS), counts: refusals(text) };
    if (now && now.starts === this.#before?.starts) {
      for (const [name, value] of now.counts) {
        const grown = value - (this.#before.counts.get(name) ?? 0);
        if (grown > 0) this.#grown.push([at, name, grown]);
      }
    }
    this.#before = now ?? this.#before;
    this.#grown = this.#grown.filter(([when]) => when >= at - WINDOW_MS);
    const total = new Map();
    for (const [, name, grown] of this.#grown) total.set(name, (total.get(name) ?? 0) + grown);
    return [...total].sort(([, one], [, other]) => other - one);
  }
}

export class Numbers {
  /** Pairs of a time and a value by name, the newest last. */
  lines = { connections: [], received: [], sent: [], lag: [], store: [] };
  #before = null;

  /**
   * Add the answers of one time; each of the three may be null for a missing answer.
   *
   * @param {object[] | null} nodes the rows of `/api/admin/nodes`.
   * @param {object | null} health
   * @param {Map | null} metrics
   */
  add(at, nodes, health, metrics) {
    const rate = this.#rates(at, metrics);
    this.#put(at, "connections", nodes ? sum(nodes, "connections") : (health?.connections ?? null));
    this.#put(at, "received", rate(RECEIVED));
    this.#put(at, "sent", plus(...SENT.map(rate)));
    const ticks = rate(`${LAG}_count`);
    const lag = ticks ? (1000 * rate(`${LAG}_sum`)) / ticks : null;
    this.#put(at, "lag", nodes?.length ? Math.max(...nodes.map((node) => node.lag_ms)) : lag);
    this.#put(at, "store", health ? Number(health.checks.broker.status === "ok") : null);
  }

  #put(at, name, value) {
    const line = this.lines[name];
    line.push([at, value]);
    while (line[0][0] < at - WINDOW_MS) line.shift();
  }

  /** Return a function that returns the growth of a counter per second, or null. */
  #rates(at, metrics) {
    const before = this.#before;
    this.#before = metrics && { at, metrics };
    return (name) => {
      if (!before || !metrics || at <= before.at || metrics.get(STARTS) !== before.metrics.get(STARTS)) return null;
      const grown = (metrics.get(name) ?? 0) - (before.metrics.get(name) ?? 0);
      return (1000 * grown) / (at - before.at);
    };
  }
}

function sum(rows, field) {
  return rows.reduce((total, row) => total + row[field], 0);
}

function plus(...values) {
  return values.includes(null) ? null : values.reduce((total, value) => total + value, 0);
}
