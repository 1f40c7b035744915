/** What the user changes in the messages of a room, from the press of a key until the server has it. */

import { t } from "./language.js";
import { reasonOf, words } from "./words.js";

const UNSURE = t("This may have been sent: the connection broke before the server answered.");
const FORBIDDEN = t("You are not allowed to do this.");
/** What waits for so long is told to those who do not see it. */
const LONG_MS = 2_000;

/** Return sentences on a change that was refused, of which `undone` is the first unless nobody knows. */
export function refusal(error, undone) {
  // Of a message that is gone nobody asks whether the change came first.
  if (error.mayBeSent && !["gone", "not_found"].includes(error.code)) return UNSURE;
  return `${undone} ${error.code === "forbidden" ? FORBIDDEN + reasonOf(error) : words(error)}`;
}

export class Changes {
  /** By the `seq` of a message: of each change `{note, data, seq, refused}`, the oldest first. */
  #all = new Map();
  #onShow;
  #onTell;

  /**
   * @param {function} onShow called with the `seq` of a message of which other changes are to be shown.
   * @param {function} onTell called with a sentence on how a change goes, and where that is to be shown, too: "nowhere",
   *   "everywhere", or "elsewhere", of what the field tells in the room that is open.
   */
  constructor(onShow, onTell) {
    this.#onShow = onShow;
    this.#onTell = onTell;
  }

  /** Whether anything is not known to be stored. */
  get isWaiting() {
    return [...this.#all.values()].flat().some(({ seq, refused }) => seq === null && !refused);
  }

  /**
   * Return what is to be shown of a message's changes: `{note, refused, isEdit}` of the last one, and what the
   * message will say, `data`; undefined if there are none.
   */
  of(seq) {
    const changes = this.#all.get(seq);
    if (!changes) return undefined;
    const { note, refused, data } = changes.at(-1);
    const coming = changes.findLast((change) => change.data && !change.refused)?.data;
    return { note, refused, isEdit: Boolean(data), data: coming };
  }

  /** Show no more that a change of a message was refused. */
  dismiss(target) {
    this.#show(target, (this.#all.get(target) ?? []).filter(({ refused }) => !refused));
  }

  /**
   * Change a message; resolves to the answer of the server.
   *
   * @param {number} target the `seq` of the message.
   * @param {object} words `doing` while it waits, `undone` begins what is said if it is refused.
   * @param {object} [words.data] what the message will say.
   * @param {function} act called with options for the client; resolves to the answer.
   */
  async make(target, { doing, undone, data }, act) {
    const change = { note: doing, data, seq: null, refused: false };
    const earlier = (this.#all.get(target) ?? []).filter(({ refused }) => !refused);
    this.#show(target, [...earlier, change]);
    let isTold = false;
    const timer = setTimeout(() => {
      isTold = true;
      this.#onTell(change.note, "nowhere");
    }, LONG_MS);
    const onDelay = (error) => {
      change.note = words(error);
      this.#onShow(target);
    };
    try {
      const answer = await act({ onDelay });
      change.seq = answer.seq;
      if (isTold) this.#onTell(t("The change is stored."), "nowhere");
      return answer;
    } catch (error) {
      Object.assign(change, { refused: true, note: refusal(error, undone) });
      this.#onShow(target);
      this.#onTell(change.note, data ? "elsewhere" : "everywhere");
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Show no more what the events up to a position have brought. */
  settleUpTo(position) {
    for (const [target, changes] of this.#all) {
      const left = changes.filter(({ seq }) => seq === null || seq > position);
      if (left.length < changes.length) this.#show(target, left);
    }
  }

  /** Forget all: what has these places now are other messages. */
  clear() {
    const targets = [...this.#all.keys()];
    this.#all.clear();
    for (const target of targets) this.#onShow(target);
  }

  #show(target, changes) {
    if (changes.length > 0) this.#all.set(target, changes);
    else this.#all.delete(target);
    this.#onShow(target);
  }
}
