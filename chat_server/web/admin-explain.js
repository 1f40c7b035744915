/** Explains from the workers' notes why a user did not get a message. */

import { sentence } from "./admin-api.js";
import { $, facts, moment, table, unheard } from "./admin-view.js";
import { element, inert } from "./text.js";

export class Explain {
  #api;
  #asked = null;

  constructor(api) {
    this.#api = api;
    $("explain-form").onsubmit = (event) => this.#ask(event);
    $("explained").replaceChildren();
  }

  async #ask(event) {
    event.preventDefault();
    const query = Object.fromEntries(new FormData(event.target));
    const asked = (this.#asked = Symbol("asked"));
    let nodes;
    try {
      nodes = shown(await this.#api.ask("explain", query), query.user);
    } catch (error) {
      nodes = [element("p", "error", sentence(error))];
    }
    if (asked === this.#asked) $("explained").replaceChildren(...nodes);
  }
}

function shown(told, user) {
  const sender = told.sender && (told.sender.user ?? "");
  const nodes = [facts([
    ["Event", `${told.topic} #${told.seq}, the last is #${told.last}`],
    ["Stored", told.stored ? `yes, a ${told.kind}` : "no"],
    ...(told.stored ? [["Accepted", moment(told.at / 1000)], ["From", sender ?? "the application"]] : []),
    ...(told.missing.length ? [["Not answered", unheard(told.missing, told.silent)]] : []),
  ])];
  nodes.push(table("Workers", ["Worker", "Heard", "Its last seq", "Subscribers", "Notes since"], told.workers.map(
    (worker) => [
      worker.node, moment(worker.heard_at), String(worker.seq ?? "–"), String(worker.subscribers),
      worker.notes_since ? moment(worker.notes_since) : "a quarter of an hour",
    ],
  )));
  if (!user) return nodes;
  const stories = told.workers.flatMap(({ node, connections }) => connections.map((each) => [node, each]));
  if (!stories.length) return [...nodes, element("p", "hint", "No connection of this user is noted.")];
  const rows = stories.map(([node, { session, verdict, at, steps }]) => [
    session, node, verdict, moment(at), steps.map((step) => stepText(step)).join("; ") || "–",
  ]);
  return [...nodes, table("Connections of the user", ["Session", "Worker", "Verdict", "At", "Steps"], rows)];
}

function stepText({ at, what, seq, reason }) {
  return `${new Date(at * 1000).toLocaleTimeString()} ${what} at #${seq}${reason ? ` (${reason})` : ""}`;
}
