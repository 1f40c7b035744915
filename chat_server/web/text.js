/**
 * Turns user texts into nodes and texts that are safe anywhere on the page.
 *
 * User text is never parsed as HTML, never changes the direction of the text around it, and takes
 * a bounded part of the page.
 */

const MAX_NAME = 200;

/** C0, C1 and the characters that embed or override a direction up to the end of the line. */
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/gu;
/** The visible characters; a name needs one at least. */
const VISIBLE = /[\p{L}\p{N}\p{P}\p{S}]/u;

export function element(name, className, text) {
  const node = document.createElement(name);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** Return a name in one line, with U+FFFD for characters that would act on their surroundings. */
export function inert(name) {
  const line = String(name).slice(0, MAX_NAME).replace(/\s+/gu, " ");
  return line.toWellFormed?.().replace(CONTROLS, "\ufffd") ?? line.replace(CONTROLS, "\ufffd");
}

/** Return the first visible name. */
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

/** Return the text of `{text}`, and the JSON of data of any other form. */
export function dataText(data) {
  return typeof data?.text === "string" ? data.text : JSON.stringify(data);
}

/** Return the form of shown data: the element's `name`, "div" for markup, `className` and `text`. */
export function dataForm(data) {
  const text = dataText(data);
  if (text === data?.text) return { name: "div", className: "text", text };
  return { name: "code", className: "text data", text: text.replace(CONTROLS, escaped) };
}

/** Change a text node, and replace only the differing part, so that a selection beside it stays. */
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

/** Return a name with Unicode numbers in place of characters outside of ASCII. */
export function spelled(name) {
  return name.replace(/[^ -~]/gu, (character) => `[U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);
}

function escaped(character) {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

export function initials(name) {
  const words = name.split(/[\s._-]+/u).filter((word) => VISIBLE.test(word));
  const letters = words.slice(0, 2).map((word) => word.match(VISIBLE)[0]);
  return letters.join("").toUpperCase() || "?";
}

/** Return a user's constant colour, as a hue in degrees. */
export function hue(user) {
  let hash = 7;
  for (const character of user) hash = (hash * 31 + character.codePointAt(0)) % 360_000;
  return String(hash % 360);
}
