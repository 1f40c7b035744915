/** A room that the user follows: its events as they come, its history as it is asked for, what is unread. */

import { topicOf } from "./address.js";
import { Changes } from "./changes.js";
import { ChatError, changed, isChange } from "./client.js";
import { t } from "./language.js";
import { mentions } from "./mentions.js";
import { People } from "./people.js";
import { RoomLog } from "./room-log.js";
import { dataText, isolated } from "./text.js";
import { words } from "./words.js";

const PAGE = 100;
const FIRST_PAGE = 50;
/** Messages that are shown behind one that an address names. */
const AROUND = 25;
/** Reactions of the user that are remembered: a message names the first ten users of each. */
const MAX_REACTED = 1_000;

const TRANSIENT = new Set(["connection_lost", "unavailable", "rate_limited"]);
const FULL = t("So many messages are loaded that older ones have no space. Search finds them.");

export class Room {
  log = new RoomLog();
  /** What the user changes in it. */
  changes = new Changes(
    (seq) => this.log.show(seq),
    (text, where) => this.#onTell(this, text, where),
  );
  /** "opening", "open", or "refused" with `error`. */
  state = "opening";
  /** Whether somebody has turned out to have a name since the rows were told. */
  hasNames = false;
  error = null;
  /** Whether the token allows to look back; known once it was tried. */
  mayLookBack = true;
  /** Whether the token allows to write; undefined until it is known, at the latest when it was tried. */
  mayWrite;
  /** Up to where the user has read; null before it is known. */
  read = null;
  /** Messages of others behind that, and whether there are more than history has. */
  #unread = 0;
  hasMoreUnread = false;
  /** Whether the user looks at its newest messages: they are about to be read. */
  isSeen = false;
  /** Whether one of them, that came while the page was open, mentions the user. */
  isMentioned = false;
  /** The newest message, if it is known. */
  last = null;
  #client;
  #user;
  #onEvent;
  #onChange;
  #onTell;
  #subscription = null;
  #begun = false;
  #reacted = new Set();
  /** Whether it is asked who is there; not every room tells. */
  #presence = true;

  /**
   * @param {string} name
   * @param {object} options
   * @param {ChatClient} options.client
   * @param {string} options.user who reads.
   * @param {Map} options.names those of users, from all rooms.
   * @param {boolean} [options.mayWrite] what the token says of that; undefined if nothing.
   * @param {function} options.onEvent called with the room and each event of it, once that is in the log.
   * @param {function} options.onChange called with the room when it is in another state, or what is unread
   *   has changed, and with whether it has just been opened.
   * @param {function} [options.onTell] called with the room, and what `Changes` tells.
   */
  constructor(name, { client, user, names, mayWrite, onEvent, onChange, onTell = () => {} }) {
    this.name = name;
    this.topic = topicOf(name);
    this.#client = client;
    this.#user = user;
    this.mayWrite = mayWrite;
    this.#onEvent = onEvent;
    this.#onChange = onChange;
    this.#onTell = onTell;
    this.people = new People(user, () => onChange(this, false), () => (this.hasNames = true), names);
  }

  /** How many messages are to be shown as unread. */
  get unread() {
    return this.isSeen ? 0 : this.#unread;
  }

  /** Whether there are unread messages, though they may be about to be read. */
  get hasNews() {
    return this.#unread > 0;
  }

  /** Where the newest event stands that came, or null. */
  get position() {
    return this.#subscription?.position ?? null;
  }

  /** Subscribe, unless that is so; also again, when the server refused it before. */
  open() {
    if (this.#subscription) return;
    this.state = "opening";
    this.error = null;
    this.#subscribe(undefined);
  }

  #subscribe(since) {
    const subscription = this.#client.subscribe(this.topic, {
      since,
      presence: this.#presence,
      onEvent: (event) => this.#receive(event),
      onReady: () => this.#opened(),
      onError: (error) => {
        if (this.#subscription !== subscription) return;
        this.#subscription = null;
        if (this.#presence && ["forbidden", "bad_request"].includes(error.code)) {
          this.#presence = false;
          this.#subscribe(subscription.position ?? undefined);
          return;
        }
        this.state = "refused";
        this.error = error;
        this.#onChange(this, false);
      },
    });
    this.#subscription = subscription;
  }

  close() {
    if (this.#subscription) this.#client.unsubscribe(this.#subscription);
    this.#subscription = null;
  }

  /**
   * Load a page into a hole of the log.
   *
   * @param {object} hole
   * @param {string} edge "before" loads the newest messages in it, "after" the oldest.
   * @param {boolean} [again] also if the last attempt failed.
   */
  async load(hole, edge, again = false) {
    if (hole.state === "loading" || (hole.state === "failed" && !again)) return;
    if (this.log.isFull && !again) {
      this.log.setHole(hole, "failed", FULL);
      return;
    }
    const isFirst = this.log.entries.every(({ kind }) => kind !== "message");
    const limit = isFirst ? FIRST_PAGE : PAGE;
    await this.#ask(hole, edge === "before" ? { before: hole.before } : { after: hole.after }, limit);
  }

  /** Load what is around a message; resolves to its entry, or undefined if it cannot be had. */
  async find(seq) {
    const known = this.log.find(seq);
    if (known) return known;
    if (this.log.isFull) this.log.clear(this.position?.seq ?? 0);
    const hole = this.log.holes().find(({ after, before }) => after < seq && seq < before);
    if (hole) await this.#ask(hole, { before: Math.min(seq + AROUND, hole.before) }, FIRST_PAGE);
    return this.log.find(seq);
  }

  async #ask(hole, query, limit) {
    this.log.setHole(hole, "loading");
    try {
      const page = await this.#client.history(this.topic, { ...query, limit });
      // In another epoch the hole is not there any more, or soon will not be.
      for (const { from } of page.messages) if (from) this.people.know(from);
      if (page.epoch === this.position?.epoch) this.log.fill(query, page);
      else this.log.setHole(hole, "idle");
    } catch (error) {
      if (error.code === "forbidden") {
        this.mayLookBack = false;
        for (const hole of this.log.holes()) this.log.close(hole);
      } else {
        this.log.setHole(hole, "failed", t("Older messages cannot be loaded. {reason}", { reason: words(error) }));
        if (TRANSIENT.has(error.code)) setTimeout(() => this.#retry(hole), 3_000);
      }
    }
    this.#onChange(this, false);
  }

  #retry(hole) {
    if (hole.state === "failed" && this.state === "open") this.log.setHole(hole, "idle");
  }

  /** Take what the server counted: `{read, unread, more, last?}`. */
  count({ read, unread, more, last }) {
    const isForgotten = read < this.read;
    this.read = Math.max(read, this.read ?? 0);
    this.#unread = unread;
    this.hasMoreUnread = more;
    this.isMentioned &&= unread > 0;
    if (last && !(this.last?.seq > last.seq)) this.last = last;
    this.#onChange(this, false);
    if (isForgotten) this.#readAgain();
  }

  /** Say again how far the user has read: a server that was restarted may have forgotten it. */
  async #readAgain() {
    try {
      const { unread } = await this.#client.read(this.topic, this.read, { epoch: this.position?.epoch });
      this.#unread = unread;
      this.hasMoreUnread = false;
      this.isMentioned &&= unread > 0;
      this.#onChange(this, false);
    } catch {
      // What it counted stays until the user reads there.
    }
  }

  /** Note whether the user looks at the newest messages. */
  see(isSeen) {
    if (isSeen === this.isSeen) return;
    this.isSeen = isSeen;
    this.#onChange(this, false);
  }

  /** Note that the user has seen all that came; returns whether that is news. */
  markRead() {
    const { seq, epoch } = this.position ?? {};
    if (this.read === null || seq === undefined || seq <= this.read) return false;
    this.read = seq;
    this.#unread = 0;
    this.hasMoreUnread = this.isMentioned = false;
    this.#client.read(this.topic, seq, { epoch }).catch(() => {
      // The next message is read as well.
    });
    this.#onChange(this, false);
    return true;
  }

  /** Return the epoch of a message that was seen; null if another may have its `seq` by now. */
  epochOf({ seq, at }) {
    return this.log.find(seq)?.message.at === at ? this.position?.epoch ?? null : null;
  }

  /** Let a message say something else: `{seq, epoch, data}`. */
  async edit({ seq, epoch, data }) {
    await this.#make(seq, epoch, { doing: t("Saving…"), undone: t("Not saved."), data }, (options) => {
      return this.#client.edit(this.topic, seq, data, options);
    });
  }

  async delete(message) {
    const { seq } = message;
    await this.#make(seq, this.epochOf(message), { doing: t("Deleting…"), undone: t("Not deleted.") }, (options) => {
      return this.#client.delete(this.topic, seq, options);
    });
  }

  /** Change a message of an epoch, as `Changes.make`. */
  async #make(seq, epoch, words, act) {
    const answer = await this.changes.make(seq, words, async (options) => {
      if (epoch === null) throw new ChatError("not_found", "");
      return act({ ...options, epoch });
    });
    // Its event has come already, or comes next.
    if (this.position) this.changes.settleUpTo(this.position.seq);
    return answer;
  }

  /** Whether the user is known to have reacted to a message with an emoji. */
  hasReacted({ seq, reactions }, emoji) {
    const { count = 0, users = [] } = reactions?.[emoji] ?? {};
    return users.includes(this.#user) || (count > users.length && this.#reacted.has(`${seq} ${emoji}`));
  }

  /** React with an emoji, or take that back. */
  async react(message, emoji) {
    const before = this.position?.seq;
    const remove = this.hasReacted(message, emoji);
    const doing = t(remove ? "Taking {emoji} back…" : "Sending {emoji}…", { emoji: isolated(emoji) });
    const undone = t("{emoji} was not stored.", { emoji: isolated(emoji) });
    await this.#make(message.seq, this.epochOf(message), { doing, undone }, async (options) => {
      const answer = await this.#client.react(this.topic, message.seq, emoji, { ...options, remove });
      // Whoever is not named may have reacted before. A repetition of this very command has a later place.
      if (!answer.duplicate || remove || answer.seq > before) return answer;
      return this.#client.react(this.topic, message.seq, emoji, { ...options, remove: true });
    });
  }

  #remember({ target, emoji, remove }) {
    const key = `${target} ${emoji}`;
    this.#reacted.delete(key);
    if (!remove) this.#reacted.add(key);
    if (this.#reacted.size > MAX_REACTED) this.#reacted.delete(this.#reacted.values().next().value);
  }

  /** Ask whoever writes a growing message to end it. */
  stop({ seq }) {
    return this.#client.cancel(this.topic, seq);
  }

  #opened() {
    this.state = "open";
    const { seq } = this.position;
    // Also of an empty room it is asked whether one may look back.
    if (!this.#begun) this.log.addHole(0, Math.max(seq, 1) + 1);
    this.#begun = true;
    this.people.begin(this.#subscription.presence);
    for (const hole of this.log.holes()) if (hole.state === "failed") this.log.setHole(hole, "idle");
    this.#onChange(this, true);
  }

  /** Say that the user types. */
  type() {
    if (this.state === "open") this.#client.typing(this.topic);
  }

  #receive(event) {
    this.people.apply(event);
    if (event.type === "message") {
      this.log.add(event);
      this.last = event;
      if (event.from?.user !== this.#user) {
        this.#unread += 1;
        this.isMentioned ||= mentions(dataText(event.data), this.#user);
      }
    } else if (event.type === "gap") {
      this.log.addGap(event);
      this.#reacted.clear();
      if (event.after === 0) this.changes.clear();
      if (event.after === 0) this.read = this.last = null;
    } else if (isChange(event)) {
      if (event.type === "reaction" && event.from?.user === this.#user) this.#remember(event);
      this.log.change(event);
      if (event.target === this.last?.seq) this.last = changed(this.last, event);
    }
    if (this.position) this.changes.settleUpTo(this.position.seq);
    this.#onEvent(this, event);
  }
}
