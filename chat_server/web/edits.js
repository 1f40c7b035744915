/** Edits of messages in progress, which outlive their tab like drafts. */

export class Edits {
  #texts;
  /** Edits on their way to the server, by `keyOf`. */
  #sent = new Set();

  /** @param {Texts} texts keeps the edits. */
  constructor(texts) {
    this.#texts = texts;
  }

  /** Return the edit in progress of a room or of one message, `{seq, epoch, data}`, or null. */
  open(user, room, seq) {
    const isOpen = (edit) => !this.#sent.has(keyOf(user, room, edit)) && (seq === undefined || edit.seq === seq);
    return this.#of(user, room).findLast(isOpen) ?? null;
  }

  /** Keep an edit in progress. */
  keep(user, room, edit) {
    this.#put(user, room, [...this.#others(user, room, edit.seq), edit]);
  }

  /** Forget the edit of a message. */
  drop(user, room, seq) {
    this.#put(user, room, this.#others(user, room, seq));
  }

  /** Store an edit, kept until `store` resolves; if `store` rejects, the edit is in progress again. */
  async save(user, room, edit, store) {
    this.keep(user, room, edit);
    const key = keyOf(user, room, edit);
    this.#sent.add(key);
    try {
      await store();
      this.#put(user, room, this.#of(user, room).filter((other) => keyOf(user, room, other) !== key));
    } catch (error) {
      const others = this.#of(user, room).filter((other) => keyOf(user, room, other) !== key);
      // A later edit of this message began with this text.
      if (others.some(({ seq }) => seq === edit.seq)) this.#put(user, room, others);
      throw error;
    } finally {
      this.#sent.delete(key);
    }
  }

  /** Return all edits of a room but the one of a message. */
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

/** Return the key of a room's edits in `Texts`, which no room has as its name. */
function placeOf(room) {
  return `${room} (edit)`;
}

function keyOf(user, room, edit) {
  return JSON.stringify([user, room, edit]);
}
