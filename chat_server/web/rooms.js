/** The rooms of a user, named by the token or visited; all rooms are live. */

import { isRoom, topicOf } from "./address.js";
import { locale } from "./language.js";
import { Room } from "./room.js";
import { grants, patternsOf, segmentOf } from "./token.js";

const PREFIX = "room:";
/** Rooms in the list. By default a server allows a connection 128 topics. */
const MAX_ROOMS = 60;
/** Milliseconds within which opened rooms share one request for unread counts. */
const TOGETHER_MS = 50;
const RETRY_MS = 5_000;
/** The order of the list, by name, so that rooms keep their places. */
const order = new Intl.Collator(locale, { numeric: true });

export class Rooms {
  #client;
  #user;
  #token;
  #visited;
  #named;
  #onEvent;
  #onChange;
  #onTell;
  #rooms = new Map();
  /** Names by user, from all rooms. */
  #names = new Map();
  /** The room visited last. */
  #shown = null;
  #uncounted = new Set();
  #timer = null;

  /**
   * @param {object} options
   * @param {ChatClient} options.client
   * @param {string} options.user
   * @param {string} options.token
   * @param {Visited} options.visited keeps the names.
   * @param {function} options.onEvent called with a room and each of its events.
   * @param {function} options.onChange called with a room in a new state.
   * @param {function} options.onTell as in `Room`.
   */
  constructor({ client, user, token, visited, onEvent, onChange, onTell }) {
    this.#client = client;
    this.#user = user;
    this.#token = token;
    this.#visited = visited;
    this.#onEvent = onEvent;
    this.#onChange = onChange;
    this.#onTell = onTell;
    this.#named = namedRooms(token, user);
    for (const name of [...this.#named, ...visited.of(user)].slice(0, MAX_ROOMS)) this.#add(name);
  }

  /** Iterate over the rooms in the order of their names. */
  [Symbol.iterator]() {
    return [...this.#rooms.values()].sort((one, other) => order.compare(one.name, other.name)).values();
  }

  /** The first room named by the token, if any. */
  get first() {
    return this.#named[0];
  }

  /** Return a room of the list, or undefined. */
  get(name) {
    return this.#rooms.get(name);
  }

  /** Return a room, which counts as visited from now on. */
  visit(name) {
    this.#visited.add(this.#user, name);
    const room = this.#rooms.get(name) ?? this.#add(name);
    this.#shown = room;
    room.open();
    if (room.state === "open") this.#askReaders(room);
    if (this.#rooms.size > MAX_ROOMS) this.#dropOldest(name);
    return room;
  }

  /** Whether a room may be removed from the list. */
  isRemovable(name) {
    return !this.#named.includes(name);
  }

  remove(name) {
    this.#visited.remove(this.#user, name);
    this.#rooms.get(name)?.close();
    this.#rooms.delete(name);
  }

  /** Count unread messages of a room anew, after the user has read elsewhere. */
  recount(room) {
    this.#uncounted.add(room);
    this.#timer ??= setTimeout(() => this.#count(), TOGETHER_MS);
  }

  #add(name) {
    const room = new Room(name, {
      client: this.#client,
      user: this.#user,
      names: this.#names,
      mayWrite: grants(this.#token, "publish", topicOf(name)),
      onEvent: (...event) => this.#received(...event),
      onChange: (room, isOpened) => {
        if (isOpened) {
          this.recount(room);
          this.#askReaders(room);
        }
        this.#onChange(room);
      },
      onTell: this.#onTell,
    });
    this.#rooms.set(name, room);
    room.open();
    return room;
  }

  #received(room, event) {
    if (event.type === "read" && event.user === this.#user && event.seq > room.read) this.recount(room);
    if (event.type === "gap") {
      this.recount(room);
      this.#askReaders(room);
    }
    this.#onEvent(room, event);
  }

  async #count() {
    this.#timer = null;
    const rooms = [...this.#uncounted].filter(({ state }) => state === "open");
    this.#uncounted.clear();
    if (rooms.length === 0) return;
    try {
      const counts = await this.#client.unread(...rooms.map(({ topic }) => topic));
      for (const room of rooms) room.count(counts[room.topic]);
    } catch (error) {
      // After a lost connection each room opens again.
      if (!isPassing(error)) return;
      setTimeout(() => rooms.forEach((room) => this.recount(room)), RETRY_MS);
    }
  }

  /** Ask for the read cursors of the shown room; the server pushes later changes. */
  async #askReaders(room) {
    if (room !== this.#shown) return;
    try {
      const { [room.topic]: { readers } } = await this.#client.unread(room.topic, { readers: true });
      // Not every room or server has read cursors of others.
      if (readers) room.people.read(readers);
    } catch (error) {
      if (isPassing(error)) setTimeout(() => this.#askReaders(room), RETRY_MS);
    }
  }

  #dropOldest(except) {
    const names = this.#visited.of(this.#user).filter((name) => this.isRemovable(name) && name !== except);
    if (names.length > 0) this.remove(names[0]);
  }
}

function isPassing({ code }) {
  return ["rate_limited", "unavailable"].includes(code);
}

/** Return the rooms that a token allows to read by name. */
function namedRooms(token, user) {
  return (patternsOf(token, "subscribe") ?? [])
    .filter((pattern) => pattern.startsWith(PREFIX))
    .map((pattern) => pattern.slice(PREFIX.length).replaceAll("{sub}", segmentOf(user)))
    .filter(isRoom);
}
