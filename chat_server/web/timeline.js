/** The list of a room's messages: which are shown, in which order, and where it is scrolled. */

import { changed } from "./client.js";
import { dataText, element } from "./text.js";

/** Of more messages, or of more characters, the oldest are dropped. */
export const MAX_SHOWN = 500;
const MAX_CHARACTERS = 4_000_000;
const GROUP_MS = 5 * 60_000;
/** Pixels from the end within which the list counts as being at its end. */
const NEAR_END = 80;
/** The clock may be set, or stand in another time zone, so the day is looked at this often. */
const DAY_CHECK_MS = 60_000;

const DAY = { weekday: "long", day: "numeric", month: "long" };
const dayFormat = new Intl.DateTimeFormat(undefined, DAY);
const dayAndYearFormat = new Intl.DateTimeFormat(undefined, { ...DAY, year: "numeric" });

export class Timeline {
  #region;
  #log;
  #scroller;
  #newer;
  #empty;
  #makeRow;
  #user = null;
  #entries = [];
  #order = 0;
  #characters = 0;
  #unseen = 0;
  #following = true;
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
   *   shows it: its `node`, and `show(message)` for what changes have made of it.
   */
  constructor({ region, log, outbox, scroller, newer, empty, makeRow }) {
    this.#region = region;
    this.#log = log;
    this.#scroller = scroller;
    this.#newer = newer;
    this.#empty = empty;
    this.#makeRow = makeRow;
    scroller.addEventListener("scroll", () => this.#scrolled());
    newer.addEventListener("click", () => {
      this.scrollToEnd();
      // The button is gone; without a new place the keyboard would begin at the top of the page.
      scroller.focus({ preventScroll: true });
    });
    // Neither a keyboard that opens nor a message that grows may hide the newest message.
    const sizes = new ResizeObserver(() => this.#following && this.scrollToEnd());
    for (const node of [scroller, log, outbox]) sizes.observe(node);
    // A timer may be late: a computer that slept is looked at when it wakes.
    document.addEventListener("visibilitychange", () => this.#checkDay());
    this.#checkDay();
  }

  /** Begin with an empty list, for a room or a user. */
  reset(user) {
    this.#user = user;
    this.#entries = [];
    this.#order = 0;
    this.#characters = 0;
    this.#log.replaceChildren();
    this.wait();
    this.scrollToEnd();
  }

  /** Tell that what was missed is still to come: it is not read out. */
  wait() {
    this.#region.setAttribute("aria-busy", "true");
  }

  /** Tell that what the room had so far is shown. */
  ready() {
    this.#region.setAttribute("aria-busy", "false");
  }

  /** Say, in an empty room, why it is empty. */
  explain(text) {
    this.#empty.textContent = text;
  }

  /** Show a message at its place in the order; of one that is shown already the later version. */
  add(message) {
    const shown = this.#find(message.seq);
    if (shown >= 0) {
      const { version = 0 } = this.#entries[shown].message;
      if (message.version > version) this.#update(shown, message);
      return;
    }
    const index = this.#indexFor(message.seq);
    const before = this.#entries[index - 1];
    const own = message.from !== null && message.from.user === this.#user;
    const row = this.#makeRow(message, own);
    const size = sizeOf(message);
    const entry = { seq: message.seq, order: this.#order, message, row, node: row.node, size };
    const after = this.#entries[index];
    this.#characters += entry.size;
    this.#entries.splice(index, 0, entry);
    this.#log.insertBefore(entry.node, after?.node ?? null);
    this.#group(before, entry);
    if (after) this.#group(entry, after);
    this.#trim();
    this.#grown(after === undefined && message.from?.user !== this.#user);
  }

  /** Show a message as an event has changed it, if it is shown. */
  change(event) {
    const index = this.#find(event.target);
    if (index < 0) return;
    const { message } = this.#entries[index];
    const now = changed(message, event);
    if (now !== message) this.#update(index, now);
  }

  #update(index, message) {
    const entry = this.#entries[index];
    entry.row.show(message);
    this.#characters += sizeOf(message) - entry.size;
    Object.assign(entry, { message, size: sizeOf(message) });
    this.#trim();
    this.#grown(false);
  }

  /** Show where messages are missing; with `newOrder`, those that follow are counted anew. */
  addGap(gap, newOrder) {
    if (newOrder) this.#order += 1;
    this.addNotice(newOrder ? LOST_ORDER : LOST_MESSAGES, gap.after);
  }

  /** Show a line of the page's own, behind the message with `seq`. */
  addNotice(text, seq) {
    const node = element("li", "notice", text);
    this.#entries.push({ seq, order: this.#order, message: null, node, size: 0 });
    this.#log.append(node);
    this.#trim();
    this.#grown(false);
  }

  scrollToEnd() {
    this.#following = true;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#unseen = 0;
    this.#newer.hidden = true;
  }

  /** Return where in the entries a message with `seq` belongs: nearly always at the end. */
  #indexFor(seq) {
    let index = this.#entries.length;
    while (index > 0) {
      const { seq: other, order } = this.#entries[index - 1];
      if (order < this.#order || other <= seq) break;
      index -= 1;
    }
    return index;
  }

  /** Return where a message is among the entries, or -1: a notice may have its seq as well. */
  #find(seq) {
    for (let index = this.#indexFor(seq) - 1; index >= 0; index -= 1) {
      const entry = this.#entries[index];
      if (entry.seq !== seq || entry.order !== this.#order) break;
      if (entry.message) return index;
    }
    return -1;
  }

  /** Mark an entry that continues what the one before it says, or begins another day. */
  #group(before, entry) {
    const [last, next] = [before?.message, entry.message];
    if (!next) return;
    const sameDay = last && new Date(last.at).toDateString() === new Date(next.at).toDateString();
    const sameSender = last && last.from?.user === next.from?.user;
    entry.node.classList.toggle(
      "continued",
      Boolean(sameDay && sameSender && next.at - last.at < GROUP_MS),
    );
    if (sameDay || (before && !last)) delete entry.node.dataset.day;
    else entry.node.dataset.day = dayName(next.at);
  }

  #trim() {
    while (
      this.#entries.length > MAX_SHOWN ||
      (this.#characters > MAX_CHARACTERS && this.#entries.length > 1)
    ) {
      const { node, size } = this.#entries.shift();
      this.#characters -= size;
      node.remove();
    }
    if (this.#entries.length > 0) this.#group(undefined, this.#entries[0]);
  }

  /** Name the days anew if another one has begun, and look again when the next one does. */
  #checkDay() {
    clearTimeout(this.#midnight);
    const now = new Date();
    const next = new Date(now.getFullYear(), now.getMonth(), now.getDate() + 1);
    this.#midnight = setTimeout(() => this.#checkDay(), Math.min(next - now, DAY_CHECK_MS));
    if (this.#today === now.toDateString()) return;
    this.#today = now.toDateString();
    this.#entries.forEach((entry, index) => this.#group(this.#entries[index - 1], entry));
  }

  #grown(news) {
    if (this.#following) {
      this.scrollToEnd();
    } else if (news) {
      this.#unseen += 1;
      this.#newer.textContent =
        this.#unseen === 1 ? "1 new message" : `${this.#unseen} new messages`;
      this.#newer.hidden = false;
    }
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    this.#following = scrollHeight - scrollTop - clientHeight < NEAR_END;
    if (this.#following) {
      this.#unseen = 0;
      this.#newer.hidden = true;
    }
  }
}

const LOST_ORDER = "The server has lost what was written before this.";
const LOST_MESSAGES = "Some messages are missing here.";

/** Return the characters that a message takes of what the list may have. */
function sizeOf({ data }) {
  return dataText(data).length;
}

function dayName(at) {
  const day = new Date(at);
  const today = new Date();
  const yesterday = new Date(today.getFullYear(), today.getMonth(), today.getDate() - 1);
  if (day.toDateString() === today.toDateString()) return "Today";
  if (day.toDateString() === yesterday.toDateString()) return "Yesterday";
  const sameYear = day.getFullYear() === today.getFullYear();
  return (sameYear ? dayFormat : dayAndYearFormat).format(at);
}
