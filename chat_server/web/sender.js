/** Sends the messages of the outbox, and reports each outcome to the outbox. */

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
   * @param {function} options.onUnauthorized called with the error that ended the sign-in.
   */
  constructor({ outbox, announcer, onStored, onForbidden, onUnauthorized }) {
    this.#outbox = outbox;
    this.#announcer = announcer;
    this.#onStored = onStored;
    this.#onForbidden = onForbidden;
    this.#onUnauthorized = onUnauthorized;
  }

  /** Send for a user from now on; null for no user. */
  use(client, user) {
    this.#client = client;
    this.#user = user;
  }

  /** Send a message, which stays in the outbox until stored by the server or deleted by the user. */
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
    // An application may refuse a single message.
    if (isForbidden && !reasonOf(error) && message.user === this.#user) this.#onForbidden(message.room);
    if (error.mayBeSent) this.#outbox.update(message, "unsure", UNSURE);
    else this.#outbox.update(message, "failed", t("Not sent. {reason}", { reason }));
    if (message.user === this.#user) this.#announcer.say(`#${message.room}: ${message.note}`);
  }
}
