/**
 * A room's messages as they now are, in their order, and what stands between them: notices of the page,
 * the line behind which all is new, and holes, where messages are that are not loaded.
 */

import { changed } from "./client.js";
import { t } from "./language.js";
import { dataText } from "./text.js";

/** Of more entries, or of more characters, the oldest are dropped; they can be loaded again. */
export const MAX_ENTRIES = 5_000;
const MAX_CHARACTERS = 4_000_000;
/** Changes of messages that are not loaded: an answer of `history` may be older than they are. */
const MAX_EARLY = 256;

const ignore = () => {};

export class RoomLog {
  /**
   * In order. Each has its `kind`, and the `seq` that it stands at or behind: "message" with `message`,
   * "notice" with `text`, "mark", and "hole" with `after` and `before`, the seqs on both sides of it.
   */
  entries = [];
  /** Called with the place of a change, and how many entries went and came there. */
  onSplice = ignore;
  /** Called with a message's entry that is another now. */
  onUpdate = ignore;
  /** Counts how often the order was lost: seqs begin anew then. */
  #era = 0;
  #characters = 0;
  #early = [];
  #mark = null;

  /** Take a message, of one that is known already the later version. */
  add(message) {
    const known = this.find(message.seq);
    if (known) {
      if (version(message) > version(known.message)) this.#update(known, message);
      return;
    }
    this.#put(this.#early.reduce(changed, message));
    this.#trim();
  }

  /** Take an event that changes a message. */
  change(event) {
    const entry = this.find(event.target);
    if (!entry) {
      this.#early.push(event);
      if (this.#early.length > MAX_EARLY) this.#early.shift();
      return;
    }
    const now = changed(entry.message, event);
    if (now !== entry.message) this.#update(entry, now);
  }

  /** Take a gap: what the server still has of it can be loaded. */
  addGap({ after, before }) {
    const isNewOrder = after === 0;
    this.#early = [];
    if (isNewOrder) {
      for (const hole of this.holes()) this.#remove(hole);
      this.setMark(null);
      this.#era += 1;
    }
    this.#insert({ kind: "notice", seq: after, text: isNewOrder ? LOST_ORDER : LOST_MESSAGES });
    this.addHole(after, before);
  }

  /** Note that messages may be between two seqs. */
  addHole(after, before) {
    if (before > after + 1) this.#insert({ kind: "hole", seq: after, after, before, state: "idle" });
  }

  /** Say that there is nothing more to be had in a hole. */
  close(hole) {
    this.#remove(hole);
  }

  /** Note that a hole is being loaded, or could not be, and why. */
  setHole(hole, state, error = null) {
    Object.assign(hole, { state, error });
    this.onUpdate(hole);
  }

  /**
   * Put a page of history in; of the holes that it covers only what it does not cover stays.
   *
   * @param {object} query what was asked for: `before` or `after` a seq.
   * @param {object} page the answer: `messages`, and whether there are `more` in that direction.
   */
  fill({ before, after }, { messages, more }) {
    const isOlder = before !== undefined;
    const low = isOlder ? (more ? messages[0].seq : 0) : after + 1;
    const high = isOlder ? before - 1 : more ? messages.at(-1).seq : Infinity;
    const covered = this.holes().filter((hole) => hole.after < high && low < hole.before);
    for (const hole of covered) this.#remove(hole);
    for (const message of messages) {
      if (this.find(message.seq)) this.add(message);
      else this.#put(this.#early.reduce(changed, message));
    }
    for (const hole of covered) {
      if (low > hole.after) this.addHole(hole.after, low);
      if (high < hole.before) this.addHole(high, hole.before);
    }
  }

  /** Draw the line behind which all is new behind a seq; null takes it away. */
  setMark(seq) {
    if (this.#mark) this.#remove(this.#mark);
    // The message with that seq may be loaded later, and still stands above the line.
    this.#mark = seq === null ? null : this.#insert({ kind: "mark", seq: seq + 0.5 });
  }

  get mark() {
    return this.#mark;
  }

  /** Let a message be shown anew, of which something else has changed than what the server has. */
  show(seq) {
    const entry = this.find(seq);
    if (entry) this.onUpdate(entry);
  }

  /** Return the holes of the present order. */
  holes() {
    return this.entries.filter(({ kind }) => kind === "hole");
  }

  /** Whether so many messages are held that no older ones are loaded. */
  get isFull() {
    return this.entries.length >= MAX_ENTRIES || this.#characters >= MAX_CHARACTERS;
  }

  /** Return the entry of a message of the present order, or undefined. */
  find(seq) {
    for (let index = this.#indexFor(seq) - 1; index >= 0; index -= 1) {
      const entry = this.entries[index];
      if (entry.seq !== seq || entry.era !== this.#era) return undefined;
      if (entry.kind === "message") return entry;
    }
    return undefined;
  }

  /** Forget all that is loaded, up to the newest seq; it can be loaded again. */
  clear(newest) {
    const count = this.entries.length;
    this.entries = [];
    this.#characters = 0;
    this.#mark = null;
    this.onSplice(0, count, 0);
    this.addHole(0, newest + 1);
  }

  #put(message) {
    const size = sizeOf(message);
    this.#characters += size;
    this.#insert({ kind: "message", seq: message.seq, message, size });
  }

  #update(entry, message) {
    const size = sizeOf(message);
    this.#characters += size - entry.size;
    Object.assign(entry, { message, size });
    this.onUpdate(entry);
    this.#trim();
  }

  #insert(entry) {
    entry.era = this.#era;
    const index = this.#indexFor(entry.seq);
    this.entries.splice(index, 0, entry);
    this.onSplice(index, 0, 1);
    return entry;
  }

  #remove(entry) {
    const index = this.entries.indexOf(entry);
    if (index < 0) return;
    this.entries.splice(index, 1);
    this.#characters -= entry.size ?? 0;
    this.onSplice(index, 1, 0);
  }

  /** Return where an entry with `seq` belongs: nearly always at the end. */
  #indexFor(seq) {
    let [low, high] = [0, this.entries.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const { seq: other, era } = this.entries[middle];
      if (era < this.#era || other <= seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #trim() {
    let oldest = null;
    while (
      this.entries.length > MAX_ENTRIES ||
      (this.#characters > MAX_CHARACTERS && this.entries.length > 1)
    ) {
      const entry = this.entries[0];
      this.#remove(entry);
      if (entry === this.#mark) this.#mark = null;
      oldest = entry;
    }
    // What was dropped of the present order is a hole again.
    if (oldest?.era !== this.#era) return;
    const first = this.entries[0];
    if (first?.kind === "hole") this.#remove(first);
    const next = this.entries.find(({ kind }) => kind === "message");
    if (next) this.addHole(0, first?.kind === "hole" ? first.before : next.seq);
  }
}

const LOST_ORDER = t("The server has lost what was written before this.");
const LOST_MESSAGES = t("Some messages are missing here.");

function version(message) {
  return message.version ?? message.seq;
}

/** Return the characters that a message takes of what the log may have. */
function sizeOf({ data }) {
  return dataText(data).length;
}
