/** Messages in their current state: the events of a topic, folded together. */

/** @import { Change, ChatEvent, Message } from "./client-types.js" */

import { textOf } from "./client-common.js";

const MAX_MESSAGES = 1_000;
/** A message names the first users of each reaction; the count tells how many there are. */
const MAX_NAMED = 10;
/** Known users behind the named ones; together as many as a server remembers. */
const MAX_BEHIND = 990;
/**
 * The users who reacted later than the users named by a reaction, in order. Later users move up as long
 * as no unknown user may stand between: history gives only the number of unnamed users.
 */
const behindNamed = new WeakMap();
/**
 * Remembered changes of unknown messages, because an answer to `history` may arrive after changes that
 * the answer lacks.
 */
const MAX_EARLY = 256;

/** @type {Record<string, (message: Message, event: any) => Partial<Message>>} */
const CHANGES = {
  edited: (message, { data, at }) => ({ data, edited_at: at }),
  appended: ({ data, version, seq }, event) => ({
    data: appended(data, event, version ?? seq),
    state: event.state ?? "streaming",
  }),
  reaction: ({ reactions }, event) => ({ reactions: reacted(reactions, event) }),
  deleted: () => ({
    data: null, deleted: true, state: undefined, edited_at: undefined, reactions: undefined,
  }),
};

/**
 * Return whether an event changes the message that its `target` names.
 *
 * @param {ChatEvent} event
 * @returns {event is Change}
 */
export function isChange(event) {
  return Object.hasOwn(CHANGES, event.type);
}

/**
 * Return a message after an event, as a new object unless nothing changes.
 *
 * The message's `version` (or else `seq`) names the last event in the message, so an answer to
 * `history` and a push may arrive in either order.
 *
 * @param {Message} message
 * @param {ChatEvent} event
 * @returns {Message}
 */
export function changed(message, event) {
  if (!isChange(event) || event.target !== message.seq || message.deleted) return message;
  if (event.seq <= (message.version ?? message.seq)) return message;
  const made = { ...message, ...CHANGES[event.type](message, event), version: event.seq };
  // A message from history lacks empty fields.
  for (const name of Object.keys(made)) if (made[name] === undefined) delete made[name];
  return made;
}

/** Return data with the missing part of an event's text; one event may stand for several appends. */
function appended(data, { text, length, first }, version) {
  const known = textOf(data);
  if (known === undefined) return data; // of a message that is deleted by now
  let added = text;
  if (first <= version) {
    const missing = length - [...known].length;
    added = missing > 0 ? [...text].slice(-missing).join("") : "";
  }
  return typeof data === "string" ? known + added : { ...data, text: known + added };
}

function reacted(reactions = {}, { emoji, remove, from }) {
  const known = Object.hasOwn(reactions, emoji) ? reactions[emoji] : { count: 0, users: [] };
  const users = [...known.users];
  const behind = [...(behindNamed.get(known) ?? [])];
  const count = remove ? known.count - 1 : known.count + 1;
  if (remove) {
    for (const list of [users, behind]) {
      const index = list.indexOf(from?.user);
      if (index >= 0) list.splice(index, 1);
    }
  } else if (behind.length < MAX_BEHIND) {
    behind.push(from?.user);
  }
  if (users.length + behind.length === count) {
    users.push(...behind.splice(0, MAX_NAMED - users.length));
  }
  if (count > 0) {
    const made = { count, users };
    behindNamed.set(made, behind);
    return { ...reactions, [emoji]: made };
  }
  const { [emoji]: _, ...others } = reactions;
  return Object.keys(others).length > 0 ? others : undefined;
}

/**
 * The newest messages of a topic, as the events of a subscription have made them.
 *
 *     const messages = new Messages();
 *     chat.subscribe("room:lobby", { last: 50, onEvent: (event) => messages.apply(event) });
 *
 * Messages are replaced, never changed in place. A `gap` empties the collection, because missed events
 * may be changes; `add` restores messages from history.
 */
export class Messages {
  #limit;
  #bySeq = new Map();
  #newest = 0;
  #early = [];

  /** @param {number} [limit] messages held at most; the oldest are dropped. */
  constructor(limit = MAX_MESSAGES) {
    this.#limit = limit;
  }

  /** @returns {number} */
  get size() {
    return this.#bySeq.size;
  }

  /**
   * Iterate over the messages, the oldest first.
   *
   * @returns {IterableIterator<Message>}
   */
  [Symbol.iterator]() {
    return this.#bySeq.values();
  }

  /**
   * Return the message `seq` in its current state, or undefined if the collection lacks it.
   *
   * @param {number} seq
   * @returns {Message | undefined}
   */
  get(seq) {
    return this.#bySeq.get(seq);
  }

  /**
   * Take the next event of the topic; return the new or changed message, if any.
   *
   * @param {ChatEvent} event
   * @returns {Message | undefined}
   */
  apply(event) {
    if (event.type === "message") {
      this.add([event]);
    } else if (event.type === "gap") {
      this.#bySeq.clear();
      this.#early = [];
      this.#newest = 0;
      return undefined;
    } else if (isChange(event)) {
      const message = this.#bySeq.get(event.target);
      if (!message) {
        this.#early.push(event);
        if (this.#early.length > MAX_EARLY) this.#early.shift();
        return undefined;
      }
      const now = changed(message, event);
      if (now === message) return undefined;
      this.#bySeq.set(event.target, now);
    } else {
      return undefined;
    }
    return this.#bySeq.get("target" in event ? event.target : event.seq);
  }

  /**
   * Add messages, from history for example; the later version of each message counts.
   *
   * @param {Iterable<Message>} messages
   */
  add(messages) {
    let sorted = true;
    for (const message of messages) {
      const known = this.#bySeq.get(message.seq);
      if (known && version(known) >= version(message)) continue;
      if (!known && message.seq < this.#newest) sorted = false;
      this.#newest = Math.max(this.#newest, message.seq);
      this.#bySeq.set(message.seq, this.#early.reduce(changed, message));
    }
    if (!sorted) this.#bySeq = new Map([...this.#bySeq].sort(([one], [other]) => one - other));
    for (const seq of this.#bySeq.keys()) {
      if (this.#bySeq.size <= this.#limit) break;
      this.#bySeq.delete(seq);
    }
  }
}

function version(message) {
  return message.version ?? message.seq;
}
