/**
 * The list of a room's messages on the page: a window over its log, and where that is scrolled.
 *
 * Of a log of thousands the document has some hundred rows: those around what is seen. Whoever reads
 * old messages keeps the place, whatever comes, goes or is loaded.
 */

import { locale, t } from "./language.js";
import { element } from "./text.js";

/** Rows in the document, and how many come and go together at an end: for a moment there are more by that. */
export const MAX_ROWS = 240;
const STEP = 80;
const GROUP_MS = 5 * 60_000;
/** Pixels from the end within which the list counts as being at its end. */
const NEAR_END = 80;
/** Where a row is shown that the list is opened at, as a part of the height. */
const TARGET_AT = 0.25;
/** The clock may be set, or stand in another time zone, so the day is looked at this often. */
const DAY_CHECK_MS = 60_000;

const DAY = { weekday: "long", day: "numeric", month: "long" };
const dayFormat = new Intl.DateTimeFormat(locale, DAY);
const dayAndYearFormat = new Intl.DateTimeFormat(locale, { ...DAY, year: "numeric" });

export class Timeline {
  #region;
  #list;
  #scroller;
  #newer;
  #empty;
  #makeRow;
  #onHole;
  #onSettled;
  #log = null;
  #user = null;
  /** By entry: `{node, row}` of those in the document. */
  #rows = new Map();
  /** Which entries are in the document. */
  #start = 0;
  #end = 0;
  #following = true;
  /** Where the scroller was when that was last looked at. */
  #top = 0;
  /** The entry that keeps its place until the user scrolls, and how far below the top: `{entry, offset}`. */
  #pin = null;
  /** By log: where it was scrolled when another took its place. */
  #places = new WeakMap();
  #unseen = 0;
  #frame = null;
  #today = "";
  #midnight = null;

  /**
   * @param {Element} options.region is told of while what comes is not news.
   * @param {Element} options.log gets the rows.
   * @param {Element} options.outbox stands below the log.
   * @param {Element} options.scroller has both.
   * @param {Element} options.newer leads to the end.
   * @param {Element} options.empty says why there are no messages.
   * @param {function} options.makeRow called with a message and whether the user wrote it; returns what
   *   shows it: its `node`, and `show(message)` for what changes have made of it. It is asked again when
   *   the message has left the document and comes back.
   * @param {function} options.onHole called with a hole near what is seen, and at which of its ends:
   *   "before" or "after".
   * @param {function} options.onSettled called when other messages may be seen than before.
   */
  constructor({ region, log, outbox, scroller, newer, empty, makeRow, onHole, onSettled }) {
    this.#region = region;
    this.#list = log;
    this.#scroller = scroller;
    this.#newer = newer;
    this.#empty = empty;
    this.#makeRow = makeRow;
    this.#onHole = onHole;
    this.#onSettled = onSettled;
    scroller.addEventListener("scroll", () => this.#scrolled());
    for (const name of ["wheel", "touchmove", "keydown", "pointerdown"]) {
      scroller.addEventListener(name, () => (this.#pin = null), { passive: true });
    }
    newer.addEventListener("click", () => {
      this.scrollToEnd();
      // The button is gone; without a new place the keyboard would begin at the top of the page.
      scroller.focus({ preventScroll: true });
    });
    // Neither a keyboard that opens nor a message that grows may hide the newest message.
    const sizes = new ResizeObserver(() => this.#following && this.#toEnd());
    for (const node of [scroller, log, outbox]) sizes.observe(node);
    // A timer may be late: a computer that slept is looked at when it wakes.
    document.addEventListener("visibilitychange", () => this.#checkDay());
    this.#checkDay();
  }

  /** Show a log to a user, where it was left or at its end; null for none. */
  show(log, user) {
    if (this.#log) {
      this.#places.set(this.#log, this.#following ? null : this.#anchor());
      this.#log.onSplice = this.#log.onUpdate = () => {};
    }
    // What was to be drawn of the log before is not there any more.
    cancelAnimationFrame(this.#frame);
    this.#frame = null;
    this.#log = log;
    this.#user = user;
    this.#rows.clear();
    this.#list.replaceChildren();
    this.#unseen = 0;
    this.#pin = (log && this.#places.get(log)) ?? null;
    this.#following = this.#pin === null;
    if (log === null) return;
    log.onSplice = (...splice) => this.#spliced(...splice);
    log.onUpdate = (entry) => this.#updated(entry);
    if (this.#pin) this.#center(this.#pin.entry);
    this.render();
  }

  /** Tell whether what the room had so far is still to come: it is not read out. */
  setBusy(busy) {
    this.#region.setAttribute("aria-busy", String(busy));
  }

  /** Say, in an empty room, why it is empty. */
  explain(text) {
    this.#empty.textContent = text;
  }

  /** Look again at the names of senders, and of those who are mentioned. */
  showNames() {
    for (const { row } of this.#rows.values()) row?.showNames?.();
  }

  /** Whether the newest messages are seen. */
  get isAtEnd() {
    return this.#following;
  }

  /** Count a message that somebody else has just written. */
  countNews() {
    if (this.#following) return;
    this.#unseen += 1;
    this.#showNewer();
  }

  /** Show an entry, and keep it in its place until the user scrolls. */
  goTo(entry) {
    this.#following = false;
    this.#pin = { entry, offset: this.#scroller.clientHeight * TARGET_AT };
    this.#center(entry);
    this.render();
    return this.#rows.get(entry)?.node;
  }

  /** Show the line above what is new; if all of that is seen with it, the list is at its end. */
  goToMark(mark) {
    this.goTo(mark);
    this.#scrolled();
  }

  scrollToEnd() {
    this.#following = true;
    this.#pin = null;
    this.#unseen = 0;
    if (this.#log) this.render();
  }

  /** Bring the document in line with the log at once; else it follows before the next frame. */
  render() {
    cancelAnimationFrame(this.#frame);
    this.#frame = null;
    const { entries } = this.#log;
    if (this.#following) {
      this.#end = entries.length;
      this.#start = Math.max(this.#end - MAX_ROWS, 0);
    }
    // Who reads old messages is not read out what is loaded around them.
    this.#region.setAttribute("aria-live", this.#following ? "polite" : "off");
    const anchor = this.#following ? null : this.#pin ?? this.#anchor();
    this.#replace(entries.slice(this.#start, this.#end), entries[this.#start - 1]);
    if (this.#following) this.#toEnd();
    else if (anchor) this.#restore(anchor);
    this.#settle();
  }

  #renderSoon() {
    this.#frame ??= requestAnimationFrame(() => this.render());
  }

  /** Let exactly these entries be in the document; those that stay are not moved. */
  #replace(entries, before) {
    const wanted = new Set(entries);
    for (const [entry, { node }] of this.#rows) {
      if (wanted.has(entry)) continue;
      node.remove();
      this.#rows.delete(entry);
    }
    let next = this.#list.firstElementChild;
    let last = before;
    for (const entry of entries) {
      const node = this.#nodeOf(entry);
      if (node === next) next = next.nextElementSibling;
      else this.#list.insertBefore(node, next);
      this.#group(last, entry, node);
      if (entry.kind !== "mark") last = entry;
    }
  }

  #nodeOf(entry) {
    const known = this.#rows.get(entry);
    if (known) return known.node;
    const { kind, message, text } = entry;
    let row = null;
    if (kind === "message") {
      row = this.#makeRow(message, message.from !== null && message.from.user === this.#user);
    } else if (kind === "hole") {
      row = new HoleRow((edge) => this.#onHole(entry, edge, true));
      row.show(entry);
    }
    const node = row?.node ?? element("li", kind, kind === "mark" ? NEW : text);
    this.#rows.set(entry, { node, row });
    return node;
  }

  #spliced(index, removed, added) {
    const delta = added - removed;
    if (index < this.#start || (index === this.#start && !this.#following && index > 0)) {
      this.#start = Math.max(this.#start + delta, 0);
      this.#end += delta;
    } else if (index <= this.#end) {
      this.#end += delta;
    }
    if (this.#end - this.#start > MAX_ROWS + STEP) this.#narrow();
    this.#renderSoon();
  }

  /** Drop rows at the end of the window that is farther from what is seen. */
  #narrow() {
    const anchor = (this.#pin ?? this.#anchor())?.entry;
    if (anchor) this.#center(anchor);
  }

  #updated(entry) {
    const shown = this.#rows.get(entry);
    if (!shown) return;
    const anchor = this.#following ? null : this.#pin ?? this.#anchor();
    shown.row.show(entry.kind === "hole" ? entry : entry.message);
    if (anchor) this.#restore(anchor);
    this.#renderSoon();
  }

  #center(entry) {
    const { entries } = this.#log;
    const index = Math.max(entries.indexOf(entry), 0);
    this.#start = Math.max(Math.min(index - MAX_ROWS / 2, entries.length - MAX_ROWS), 0);
    this.#end = Math.min(this.#start + MAX_ROWS, entries.length);
  }

  /** Return the first row that is seen, and where. */
  #anchor() {
    const top = this.#scroller.getBoundingClientRect().top;
    for (const entry of this.#log.entries.slice(this.#start, this.#end)) {
      const node = this.#rows.get(entry)?.node;
      const box = node?.getBoundingClientRect();
      // A hole is about to go, or to change its place.
      if (box && box.bottom > top && entry.kind !== "hole") return { entry, offset: box.top - top };
    }
    return null;
  }

  #restore({ entry, offset }) {
    const node = this.#rows.get(entry)?.node;
    if (!node) return;
    const top = node.getBoundingClientRect().top - this.#scroller.getBoundingClientRect().top;
    if (Math.abs(top - offset) >= 1) this.#scroller.scrollTop += top - offset;
  }

  #toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#top = this.#scroller.scrollTop;
  }

  #scrolled() {
    if (this.#log === null) return;
    // The page is told late of its own scrolling: what has grown meanwhile is below, and nobody has scrolled up.
    const { scrollTop } = this.#scroller;
    const isUp = scrollTop < this.#top;
    this.#top = scrollTop;
    const isAtEnd = this.#end >= this.#log.entries.length && this.#below < NEAR_END;
    this.#following = isAtEnd || (this.#following && !isUp);
    if (this.#following) this.#pin = null;
    this.#settle();
  }

  /** How many pixels of the document are below what is seen. */
  get #below() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight;
  }

  /** Let more rows into the document, and others out, if what is seen is near an end of it. */
  #move() {
    const { scrollTop, clientHeight } = this.#scroller;
    const { length } = this.#log.entries;
    if (scrollTop < clientHeight && this.#start > 0 && !this.#following) {
      this.#start = Math.max(this.#start - STEP, 0);
      this.#end = Math.min(this.#end, this.#start + MAX_ROWS);
    } else if (this.#below < clientHeight && this.#end < length) {
      this.#end = Math.min(this.#end + STEP, length);
      this.#start = Math.max(this.#start, this.#end - MAX_ROWS);
    } else {
      return;
    }
    this.#renderSoon();
  }

  /** Look at what is seen now. */
  #settle() {
    if (this.#following) this.#unseen = 0;
    this.#move();
    this.#showNewer();
    const { top, bottom, height } = this.#scroller.getBoundingClientRect();
    for (const hole of this.#log.holes()) {
      const box = this.#rows.get(hole)?.node.getBoundingClientRect();
      if (!box || box.bottom < top - height || box.top > bottom + height) continue;
      this.#onHole(hole, hole.after > 0 && box.top > top + height / 2 ? "after" : "before", false);
    }
    this.#onSettled();
  }

  #showNewer() {
    const isFar = this.#below > this.#scroller.clientHeight;
    this.#newer.hidden = this.#following || (this.#unseen === 0 && !isFar);
    const count = this.#unseen;
    const told = t(count === 1 ? "1 new message" : "{count} new messages", { count });
    this.#newer.textContent = count > 0 ? told : t("Newest messages");
  }

  /** Mark an entry that continues what the one before it says, or begins another day. */
  #group(before, { kind, message: next }, node) {
    if (kind !== "message") return;
    const last = before?.message;
    const sameDay = last && new Date(last.at).toDateString() === new Date(next.at).toDateString();
    const sameSender = last && last.from?.user === next.from?.user;
    const isMarked = node.previousElementSibling?.matches(".mark");
    const continues = sameDay && sameSender && !isMarked && next.at - last.at < GROUP_MS;
    node.classList.toggle("continued", Boolean(continues));
    // A link that is not seen is no stop of the Tab key: the menu of the message copies it.
    node.querySelector(".place").tabIndex = continues ? -1 : 0;
    if (sameDay || before?.kind === "notice") delete node.dataset.day;
    else node.dataset.day = dayName(next.at);
  }

  /** Name the days anew if another one has begun, and look again when the next one does. */
  #checkDay() {
    clearTimeout(this.#midnight);
    const now = new Date();
    const next = new Date(now.getFullYear(), now.getMonth(), now.getDate() + 1);
    this.#midnight = setTimeout(() => this.#checkDay(), Math.min(next - now, DAY_CHECK_MS));
    if (this.#today === now.toDateString()) return;
    this.#today = now.toDateString();
    if (this.#log) this.render();
  }
}

/** Stands for messages that are not loaded, and says why if they cannot be. */
class HoleRow {
  node = element("li", "hole");
  #text = element("span", "");
  #button = element("button", "quiet", t("Try again"));

  constructor(load) {
    this.#button.type = "button";
    this.#button.addEventListener("click", () => load("before"));
    this.node.append(this.#text, " ", this.#button);
  }

  show({ state, error }) {
    this.node.dataset.state = state;
    this.#text.textContent = error ?? t("Loading…");
    this.#button.hidden = state !== "failed";
  }
}

const NEW = t("New since you were here");

function dayName(at) {
  const day = new Date(at);
  const today = new Date();
  const yesterday = new Date(today.getFullYear(), today.getMonth(), today.getDate() - 1);
  if (day.toDateString() === today.toDateString()) return t("Today");
  if (day.toDateString() === yesterday.toDateString()) return t("Yesterday");
  const sameYear = day.getFullYear() === today.getFullYear();
  return (sameYear ? dayFormat : dayAndYearFormat).format(at);
}
