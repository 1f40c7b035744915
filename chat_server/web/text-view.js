/** Shows a changing text with its markup, and the beginning of a long text. */

import { locale, t } from "./language.js";
import { parse } from "./markup.js";
import { dataText, element, setText } from "./text.js";

/** Characters beyond which a text is shown in part, with a button for the rest. */
const MAX_CHARACTERS = 2_000;
const MAX_LINES = 24;
/** Factor beyond which folding hides enough to be worth a press: half as much again. */
const WORTH = 1.5;
/** Factor beyond which a text that grew on the screen is folded: many pages. */
const WATCHED = 8;
const MAX_GIST = 300;
/** Elements that stand on lines of their own. */
const BLOCKS = new Set(["blockquote", "div", "li", "ol", "pre", "table", "td", "th", "tr", "ul"]);
const LINE_END = /\r\n?|[\n\v\f\u0085\u2028\u2029]/gu;

/** Return nodes that show a text. */
export function textNodes(text) {
  return new TextView({ name: "div", className: "text", text }).nodes;
}

/**
 * Return a line or two of data's text, without markup and quotes, with the names that `people` knows.
 */
export function gist(data, people) {
  const text = dataText(data);
  if (text !== data?.text) return text;
  const answer = text.replace(/^(?:>(?:[ >].*)?\n)+/u, "") || text;
  return plainText(answer.slice(0, MAX_GIST), (text, at) => people.mentioned(text, at));
}

/** Return a text without markup; `whom` finds the mentioned users, as in `parse`. */
export function plainText(text, whom) {
  return plain(parse(text, whom)).trim();
}

function plain(nodes) {
  return nodes.map((node) => (node.tag ? `${plain(node.children)}${BLOCKS.has(node.tag) ? "\n" : ""}` : node)).join("");
}

/** Shows a changing text; a long text is cut, with a button that shows the rest. */
export class TextView {
  #node;
  /** The innermost block at the end, where a streaming message grows. */
  #tail = null;
  #more = null;
  #form;
  #all = false;
  #people;
  #watched = false;

  /**
   * @param {object} form the text and its element, as returned by `dataForm`.
   * @param {People} [people] knows the names of mentioned users.
   * @param {boolean} [grows] whether the text is growing.
   */
  constructor(form, people, grows) {
    this.#people = people;
    this.#node = element(form.name, form.className);
    // Each paragraph takes its direction from its own first letter (messages.css), not from its surroundings.
    this.#node.dir = form.name === "code" ? "ltr" : "auto";
    this.show(form, grows);
  }

  get nodes() {
    return this.#more ? [this.#node, this.#more] : [this.#node];
  }

  /** Show another text in the same nodes, so that focus and selection stay; the form's name must not change. */
  show(form, grows = false) {
    this.#form = form;
    this.#watched ||= grows;
    const { className, text } = form;
    const end = excerptEnd(text, this.#watched ? WATCHED : WORTH);
    const isLong = end < text.length;
    if (isLong && !this.#more) this.#node.after((this.#more = this.#button()));
    if (!isLong) {
      this.#more?.remove();
      this.#more = null;
      this.#all = false;
    }
    const isAll = this.#all;
    this.#node.className = isAll ? `${className} all` : className;
    // A scrolling element must be reachable by keyboard.
    if (isAll) this.#node.tabIndex = 0;
    else this.#node.removeAttribute("tabindex");
    const shown = isLong && !isAll ? `${text.slice(0, end)}…` : text;
    fill(this.#node, this.#node.localName === "div" ? parse(shown, this.#whom) : [shown]);
    this.#tail?.classList.remove("tail");
    this.#tail = this.#node;
    while (BLOCKS.has(this.#tail.lastChild?.localName)) this.#tail = this.#tail.lastChild;
    this.#tail.classList.add("tail");
    if (!isLong) return;
    const label = isAll ? t("Show less") : t("Show all {count} characters", { count: text.length.toLocaleString(locale) });
    setText(this.#more.firstChild, label);
    this.#more.setAttribute("aria-expanded", String(isAll));
  }

  remove() {
    for (const node of this.nodes) node.remove();
  }

  #whom = (text, at) => this.#people?.mentioned(text, at);

  #button() {
    const more = element("button", "quiet more");
    more.type = "button";
    more.append(document.createTextNode(""));
    more.addEventListener("click", () => {
      this.#all = !this.#all;
      this.show(this.#form);
    });
    return more;
  }
}

/** Put a tree of `parse` into an element, and keep the existing nodes that are equal. */
function fill(parent, nodes) {
  let at = parent.firstChild;
  for (const node of nodes) {
    const name = node.tag ?? "#text";
    if (at?.nodeName.toLowerCase() !== name) {
      const made = node.tag ? begun(node.tag) : document.createTextNode("");
      if (at) at.replaceWith(made);
      else parent.append(made);
      at = made;
    }
    if (node.tag) {
      for (const key of ["className", "href", "value", "title"]) if (key in node) at[key] = node[key];
      if (!("title" in node)) at.removeAttribute("title");
      fill(at, node.children);
    } else {
      setText(at, node);
    }
    at = at.nextSibling;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function begun(tag) {
  const node = document.createElement(tag);
  if (tag === "a") {
    node.target = "_blank";
    node.rel = "noopener noreferrer nofollow";
  } else if (["ul", "ol", "blockquote"].includes(tag)) {
    node.dir = "auto";
  } else if (tag === "pre") {
    node.dir = "ltr";
  } else if (tag === "div") {
    // A scrolling element must be reachable by keyboard.
    node.tabIndex = 0;
  }
  return node;
}

/** Return the end of a text's excerpt; a text of at most `factor` times the bound is shown whole. */
function excerptEnd(text, factor) {
  if (boundedEnd(text, factor) === text.length) return text.length;
  const end = boundedEnd(text, 1);
  const code = text.charCodeAt(end - 1);
  const half = end < text.length && code >= 0xd800 && code < 0xdc00;
  return half ? end - 1 : end;
}

/** Return the index at which a text exceeds `factor` times the characters or lines of an excerpt. */
function boundedEnd(text, factor) {
  const end = Math.min(text.length, MAX_CHARACTERS * factor);
  let lines = 0;
  for (const { index } of text.slice(0, end).matchAll(LINE_END)) {
    lines += 1;
    if (lines === MAX_LINES * factor) return index;
  }
  return end;
}
