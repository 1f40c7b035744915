/** The chat page: sign in, join a room, read, write. */

import { Account } from "./account.js";
import { isRoom, isToken, showAddress, takeFragment, topicOf, webSocketUrl } from "./address.js";
import { ChatClient, isChange } from "./client.js";
import { ask } from "./dialog.js";
import { MessageList } from "./messages.js";
import { Outbox } from "./outbox.js";
import { SignInForm } from "./sign-in-form.js";
import { Announcer, ConnectionStatus, showText } from "./status.js";
import { openStorage } from "./storage.js";
import { inert, isolated, nameNode } from "./text.js";
import { allowed, isExpired, nameOf, userOf } from "./token.js";

const LAST = 50;
const DEFAULT_ROOM = "lobby";
/** A room that is not open after so long is being waited for. */
const PATIENCE_MS = 2_000;
const LACK =
  "This browser has no more space for the page: what you have not sent, or your sign-in, will be gone after a reload.";

const WORDS = {
  bad_request: "The server did not understand this.",
  unauthorized: "Your sign-in has expired or is not valid.",
  forbidden: "You are not allowed to do this.",
  too_large: "The message is too long.",
  too_many_topics: "You are in too many rooms.",
  rate_limited: "You are writing too fast. It will be sent in a moment.",
  unavailable: "The server cannot store messages now. It will be sent as soon as it can.",
  internal: "Something went wrong on the server.",
  closed: "You were signed out first.",
  outbox_full: "Too many messages wait to be sent.",
};

const $ = (id) => document.getElementById(id);

class ChatPage {
  /** What one sign-in is told from another by: a client that was left has nothing more to say. */
  #visit = null;
  #client = null;
  #subscription = null;
  #user = null;
  #room = null;
  #online = false;
  #patience = null;
  #session;
  #texts;
  #url = webSocketUrl();
  #announcer = new Announcer($("announcer"));
  #status = new ConnectionStatus({
    pill: $("state"),
    trouble: $("trouble"),
    announcer: this.#announcer,
    url: this.#url,
  });
  #list = new MessageList({
    region: $("history"),
    log: $("log"),
    outbox: $("outbox"),
    scroller: $("scroller"),
    newer: $("newer"),
    empty: $("empty"),
  });
  #outbox;
  #account = new Account((reason) => this.#signOut(reason));
  #form = new SignInForm(this.#account, (token) => this.#enterAccount(token));

  constructor() {
    const { session, texts } = openStorage((lacking) => showText($("lack"), lacking ? LACK : ""));
    this.#session = session;
    this.#texts = texts;
    this.#outbox = new Outbox({
      texts,
      list: $("outbox"),
      composer: $("text"),
      elsewhere: $("elsewhere"),
      retry: (message) => this.#publish(message),
      open: (room) => this.#go(room),
    });
    $("sign-in-form").addEventListener("submit", (event) => this.#submitToken(event));
    $("room-form").addEventListener("submit", (event) => this.#submitRoom(event));
    $("room").addEventListener("input", () => this.#roomEdited());
    $("room").addEventListener("keydown", (event) => this.#roomKeyPressed(event));
    $("room").addEventListener("blur", () => setTimeout(() => this.#roomLeft(), 200));
    $("composer").addEventListener("submit", (event) => this.#submitMessage(event));
    $("text").addEventListener("keydown", (event) => this.#keyPressed(event));
    $("text").addEventListener("input", () => this.#draftChanged());
    $("sign-out").addEventListener("click", () => this.#leave());
    window.addEventListener("hashchange", () => this.#navigated());
    window.addEventListener("beforeunload", (event) => {
      // Of somebody else who was here before, this one could not send it.
      const unsent = texts.unsent(this.#user ?? undefined).some(({ seq }) => seq === null);
      if (unsent) event.preventDefault();
    });
    this.#navigated();
  }

  // Signing in -----------------------------------------------------------------------------------

  /** Follow the address: a room, or a link that signs somebody in. */
  async #navigated() {
    const { token, room, invitation } = takeFragment();
    if (token !== null && this.#session.token === null && this.#account.mayResume) await this.#resume();
    const standing = this.#session.token;
    const isOver = standing === null || (this.#session.accountToken === null && isExpired(standing));
    if (token !== null && token !== standing && !isOver) {
      if (this.#visit === null) this.#signIn();
      else showAddress(this.#room);
      this.#askToSwitch(token, room);
    } else if (token !== null && (token !== standing || this.#visit === null)) {
      this.#enter(token, room);
    } else {
      this.#enterRoom(room);
    }
    if (invitation !== null) this.#form.invite(invitation);
  }

  #enterRoom(room) {
    if (this.#visit !== null) {
      this.#join(room ?? this.#room);
      $("text").focus();
      return;
    }
    if (room !== null) this.#session.room = room;
    if (this.#session.token !== null) this.#signIn();
    else if (this.#account.mayResume) this.#resume();
    else this.#signOut("");
  }

  /** Go on with the sign-in of this browser, as soon as the server can be asked. */
  async #resume() {
    $("sign-in").hidden = false;
    for (let wait = 500; this.#visit === null && this.#session.token === null; wait *= 2) {
      try {
        const token = await this.#account.resume();
        if (this.#visit !== null) return;
        if (token !== null) this.#enterAccount(token);
        else this.#signOut(this.#form.advice);
        return;
      } catch (error) {
        this.#form.wait(error);
        await new Promise((resume) => setTimeout(resume, Math.min(wait, PATIENT_MS)));
      }
    }
  }

  #enterAccount(token) {
    this.#session.token = null;
    this.#session.accountToken = token;
    this.#signIn();
  }

  #enter(token, room) {
    this.#session.token = token;
    if (room !== null) this.#session.room = room;
    this.#signIn();
  }

  /** Whoever made the link may want this user to write under another name without noticing. */
  async #askToSwitch(token, room) {
    const [standing, other] = [this.#session.token, token].map(nameOf);
    const yes = await ask({
      question: ["This link signs you in as ", nameNode(other), ". Now you are signed in as ",
        nameNode(standing), "."],
      no: ["Stay ", nameNode(standing)],
      yes: ["Sign in as ", nameNode(other)],
    });
    if (yes) this.#enter(token, room);
  }

  #signIn() {
    const visit = (this.#visit = {});
    this.#client?.close();
    this.#subscription = null;
    this.#online = false;
    $("sign-in").hidden = true;
    $("chat").hidden = false;
    this.#status.reset();
    const { token } = this.#session;
    this.#user = userOf(token);
    this.#client = new ChatClient({
      url: this.#url,
      token: this.#session.accountToken === null ? token : () => this.#account.token(),
      onState: (state, details) => {
        if (details.error?.code === "unauthorized") this.#account.distrust();
        if (this.#visit === visit) this.#showState(state, details);
      },
    });
    const name = nameOf(token);
    $("me").textContent = inert(name);
    $("me").title = inert(this.#user);
    $("text").placeholder = `Write a message as ${isolated(name)}`;
    this.#room = null;
    this.#join(this.#session.room ?? DEFAULT_ROOM);
    $("text").focus();
  }

  /** Sign out because the user wants to, who is asked first if something would be lost. */
  async #leave() {
    const user = this.#user;
    const messages = this.#texts.unsent(user).filter(({ seq }) => seq === null).length;
    const count = messages + this.#texts.drafts(user);
    if (count > 0) {
      const yes = await ask({
        question: [`${count === 1 ? "A message is" : `${count} messages are`} not sent yet.`],
        no: ["Stay"],
        yes: ["Delete and sign out"],
      });
      if (!yes || this.#user !== user) return;
    }
    this.#texts.forget(user);
    const isAccount = this.#session.accountToken !== null;
    this.#signOut("");
    if (isAccount && !(await this.#account.logOut()) && this.#visit === null) {
      showText($("sign-in-error"), NOT_TOLD);
    }
  }

  /** Show the form to sign in; what the user has written is kept for when they come back. */
  #signOut(reason) {
    const user = this.#user;
    this.#visit = this.#user = this.#room = null;
    this.#client?.close();
    this.#client = this.#subscription = null;
    this.#session.token = null;
    clearTimeout(this.#patience);
    this.#status.reset();
    this.#list.reset(null);
    this.#outbox.show(null, null);
    $("text").value = "";
    $("chat").hidden = true;
    $("sign-in").hidden = false;
    // What still waits to be sent is known to be unsent a moment later.
    const kept = user !== null && (this.#texts.unsent(user).length || this.#texts.drafts(user));
    const advice = `What you have not sent is kept: sign in as ${isolated(user)} again.`;
    showText($("sign-in-error"), kept ? `${reason} ${advice}` : reason);
    document.title = "Sign in";
    this.#form.focus();
  }

  #submitToken(event) {
    event.preventDefault();
    const token = $("token").value.replace(/\s/g, "");
    if (!isToken(token)) {
      showText($("sign-in-error"), "This is not a token: it has three parts with dots between.");
      return;
    }
    $("token").value = "";
    this.#enter(token, null);
  }

  // The room -------------------------------------------------------------------------------------

  /** Join a room, so that the browser's Back leads to the one before. */
  #go(room) {
    showAddress(room, true);
    this.#join(room);
    $("text").focus();
  }

  #join(room) {
    showAddress(room);
    showText($("room-error"), "");
    $("room").value = room;
    $("join").hidden = true;
    if (room === this.#room && this.#subscription !== null) return;
    if (this.#subscription) this.#client.unsubscribe(this.#subscription);
    this.#room = this.#session.room = room;
    document.title = $("heading").textContent = `#${room}`;
    showText($("composer-error"), "");
    this.#list.reset(this.#user);
    this.#list.explain("");
    this.#outbox.show(this.#user, room);
    $("text").value = this.#texts.draft(this.#user, room);
    fitText();
    this.#list.scrollToEnd();
    this.#status.waitFor(null);
    this.#subscribe(LAST);
    this.#waitForRoom();
  }

  #subscribe(last) {
    const room = this.#room;
    const subscription = this.#client.subscribe(this.#topic, {
      last,
      onEvent: (event) => this.#receive(event),
      // What is replayed comes right behind the answer.
      onReady: () => setTimeout(() => {
        if (this.#subscription === subscription) this.#opened(last);
      }, 100),
      onError: (error) => {
        if (this.#subscription === subscription) this.#refused(room, last, error);
      },
    });
    this.#subscription = subscription;
  }

  #opened(last) {
    clearTimeout(this.#patience);
    this.#status.waitFor(null);
    this.#list.ready();
    this.#list.explain(last ? "Nobody has written here yet. Be the first." : NEW_ONLY);
  }

  #refused(room, last, error) {
    this.#subscription = null;
    if (error.code === "forbidden" && last) {
      // The token may allow to listen, though not to look back.
      this.#subscribe(undefined);
      return;
    }
    clearTimeout(this.#patience);
    this.#status.waitFor(null);
    this.#list.ready();
    this.#list.explain("");
    const forbidden = `You are not allowed to read here. ${allowed(this.#session.token)}`;
    const reason = error.code === "forbidden" ? forbidden : words(error);
    showText($("room-error"), `#${room}: ${reason}`);
  }

  /** Say so if the room is not open in a while, though there is a connection. */
  #waitForRoom() {
    clearTimeout(this.#patience);
    const subscription = this.#subscription;
    if (!this.#online || subscription === null) return;
    this.#patience = setTimeout(() => {
      if (this.#subscription !== subscription) return;
      this.#status.waitFor(this.#room);
      this.#list.explain(`The server cannot open #${this.#room} at the moment. Trying again…`);
    }, PATIENCE_MS);
  }

  get #topic() {
    return topicOf(this.#room);
  }

  #submitRoom(event) {
    event.preventDefault();
    const room = $("room").value.trim().replace(/^#/, "").replace(/\s+/g, "-");
    if (!isRoom(room)) {
      showText($("room-error"), "A room's name has letters, digits and . _ ~ @ - only.");
    } else {
      this.#go(room);
    }
  }

  #roomEdited() {
    $("join").hidden = $("room").value.trim() === this.#room;
  }

  #roomKeyPressed(event) {
    if (event.key !== "Escape" || event.isComposing) return;
    this.#join(this.#room);
    $("text").focus();
  }

  #roomLeft() {
    if (document.activeElement?.form === $("room-form") || this.#room === null) return;
    if ($("room").value !== this.#room) this.#join(this.#room);
  }

  #receive(event) {
    if (event.type === "message") {
      this.#outbox.settleUpTo(event.seq);
      this.#list.add(event);
    } else if (event.type === "gap") {
      this.#outbox.settleUpTo(event.before - 1);
      this.#list.addGap(event, event.after === 0);
      this.#fill(event);
    } else if (isChange(event)) {
      this.#list.change(event);
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

  #draftChanged() {
    showText($("composer-error"), "");
    this.#texts.setDraft(this.#user, this.#room, $("text").value);
    fitText();
  }

  #submitMessage(event) {
    event.preventDefault();
    const text = $("text").value.trim();
    if (!text) return;
    const message = this.#outbox.add(text);
    if (message === null) {
      showText($("composer-error"), "Too many messages are not sent yet. This one stays here.");
      return;
    }
    $("text").value = "";
    this.#draftChanged();
    this.#list.scrollToEnd();
    this.#publish(message);
  }

  /** Send a message; it stays in the outbox until it is stored, or the user deletes it. */
  async #publish(message) {
    const client = this.#client;
    this.#outbox.update(message, "sending", "Sending…");
    try {
      const stored = await client.publish(topicOf(message.room), { text: message.text }, {
        key: message.key,
        onDelay: (error) => {
          if (this.#outbox.has(message)) this.#outbox.update(message, "sending", words(error));
        },
      });
      this.#published(message, stored);
    } catch (error) {
      this.#notPublished(message, error);
      if (error.code === "unauthorized" && this.#client === client) this.#signOut(signInWords(error));
    }
  }

  #published(message, { seq, at }) {
    const isHere = message.user === this.#user && message.room === this.#room;
    // Its event has come already, or comes next.
    const awaited = isHere && this.#subscription?.position?.seq < seq;
    this.#outbox.sent(message, seq, awaited);
    if (isHere && !awaited) {
      // Who may not read here, or began to listen behind it, still sees what they wrote.
      this.#list.add({ seq, at, from: { user: message.user }, data: { text: message.text } });
    }
  }

  #notPublished(message, error) {
    if (!this.#outbox.has(message)) return;
    const reason = error.code === "forbidden" ? "You are not allowed to write here." : words(error);
    if (error.mayBeSent) this.#outbox.update(message, "unsure", UNSURE);
    else this.#outbox.update(message, "failed", `Not sent. ${reason}`);
    if (message.user === this.#user) this.#announcer.say(`#${message.room}: ${message.note}`);
  }

  // The connection -------------------------------------------------------------------------------

  #showState(state, details) {
    if (state === "closed" && details.error.code === "unauthorized") {
      this.#signOut(signInWords(details.error));
      return;
    }
    this.#online = state === "online";
    this.#status.show(state, details);
    if (this.#online) this.#waitForRoom();
    else clearTimeout(this.#patience);
    if (state === "reconnecting") this.#list.wait();
  }
}

const NEW_ONLY = "You are not allowed to read what was written before. New messages appear here.";
const NOT_TOLD = "You are signed out here, but the server could not be told: sign out again when it answers.";
const PATIENT_MS = 10_000;
const UNSURE = "This may have been sent: the connection broke before the server answered.";

function words(error) {
  return WORDS[error.code] ?? (error.message ? inert(error.message) : "It did not work.");
}

/** Say that a sign-in is refused, and why: a token may be expired, or wrong in another way. */
function signInWords(error) {
  return error.message ? `${words(error)} (${inert(error.message)})` : words(error);
}

/** Let the text's field grow with what is written, where CSS alone does not. */
function fitText() {
  const field = $("text");
  if (CSS.supports("field-sizing", "content")) return;
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

new ChatPage();
