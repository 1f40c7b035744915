/** The state of the connection: shown at once, and announced to screen readers once steady. */

import { t } from "./language.js";
import { inert } from "./text.js";

/** Milliseconds that a state must last to be announced. */
const STEADY_MS = 2_000;
/** Milliseconds within which changes are announced together. */
const TOGETHER_MS = 250;
/** Milliseconds that a note is shown, and the additional milliseconds for each character. */
const SHOWN_MS = 3_000;
const READ_MS = 60;
/** Attempts that fail before the page looks for the reason. */
const FAILURES = 2;
const PROBE = "static/icon.svg";
const PROBE_TIMEOUT_MS = 5_000;
/** Words of `/health/ready` for a server that cannot store messages (docs/operations.md). */
const STORELESS = ["deaf", "unavailable", "full", "readonly", "misconfigured"];

/** A live region for screen readers, and a visible note for sighted users. */
export class Announcer {
  #node;
  #shown;
  #hiding = null;
  #event = null;
  #state = { timer: null, next: "", said: "" };

  /**
   * @param {Element} node the live region.
   * @param {Element} shown the visible note, which shows each told text for a while.
   */
  constructor(node, shown) {
    this.#node = node;
    this.#shown = shown;
  }

  /** Announce a completed action, and show the text for a while. */
  tell(text) {
    this.say(text);
    showText(this.#shown, text);
    clearTimeout(this.#hiding);
    this.#hiding = setTimeout(() => showText(this.#shown, ""), SHOWN_MS + READ_MS * text.length);
  }

  /** Announce an event; of several events at once only the last. */
  say(text) {
    clearTimeout(this.#event);
    this.#node.textContent = "";
    this.#event = setTimeout(() => {
      this.#node.textContent = text;
    }, TOGETHER_MS);
  }

  /** Announce a state, if the state lasts and was not the last announced one. */
  settle(text) {
    const state = this.#state;
    if (text === state.next) return;
    state.next = text;
    clearTimeout(state.timer);
    if (text === state.said) return;
    state.timer = setTimeout(() => {
      state.said = text;
      this.say(text);
    }, STEADY_MS);
  }

  /** Whether some state was announced. */
  get spoke() {
    return this.#state.said !== "";
  }

  reset() {
    clearTimeout(this.#event);
    clearTimeout(this.#state.timer);
    clearTimeout(this.#hiding);
    this.#state = { timer: null, next: "", said: "" };
    this.#node.textContent = "";
    showText(this.#shown, "");
  }
}

export class ConnectionStatus {
  #pill;
  #retry;
  #trouble;
  #announcer;
  #url;
  #countdown = null;
  /** The client's last report: a state, and the time of the next attempt. */
  #state = "connecting";
  #due = 0;
  #error = null;
  #wasOnline = false;
  #failures = 0;
  #room = null;
  #hasStore = true;
  #network = true;

  /**
   * @param {Element} options.pill shows the state in a word or two.
   * @param {Element} options.retry lets the user try at once.
   * @param {Element} options.trouble says what to look at if no connection comes about.
   * @param {Announcer} options.announcer
   * @param {string} options.url the address of the WebSocket.
   */
  constructor({ pill, retry, trouble, announcer, url }) {
    this.#pill = pill;
    this.#retry = retry;
    this.#trouble = trouble;
    this.#announcer = announcer;
    this.#url = url;
    this.#retry.addEventListener("click", () => {
      // The client takes the event for the end of a freeze, and checks the connection at once.
      document.dispatchEvent(new Event("resume"));
    });
    // `navigator.onLine` alone says nothing: a server on this computer needs no network.
    window.addEventListener("offline", () => this.#networkChanged(false));
    window.addEventListener("online", () => this.#networkChanged(true));
  }

  /** Begin anew, for another sign-in. */
  reset() {
    this.#wasOnline = false;
    this.#room = null;
    this.#announcer.reset();
    this.show("connecting", {});
  }

  /** Show a state of the client, with its details. */
  show(state, { error = null, retryInMs = 0 }) {
    clearInterval(this.#countdown);
    this.#state = state;
    this.#error = error;
    this.#due = performance.now() + retryInMs;
    if (state === "online") this.#wasOnline = true;
    if (state !== "reconnecting") this.#failures = 0;
    else if (retryInMs > 0 && !this.#wasOnline) this.#failures += 1;
    if (this.#failures >= FAILURES) this.#diagnose();
    else showText(this.#trouble, "");
    this.#render();
    this.#announce();
    if (retryInMs > 1000) this.#countdown = setInterval(() => this.#render(), 1000);
  }

  /** Show that a room waits in spite of a connection, and whether for lack of a store; null once the room is open. */
  waitFor(room, hasStore = true) {
    this.#room = room;
    this.#hasStore = hasStore;
    this.#render();
    this.#announce();
  }

  #networkChanged(isThere) {
    this.#network = isThere;
    this.#render();
    this.#announce();
  }

  #render() {
    const waits = this.#state === "online" && (this.#room !== null || !this.#network);
    this.#pill.dataset.state = waits ? "waiting" : this.#state;
    const seconds = (this.#due - performance.now()) / 1000;
    this.#retry.hidden = this.#state !== "reconnecting" || seconds <= 1;
    const text = this.#text;
    if (this.#pill.textContent !== text) this.#pill.textContent = text;
  }

  get #text() {
    if (this.#state === "closed") {
      const reason = this.#error?.message;
      return reason ? t("Disconnected: {reason}", { reason: inert(reason) }) : t("Disconnected");
    }
    if (!this.#network) return t("No network");
    if (this.#state === "connecting") return t("Connecting…");
    if (this.#state === "online") {
      if (this.#room === null) return t("Online");
      return this.#hasStore ? t("Waiting for the server") : t("The server has no store");
    }
    const seconds = Math.ceil((this.#due - performance.now()) / 1000);
    const failed = this.#failures >= FAILURES;
    if (seconds <= 1) return failed ? t("Cannot connect, new attempt…") : t("Reconnecting…");
    return t(failed ? "Cannot connect, next attempt in {seconds} s…" : "Reconnecting in {seconds} s…", { seconds });
  }

  #announce() {
    const { spoke } = this.#announcer;
    const texts = {
      connecting: "",
      online: this.#room === null ? spoke && t("Online.") : t("#{room} is not open yet.", { room: this.#room }),
      reconnecting: this.#wasOnline ? t("Connection lost. Reconnecting.") : t("Cannot connect yet."),
      closed: `${this.#text}.`,
    };
    const isAway = !this.#network && this.#state !== "closed";
    this.#announcer.settle(isAway ? t("No network.") : texts[this.#state] || "");
  }

  /** Show why no connection was ever made, as far as a page can find out. */
  async #diagnose() {
    const state = this.#state;
    const error = this.#error;
    let reachable = true;
    try {
      await fetch(PROBE, { cache: "no-store", signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) });
    } catch {
      reachable = false;
    }
    if (this.#state !== state || this.#failures < FAILURES) return;
    const { origin } = location;
    const ended = t("The last attempt ended with: {reason}.", { reason: inert(error?.message ?? "") });
    const end = error?.message ? ` ${ended}` : "";
    const hint = reachable
      ? t("{origin} answers, but no WebSocket to {url} can be opened. Whoever runs the server should look at two things: a proxy in front of it must pass on the headers Upgrade, Connection and Host, and the setting http.allowed_origins must list {origin} if the server knows itself by another name.", { origin, url: this.#url })
      : t("{origin} does not answer. The server may be starting, or the network be down.", { origin });
    showText(this.#trouble, hint + end);
  }
}

/** Resolves to whether the server can store messages, as far as it tells. */
export async function hasStore() {
  try {
    const response = await fetch("health/ready", { cache: "no-store", signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) });
    return !STORELESS.includes((await response.json()).status);
  } catch {
    return true;
  }
}

/** Show a text, or hide the node without one; an unchanged text is not read out again. */
export function showText(node, text) {
  if (node.textContent !== text) node.textContent = text;
  node.hidden = text === "";
}
