/** Searches the archive, on servers with an archive; a hit leads to its message. */

import { isRoom, permalink, roomOf } from "./address.js";
import { locale, t } from "./language.js";
import { showText } from "./status.js";
import { plainText } from "./text-view.js";
import { element, inert, nameNode, visibleName } from "./text.js";
import { words } from "./words.js";

const WORDS = {
  unavailable: t("The server cannot search at the moment."),
  rate_limited: t("There were too many searches. Try again in a while."),
  connection_lost: t("The server does not answer."),
};
/** The separator of a text's pieces: a Unicode noncharacter, without any other use. */
const EDGE = "\ufdd0";
const PAUSE_MS = 300;
const TIMEOUT_MS = 15_000;
const dateFormat = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });

const $ = (id) => document.getElementById(id);

/** Whether the server has a searchable archive. */
const hasSearch = document.documentElement.dataset.search === "on";

export class Search {
  #onGo;
  #token = null;
  #timer = null;
  #abort = null;
  #before = null;

  /** @param {function} onGo called with the room and the `seq` of a chosen hit. */
  constructor(onGo) {
    this.#onGo = onGo;
    $("search-button").hidden = !hasSearch;
    if (!hasSearch) return;
    $("search-button").addEventListener("click", () => this.open());
    $("search-close").addEventListener("click", () => $("search").close());
    $("search-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#begin();
    });
    $("search-words").addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#begin(), PAUSE_MS);
    });
    $("search-more").addEventListener("click", () => this.#ask(this.#before));
    $("search-words").addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.isComposing) return;
      // By itself the browser would only empty the field.
      event.preventDefault();
      $("search").close();
    });
    $("search").addEventListener("close", () => this.#stop());
  }

  /**
   * Search for the signed-in user from now on.
   *
   * @param {string | function | null} token a token, or a function that returns a fresh one; null for no user.
   */
  use(token) {
    this.#token = token;
    $("search").close();
    $("search-words").value = "";
    this.#clear();
  }

  open() {
    if (!hasSearch || this.#token === null) return;
    $("search").showModal();
    $("search-words").select();
  }

  #begin() {
    clearTimeout(this.#timer);
    this.#clear();
    if ($("search-words").value.trim()) this.#ask(null);
    else this.#stop();
  }

  #clear() {
    $("search-hits").replaceChildren();
    $("search-more").hidden = true;
    showText($("search-note"), "");
  }

  #stop() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#abort = null;
  }

  /** Ask for the newest hits, or for hits before a given one; only the last question is answered. */
  async #ask(before) {
    this.#stop();
    const abort = (this.#abort = new AbortController());
    $("search-more").hidden = true;
    try {
      const answer = await this.#fetch(before, AbortSignal.any([abort.signal, AbortSignal.timeout(TIMEOUT_MS)]));
      if (this.#abort === abort) this.#show(answer);
    } catch (error) {
      if (this.#abort !== abort) return;
      showText($("search-note"), t("The search failed. {reason}", { reason: WORDS[error.code] ?? words(error) }));
    }
  }

  async #fetch(before, signal) {
    const query = new URLSearchParams({ q: $("search-words").value.trim().slice(0, 256) });
    if (before !== null) query.set("before", before);
    const token = typeof this.#token === "function" ? await this.#token() : this.#token;
    const headers = { Authorization: `Bearer ${token}` };
    const response = await fetch(`api/search?${query}`, { headers, signal, cache: "no-store" }).catch(() => {
      throw Object.assign(new Error("no answer"), { code: "connection_lost" });
    });
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    throw Object.assign(new Error(answer.detail ?? ""), { code: answer.code ?? "internal" });
  }

  #show({ hits, before }) {
    const rows = hits.filter(({ message }) => isRoom(roomOf(message.topic) ?? "")).map((hit) => this.#row(hit));
    $("search-hits").append(...rows);
    this.#before = before;
    $("search-more").hidden = before === null;
    const count = $("search-hits").children.length;
    const found = t(count === 1 ? "1 message" : "{count} messages", { count });
    const told = before === null ? found : t("{found} so far", { found });
    showText($("search-note"), count === 0 ? t("Nothing was found.") : told);
  }

  #row({ message, snippet }) {
    const { topic, seq, at, from } = message;
    const room = roomOf(topic);
    const row = element("li", "");
    const link = element("a", "hit");
    link.href = permalink(room, seq);
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      $("search").close();
      this.#onGo(room, seq);
    });
    const head = element("span", "head");
    const sender = from ? nameNode(visibleName(from.name, from.user), "sender") : t("Server");
    head.append(sender, " ", element("span", "time", `#${inert(room)}, ${dateFormat.format(at)}`));
    const text = element("span", "snippet");
    text.dir = "auto";
    text.append(...unmarked(snippet).map((piece, index) => (index % 2 ? element("mark", "", piece) : piece)));
    link.append(head, " ", text);
    row.append(link);
    return row;
  }
}

/** Return the pieces of a snippet without markup; every second piece matches the search. */
function unmarked(snippet) {
  const whole = snippet.map((piece) => piece.replaceAll(EDGE, "")).join(EDGE);
  return plainText(whole).split(EDGE);
}
