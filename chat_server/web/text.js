/**
 * What users wrote, as nodes and texts that can be shown anywhere on the page.
 *
 * User text is never parsed as HTML, never changes the direction of the text around it, and takes
 * a bounded part of the page.
 */

/** A longer text is shown in part, with a button for the rest. */
const MAX_CHARACTERS = 2_000;
const MAX_LINES = 24;
const MAX_NAME = 200;

/** C0, C1 and the characters that embed or override a direction up to the end of the line. */
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/gu;
/** A name without any of these cannot be seen. */
const VISIBLE = /[\p{L}\p{N}\p{P}\p{S}]/u;
const LINE_END = /\r\n?|[\n\v\f\u0085\u2028\u2029]/gu;

export function element(name, className, text) {
  const node = document.createElement(name);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** Return a name in one line, with U+FFFD for characters that would act on what is around it. */
export function inert(name) {
  const line = String(name).slice(0, MAX_NAME).replace(/\s+/gu, " ");
  return line.toWellFormed?.().replace(CONTROLS, "\ufffd") ?? line.replace(CONTROLS, "\ufffd");
}

/** Return the first of the names that can be seen. */
export function visibleName(...names) {
  return inert(names.find((name) => name && VISIBLE.test(name)) ?? "?");
}

/** Return a name between marks that isolate its direction, for texts that take no elements. */
export function isolated(name) {
  return `\u2068${inert(name)}\u2069`;
}

/** Return a name as an element that isolates its direction. */
export function nameNode(name, className = "") {
  return element("bdi", className, inert(name));
}

/** Return `{text}` as its text, and data of any other form as the JSON that it is. */
export function dataText(data) {
  return typeof data?.text === "string" ? data.text : JSON.stringify(data);
}

/** Return how data is shown: the element's `name` and `className`, and the `text` in it. */
export function dataForm(data) {
  const text = dataText(data);
  if (text === data?.text) return { name: "p", className: "text", text };
  return { name: "code", className: "text data", text: text.replace(CONTROLS, escaped) };
}

/** Return nodes that show a text. */
export function textNodes(text) {
  return new TextView({ name: "p", className: "text", text }).nodes;
}

/** Shows a text that may change; of a long one its beginning, and a button that shows the rest. */
export class TextView {
  #node;
  #content = document.createTextNode("");
  #more = null;
  #form;
  #all = false;

  constructor(form) {
    this.#node = element(form.name, form.className);
    // Each paragraph follows its own first letter (messages.css), and none what stands around it.
    this.#node.dir = form.name === "code" ? "ltr" : "auto";
    this.#node.append(this.#content);
    this.show(form);
  }

  get nodes() {
    return this.#more ? [this.#node, this.#more] : [this.#node];
  }

  /** Show another text in the same nodes, so that focus and selection stay; the form's name stays too. */
  show(form) {
    this.#form = form;
    const { className, text } = form;
    const end = excerptEnd(text);
    const isLong = end < text.length;
    if (isLong && !this.#more) this.#node.after((this.#more = this.#button()));
    if (!isLong) {
      this.#more?.remove();
      this.#more = null;
      this.#all = false;
    }
    const isAll = this.#all;
    this.#node.className = isAll ? `${className} all` : className;
    // What scrolls must be within reach of the keyboard.
    if (isAll) this.#node.tabIndex = 0;
    else this.#node.removeAttribute("tabindex");
    setText(this.#content, isLong && !isAll ? `${text.slice(0, end)}…` : text);
    if (!isLong) return;
    const label = isAll ? "Show less" : `Show all ${text.length.toLocaleString()} characters`;
    setText(this.#more.firstChild, label);
    this.#more.setAttribute("aria-expanded", String(isAll));
  }

  remove() {
    for (const node of this.nodes) node.remove();
  }

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

/** Let a text node say something else, and replace only what differs: a selection beside that stays. */
export function setText(node, text) {
  const known = node.data;
  if (known === text) return;
  const shorter = Math.min(known.length, text.length);
  let start = 0;
  while (start < shorter && known[start] === text[start]) start += 1;
  let end = 0;
  while (end < shorter - start && known.at(-1 - end) === text.at(-1 - end)) end += 1;
  node.replaceData(start, known.length - start - end, text.slice(start, text.length - end));
}

/** Return where the part of a text ends that is shown at first. */
function excerptEnd(text) {
  let end = Math.min(text.length, MAX_CHARACTERS);
  let lines = 0;
  for (const { index } of text.slice(0, end).matchAll(LINE_END)) {
    lines += 1;
    if (lines === MAX_LINES) {
      end = index;
      break;
    }
  }
  const code = text.charCodeAt(end - 1);
  const half = end < text.length && code >= 0xd800 && code < 0xdc00;
  return half ? end - 1 : end;
}

function escaped(character) {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

export function initials(name) {
  const words = name.split(/[\s._-]+/u).filter((word) => VISIBLE.test(word));
  const letters = words.slice(0, 2).map((word) => word.match(VISIBLE)[0]);
  return letters.join("").toUpperCase() || "?";
}

/** Return a colour, as a hue in degrees, that is always the same for one user. */
export function hue(user) {
  let hash = 7;
  for (const character of user) hash = (hash * 31 + character.codePointAt(0)) % 360_000;
  return String(hash % 360);
}
