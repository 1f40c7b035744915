/**
 * Copies of tabs' texts that outlive the tabs, because phones end tabs without asking.
 *
 * A living tab holds a lock of the browser, so that no other tab takes its texts. Without locks, on plain
 * http:// addresses other than this computer's, texts live as long as their tab.
 */

const COPY = "chat.copy:";
const LOCK = "chat.tab:";
/** Texts of ended tabs that wait for a tab with a place for them. */
const MAX_LEFT = 100;
const { locks } = navigator;

export class Copies {
  #prefix;
  /** Number of texts of ended tabs that no tab has taken. */
  left = 0;

  /** @param {string} tab an id of this tab, the same after a reload. */
  constructor(tab) {
    this.#prefix = `${COPY}${tab}:`;
    // After a reload the lock is free a moment later; a tab waiting for its lock counts as living, too.
    locks?.request(LOCK + tab, () => new Promise(() => {}));
  }

  /** Keep a text of this tab by its place; null for none. */
  keep(place, text) {
    if (!locks) return;
    try {
      if (text === null) localStorage.removeItem(this.#prefix + place);
      else localStorage.setItem(this.#prefix + place, text);
    } catch {
      // Otherwise an older, sent text would come back.
      drop(this.#prefix + place);
    }
  }

  /** Forget a user's texts, in all tabs. */
  forget(user) {
    this.left = 0;
    for (const { key } of copies(user)) drop(key);
  }

  /**
   * Take the texts of ended tabs.
   *
   * @param {string} user the user of the texts.
   * @param {function} take called with a place and its text; returns whether the text was taken.
   */
  async adopt(user, take) {
    // Of two new tabs only one takes a text.
    await locks?.request(COPY, async () => {
      const { held, pending } = await locks.query();
      const living = new Set([...held, ...pending].map(({ name }) => name));
      this.left = 0;
      for (const { key, tab, place } of copies(user)) {
        if (living.has(LOCK + tab)) continue;
        if (this.left < MAX_LEFT && !take(place, localStorage.getItem(key))) this.left += 1;
        else drop(key);
      }
    });
  }
}

/** Return the copies of a user's texts as `{key, tab, place}`. */
function copies(user) {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(COPY)).map((key) => {
      const [, tab, place] = /^([^:]*):(.*)$/su.exec(key.slice(COPY.length)) ?? [null, "", ""];
      return { key, tab, place };
    }).filter(({ place }) => place.startsWith(`[${JSON.stringify(user)},`));
  } catch {
    return [];
  }
}

function drop(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // Nothing was stored there.
  }
}
