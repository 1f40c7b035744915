/** The markup of messages: what it means, that nothing is lost, and that no text takes long. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "./markup.js";

const TAGS = new Set(["strong", "em", "code", "a", "pre", "blockquote", "ul", "ol", "li", "del", "div", "table", "tr", "th", "td"]);

/** Write a tree as one line. */
function shown(nodes) {
  return nodes.map((node) => {
    if (typeof node === "string") return node;
    const { tag, children, href, value, title, className } = node;
    const more = [href, value, title, className].filter((it) => it !== undefined && it !== "");
    return `[${[tag, ...more].join(" ")}|${shown(children)}]`;
  }).join("");
}

const CASES = [
  ["plain, 2 * 3 * 4, snake_case_name, __init__", "plain, 2 * 3 * 4, snake_case_name, __init__"],
  ["**a** *b* _c_ `d` ***e***", "[strong|a] [em|b] [em|c] [code|d] [strong|[em|e]]"],
  ["*a **b** c*", "[em|a [strong|b] c]"],
  ["**a *b", "**a *b"],
  ["**** `` *", "**** `` *"],
  ["`**a**`", "[code|**a**]"],
  ["a\r\nb\rc", "a\nb\nc"],
  ["```js\nlet x;\n```\nbehind", "[pre js|let x;]behind"],
  ["before\n```\n**grows", "before[pre|**grows]"],
  ["> a\n> > b\nc", "[blockquote|a[blockquote|b]]c"],
  ["a\n\n> b\n\nc\n\nd", "a\n[blockquote|b]c\n\nd"],
  [">:( and 1.5 and -1", ">:( and 1.5 and -1"],
  ["- a\n- b\n  - c\n\n- d\ne", "[ul|[li|a][li|b[ul|[li|c]]][li|d]]e"],
  ["3. a\n4. b\n- c", "[ol|[li 3|a][li 4|b]][ul|[li|c]]"],
  ["007. a\n2026. b", "007. a\n2026. b"],
  ["(see https://a.example/b_(c)).", "(see [a https://a.example/b_(c)|https://a.example/b_(c)])."],
  ["**http://a.example**!", "[strong|[a http://a.example/|http://a.example]]!"],
  ["mailto:a@b.example", "[a mailto:a@b.example|mailto:a@b.example]"],
  ["# A *b*\nc\n###### d\n#lobby\n####### e", "[strong|A [em|b]]\nc\n[strong|d]\n#lobby\n####### e"],
  ["~~a **b**~~ c~~d~~ ~~ e ~~f", "[del|a [strong|b]] c[del|d] ~~ e ~~f"],
  ["see [the *docs*](https://a.example/b_(c)).", "see [a https://a.example/b_(c) https://a.example/b_(c)|the [em|docs]]."],
  ["- [x](mailto:a@b.example)", "[ul|[li|[a mailto:a@b.example mailto:a@b.example|x]]]"],
  ["[https://a.example/](https://a.example/)", "[a https://a.example/ https://a.example/|https://a.example/]"],
  ["[a] (https://a.example) [b](c)", "[a] ([a https://a.example/|https://a.example]) [b](c)"],
  ["| a | b |\n|---|---|", "[div table|[table|[tr|[th|a][th|b]]]]"],
  [
    "so:\n| **a** | b |\n| :-: | ---: |\n| 1 | `x\\|y` | z |\n| 2\nbehind | it",
    "so:[div table|[table|[tr|[th center|[strong|a]][th end|b]][tr|[td center|1][td end|[code|x|y] | z]][tr|[td center|2][td end|]]"
      + "[tr|[td center|behind][td end|it]]]]",
  ],
  ["> a|b\n> -|:-\n\n1|2", "[blockquote|[div table|[table|[tr|[th|a][th|b]]]]]1|2"],
  ["a | b\n---", "a | b\n---"],
  ["a | b\n-|-|-", "a | b\n-|-|-"],
  ["a | b\nc | d", "a | b\nc | d"],
  ["|".repeat(14) + "\n" + "-|".repeat(13), "|".repeat(14) + "\n" + "-|".repeat(13)],
  ["HTTPS://A.example", "[a https://a.example/|HTTPS://A.example]"],
];

for (const [text, tree] of CASES) {
  test(JSON.stringify(text), () => assert.equal(shown(parse(text)), tree));
}

/** Ann is `u-1`, and Bob `u-1 b`. */
function whom(text, at) {
  const id = ["u-1 b", "u-1"].find((each) => text.startsWith(each, at + 1));
  return id ? { name: id === "u-1" ? "Ann *x*" : "Bob", title: id, end: at + 1 + id.length } : null;
}

const MENTIONS = [
  ["@u-1, @u-1 b @u-2", "[bdi u-1|@Ann *x*], [bdi u-1 b|@Bob] @u-2"],
  ["**@u-1** (@u-1)", "[strong|[bdi u-1|@Ann *x*]] ([bdi u-1|@Ann *x*])"],
  ["> - @u-1", "[blockquote|[ul|[li|[bdi u-1|@Ann *x*]]]]"],
  ["`@u-1` a@u-1 https://x.example/@u-1 @@u-1", "[code|@u-1] a@u-1 [a https://x.example/@u-1|https://x.example/@u-1] @[bdi u-1|@Ann *x*]"],
];

for (const [text, tree] of MENTIONS) {
  test(`mentions: ${text}`, () => assert.equal(shown(parse(text, whom)), tree));
}

test("so many are asked for and no more", () => {
  let asked = 0;
  const nodes = parse("@".repeat(100_000), () => (asked += 1) && null);
  assert.deepEqual([asked, nodes.join("").length], [100, 100_000]);
  assert.equal(parse("@u-1 ".repeat(300), whom).filter(({ tag }) => tag === "bdi").length, 100);
});

const NO_LINKS = [
  "javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "xhttps://a.example", "https://", "https://…",
  "https://a.example/cut…", "https://bank.example@evil.example", "mailto:", "mailto:x", `https://a.example/${"x".repeat(2000)}`,
  "java\nscript:alert(1)", "[a](javascript:alert(1))", "vbscript:x",
];

for (const text of NO_LINKS) {
  test(`no link: ${text.slice(0, 40)}`, () => assert.ok(!shown(parse(text)).includes("[a "), shown(parse(text))));
}

const MISLEADING = [
  "https://bank.example/", "bank.example", "bank.example/login", "bank\u3002example", "bank\uff0eexample", "bank\u200b.\u00adexample",
  "bank**.**example", "10.0.0.1", "www bank", "elpmaxe\u202e", "me@bank.example", "\u200b",
];

for (const text of MISLEADING) {
  test(`no text of a link: ${JSON.stringify(text)}`, () => {
    const tree = shown(parse(`[${text}](https://evil.example/)`));
    assert.ok(tree.endsWith("]([a https://evil.example/|https://evil.example/])"), tree);
  });
}

test("a link with a text of its own names its host as it is", () => {
  for (const address of ["https://\u0435vil.example/", "https:///evil.example/", "https://a.example@evil.example/"]) {
    const tree = shown(parse(`[news](${address})`));
    assert.ok(!tree.includes("|news]"), tree);
  }
});

test("an override of the direction ends an address", () => {
  assert.equal(shown(parse("https://a.example/\u202ex")), "[a https://a.example/|https://a.example/]\u202ex");
});

const PARTS = [
  "*", "**", "_", "__", "`", "```", "```js\n", "\n", "\n\n", "\r\n", " ", "  ", "> ", ">", "- ", "  - ", "12. ", "7.", "a", "word", "é",
  "\u0310", "😀", "\ud83d", "\u202e", "\u2028", "https://", "https://a.b/c", "mailto:", "mailto:a@b.c", "javascript:", "(", ")", "[", "](", "<img>", "~~", "# ", "## a", "[a](https://a.b/c)", "[",
  "\u0000", "…", "&lt;", "@", "@u-1", "|", "\n|", "|\n", "|-|\n", "\n-|:-:\n", "\\|",
];

/** Return numbers from 0 to 1 that are the same in each run. */
function random(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Return what is shown of a tree, and check the elements in it. */
function read(nodes, source) {
  return nodes.map((node) => {
    if (typeof node === "string") return node;
    assert.ok(TAGS.has(node.tag), node.tag);
    if (node.tag === "a") {
      assert.match(node.href, /^(https?:\/\/[^/]|mailto:)/u);
      const address = node.title ?? node.children.join("");
      assert.ok([source, source.replaceAll("\\|", "|")].some((text) => text.includes(address)));
      assert.equal(new URL(address).href, node.href);
      if (node.title !== undefined && node.title !== node.children[0]) return `${read(node.children, source)}${node.title}`;
      if (node.title !== undefined) return `${node.title}${node.title}`;
    } else {
      assert.equal(node.href, undefined);
    }
    return `${node.value ?? ""}${node.title ?? ""}${read(node.children, source)}`;
  }).join("");
}

/** What marks are made of; all else is shown. */
const bare = (text) => text.replace(/[\s*_`>.+~#()[\]:|\\-]/gu, "");

test("of any text all is shown but marks", () => {
  const next = random(7);
  for (let round = 0; round < 5_000; round += 1) {
    const length = Math.floor(next() * 30);
    const text = Array.from({ length }, () => PARTS[Math.floor(next() * PARTS.length)]).join("");
    assert.equal(bare(read(parse(text), text)), bare(text), JSON.stringify(text));
  }
});

test("a text without marks stays as it is", () => {
  for (const text of ["", "\n", " a \n\n b ", "x".repeat(65_536), "\u0310".repeat(10_000)]) {
    assert.equal(parse(text).join(""), text);
  }
});

/** What takes minutes to parse in a time that grows with the square: the test would not end. */
const LENGTH = 256 * 1024;
const HOSTILE = [
  "*", "**", "*a ", "_a", "**a*b_", "`", "`` ", "`a", "https://", "https://a.b(", "mailto:a@", "> ", ">", "> \n", "- a\n", "  - a\n", "- ", "1. ",
  "[", "[a", "[a](", "[a](https://a", "[a](https://a(", "[a](https://a.b/)", "~~", "~~a", "# ", "# a\n", "[a](https://a.b/c ",
  "|", "|-", "|-|\n", "a|\n", "a|b\n-|-\n", "-|-\n\n", " -", "\\|", `${"|".repeat(13)}\n`, `${"-|".repeat(12)}\n`,
  "```\n", "``` `\n", "  \n", "\n", "\r", "a", "\u0310",
];

test("no text takes long, or makes more than a thousand elements", () => {
  const count = (nodes) => nodes.reduce((sum, { children }) => sum + (children ? 1 + count(children) : 0), 0);
  for (const part of HOSTILE) {
    const made = count(parse(part.repeat(LENGTH / part.length)));
    assert.ok(made <= 1_200, `${JSON.stringify(part)}: ${made}`);
  }
});
