/** The room that is open: its subscription, and what the page shows of its events. */

import { topicOf } from "./address.js";
import { isChange } from "./client.js";
import { MessageRow } from "./message-row.js";
import { showText } from "./status.js";
import { Timeline } from "./timeline.js";
import { allowed } from "./token.js";
import { words } from "./words.js";

const LAST = 50;
/** A room that is not open after so long is being waited for. */
const PATIENCE_MS = 2_000;
const NOBODY = "Nobody has written here yet. Be the first.";
const NEW_ONLY = "You are not allowed to read what was written before. New messages appear here.";

const $ = (id) => document.getElementById(id);

export class RoomView {
  #client = null;
  #user = null;
  #token = null;
  #room = null;
  #subscription = null;
  #online = false;
  #patience = null;
  #outbox;
  #status;
  #timeline = new Timeline({
    region: $("history"),
    log: $("log"),
    outbox: $("outbox"),
    scroller: $("scroller"),
    newer: $("newer"),
    empty: $("empty"),
    makeRow: (message, own) => new MessageRow(message, own),
  });

  constructor({ outbox, status }) {
    this.#outbox = outbox;
    this.#status = status;
  }

  get room() {
    return this.#room;
  }

  /** Begin for a user who has signed in, with no room open yet; null for nobody. */
  use(client, user, token) {
    this.#client = client;
    this.#user = user;
    this.#token = token;
    this.#room = this.#subscription = null;
    this.#online = false;
    clearTimeout(this.#patience);
    this.#timeline.reset(user);
    this.#outbox.show(user, null);
  }

  /** Show a room; returns false if it is shown already. */
  open(room) {
    if (room === this.#room && this.#subscription !== null) return false;
    if (this.#subscription) this.#client.unsubscribe(this.#subscription);
    this.#room = room;
    this.#timeline.reset(this.#user);
    this.#timeline.explain("");
    this.#outbox.show(this.#user, room);
    this.#timeline.scrollToEnd();
    this.#status.waitFor(null);
    this.#subscribe(LAST);
    this.#waitForRoom();
    return true;
  }

  /** Note whether there is a connection. */
  connected(state) {
    this.#online = state === "online";
    if (this.#online) this.#waitForRoom();
    else clearTimeout(this.#patience);
    if (state === "reconnecting") this.#timeline.wait();
  }

  scrollToEnd() {
    this.#timeline.scrollToEnd();
  }

  /** Take the answer to a message of the outbox: its event has come already, or comes next. */
  stored(message, { seq, at }) {
    const { user, room, text } = message;
    const isHere = user === this.#user && room === this.#room;
    const awaited = isHere && this.#subscription?.position?.seq < seq;
    this.#outbox.sent(message, seq, awaited);
    // Who may not read here, or began to listen behind it, still sees what they wrote.
    if (isHere && !awaited) this.#timeline.add({ seq, at, from: { user }, data: { text } });
  }

  #subscribe(last) {
    const room = this.#room;
    const subscription = this.#client.subscribe(topicOf(room), {
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
    this.#timeline.ready();
    this.#timeline.explain(last ? NOBODY : NEW_ONLY);
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
    this.#timeline.ready();
    this.#timeline.explain("");
    const forbidden = `You are not allowed to read here. ${allowed(this.#token)}`;
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
      this.#timeline.explain(`The server cannot open #${this.#room} at the moment. Trying again…`);
    }, PATIENCE_MS);
  }

  #receive(event) {
    if (event.type === "message") {
      this.#outbox.settleUpTo(event.seq);
      this.#timeline.add(event);
    } else if (event.type === "gap") {
      this.#outbox.settleUpTo(event.before - 1);
      this.#timeline.addGap(event, event.after === 0);
      this.#fill(event);
    } else if (isChange(event)) {
      this.#timeline.change(event);
    }
  }

  /** Show what the server still has of the messages in a gap. */
  async #fill({ before }) {
    if (before <= 1) return;
    const subscription = this.#subscription;
    try {
      const { messages } = await this.#client.history(subscription.topic, { before, limit: LAST });
      if (this.#subscription === subscription) for (const message of messages) this.#timeline.add(message);
    } catch {
      // The gap is shown; the next reconnection tries no more than this did.
    }
  }
}
