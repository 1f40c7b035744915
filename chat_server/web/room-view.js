/** The room that is open: what the page shows of it, and what is read by that. */

import { permalink } from "./address.js";
import { t } from "./language.js";
import { MessageActions, isEditable } from "./message-actions.js";
import { MessageRow } from "./message-row.js";
import { PeopleView } from "./people-view.js";
import { hasStore, showText } from "./status.js";
import { Timeline } from "./timeline.js";
import { allowed, mayModerate } from "./token.js";
import { reasonOf, words } from "./words.js";

/** A room that is not open after so long is being waited for. */
const PATIENCE_MS = 2_000;
/** Messages that are seen for so long are read; while more come that is told once in so long. */
const READ_MS = 500;
const READ_AGAIN_MS = 1_000;
const NOBODY = t("Nobody has written here yet. Be the first.");
const NEW_ONLY = t("You are not allowed to read what was written before. New messages appear here.");

const $ = (id) => document.getElementById(id);

export class RoomView {
  #user = null;
  #token = null;
  #room = null;
  #online = false;
  #patience = null;
  #reading = null;
  /** When it was last told what is read, on the clock of `performance`. */
  #readAt = -READ_AGAIN_MS;
  /** The `seq` of the message that the address names, until it is shown. */
  #target = null;
  /** What became of what is new in a room that was opened before it was counted: "awaited", "sought", or null. */
  #news = null;
  /** What is to be said of the room that is open. */
  #note = "";
  #outbox;
  #status;
  #actions;
  #people = new PeopleView();
  #timeline = new Timeline({
    region: $("history"),
    log: $("log"),
    outbox: $("outbox"),
    scroller: $("scroller"),
    newer: $("newer"),
    empty: $("empty"),
    makeRow: (message, own) => {
      return new MessageRow(message, own, permalink(this.#room.name, message.seq), this.#actions, this.#room.people);
    },
    onHole: (hole, edge, again) => this.#room.state === "open" && this.#room.load(hole, edge, again),
    onSettled: () => this.#readSoon(),
  });

  /**
   * @param {Outbox} options.outbox
   * @param {ConnectionStatus} options.status
   * @param {function} options.onReply called with the quote that an answer begins with.
   * @param {function} options.onEdit called with what is to be written anew: `{seq, epoch, data}`.
   * @param {function} options.onError called with a sentence on what did not work.
   * @param {function} options.onDone called with a sentence on what was done.
   */
  constructor({ outbox, status, onReply, onEdit, onError, onDone }) {
    this.#actions = new MessageActions({
      room: () => this.#room,
      onReply,
      onEdit: (message) => onEdit(this.#editOf(message)),
      onError,
      onDone,
    });
    this.#outbox = outbox;
    this.#status = status;
    document.addEventListener("visibilitychange", () => this.#readSoon());
  }

  /** The name of the room, or null. */
  get room() {
    return this.#room?.name ?? null;
  }

  /** Begin for a user who has signed in, with no room open yet; null for nobody. */
  use(user, token) {
    this.#user = user;
    this.#token = token;
    this.#leave();
    this.#room = this.#target = null;
    this.#online = false;
    clearTimeout(this.#patience);
    this.#actions.use(user, token !== null && mayModerate(token));
    this.#timeline.show(null, user);
    this.#people.show(null, user);
    this.#outbox.show(user, null);
  }

  /**
   * Show a room, at the message `seq` if one is given, else at what is new in it.
   *
   * Returns false if the room is shown already.
   */
  open(room, seq = null) {
    const isOther = room !== this.#room;
    this.#target = seq;
    this.#note = "";
    if (isOther) {
      this.#leave();
      this.#room = room;
      if (room.unread === 0) room.log.setMark(null);
      else if (room.read > 0) room.log.setMark(room.read);
      this.#timeline.setBusy(true);
      this.#timeline.explain("");
      this.#people.show(room, this.#user);
      this.#outbox.show(this.#user, room.name);
      this.#timeline.show(room.log, this.#user);
      if (room.log.mark) this.#timeline.goTo(room.log.mark);
      this.#news = room.read === null ? "awaited" : null;
      this.#status.waitFor(null);
      this.#waitForRoom();
    }
    this.changed(room);
    this.#goToTarget();
    return isOther;
  }

  /** What comes into a room that is not shown any more is unread. */
  #leave() {
    const room = this.#room;
    this.#room = null;
    clearTimeout(this.#reading);
    this.#reading = null;
    room?.see(false);
  }

  /** Note whether there is a connection. */
  connected(state) {
    this.#online = state === "online";
    if (this.#online) this.#waitForRoom();
    else clearTimeout(this.#patience);
    if (state === "reconnecting") this.#timeline.setBusy(true);
  }

  /** Note that a room is in another state. */
  changed(room) {
    if (room !== this.#room) return;
    this.#people.render();
    this.#showNames();
    if (room.state === "opening") return;
    clearTimeout(this.#patience);
    this.#status.waitFor(null);
    // What is wrong with a name that is being written stays until that is left.
    if (!$("room").hasAttribute("aria-invalid")) {
      showText($("room-error"), room.state === "refused" ? this.#refusal(room) : this.#note);
    }
    const isLoading = room.state === "open" && room.log.holes().some(({ state }) => state !== "failed");
    const isEmpty = room.log.entries.length === 0;
    // What is replayed comes right behind the answer.
    if (!isLoading || !isEmpty) setTimeout(() => room === this.#room && this.#timeline.setBusy(false), 100);
    this.#timeline.explain(room.state === "open" ? (room.mayLookBack ? NOBODY : NEW_ONLY) : "");
    this.#goToTarget();
    this.#goToNews();
    this.#readSoon();
  }

  /** Take an event of a room, which is in its log by now. */
  receive(room, event) {
    const isHere = room === this.#room;
    if (isHere) {
      this.#people.render();
      this.#showNames();
    }
    if (event.type === "message") {
      if (isHere) this.#outbox.settleUpTo(event.seq);
      if (event.from?.user === this.#user) return;
      if (isHere) this.#timeline.countNews();
      // What comes while nobody looks is new when they come back.
      const isUnseen = !isHere || document.hidden;
      if (isUnseen && room.read > 0 && room.log.mark === null) room.log.setMark(room.read);
    } else if (event.type === "gap" && isHere) {
      this.#outbox.settleUpTo(event.before - 1);
    }
  }

  #showNames() {
    if (this.#room.hasNames) this.#timeline.showNames();
    this.#room.hasNames = false;
  }

  /** Show the end, where what is written now appears. */
  scrollToEnd() {
    this.#room.log.setMark(null);
    this.#news = null;
    this.#timeline.scrollToEnd();
  }

  /** Return the newest message of the user that can be written anew, as `{seq, epoch, data}`, or null. */
  get lastEdit() {
    const own = this.#room?.log.entries.findLast(({ kind, message }) => {
      return kind === "message" && message.from?.user === this.#user && isEditable(message);
    });
    return own && this.#room.epochOf(own.message) !== null ? this.#editOf(own.message) : null;
  }

  /** Return a message as one who writes it anew begins: with what it will say, if a change waits. */
  #editOf(message) {
    const { seq, data } = message;
    return { seq, epoch: this.#room.epochOf(message), data: this.#room.changes.of(seq)?.data ?? data };
  }

  /** Take the answer to a message of the outbox: its event has come already, or comes next. */
  stored(message, { seq, at }) {
    const { user, room, text } = message;
    const isHere = user === this.#user && room === this.room;
    const awaited = isHere && this.#room.position?.seq < seq;
    this.#outbox.sent(message, seq, awaited);
    // Who may not read here, or began to listen behind it, still sees what they wrote.
    if (isHere && !awaited) this.#room.log.add({ seq, at, from: { user }, data: { text } });
  }

  #refusal({ name, error }) {
    const why = reasonOf(error) || ` ${allowed(this.#token)}`;
    const forbidden = `${t("You are not allowed to read here.")}${why}`;
    return `#${name}: ${error.code === "forbidden" ? forbidden : words(error)}`;
  }

  /** Say so if the room is not open in a while, though there is a connection. */
  #waitForRoom() {
    clearTimeout(this.#patience);
    const room = this.#room;
    if (!this.#online || room === null) return;
    const isWaiting = () => this.#online && this.#room === room && room.state === "opening";
    this.#patience = setTimeout(async () => {
      if (!isWaiting()) return;
      const isThere = await hasStore();
      if (!isWaiting()) return;
      this.#status.waitFor(room.name, isThere);
      this.#timeline.explain(t(isThere
        ? "The server cannot open #{room} at the moment. Trying again…"
        : "The server cannot reach its store, so it can neither open #{room} nor keep messages. What you write waits here.",
      { room: room.name }));
      // The server itself may find out later.
      if (isThere) this.#waitForRoom();
    }, PATIENCE_MS);
  }

  /** Show the message that the address names, once the room is open. */
  async #goToTarget() {
    const [room, seq] = [this.#room, this.#target];
    if (seq === null || room.state !== "open") return;
    this.#target = null;
    const entry = await room.find(seq);
    if (this.#room !== room) return;
    if (!entry) {
      this.#note = t("#{room}: The message of this link cannot be shown.", { room: room.name });
      this.changed(room);
      return;
    }
    const node = this.#timeline.goTo(entry);
    node.classList.add("target");
    node.addEventListener("animationend", () => node.classList.remove("target"), { once: true });
  }

  /** Show where the user left the room, once that is known and the newest messages are there. */
  async #goToNews() {
    const room = this.#room;
    const isLoading = room.log.holes().some(({ state }) => state === "loading");
    if (this.#news !== "awaited" || this.#target !== null || room.read === null || isLoading) return;
    this.#news = "sought";
    const isNew = room.read > 0 && room.hasNews && room.log.mark === null;
    if (isNew) room.log.setMark(room.read);
    // Whoever follows a link, or has looked further up, stays there.
    if (isNew && this.#timeline.isAtEnd) {
      await room.find(room.read);
      if (this.#room !== room || this.#news === null) return;
      if (room.log.mark && this.#timeline.isAtEnd) this.#timeline.goToMark(room.log.mark);
    }
    this.#news = null;
    this.#readSoon();
  }

  /** Take as read what is seen at the end of the room for a moment, also of what never ceases to grow. */
  #readSoon() {
    const wait = Math.max(READ_MS, this.#readAt + READ_AGAIN_MS - performance.now());
    this.#reading ??= setTimeout(() => {
      // What this itself changes is no reason to look again.
      if (this.#isSeen && this.#news === null && this.#room?.markRead()) this.#readAt = performance.now();
      this.#reading = null;
    }, wait);
    this.#room?.see(this.#isSeen);
  }

  get #isSeen() {
    return !document.hidden && this.#timeline.isAtEnd;
  }
}
