/** Translates the page's texts, which are English in the modules and in index.html. */

const LANGUAGES = ["en", "de"];
const ATTRIBUTES = ["aria-label", "placeholder"];

const tag = navigator.languages.find((name) => LANGUAGES.includes(languageOf(name)));
let table = {};

if (tag && languageOf(tag) !== "en") await translate(languageOf(tag));

/** For `Intl`: the browser's own form of the page's language, or the first that it has. */
export const locale = tag;

/** Return a text in the language of the page, with values in place of the names in braces. */
export function t(text, values = {}) {
  return parts(text, values).join("");
}

/** Return a text in the language of the page as an array, with nodes in place of the names in braces. */
export function parts(text, nodes) {
  return (table[text] ?? text).split(/\{(\w+)\}/).map((part, index) => (index % 2 ? nodes[part] : part));
}

function languageOf(name) {
  return name.slice(0, 2).toLowerCase();
}

/** Load a language, and translate index.html; without a language file the page stays English. */
async function translate(language) {
  try {
    ({ texts: table } = await import(`./language-${language}.js`));
  } catch {
    return;
  }
  document.documentElement.lang = language;
  const walker = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const translated = table[node.data.trim().replace(/\s+/g, " ")];
    if (translated) node.data = node.data.replace(/\S(?:.*\S)?/s, () => translated);
  }
  for (const name of ATTRIBUTES) {
    for (const element of document.querySelectorAll(`[${name}]`)) {
      element.setAttribute(name, t(element.getAttribute(name)));
    }
  }
}
