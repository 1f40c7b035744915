/** The users of a room: presence, typing and read cursors. */

import { idsAt } from "./mentions.js";
import { skeleton } from "./lookalikes.js";
import { spelled, visibleName } from "./text.js";

/** Milliseconds after which a typing user counts as having stopped (docs/protocol.md). */
const TYPING_MS = 6_000;
const MAX_PEOPLE = 1_000;

export class People {
  /** Number of present users; null in rooms without presence. */
  count = null;
  #here = new Map();
  /** Names by user, also of absent users, to resolve mentions and to tell names apart. */
  #names = new Map();
  /** Names by user, from all rooms. */
  #everywhere;
  /** Users by their id in lower case, as in mentions. */
  #users = new Map();
  /** Users by the common form of names that look the same. */
  #namesakes = new Map();
  #typing = new Map();
  #reads = new Map();
  #user;
  #onChange;
  #onName;

  /**
   * @param {string} user the reading user.
   * @param {function} onChange called when the shown state has changed.
   * @param {function} onName called when a user's name becomes known.
   * @param {Map} everywhere names by user, from all rooms.
   */
  constructor(user, onChange, onName = () => {}, everywhere = new Map()) {
    this.#user = user;
    this.#onChange = onChange;
    this.#onName = onName;
    this.#everywhere = everywhere;
  }

  /** Begin with the presence page of the answer to `subscribe`, or null. */
  begin(page) {
    this.count = page?.count ?? null;
    this.#here = new Map((page?.users ?? []).map((one) => [one.user, one]));
    for (const one of this.#here.values()) this.know(one);
    this.#onChange();
  }

  /** Take an event of the room. */
  apply(event) {
    if (event.type === "message") {
      if (event.from) this.know(event.from);
      this.#stopped(event.from?.user);
    } else if (event.type === "signal" && event.data?.typing === true) {
      this.#types(event.from);
    } else if (event.type === "read" && event.user !== this.#user) {
      this.read([event]);
    } else if (event.type === "join") {
      this.#come([event]);
    } else if (event.type === "leave") {
      this.#go([event]);
    } else if (event.type === "presence") {
      this.#come(event.joined);
      this.#go(event.left);
      this.count = event.count;
    } else if (event.type === "gap") {
      this.#reads.clear();
    }
  }

  /** The present users with known names, in the order of the names. */
  get here() {
    return [...this.#here.values()].map((one) => this.nameOf(one)).sort((one, other) => one.localeCompare(other));
  }

  /** The names of typing users. */
  get typing() {
    return [...this.#typing.values()].map(({ name }) => name);
  }

  /** Take the read cursors of others: `{user, seq}` each. */
  read(readers) {
    for (const { user, seq } of readers) this.#reads.set(user, Math.max(seq, this.#reads.get(user) ?? 0));
    this.#onChange();
  }

  /** Return the names of others who have read a message. */
  readersOf(seq) {
    return [...this.#reads].filter(([, read]) => read >= seq).map(([user]) => this.nameOf({ user }));
  }

  /** Return a user's name, with a mark behind it if the name of another looks the same. */
  nameOf({ user, name = this.#names.get(user) ?? this.#everywhere.get(user) }) {
    const shown = visibleName(name, user);
    const mark = this.markOf({ user, name });
    return mark === null || mark === shown ? shown : `${shown} (${mark})`;
  }

  /**
   * Return the mark that tells a user from others with a similar name; null without such others.
   *
   * The mark is the user's id. If the ids look the same, too, foreign letters are spelled out.
   */
  markOf({ user, name }) {
    const users = this.#namesakes.get(skeleton(visibleName(name, user))) ?? [];
    const others = [...users].filter((other) => other !== user);
    if (others.length === 0) return null;
    const id = visibleName(user);
    return others.some((other) => skeleton(other) === skeleton(user)) ? spelled(id) : id;
  }

  /** Return the user mentioned at an `@` of a text, `{name, title, end}`; null if the text shows the name. */
  mentioned(text, at) {
    for (const id of idsAt(text, at)) {
      const user = this.#names.has(id) ? id : this.#users.get(id.toLowerCase());
      if (user === undefined) continue;
      const [name, title] = [this.nameOf({ user }), visibleName(user)];
      return name === title ? null : { name, title, end: at + 1 + id.length };
    }
    return null;
  }

  /** Return the users with an id or name that begins with some letters: `{user, name}`. */
  find(letters) {
    const low = letters.toLocaleLowerCase();
    const isMeant = (text) => text?.toLocaleLowerCase().startsWith(low);
    return [...this.#names]
      .filter(([user, name]) => user !== this.#user && (isMeant(user) || isMeant(name)))
      .map(([user, name]) => ({ user, name: this.nameOf({ user, name }) }))
      .sort((one, other) => this.#here.has(other.user) - this.#here.has(one.user));
  }

  /** Return the other user whose name was written out, if no other name begins like that; else null. */
  called(name) {
    const [one, other] = this.find(name);
    const low = name.toLocaleLowerCase();
    const isMeant = one && !other && one.name.toLocaleLowerCase() === low;
    // Who is called as their id is mentioned already.
    return isMeant && one.user.toLocaleLowerCase() !== low ? one.user : null;
  }

  /** Remember the name of a user. */
  know({ user, name }) {
    if (this.#names.size >= MAX_PEOPLE && !this.#names.has(user)) return;
    const [before, shown] = [visibleName(this.#names.get(user), user), visibleName(name, user)];
    if (this.#names.has(user) && before === shown) return;
    this.#namesakes.get(skeleton(before))?.delete(user);
    this.#names.set(user, name);
    if (this.#everywhere.size < MAX_PEOPLE || this.#everywhere.has(user)) this.#everywhere.set(user, name);
    const users = this.#namesakes.get(skeleton(shown)) ?? new Set();
    this.#namesakes.set(skeleton(shown), users.add(user));
    this.#users.set(user.toLowerCase(), user);
    this.#onName();
  }

  #come(people) {
    for (const { user, name } of people) {
      this.know({ user, name });
      if (this.#here.has(user)) continue;
      if (this.#here.size < MAX_PEOPLE) this.#here.set(user, { user, name });
      if (this.count !== null) this.count += 1;
    }
    this.#onChange();
  }

  #go(people) {
    for (const { user } of people) {
      if (this.#here.delete(user) && this.count !== null) this.count -= 1;
      this.#stopped(user);
    }
    this.#onChange();
  }

  #types(from) {
    if (!from || from.user === this.#user) return;
    clearTimeout(this.#typing.get(from.user)?.timer);
    const timer = setTimeout(() => this.#stopped(from.user), TYPING_MS);
    if (this.#typing.size < MAX_PEOPLE) this.#typing.set(from.user, { name: this.nameOf(from), timer });
    this.#onChange();
  }

  #stopped(user) {
    if (!this.#typing.has(user)) return;
    clearTimeout(this.#typing.get(user).timer);
    this.#typing.delete(user);
    this.#onChange();
  }
}
