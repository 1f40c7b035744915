/** The state of the server: workers, numbers and warnings. */

import { sentence } from "./admin-api.js";
import { Numbers, Refusals, sums } from "./admin-numbers.js";
import { Plot } from "./admin-plot.js";
import { $, moment, since, table } from "./admin-view.js";
import { element, inert } from "./text.js";

const EVERY_MS = 5_000;
const TIMEOUT_MS = 10_000;
const METRICS = document.documentElement.dataset.metrics;
const NOTES = {
  off: "Messages are not counted here: metrics.enabled is off.",
  token: "Messages are not counted here: /metrics asks for metrics.token, which this page does not have.",
};
const round = (value) => value.toLocaleString(undefined, { maximumFractionDigits: 1 });
const PLOTS = {
  connections: ["Connections", (value) => value.toLocaleString()],
  received: ["Messages in", (value) => `${round(value)}/s`],
  sent: ["Messages out", (value) => `${round(value)}/s`],
  lag: ["Event loop late by", (value) => `${round(value)} ms`],
  store: ["Store", (value) => (value ? "ok" : "not ok"), true],
};

export class Overview {
  #api;
  #onLimited;
  #numbers = new Numbers();
  #refusals = new Refusals();
  #plots = new Map();
  #columns = null;
  #error = null;
  #timer = null;
  #open = true;

  /** @param {function} onLimited called if the operator's grant is for some topics only. */
  constructor(api, onLimited) {
    this.#api = api;
    this.#onLimited = onLimited;
    for (const [name, [label, write, isState]] of Object.entries(PLOTS)) {
      if (METRICS !== "on" && (name === "received" || name === "sent")) continue;
      this.#plots.set(name, new Plot(label, write, isState));
    }
    $("plots").replaceChildren(...[...this.#plots.values()].map((plot) => plot.node));
    $("numbers-note").textContent = `The last 15 minutes, since this page was opened. ${NOTES[METRICS] ?? ""}`;
    this.#poll();
  }

  close() {
    this.#open = false;
    clearTimeout(this.#timer);
  }

  async #poll() {
    const questions = [this.#nodes(), readHealth(), METRICS === "on" ? readMetrics() : null];
    const [nodes, health, metrics] = await Promise.all(questions);
    if (!this.#open) return;
    this.#numbers.add(Date.now(), nodes, health, metrics && sums(metrics));
    const refused = this.#refusals.add(Date.now(), metrics);
    const parts = refused.map(([what, count]) => `${what} ${count.toLocaleString()}`);
    $("refused").textContent = parts.length ? `Refused: ${parts.join(", ")}. The log names addresses and users.` : "";
    if (!nodes) this.#showInstead(health);
    for (const [name, plot] of this.#plots) plot.show(this.#numbers.lines[name]);
    this.#tell(health, nodes !== null);
    this.#timer = setTimeout(() => this.#poll(), EVERY_MS);
  }

  #tell(health, isThere) {
    const state = $("state");
    const silence = isThere ? "/health does not answer" : "The server does not answer";
    const words = health ? `The server is ${health.status}` : silence;
    // Changed only when different, because screen readers read each change aloud.
    if (state.textContent !== words) state.textContent = words;
    state.dataset.state = health?.status === "ok" ? "online" : health || isThere ? "waiting" : "closed";
    const warnings = (health?.warnings ?? []).map((line) => element("li", "", line));
    $("warnings").replaceChildren(...warnings);
  }

  async #nodes() {
    try {
      const { nodes, missing, silent } = await this.#api.ask("nodes");
      if (this.#open) {
        $("nodes-note").textContent = "";
        this.#show(nodes, missing, silent);
      }
      return nodes;
    } catch (error) {
      if (!this.#open) return null;
      if (error.code === "forbidden") this.#onLimited();
      this.#error = error;
      return null;
    }
  }

  #show(nodes, missing, silent) {
    const columns = ["Worker", "Version", "Since", "Connections", "Users", "Topics", "Late by", "Store", "State"];
    const rows = nodes.map((node) => [
      node.node,
      `${node.version}, Python ${node.python}`,
      moment(node.started_at),
      node.connections.toLocaleString(),
      node.users.toLocaleString(),
      node.topics.toLocaleString(),
      `${round(node.lag_ms)} ms`,
      node.broker,
      node.draining ? "draining" : "serving",
    ]);
    for (const name of missing) rows.push([name, ...Array(7).fill("–"), `does not answer${since(silent, name)}`]);
    this.#fill(columns, rows);
  }

  /** Say why the list is missing; of a worker that is cut off from the store, show what its server knows. */
  #showInstead(health) {
    const knows = this.#error.code === "unavailable" && health?.workers;
    $("nodes-note").textContent = knows
      ? "The worker that answers cannot ask the others. These are those of this server, as /health knows them."
      : sentence(this.#error);
    if (!knows) return $("nodes").replaceChildren();
    const columns = ["Worker", "Version", "Connections", "Topics", "Store", "State"];
    const rows = health.workers.map((worker) => [
      worker.node ?? `worker ${worker.worker}`,
      health.version,
      ...[worker.connections, worker.topics].map((count) => count?.toLocaleString() ?? "–"),
      worker.checks?.broker?.status ?? "–",
      worker.status,
    ]);
    this.#fill(columns, rows);
  }

  #fill(columns, rows) {
    const texts = rows.flat().map(inert);
    const cells = [...$("nodes").querySelectorAll("td > bdi")];
    // Focus, selection and scrolling must stay.
    const fits = cells.length === texts.length && this.#columns === columns.length;
    this.#columns = columns.length;
    if (!fits) $("nodes").replaceChildren(table("Workers", columns, rows));
    else cells.forEach((cell, place) => cell.textContent === texts[place] || (cell.textContent = texts[place]));
  }
}

/** Resolves to the state of the server, or null without a valid answer from server or proxy. */
async function readHealth() {
  try {
    // 503 is an answer, too.
    const health = await (await read("health")).json();
    return health.checks?.broker ? health : null;
  } catch {
    return null;
  }
}

async function readMetrics() {
  try {
    const response = await read("metrics");
    return response.ok ? await response.text() : null;
  } catch {
    return null;
  }
}

function read(path) {
  return fetch(path, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
}
