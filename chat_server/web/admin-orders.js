/** The orders of operators: each needs a reason, and the answer names the workers that obeyed. */

import { Refusal } from "./account.js";
import { sentence } from "./admin-api.js";
import { $, button, facts, showText, unheard } from "./admin-view.js";
import { element, inert } from "./text.js";

const TIMES = { "10 minutes": 600, "1 hour": 3_600, "1 day": 86_400, "1 week": 604_800, "1 year": 31_536_000 };
const USER = { name: "user", label: "User" };
const TOPIC = { name: "topic", label: "Topic" };

/**
 * Orders by verb. A field with `choice` is one of several; `times` are durations, the first by default.
 * `anywhere`: also for operators with a grant for some topics only. `already` is the text for an order
 * without effect.
 */
export const ORDERS = {
  block: {
    title: "Block a user",
    told: "The user's connections are closed on every worker, and the user stays out.",
    already: "The user was blocked already.",
    fields: [USER, { name: "seconds", label: "For", times: ["1 hour", "10 minutes", "1 day", "1 week", "1 year"] }],
  },
  unblock: {
    title: "Unblock a user",
    told: "The user may come back.",
    already: "The user was not blocked.",
    fields: [USER],
  },
  disconnect: {
    title: "Disconnect",
    told: "The connections are closed. Their clients stop, but may come back.",
    already: "There was no such connection.",
    fields: [{ choice: { user: "User", session: "Session", address: "Address" } }],
  },
  unsubscribe: {
    title: "Unsubscribe a user",
    told: "The user's subscriptions to the topic end; the user may subscribe again.",
    already: "The user was not subscribed.",
    fields: [USER, TOPIC],
    anywhere: true,
  },
  revoke: {
    title: "Revoke tokens",
    told: "The tokens are not accepted any more, for a year, and their connections are closed.",
    already: "They were revoked already.",
    fields: [{ choice: { user: "Of a user, all so far", jti: "One, by its jti", kid: "Of a key, by its kid" } }],
  },
  close: {
    title: "Close a topic",
    told: "All subscriptions to the topic end.",
    already: "The topic was closed already.",
    fields: [TOPIC, { name: "seconds", label: "Nobody may use it for", times: ["", ...Object.keys(TIMES)] }],
    anywhere: true,
  },
  open: {
    title: "Open a topic",
    told: "The topic may be used again.",
    already: "The topic was not closed.",
    fields: [TOPIC],
    anywhere: true,
  },
  announce: {
    title: "Announce",
    told: "Everybody who is connected gets this text as a signal of the topic system:announcements.",
    fields: [{ name: "text", label: "Text", isLong: true }],
  },
};

export class Orders {
  #api;
  #verb = null;
  /** Known fields, and functions that read the other fields. */
  #given = {};
  #readers = [];
  #isUnderWay = false;

  /** @param {function} onDone called after the answer; connections take a moment to close. */
  constructor(api, onDone) {
    this.#api = api;
    $("order").onclose = onDone;
    $("order-form").onsubmit = (event) => this.#submit(event);
    $("order-cancel").onclick = $("order-close").onclick = () => $("order").close();
    $("orders-list").replaceChildren(...Object.entries(ORDERS).map(([verb, { told, anywhere }]) => {
      const row = element("li", anywhere ? "" : "everything");
      row.append(this.button(verb, {}, { className: "small" }), element("span", "hint", told));
      return row;
    }));
  }

  /**
   * Return a button for an order.
   *
   * @param {object} given the known fields.
   * @param {object} [options.about] further facts to show, not sent.
   */
  button(verb, given, { className = "quiet", label = `${ORDERS[verb].title}…`, about = {} } = {}) {
    const more = ORDERS[verb].anywhere ? "" : " everything";
    return button(label, () => this.#ask(verb, given, about), className + more);
  }

  #ask(verb, given, about) {
    const { title, told, fields } = ORDERS[verb];
    this.#verb = verb;
    this.#given = given;
    this.#readers = [];
    $("order-title").textContent = $("order-give").textContent = title;
    $("order-told").textContent = told;
    $("reason").value = "";
    showText($("order-error"), "");
    $("order-form").hidden = false;
    $("order-end").hidden = true;
    $("order-answer").replaceChildren();
    const known = Object.entries({ ...about, ...given }).map(([name, value]) => [labelOf(name), value]);
    // As text in one line, so that a name cannot rearrange the question.
    const parts = known.length ? [facts(known)] : [];
    for (const field of fields) {
      const names = field.choice ? Object.keys(field.choice) : [field.name];
      if (!names.some((name) => name in given)) parts.push(...this.#input(field));
    }
    $("order-fields").replaceChildren(...parts);
    if (!$("order").open) $("order").showModal();
    ($("order-fields").querySelector("input, select, textarea") ?? $("reason")).focus();
  }

  #input({ name, label, choice, times, isLong }) {
    if (times) {
      const input = select(times.map((time) => [TIMES[time] ?? "", time || "a moment: clients may come back at once"]));
      this.#readers.push(() => (input.value === "" ? {} : { [name]: Number(input.value) }));
      return [labelled(label, input)];
    }
    const input = element(isLong ? "textarea" : "input", "");
    Object.assign(input, { required: true, autocomplete: "off", maxLength: isLong ? 8_000 : 255 });
    if (!choice) {
      this.#readers.push(() => (isLong ? { data: { [name]: input.value } } : { [name]: input.value }));
      return [labelled(label, input)];
    }
    const which = select(Object.entries(choice));
    this.#readers.push(() => ({ [which.value]: input.value }));
    return [labelled("Which", which), labelled("Named", input)];
  }

  async #submit(event) {
    event.preventDefault();
    if (this.#isUnderWay) return;
    this.#isUnderWay = true;
    $("order-give").disabled = true;
    showText($("order-error"), "");
    const fields = Object.assign({}, this.#given, ...this.#readers.map((read) => read()));
    try {
      this.#show(await this.#api.order(this.#verb, { ...fields, reason: $("reason").value }));
    } catch (error) {
      const unknown = " Nobody knows whether it was carried out: look before you order it again.";
      showText($("order-error"), sentence(error) + (error instanceof Refusal ? "" : unknown));
    } finally {
      this.#isUnderWay = false;
      $("order-give").disabled = false;
    }
  }

  #show({ confirmed, missing, silent, connections, until, already }) {
    const names = (nodes) => nodes.map(inert).join(", ");
    const count = `${connections} ${connections === 1 ? "connection" : "connections"}`;
    const pairs = [["Obeyed", names(confirmed) || "nobody yet"], ["Concerned", count]];
    if (missing.length) pairs.push(["Not yet", unheard(missing, silent)]);
    if (until) pairs.push(["Until", new Date(until * 1000).toLocaleString()]);
    const nodes = [facts(pairs)];
    if (already) nodes.unshift(element("p", "", ORDERS[this.#verb].already + (until ? "" : " Nothing has changed.")));
    if (missing.length) {
      nodes.push(element("p", "error", "Workers that have not confirmed obey before they serve anybody else."));
    }
    $("order-form").hidden = true;
    $("order-end").hidden = false;
    $("order-answer").replaceChildren(...nodes);
    $("order-close").focus();
  }
}

function labelOf(name) {
  return { jti: "Token (jti)", kid: "Key (kid)" }[name] ?? name[0].toUpperCase() + name.slice(1);
}

function labelled(text, input) {
  const label = element("label", "", text);
  label.append(input);
  return label;
}

function select(options) {
  const node = element("select", "");
  node.append(...options.map(([value, text]) => new Option(text, value)));
  return node;
}
