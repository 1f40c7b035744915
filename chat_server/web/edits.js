/** What messages shall say instead, as their authors write it; it outlives its tab as drafts do. */

export class Edits {
  #texts;
  /** Those that are on their way to the server, by `keyOf`. */
  #sent = new Set();

  /** @param {Texts} texts what keeps them. */
  constructor(texts) {
    this.#texts = texts;
  }

  /** Return the edit of a room that is being written, `{seq, epoch, data}`, or of one message; null if none is. */
  open(user, room, seq) {
    const isOpen = (edit) => !this.#sent.has(keyOf(user, room, edit)) && (seq === undefined || edit.seq === seq);
    return this.#of(user, room).findLast(isOpen) ?? null;
  }

  /** Keep what is being written. */
  keep(user, room, edit) {
    this.#put(user, room, [...this.#others(user, room, edit.seq), edit]);
  }

  /** Forget what was being written of a message. */
  drop(user, room, seq) {
    this.#put(user, room, this.#others(user, room, seq));
  }

  /** Store an edit; it is kept until `store` resolves, and is one that is being written again if it is rejected. */
  async save(user, room, edit, store) {
    this.keep(user, room, edit);
    const key = keyOf(user, room, edit);
    this.#sent.add(key);
    try {
      await store();
      this.#put(user, room, this.#of(user, room).filter((other) => keyOf(user, room, other) !== key));
    } catch (error) {
      const others = this.#of(user, room).filter((other) => keyOf(user, room, other) !== key);
      // A later one of this message began with this text.
      if (others.some(({ seq }) => seq === edit.seq)) this.#put(user, room, others);
      throw error;
    } finally {
      this.#sent.delete(key);
    }
  }

  /** Return all edits but that of a message which is being written. */
  #others(user, room, seq) {
    return this.#of(user, room).filter((edit) => edit.seq !== seq || this.#sent.has(keyOf(user, room, edit)));
  }

  #of(user, room) {
    return [JSON.parse(this.#texts.draft(user, placeOf(room)) || "[]")].flat();
  }

  #put(user, room, edits) {
    this.#texts.setDraft(user, placeOf(room), edits.length > 0 ? JSON.stringify(edits) : "");
  }
}

/** Under which room edits are kept: no room has such a name. */
function placeOf(room) {
  return `${room} (edit)`;
}

function keyOf(user, room, edit) {
  return JSON.stringify([user, room, edit]);
}
