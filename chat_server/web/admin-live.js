/** One topic, live: the operator's own token must allow to subscribe. */

import { $, button } from "./admin-view.js";
import { ChatClient } from "./client.js";
import { dataForm, element, nameNode } from "./text.js";

const LAST = 20;
/** Events shown; in a busy topic more come and go within a frame. */
const MAX_ROWS = 100;
/** Characters beyond which a text is cut, with a button for the rest. */
const MAX_TEXT = 1_000;
const STATES = {
  connecting: "Connecting…",
  online: "Live.",
  reconnecting: "The connection is lost. Trying again…",
};

export class Live {
  #api;
  #client = null;
  #waiting = [];

  constructor(api) {
    this.#api = api;
    $("live-stop").onclick = () => this.stop();
  }

  watch(topic) {
    this.stop();
    $("live").hidden = false;
    $("live-topic").replaceChildren(nameNode(topic));
    $("live-log").replaceChildren();
    const url = new URL("ws", document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    const tell = (text) => ($("live-state").textContent = text);
    const client = (this.#client = new ChatClient({
      url: url.href,
      token: this.#api.token,
      onState: (state, { error }) => tell(STATES[state] ?? `Ended: ${error?.message ?? "closed"}.`),
    }));
    client.subscribe(topic, {
      last: LAST,
      onEvent: (event) => this.#add(client, event),
      onError: (error) => {
        if (client !== this.#client) return;
        client.close();
        tell(`Ended: ${error.message}.`);
      },
    });
    $("live-log").focus();
  }

  stop() {
    const client = this.#client;
    this.#client = null;
    this.#waiting = [];
    client?.close();
    $("live").hidden = true;
  }

  #add(client, event) {
    if (client !== this.#client) return;
    if (this.#waiting.push(event) === 1) requestAnimationFrame(() => this.#show());
    // A busy topic shows its newest events; a hidden tab has no frames.
    if (this.#waiting.length > MAX_ROWS) this.#waiting.shift();
  }

  #show() {
    const log = $("live-log");
    const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    log.append(...this.#waiting.map(row));
    this.#waiting = [];
    while (log.childElementCount > MAX_ROWS) log.firstElementChild.remove();
    if (isAtEnd) log.scrollTop = log.scrollHeight;
  }
}

function row({ type, topic, at, from, seq, data, ...rest }) {
  const item = element("li", "");
  const time = at ? new Date(at).toLocaleTimeString() : "";
  item.append(element("span", "hint", `${time} ${seq ? `#${seq}` : ""} ${type}`));
  if (from) item.append(nameNode(from.name ?? from.user));
  const text = data ?? (Object.keys(rest).length ? rest : null);
  if (text !== null) item.append(...textNodes(dataForm(text).text));
  return item;
}

/** Return nodes for a text with its markup unchanged, because operators need the raw text. */
function textNodes(text) {
  const place = element("p", "text", text.slice(0, MAX_TEXT));
  place.dir = "auto";
  if (text.length <= MAX_TEXT) return [place];
  place.append("…");
  const more = button(`Show all ${text.length.toLocaleString()} characters`, () => {
    place.textContent = text;
    more.remove();
  });
  return [place, more];
}
