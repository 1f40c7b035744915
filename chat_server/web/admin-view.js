/** Pieces of the page for operators. Texts chosen by users are always shown in one line. */

import { sentence } from "./admin-api.js";
import { element, inert, nameNode } from "./text.js";

export const $ = (id) => document.getElementById(id);

export function button(label, onClick, className = "quiet") {
  const node = element("button", className, label);
  node.type = "button";
  node.addEventListener("click", onClick);
  return node;
}

export function showText(node, text) {
  node.textContent = text;
  node.hidden = text === "";
}

/** Return a moment, in seconds since 1970, as the browser writes it; nothing for null. */
export function moment(seconds) {
  return seconds ? new Date(seconds * 1000).toLocaleString() : "–";
}

/** Return a table; a cell is a text or a node. */
/** Return the time since a silent worker was last heard, as the end of a sentence. */
export function since(silent, name) {
  return name in (silent ?? {}) ? ` (last heard ${Math.round(silent[name])} s ago)` : "";
}

/** Return the names of silent workers, each with the time since it was last heard. */
export function unheard(missing, silent) {
  return missing.map((name) => inert(name) + since(silent, name)).join(", ");
}

export function table(label, columns, rows) {
  const head = element("tr", "");
  for (const column of columns) {
    const cell = element("th", "", column);
    cell.scope = "col";
    head.append(cell);
  }
  const body = element("tbody", "");
  body.append(...rows.map((cells) => {
    const row = element("tr", "");
    for (const cell of cells) {
      const place = element("td", "");
      place.append(cell instanceof Node ? cell : nameNode(cell));
      row.append(place);
    }
    return row;
  }));
  const top = element("thead", "");
  top.append(head);
  const node = element("table", "");
  node.append(top, body);
  // On a narrow screen the table scrolls, by the keyboard too.
  const region = element("div", "table");
  Object.assign(region, { tabIndex: 0, role: "region", ariaLabel: label });
  region.append(node);
  return region;
}

/** Return a list of names and values; a value is a text or a node. */
export function facts(pairs) {
  const list = element("dl", "facts");
  for (const [name, value] of pairs) {
    const place = element("dd", "");
    place.append(value instanceof Node ? value : nameNode(value ?? "–"));
    list.append(element("dt", "", name), place);
  }
  return list;
}

export function group(...nodes) {
  const node = element("span", "group");
  node.append(...nodes);
  return node;
}

/** A list from the server, a page at a time. */
export class Pages {
  #api;
  #options;
  #query = {};
  #after = "";
  #asked = null;
  #note = element("p", "hint");
  #place = element("div", "");
  #next = button("Next page", () => this.#load(this.#last));
  #node;
  #last = "";

  /**
   * @param {string} options.path below `/api/admin/`.
   * @param {string} options.rows the field of the answer with the rows.
   * @param {string} options.key the field of a row for `after` of the next page.
   * @param {string} options.empty the text for an empty list.
   * @param {function} options.show returns a node for rows.
   */
  constructor(api, node, options) {
    this.#api = api;
    this.#options = options;
    this.#node = node;
    Object.assign(this.#note, { role: "status", tabIndex: -1 });
    const again = button("Refresh", () => this.refresh());
    const first = button("First page", () => this.#load(""));
    node.replaceChildren(this.#note, this.#place, group(first, this.#next, again));
    this.#next.hidden = true;
  }

  find(query) {
    this.#query = query;
    return this.#load("");
  }

  refresh() {
    return this.#load(this.#after);
  }

  async #load(after) {
    const { path, rows, key, empty, show } = this.#options;
    const asked = (this.#asked = Symbol(path));
    let answer;
    try {
      answer = await this.#api.ask(path, { ...this.#query, after });
    } catch (error) {
      if (asked === this.#asked) this.#note.textContent = sentence(error);
      return;
    }
    if (asked !== this.#asked) return;
    this.#after = after;
    this.#last = answer[rows].at(-1)?.[key] ?? "";
    const missing = answer.missing?.length ? ` Not answered: ${unheard(answer.missing, answer.silent)}.` : "";
    const more = answer.more ? ", and more follow" : "";
    const count = answer[rows].length ? `${answer[rows].length} on this page${more}.` : empty;
    this.#note.textContent = count + missing;
    const isFocused = this.#node.contains(document.activeElement);
    this.#next.hidden = !answer.more;
    this.#place.replaceChildren(...(answer[rows].length ? [show(answer[rows])] : []));
    // The button that was pressed may be gone.
    if (isFocused && !this.#node.contains(document.activeElement)) this.#note.focus();
  }
}
