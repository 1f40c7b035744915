/** How the server is: its workers, its numbers, and what an operator should look at. */

import { sentence } from "./admin-api.js";
import { Numbers, sums } from "./admin-numbers.js";
import { Plot } from "./admin-plot.js";
import { $, moment, table } from "./admin-view.js";
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
  store: ["Store", (value) => (value ? "ok" : "not ok")],
};

export class Overview {
  #api;
  #onLimited;
  #numbers = new Numbers();
  #plots = new Map();
  #timer = null;
  #open = true;
  #shown = "";

  /** @param {function} onLimited called if the operator's grant is for some topics only. */
  constructor(api, onLimited) {
    this.#api = api;
    this.#onLimited = onLimited;
    for (const [name, [label, write]] of Object.entries(PLOTS)) {
      if (METRICS !== "on" && (name === "received" || name === "sent")) continue;
      this.#plots.set(name, new Plot(label, write));
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
    const questions = [this.#nodes(), read("health"), METRICS === "on" ? read("metrics") : null];
    const [nodes, health, metrics] = await Promise.all(questions);
    if (!this.#open) return;
    const told = health && JSON.parse(health);
    this.#numbers.add(Date.now(), nodes, told, metrics && sums(metrics));
    for (const [name, plot] of this.#plots) plot.show(this.#numbers.lines[name]);
    this.#tell(told);
    this.#timer = setTimeout(() => this.#poll(), EVERY_MS);
  }

  #tell(health) {
    const state = $("state");
    // Said once, not every five seconds: it is read aloud.
    const words = health ? `The server is ${health.status}` : "The server does not answer";
    if (state.textContent !== words) state.textContent = words;
    state.dataset.state = health?.status === "ok" ? "online" : health ? "waiting" : "closed";
    const warnings = (health?.warnings ?? []).map((line) => element("li", "", line));
    $("warnings").replaceChildren(...warnings);
  }

  async #nodes() {
    try {
      const { nodes, missing } = await this.#api.ask("nodes");
      if (this.#open) this.#show(nodes, missing);
      return nodes;
    } catch (error) {
      if (!this.#open) return null;
      if (error.code === "forbidden") this.#onLimited();
      $("nodes").replaceChildren(element("p", "hint", sentence(error)));
      this.#shown = "";
      return null;
    }
  }

  #show(nodes, missing) {
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
    for (const name of missing) rows.push([name, ...Array(7).fill("–"), "does not answer"]);
    const text = JSON.stringify(rows);
    // What an operator has selected or scrolled stays while nothing changes.
    if (text === this.#shown) return;
    this.#shown = text;
    const left = $("nodes").firstElementChild?.scrollLeft ?? 0;
    $("nodes").replaceChildren(table("Workers", columns, rows.map((row) => row.map(inert))));
    $("nodes").firstElementChild.scrollLeft = left;
  }
}

/** Resolves to what an address answers, or to null if it does not; 503 of `/health` is an answer. */
async function read(path) {
  try {
    const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    const isAnswer = response.ok || (path === "health" && response.status === 503);
    const text = await response.text();
    return isAnswer && (path !== "health" || text.startsWith("{")) ? text : null;
  } catch {
    return null;
  }
}
