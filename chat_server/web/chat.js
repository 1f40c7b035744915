/** The chat page: sign in, join a room, read, write. */

import { ChatClient } from "./client.js";
import { MessageList } from "./messages.js";

const LAST = 50;
const DEFAULT_ROOM = "lobby";
/** What may follow `room:` in a topic (docs/protocol.md, section 1). */
const ROOM = /^[A-Za-z0-9._~@-]+(:[A-Za-z0-9._~@-]+)*$/;
const TOKEN = /^[\w-]+\.[\w-]+\.[\w-]*$/;

const WORDS = {
  bad_request: "The server did not understand this.",
  unauthorized: "Your sign-in has expired or is not valid.",
  forbidden: "You are not allowed to do this.",
  too_large: "The message is too long.",
  too_many_topics: "You are in too many rooms.",
  rate_limited: "You are writing too fast. It will be sent in a moment.",
  unavailable: "The server cannot store messages now. It will be sent as soon as it can.",
  internal: "Something went wrong on the server.",
};

const $ = (id) => document.getElementById(id);

/** What the page knows between two loads: never in the address, and gone with the tab. */
const session = {
  get token() {
    return sessionStorage.getItem("chat.token");
  },
  set token(token) {
    if (token === null) sessionStorage.removeItem("chat.token");
    else sessionStorage.setItem("chat.token", token);
  },
  get room() {
    return sessionStorage.getItem("chat.room") ?? DEFAULT_ROOM;
  },
  set room(room) {
    sessionStorage.setItem("chat.room", room);
  },
};

class ChatPage {
  /** What one sign-in is told from another by: a client that was left has nothing more to say. */
  #visit = null;
  #client = null;
  #subscription = null;
  #room = DEFAULT_ROOM;
  #pending = new Set();
  #countdown = null;
  #list = new MessageList({
    log: $("log"),
    outbox: $("outbox"),
    scroller: $("scroller"),
    newer: $("newer"),
    empty: $("empty"),
  });

  constructor() {
    $("sign-in-form").addEventListener("submit", (event) => this.#submitToken(event));
    $("room-form").addEventListener("submit", (event) => this.#submitRoom(event));
    $("room").addEventListener("input", () => this.#roomEdited());
    $("room").addEventListener("blur", () => setTimeout(() => this.#roomLeft(), 200));
    $("composer").addEventListener("submit", (event) => this.#submitMessage(event));
    $("text").addEventListener("keydown", (event) => this.#keyPressed(event));
    $("text").addEventListener("input", fitText);
    $("sign-out").addEventListener("click", () => this.#signOut(""));
    window.addEventListener("hashchange", () => this.#start());
    window.addEventListener("beforeunload", (event) => {
      if (this.#pending.size > 0) event.preventDefault();
    });
    this.#start();
  }

  // Signing in -----------------------------------------------------------------------------------

  #start() {
    takeFragment();
    if (session.token) this.#signIn();
    else this.#signOut("");
  }

  #signIn() {
    const visit = (this.#visit = {});
    this.#client?.close();
    $("sign-in").hidden = true;
    $("chat").hidden = false;
    const base = new URL("ws", document.baseURI);
    base.protocol = base.protocol.replace("http", "ws");
    base.search = base.hash = "";
    this.#client = new ChatClient({
      url: base.href,
      token: session.token,
      onState: (state, details) => {
        if (this.#visit === visit) this.#showState(state, details);
      },
    });
    const { sub, name } = claims(session.token);
    $("me").textContent = name ?? sub ?? "";
    this.#join(session.room, sub);
  }

  #signOut(reason) {
    this.#visit = null;
    // Who signs out is done; who was signed out goes on with what was not sent.
    const unsent = [...this.#pending].filter(({ seq }) => seq === null).map(({ text }) => text);
    $("text").value = reason ? [...unsent, $("text").value].filter(Boolean).join("\n") : "";
    this.#pending.clear();
    this.#client?.close();
    this.#client = this.#subscription = null;
    session.token = null;
    clearInterval(this.#countdown);
    $("chat").hidden = true;
    $("sign-in").hidden = false;
    showError($("sign-in-error"), reason);
    document.title = "Sign in";
    $("token").focus();
  }

  #submitToken(event) {
    event.preventDefault();
    const token = $("token").value.replace(/\s/g, "");
    if (!TOKEN.test(token)) {
      showError($("sign-in-error"), "This is not a token: it has three parts with dots between.");
      return;
    }
    $("token").value = "";
    session.token = token;
    this.#signIn();
  }

  // The room -------------------------------------------------------------------------------------

  #join(room, user) {
    if (this.#subscription) this.#client.unsubscribe(this.#subscription);
    this.#room = session.room = room;
    $("room").value = room;
    $("join").hidden = true;
    showError($("room-error"), "");
    document.title = `#${room}`;
    history.replaceState(null, "", `#room=${encodeURIComponent(room)}`);
    this.#list.reset(user);
    this.#pending.clear();
    this.#subscription = this.#client.subscribe(this.#topic, {
      last: LAST,
      onEvent: (event) => this.#receive(event),
      // What is replayed comes right behind the answer.
      onReady: () => setTimeout(() => this.#list.ready(), 100),
      onError: (error) => showError($("room-error"), `#${room}: ${words(error)}`),
    });
    $("text").focus();
  }

  get #topic() {
    return `room:${this.#room}`;
  }

  #submitRoom(event) {
    event.preventDefault();
    const room = $("room").value.trim().replace(/^#/, "").replace(/\s+/g, "-");
    if (!ROOM.test(room)) {
      showError($("room-error"), "A room's name has letters, digits and . _ ~ @ - only.");
    } else if (room !== this.#room) {
      this.#join(room, this.#client.user ?? claims(session.token).sub);
    } else {
      this.#roomLeft();
      $("text").focus();
    }
  }

  #roomEdited() {
    $("join").hidden = $("room").value.trim() === this.#room;
  }

  #roomLeft() {
    if (document.activeElement?.form === $("room-form")) return;
    $("room").value = this.#room;
    $("join").hidden = true;
  }

  #receive(event) {
    if (event.type === "message") {
      this.#settleUpTo(event.seq);
      this.#list.add(event);
    } else if (event.type === "gap") {
      this.#settleUpTo(event.before - 1);
      this.#list.addGap(event, event.after === 0);
      this.#fill(event);
    }
  }

  /** Show what the server still has of the messages in a gap. */
  async #fill({ before }) {
    if (before <= 1) return;
    const subscription = this.#subscription;
    try {
      const { messages } = await this.#client.history(this.#topic, { before, limit: LAST });
      if (this.#subscription === subscription) for (const message of messages) this.#list.add(message);
    } catch {
      // The gap is shown; the next reconnection tries no more than this did.
    }
  }

  // Writing --------------------------------------------------------------------------------------

  #keyPressed(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    $("composer").requestSubmit();
  }

  #submitMessage(event) {
    event.preventDefault();
    const text = $("text").value.trim();
    if (!text) return;
    $("text").value = "";
    fitText();
    this.#publish(text);
  }

  async #publish(text) {
    const pending = { text, seq: null, view: this.#list.addPending(text) };
    const subscription = this.#subscription;
    this.#pending.add(pending);
    try {
      const { seq } = await this.#client.publish(this.#topic, { text }, {
        onDelay: (error) => pending.view.explain(words(error)),
      });
      pending.seq = seq;
      // Its event has come already, or comes next.
      if (this.#subscription === subscription && subscription.position?.seq < seq) return;
      this.#settle(pending);
    } catch (error) {
      if (!this.#pending.delete(pending)) return;
      pending.view.fail(`Not sent. ${words(error)}`, () => this.#publish(text));
    }
  }

  #settleUpTo(seq) {
    for (const pending of this.#pending) {
      if (pending.seq !== null && pending.seq <= seq) this.#settle(pending);
    }
  }

  #settle(pending) {
    this.#pending.delete(pending);
    pending.view.remove();
  }

  // The connection -------------------------------------------------------------------------------

  #showState(state, { error, retryInMs }) {
    clearInterval(this.#countdown);
    $("state").dataset.state = state;
    if (state === "connecting") $("state").textContent = "Connecting…";
    else if (state === "online") $("state").textContent = "Online";
    else if (state === "reconnecting") this.#countDown(retryInMs);
    else if (error.code === "unauthorized") this.#signOut(words(error));
    else if (error.message !== "") $("state").textContent = `Disconnected: ${error.message}`;
    else $("state").textContent = "Disconnected";
  }

  #countDown(retryInMs = 0) {
    const due = Date.now() + retryInMs;
    const show = () => {
      const seconds = Math.ceil((due - Date.now()) / 1000);
      $("state").textContent = seconds > 1 ? `Reconnecting in ${seconds} s…` : "Reconnecting…";
    };
    show();
    if (retryInMs > 1000) this.#countdown = setInterval(show, 1000);
  }
}

/** Move a token and a room from the address to the session: the address may be seen by others. */
function takeFragment() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const token = fragment.get("token");
  const room = fragment.get("room");
  if (token && TOKEN.test(token)) session.token = token;
  if (room && ROOM.test(room)) session.room = room;
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
}

/** Read a token's claims without verifying them: what they say is only shown to their bearer. */
function claims(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return {};
  }
}

function words(error) {
  return WORDS[error.code] ?? (error.message || "It did not work.");
}

function showError(node, text) {
  node.textContent = text;
  node.hidden = text === "";
}

/** Let the text's field grow with what is written, where CSS alone does not. */
function fitText() {
  const field = $("text");
  if (CSS.supports("field-sizing", "content")) return;
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

new ChatPage();
