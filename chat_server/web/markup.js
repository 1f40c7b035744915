/**
 * A small subset of Markdown: emphasis, headings, code, lists, quotes, tables, links, and mentions.
 *
 * A text becomes a tree of strings and `{ tag, children }`. A link has `href`, a numbered item has `value`. The
 * `title` of code is the language, the `title` of a mention is the user, the `className` of a table's cell is the
 * alignment. A table is in a `div` that scrolls. The time is linear in any text. A link shows the address, or has the
 * address as `title` beside a text of the link's own. If that text could name another address than the link's, no
 * link is made, and both are shown.
 */

/** Elements of one text; the rest of the text is plain. */
const MAX_ELEMENTS = 1_000;
/** Levels of nested lists and quotes. */
const MAX_DEPTH = 4;
const MAX_ADDRESS = 2_000;
const MAX_COLUMNS = 12;
/** `@`s of one text that are looked up as mentions. */
const MAX_MENTIONS = 100;
/** Brackets of one text that are examined as the beginning of a link. */
const MAX_NAMED = 1_000;

const LINE_END = /\r\n?|\n/u;
const FENCE = /^ {0,3}```/u;
const FENCE_END = /^ {0,3}```\s*$/u;
const QUOTE = /^>(?=[ >]|$)/u;
/** A numbered item. A list would drop leading zeros, and a number of four digits is a year. */
const ITEM = /^ ?(?:[-*+]|(0|[1-9]\d{0,2})\.) +(?=\S)/u;
const CONTINUATION = /^ {2,4}(?=\s*\S)/u;
/** The line below a table's head, without spaces around the line. */
const DELIMITERS = /^\|?(?: *:?-+:? *\|)+(?: *:?-+:?)?$/u;
const CELL_END = /(?<!\\)\|/u;
const TOKEN = /`|~~|\[|\*\*?|_+|(?<![\p{L}\p{N}])(?:https?:\/\/|mailto:)|(?<![\p{L}\p{N}_])@/giu;
const HEADING = /^ {0,3}#{1,6} +(?=\S)/u;
const NAMED = /\[([^[\]]{1,500})\]\(((?:https?:\/\/|mailto:)(?:[^\s<>"`()\p{Cc}\p{Bidi_Control}]|\([^\s<>"`()\p{Cc}\p{Bidi_Control}]*\)){1,2000})\)/iuy;
/** The parts of a text, without invisible characters, that look like an address. */
const MISLEADING = /[\p{L}\p{N}][.\u3002](?:\p{L}{2}|xn--|\d+[.\u3002]\d)|:\/\/|@|mailto:|www|localhost|\p{Bidi_Control}/iu;
const INVISIBLE = /(?!\p{Bidi_Control})[\p{Cf}\p{M}*_`~]/gu;
const VISIBLE = /[\p{L}\p{N}\p{P}\p{S}]/u;
const ADDRESS = /(?:(?!\]\()[^\s<>"`\p{Cc}\p{Bidi_Control}])+/uy;
const WORD = /[\p{L}\p{N}_]/u;
const SPACE = /\s/u;
const TAGS = { "**": "strong", "*": "em", _: "em", "~~": "del" };

/**
 * Return the tree of a text.
 *
 * @param {string} text
 * @param {function} [whom] called with a text and the index of an `@`; returns the mentioned user and the end of the
 *   mention, `{name, title, end}`, or null.
 * @returns {Array<string | {tag: string, children: Array}>}
 */
export function parse(text, whom) {
  return new Parser(whom).blocks(text.split(LINE_END), 0);
}

class Parser {
  #left = MAX_ELEMENTS;
  #unasked = MAX_MENTIONS;
  #unnamed = MAX_NAMED;
  #whom;

  constructor(whom) {
    this.#whom = whom;
  }

  blocks(lines, depth) {
    const nodes = [];
    let plain = [];
    const flush = () => {
      plain.forEach((line, index) => {
        if (index > 0) add(nodes, "\n");
        for (const node of this.#line(line)) add(nodes, node);
      });
      plain = [];
    };
    for (let at = 0; at < lines.length;) {
      const block = this.#left > 0 ? this.#block(lines, at, depth) : null;
      if (block) {
        flush();
        nodes.push(block.node);
        // A block already has a space below.
        at = block.end + (lines[block.end]?.trim() === "" ? 1 : 0);
      } else {
        plain.push(lines[at]);
        at += 1;
      }
    }
    flush();
    return nodes;
  }

  /** Return the block that begins at a line, and the next line behind the block; null without a block. */
  #block(lines, at, depth) {
    if (FENCE.test(lines[at])) return this.#code(lines, at);
    if (depth >= MAX_DEPTH) return null;
    if (QUOTE.test(lines[at])) return this.#quote(lines, at, depth);
    return ITEM.test(lines[at]) ? this.#list(lines, at, depth) : this.#table(lines, at);
  }

  #code(lines, at) {
    const title = lines[at].replace(FENCE, "").trim();
    if (title.endsWith("```")) return this.#pre(title.slice(0, -3), "", at + 1);
    if (title.includes("`")) return null;
    let end = at + 1;
    while (end < lines.length && !FENCE_END.test(lines[end])) end += 1;
    // A code block without an end is still growing.
    return this.#pre(lines.slice(at + 1, end).join("\n"), title, end + 1);
  }

  #pre(text, title, end) {
    const block = this.#made("pre", [text], end);
    block.node.title = title;
    return block;
  }

  #quote(lines, at, depth) {
    let end = at;
    while (end < lines.length && QUOTE.test(lines[end])) end += 1;
    const inner = lines.slice(at, end).map((line) => line.replace(/^> ?/u, ""));
    return this.#made("blockquote", this.blocks(inner, depth + 1), end);
  }

  #list(lines, at, depth) {
    const isNumbered = ITEM.exec(lines[at])[1] !== undefined;
    const items = [];
    let end = at;
    for (; end < lines.length; end += 1) {
      const item = ITEM.exec(lines[end]);
      if (item && (item[1] !== undefined) === isNumbered && this.#left > 0) {
        this.#left -= 1;
        items.push({ number: item[1], lines: [lines[end].slice(item[0].length)] });
      } else if (CONTINUATION.test(lines[end])) {
        items.at(-1).lines.push(lines[end].replace(CONTINUATION, ""));
      } else if (lines[end].trim() === "" && continues(lines[end + 1], isNumbered)) {
        items.at(-1).lines.push("");
      } else {
        break;
      }
    }
    const children = items.map(({ number, lines }) => {
      const node = { tag: "li", children: this.blocks(lines, depth + 1) };
      return isNumbered ? { ...node, value: Number(number) } : node;
    });
    return this.#made(isNumbered ? "ol" : "ul", children, end);
  }

  #table(lines, at) {
    const columns = lines[at].includes("|") ? alignments(lines[at + 1]) : [];
    const head = cells(lines[at], MAX_COLUMNS + 1);
    if (columns.length === 0 || columns.length > MAX_COLUMNS || head.length !== columns.length) return null;
    const rows = [this.#row("th", head, columns)];
    let end = at + 2;
    for (; lines[end]?.includes("|") && this.#left > columns.length; end += 1) {
      rows.push(this.#row("td", cells(lines[end], columns.length), columns));
    }
    const { node } = this.#made("table", rows);
    return { node: { tag: "div", children: [node], className: "table" }, end };
  }

  #row(tag, texts, columns) {
    const children = columns.map((className, index) => (
      { ...this.#made(tag, this.#inline(texts[index] ?? "")).node, className }
    ));
    return this.#made("tr", children).node;
  }

  /** A heading is a line in bold: the page has an outline of its own. */
  #line(line) {
    const mark = this.#left > 0 && HEADING.exec(line);
    return mark ? [this.#made("strong", this.#inline(line.slice(mark[0].length))).node] : this.#inline(line);
  }

  #inline(line) {
    /** The whole text, and the open marks within: `{mark, start, children}`. */
    const frames = [{ mark: null, children: [] }];
    let [from, at] = [0, 0];
    const put = (node, begin, end) => {
      add(frames.at(-1).children, line.slice(from, begin));
      if (node) add(frames.at(-1).children, node);
      from = at = end;
    };
    while (this.#left > 0) {
      TOKEN.lastIndex = at;
      const found = TOKEN.exec(line);
      if (!found) break;
      const [{ index }, [token]] = [found, found];
      if (token === "`") {
        const end = line.indexOf("`", index + 1);
        if (end > index + 1) put(this.#made("code", [line.slice(index + 1, end)]).node, index, end + 1);
        else at = index + (end < 0 ? 1 : 2);
      } else if (token === "@") {
        const meant = this.#unasked-- > 0 ? this.#whom?.(line, index) : null;
        if (meant) put({ ...this.#made("bdi", [`@${meant.name}`]).node, title: meant.title }, index, meant.end);
        else at = index + 1;
      } else if (token === "[") {
        const link = this.#unnamed-- > 0 ? this.#named(line, index) : null;
        if (link) put(link.node, index, link.end);
        else at = index + 1;
      } else if (Object.hasOwn(TAGS, token)) {
        this.#mark(line, index, token, frames, put);
        at = Math.max(at, index + 1);
      } else if (token.startsWith("_")) {
        at = index + token.length; // such as __init__
      } else {
        ADDRESS.lastIndex = index;
        const [whole] = ADDRESS.exec(line);
        const href = addressOf(whole);
        // No part of a word without an address is examined again.
        if (href) put(this.#made("a", [href.shown], 0, href.href).node, index, index + href.shown.length);
        else at = index + whole.length;
      }
    }
    put(null, line.length, line.length);
    this.#unmark(frames, 1);
    return frames[0].children;
  }

  /** Return the link with a text of its own that begins at a bracket, and the link's end; null without a link. */
  #named(line, index) {
    NAMED.lastIndex = index;
    const [whole, text, address] = NAMED.exec(line) ?? [];
    const link = whole ? addressOf(address) : null;
    if (link === null || link.shown !== address || !(text === address || isHonest(text, link))) return null;
    const made = this.#made("a", text === address ? [text] : this.#inline(text), index + whole.length, link.href);
    return { ...made, node: { ...made.node, title: address } };
  }

  /** Begin or end the span between two marks; any other mark is text. */
  #mark(line, index, token, frames, put) {
    const before = line[index - 1] ?? " ";
    // Of three stars in a row, the first end the span that began last.
    const mark = token === "**" && frames.at(-1).mark === "*" && !SPACE.test(before) ? "*" : token;
    const behind = line[index + mark.length] ?? " ";
    const isLoose = mark === "**" || mark === "~~";
    const open = frames.findIndex((frame) => frame.mark === mark);
    const end = index + mark.length;
    if (open > 0 && !SPACE.test(before) && (isLoose || !WORD.test(behind)) && frames[open].start < index) {
      put(null, index, end);
      this.#unmark(frames, open + 1);
      const { children } = frames.pop();
      add(frames.at(-1).children, this.#made(TAGS[mark], children).node);
    } else if (open < 0 && !SPACE.test(behind) && (isLoose || !WORD.test(before))) {
      put(null, index, end);
      frames.push({ mark, start: end, children: [] });
    } else {
      put(line.slice(index, end), index, end);
    }
  }

  /** Turn the unclosed marks from a frame on into text. */
  #unmark(frames, first) {
    while (frames.length > first) {
      const { mark, children } = frames.pop();
      for (const node of [mark, ...children]) add(frames.at(-1).children, node);
    }
  }

  #made(tag, children, end, href) {
    this.#left -= 1;
    return { node: href ? { tag, children, href } : { tag, children }, end };
  }
}

function add(nodes, node) {
  if (typeof node === "string" && typeof nodes.at(-1) === "string") nodes[nodes.length - 1] += node;
  else if (node !== "") nodes.push(node);
}

function continues(line = "", isNumbered) {
  const item = ITEM.exec(line);
  return item ? (item[1] !== undefined) === isNumbered : CONTINUATION.test(line);
}

/** Return the alignment of each column, by the line below a table's head; nothing if it is another line. */
function alignments(line = "") {
  if (!line.includes("|") || !DELIMITERS.test(line.trim())) return [];
  return cells(line, Infinity).map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "end") : ""));
}

/** Return the texts of a row's cells; the last of `most` cells has the rest. */
function cells(line, most) {
  const row = line.trim().replace(/^\|/u, "").split(CELL_END);
  if (row.length > 1 && row.at(-1) === "") row.pop();
  if (row.length > most) row.push(row.splice(most - 1).join("|"));
  return row.map((cell) => cell.trim().replaceAll("\\|", "|"));
}

/** Return the address within a word as `{shown, href}`; null without an address, or with one that was cut. */
function addressOf(word) {
  if (word.length > MAX_ADDRESS || word.endsWith("…")) return null;
  const shown = word.slice(0, addressEnd(word));
  try {
    const { protocol, hostname, username, href } = new URL(shown);
    const isMail = protocol === "mailto:" && /^mailto:[^@?]+@[^@]+$/iu.test(shown);
    // A user before the host looks like a host: https://example.com@example.org
    const isWeb = (protocol === "http:" || protocol === "https:") && hostname && !username;
    return isMail || isWeb ? { shown, href } : null;
  } catch {
    return null;
  }
}

/** Whether a text looks like no address, and the address of its link names its host as it is. */
function isHonest(text, { shown, href }) {
  const seen = text.normalize("NFKC").replace(INVISIBLE, "");
  const { protocol, host } = new URL(href);
  const origin = protocol === "mailto:" ? protocol : `${protocol}//${host}`;
  return VISIBLE.test(seen) && !MISLEADING.test(seen) && shown.toLowerCase().startsWith(origin);
}

/** Return the end of an address: before the sentence's punctuation, and before a bracket opened earlier. */
function addressEnd(word) {
  let closed = 0;
  for (const character of word) closed += character === ")" ? 1 : character === "(" ? -1 : 0;
  let end = word.length;
  for (; end > 0; end -= 1) {
    const last = word[end - 1];
    if (last === ")" && closed > 0) closed -= 1;
    else if (!".,;:!?'*_]}".includes(last)) break;
  }
  return end;
}
