/** Keeps the page's state across reloads in this tab, and texts and names of rooms beyond the tab. */

import { isRoom } from "./address.js";
import { t } from "./language.js";
import { Copies } from "./tabs.js";

const TEXTS = "chat.texts:";
const TAB = "chat.tab";
const VISITED = "chat.rooms:";
/** Rooms with drafts; beyond that, the draft left alone for longest is dropped. */
const MAX_PLACES = 100;
/** Unsent messages; the text of a further one stays in its field. */
const MAX_UNSENT = 100;
const MAX_UNSENT_CHARACTERS = 1_000_000;

/** `sessionStorage` if the browser allows and has room, else memory until the next load. */
class Storage {
  #memory = new Map();
  #onLack;
  #lacking = false;

  constructor(onLack) {
    this.#onLack = onLack;
  }

  get(key) {
    if (this.#memory.has(key)) return this.#memory.get(key);
    try {
      return sessionStorage.getItem(key);
    } catch {
      return null;
    }
  }

  set(key, value) {
    try {
      sessionStorage.setItem(key, value);
      this.#memory.delete(key);
    } catch {
      // Otherwise the older value would return at the next load: another user, or a sent text.
      this.#forget(key);
      this.#memory.set(key, value);
    }
    this.#report();
  }

  remove(key) {
    this.#memory.delete(key);
    this.#forget(key);
    this.#report();
  }

  #forget(key) {
    try {
      sessionStorage.removeItem(key);
    } catch {
      // Nothing was stored there.
    }
  }

  #report() {
    const lacking = this.#memory.size > 0;
    if (lacking === this.#lacking) return;
    this.#lacking = lacking;
    this.#onLack(lacking);
  }

  keys() {
    try {
      return Object.keys(sessionStorage);
    } catch {
      return [];
    }
  }
}

/** The signed-in user, and the room. */
export class Session {
  #storage;

  constructor(storage) {
    this.#storage = storage;
  }

  /** The token of an account, fetched anew after a reload. */
  accountToken = null;

  get token() {
    return this.accountToken ?? this.#storage.get("chat.token");
  }

  set token(token) {
    this.accountToken = null;
    if (token === null) this.#storage.remove("chat.token");
    else this.#storage.set("chat.token", token);
  }

  get room() {
    return this.#storage.get("chat.room");
  }

  set room(room) {
    this.#storage.set("chat.room", room);
  }
}

/**
 * A message without a known outcome.
 *
 * `state` is "sending", "failed" (certainly not sent) or "unsure". `key` stays the same at each attempt,
 * so that the server does not store the message twice.
 */
export class Unsent {
  state = "sending";
  note = t("Sending…");
  /** The seq of the stored message, whose event is still to come. */
  seq = null;

  constructor(user, room, text, key = newKey()) {
    this.user = user;
    this.room = room;
    this.text = text;
    this.key = key;
  }
}

/** Drafts and unsent messages, each of one user in one room. */
export class Texts {
  #storage;
  /** By user and room: `{user, room, draft, unsent}`, the last touched at the end. */
  #places = new Map();
  #copies;

  constructor(storage, copies = new Copies(newKey())) {
    this.#storage = storage;
    this.#copies = copies;
    for (const key of storage.keys()) {
      if (key.startsWith(TEXTS)) this.#restore(key);
    }
  }

  /** Take a user's texts from ended tabs; resolves to whether any were found. */
  async adopt(user) {
    let adopted = false;
    await this.#copies.adopt(user, (key, text) => {
      const isTaken = this.#take(key, text);
      adopted ||= isTaken;
      return isTaken;
    });
    return adopted;
  }

  draft(user, room) {
    return this.#places.get(placeKey(user, room))?.draft ?? "";
  }

  setDraft(user, room, draft) {
    const place = this.#place(user, room);
    place.draft = draft;
    this.#keep(place);
  }

  /** Return the unsent messages of a user, or of all users. */
  unsent(user) {
    const places = [...this.#places.values()];
    return places.filter((place) => user === undefined || place.user === user)
      .flatMap((place) => place.unsent);
  }

  /** Return the number of a user's drafts, including drafts of ended tabs that wait for their place. */
  drafts(user) {
    const here = [...this.#places.values()].filter((place) => place.user === user && place.draft.trim());
    return here.length + this.#copies.left;
  }

  hasSpace(text) {
    const all = this.unsent();
    const characters = all.reduce((sum, message) => sum + message.text.length, text.length);
    return all.length < MAX_UNSENT && characters <= MAX_UNSENT_CHARACTERS;
  }

  has(message) {
    const place = this.#places.get(placeKey(message.user, message.room));
    return place?.unsent.includes(message) ?? false;
  }

  /** Keep a message, new or changed. */
  put(message) {
    const place = this.#place(message.user, message.room);
    if (!place.unsent.includes(message)) place.unsent.push(message);
    this.#keep(place);
  }

  remove(message) {
    const place = this.#places.get(placeKey(message.user, message.room));
    if (!place) return;
    place.unsent = place.unsent.filter((other) => other !== message);
    this.#keep(place);
  }

  /** Forget all texts of a user, here and in other tabs at their end. */
  forget(user) {
    this.#copies.forget(user);
    for (const place of [...this.#places.values()].filter((place) => place.user === user)) {
      Object.assign(place, { draft: "", unsent: [] });
      this.#keep(place);
    }
  }

  #place(user, room) {
    const key = placeKey(user, room);
    const place = this.#places.get(key) ?? { user, room, draft: "", unsent: [] };
    this.#places.delete(key);
    this.#places.set(key, place);
    const idle = [...this.#places.values()].find(({ unsent }) => unsent.length === 0);
    if (this.#places.size > MAX_PLACES && idle) this.forgetPlace(idle);
    return place;
  }

  forgetPlace({ user, room }) {
    const key = placeKey(user, room);
    this.#places.delete(key);
    this.#storage.remove(TEXTS + key);
    this.#copies.keep(key, null);
  }

  #keep(place) {
    const { user, room, draft, unsent } = place;
    if (draft === "" && unsent.length === 0) {
      this.forgetPlace(place);
      return;
    }
    const messages = unsent.map(({ key, text, state, note }) => ({ key, text, state, note }));
    const text = JSON.stringify({ draft, unsent: messages });
    this.#storage.set(TEXTS + placeKey(user, room), text);
    this.#copies.keep(placeKey(user, room), text);
  }

  #restore(storageKey) {
    const key = storageKey.slice(TEXTS.length);
    try {
      this.#places.set(key, placeOf(key, this.#storage.get(storageKey)));
    } catch {
      this.#storage.remove(storageKey);
    }
  }

  /** Take another tab's text for a place; returns false if the place has another text. */
  #take(key, text) {
    let left;
    try {
      left = placeOf(key, text);
    } catch {
      return true;
    }
    const { user, room, draft, unsent } = left;
    const here = this.draft(user, room);
    if (here && draft && here !== draft) return false;
    if (!this.hasSpace(unsent.map((message) => message.text).join(""))) return false;
    const place = this.#place(user, room);
    const known = new Set(place.unsent.map((message) => message.key));
    place.draft ||= draft;
    place.unsent.push(...unsent.filter((message) => !known.has(message.key)));
    this.#keep(place);
    return true;
  }
}

/** Return a place as it was kept. */
function placeOf(key, text) {
  const [user, room] = JSON.parse(key);
  const { draft, unsent } = JSON.parse(text);
  const messages = unsent.map(({ key, text, state, note }) => {
    const message = new Unsent(user, room, text, key);
    // The page ended before the outcome was known.
    return state === "sending"
      ? Object.assign(message, { state: "unsure", note: LEFT })
      : Object.assign(message, { state, note });
  });
  return { user, room, draft, unsent: messages };
}

const LEFT = t("This may have been sent: the page was left before the server answered.");

/** The rooms visited by a user, in all tabs of this browser, the latest at the end. */
export class Visited {
  of(user) {
    try {
      const names = JSON.parse(localStorage.getItem(VISITED + user) ?? "[]");
      return names.filter((name) => typeof name === "string" && isRoom(name)).slice(-MAX_PLACES);
    } catch {
      // Storage is blocked, or another page has stored a foreign value.
      return [];
    }
  }

  add(user, name) {
    this.#keep(user, [...this.of(user).filter((other) => other !== name), name].slice(-MAX_PLACES));
  }

  remove(user, name) {
    this.#keep(user, this.of(user).filter((other) => other !== name));
  }

  /** Forget the rooms of a user. */
  forget(user) {
    try {
      localStorage.removeItem(VISITED + user);
    } catch {
      // Nothing was stored there.
    }
  }

  #keep(user, names) {
    try {
      localStorage.setItem(VISITED + user, JSON.stringify(names));
    } catch {
      // Then the next load shows only the rooms of the token.
    }
  }
}

/** @param {function} onLack called with whether the next load will lose some state. */
export function openStorage(onLack) {
  const storage = new Storage(onLack);
  const tab = storage.get(TAB) ?? newKey();
  storage.set(TAB, tab);
  return { session: new Session(storage), texts: new Texts(storage, new Copies(tab)) };
}

function placeKey(user, room) {
  return JSON.stringify([user, room]);
}

/** Return a key for a publication; `crypto.randomUUID` does not exist on plain http:// addresses. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
