/** Sends what the outbox holds, and tells the outbox how that ended. */

import { topicOf } from "./address.js";
import { t } from "./language.js";
import { reasonOf, words } from "./words.js";

const UNSURE = t("This may have been sent: the connection broke before the server answered.");
const NOT_ALLOWED = t("You are not allowed to write here.");

export class Sender {
  #outbox;
  #announcer;
  #onStored;
  #onForbidden;
  #onUnauthorized;
  #client = null;
  #user = null;

  /**
   * @param {Outbox} options.outbox
   * @param {Announcer} options.announcer
   * @param {function} options.onStored called with a message of the outbox and the answer of the server.
   * @param {function} options.onForbidden called with the room in which the user may not write.
   * @param {function} options.onUnauthorized called with the error that says that the sign-in is over.
   */
  constructor({ outbox, announcer, onStored, onForbidden, onUnauthorized }) {
    this.#outbox = outbox;
    this.#announcer = announcer;
    this.#onStored = onStored;
    this.#onForbidden = onForbidden;
    this.#onUnauthorized = onUnauthorized;
  }

  /** Send for this user from now on; null for nobody. */
  use(client, user) {
    this.#client = client;
    this.#user = user;
  }

  /** Send a message; it stays in the outbox until it is stored, or the user deletes it. */
  async send(message) {
    const client = this.#client;
    this.#outbox.update(message, "sending", t("Sending…"));
    try {
      const stored = await client.publish(topicOf(message.room), { text: message.text }, {
        key: message.key,
        onDelay: (error) => {
          if (this.#outbox.has(message)) this.#outbox.update(message, "sending", words(error));
        },
      });
      this.#onStored(message, stored);
    } catch (error) {
      this.#failed(message, error);
      if (error.code === "unauthorized" && this.#client === client) this.#onUnauthorized(error);
    }
  }

  #failed(message, error) {
    if (!this.#outbox.has(message)) return;
    const isForbidden = error.code === "forbidden";
    const reason = isForbidden ? NOT_ALLOWED + reasonOf(error) : words(error);
    // What an application refuses may be this one message.
    if (isForbidden && !reasonOf(error) && message.user === this.#user) this.#onForbidden(message.room);
    if (error.mayBeSent) this.#outbox.update(message, "unsure", UNSURE);
    else this.#outbox.update(message, "failed", t("Not sent. {reason}", { reason }));
    if (message.user === this.#user) this.#announcer.say(`#${message.room}: ${message.note}`);
  }
}
