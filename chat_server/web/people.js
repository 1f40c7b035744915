/** Who is in a room, who types in it, and how far others have read. */

import { idsAt } from "./mentions.js";
import { skeleton } from "./lookalikes.js";
import { spelled, visibleName } from "./text.js";

/** Whoever says that they type is taken to have stopped after so long (docs/protocol.md). */
const TYPING_MS = 6_000;
const MAX_PEOPLE = 1_000;

export class People {
  /** How many there are; null where the room does not tell. */
  count = null;
  #here = new Map();
  /** By user, also of those who have gone: mentions and names are told apart by them. */
  #names = new Map();
  /** What all rooms together know. */
  #everywhere;
  /** By the user in lower case, as a mention may have it. */
  #users = new Map();
  /** The users of a name, by what all names have in common that look like it. */
  #namesakes = new Map();
  #typing = new Map();
  #reads = new Map();
  #user;
  #onChange;
  #onName;

  /**
   * @param {string} user who reads.
   * @param {function} onChange called when what is to be shown has changed.
   * @param {function} onName called when somebody turns out to have a name.
   * @param {Map} everywhere the names by user that are known from all rooms.
   */
  constructor(user, onChange, onName = () => {}, everywhere = new Map()) {
    this.#user = user;
    this.#onChange = onChange;
    this.#onName = onName;
    this.#everywhere = everywhere;
  }

  /** Begin with a page of those who are there, of an answer to `subscribe`; null if it has none. */
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

  /** Those who are there, and whose names are known, in the order of these. */
  get here() {
    return [...this.#here.values()].map((one) => this.nameOf(one)).sort((one, other) => one.localeCompare(other));
  }

  /** The names of those who type. */
  get typing() {
    return [...this.#typing.values()].map(({ name }) => name);
  }

  /** Take how far others have read: `{user, seq}` of each. */
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
   * Return what tells a user from another whose name looks the same; null if nobody's does.
   *
   * That is the user's id. Of one that itself looks like the other's the foreign letters are spelled.
   */
  markOf({ user, name }) {
    const users = this.#namesakes.get(skeleton(visibleName(name, user))) ?? [];
    const others = [...users].filter((other) => other !== user);
    if (others.length === 0) return null;
    const id = visibleName(user);
    return others.some((other) => skeleton(other) === skeleton(user)) ? spelled(id) : id;
  }

  /** Return who is mentioned at an `@` of a text, `{name, title, end}`; null if the text has the name already. */
  mentioned(text, at) {
    for (const id of idsAt(text, at)) {
      const user = this.#names.has(id) ? id : this.#users.get(id.toLowerCase());
      if (user === undefined) continue;
      const [name, title] = [this.nameOf({ user }), visibleName(user)];
      return name === title ? null : { name, title, end: at + 1 + id.length };
    }
    return null;
  }

  /** Return the users, and their names, that begin with some letters: `{user, name}`. */
  find(letters) {
    const low = letters.toLocaleLowerCase();
    const isMeant = (text) => text?.toLocaleLowerCase().startsWith(low);
    return [...this.#names]
      .filter(([user, name]) => user !== this.#user && (isMeant(user) || isMeant(name)))
      .map(([user, name]) => ({ user, name: this.nameOf({ user, name }) }))
      .sort((one, other) => this.#here.has(other.user) - this.#here.has(one.user));
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
