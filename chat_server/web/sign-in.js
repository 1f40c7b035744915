/** The sign-in of the user: by a link, an own token, or an account on this server. */

import { Account } from "./account.js";
import { isToken, takeFragment } from "./address.js";
import { ask } from "./dialog.js";
import { offerGuests } from "./guest.js";
import { locale, parts, t } from "./language.js";
import { SignInForm } from "./sign-in-form.js";
import { showText } from "./status.js";
import { isolated, nameNode } from "./text.js";
import { endOf, isExpired, nameOf } from "./token.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
/** Milliseconds before the end of a token at which the page warns. */
const WARN_MS = 120_000;
/** The longest time of a browser's timer, in milliseconds. */
const MAX_TIMER_MS = 2 ** 31 - 1;
const NO_TOKEN = t("This is not a token: a token has three parts with dots between.");
const NOT_TOLD = t("You are signed out here, but the server could not be told: sign out again when it answers.");

const $ = (id) => document.getElementById(id);

export class SignIn {
  #session;
  #texts;
  #visited;
  #onStart;
  #onEnd;
  #onRoom;
  /** Whether the chat is open; a session may exist even if not. */
  #open = false;
  #user = null;
  /** The message in the address before the sign-in, or null. */
  #seq = null;
  #warning = null;
  #account = new Account((reason) => this.end(reason));
  #form = new SignInForm(this.#account, (token) => this.#enterAccount(token));

  /**
   * @param {Session} options.session survives a reload of the page.
   * @param {Texts} options.texts the user's unsent texts.
   * @param {Visited} options.visited the user's rooms.
   * @param {function} options.onStart called once a user is signed in, with the user's token, the client's
   *   option `token`, and the `seq` of the message to show, or null; returns the user.
   * @param {function} options.onEnd called when the sign-in is over.
   * @param {function} options.onRoom called with the room of a followed address, or null, and with the `seq`
   *   of a message in that room, or null.
   */
  constructor({ session, texts, visited, onStart, onEnd, onRoom }) {
    this.#session = session;
    this.#texts = texts;
    this.#visited = visited;
    this.#onStart = onStart;
    this.#onEnd = onEnd;
    this.#onRoom = onRoom;
    $("sign-in-form").addEventListener("submit", (event) => this.#submitToken(event));
    offerGuests((token) => this.#enter(token, null));
    $("sign-out").addEventListener("click", () => this.#leave());
  }

  /** Follow the address: a room, or a link with a token. */
  async follow() {
    const { token, room, seq, invitation } = takeFragment();
    if (token !== null && this.#session.token === null && this.#account.mayResume) await this.#resume();
    const standing = this.#session.token;
    const isOver = standing === null || (this.#session.accountToken === null && isExpired(standing));
    if (token !== null && token !== standing && !isOver) {
      if (!this.#open) this.#start();
      else this.#onRoom(null, null);
      this.#askToSwitch(token, room);
    } else if (token !== null && (token !== standing || !this.#open)) {
      this.#seq = seq;
      this.#enter(token, room);
    } else {
      this.#enterRoom(room, seq);
    }
    if (invitation !== null) this.#form.invite(invitation);
  }

  /** Discard the token of an account, which the server has refused. */
  distrust() {
    this.#account.distrust();
  }

  #enterRoom(room, seq) {
    if (this.#open) {
      this.#onRoom(room, seq);
      return;
    }
    if (room !== null) this.#session.room = room;
    this.#seq = seq;
    if (this.#session.token !== null) this.#start();
    else if (this.#account.mayResume) this.#resume();
    else this.end("");
  }

  /** Go on with the sign-in of this browser, as soon as the server can be asked. */
  async #resume() {
    $("sign-in").hidden = false;
    for (let wait = FIRST_WAIT_MS; !this.#open && this.#session.token === null; wait *= 2) {
      try {
        const token = await this.#account.resume();
        if (this.#open) return;
        if (token !== null) this.#enterAccount(token);
        else this.end(this.#form.advice);
        return;
      } catch (error) {
        this.#form.wait(error);
        await new Promise((resume) => setTimeout(resume, Math.min(wait, LONGEST_WAIT_MS)));
      }
    }
  }

  #enterAccount(token) {
    this.#session.token = null;
    this.#session.accountToken = token;
    this.#start();
  }

  #enter(token, room) {
    this.#session.token = token;
    if (room !== null) this.#session.room = room;
    this.#start();
  }

  /** Ask before following a link with a token, whose author may want the user to write under a false name. */
  async #askToSwitch(token, room) {
    const [standing, other] = [this.#session.token, token].map(nameOf);
    const yes = await ask({
      question: parts("This link signs you in as {other}. Now you are signed in as {standing}.",
        { other: nameNode(other), standing: nameNode(standing) }),
      no: parts("Stay {name}", { name: nameNode(standing) }),
      yes: parts("Sign in as {name}", { name: nameNode(other) }),
    });
    if (yes) this.#enter(token, room);
  }

  #start() {
    this.#open = true;
    $("sign-in").hidden = true;
    $("chat").hidden = false;
    const { token, accountToken } = this.#session;
    const source = accountToken === null ? token : () => this.#account.token();
    this.#warnOfEnd(accountToken === null ? endOf(token) : Infinity);
    this.#user = this.#onStart(token, source, this.#seq);
    this.#seq = null;
  }

  /** Warn before the end of a token without renewal. */
  #warnOfEnd(end) {
    clearTimeout(this.#warning);
    showText($("ending"), "");
    const wait = end - Date.now() - WARN_MS;
    if (!(wait < MAX_TIMER_MS)) return;
    this.#warning = setTimeout(() => {
      const time = new Intl.DateTimeFormat(locale, { timeStyle: "short" }).format(end);
      showText($("ending"), t("Your sign-in ends at {time}. What you have not sent by then is kept.", { time }));
    }, wait);
  }

  /** Sign out at the user's wish, after a question if texts would be lost. */
  async #leave() {
    const user = this.#user;
    const messages = this.#texts.unsent(user).filter(({ seq }) => seq === null).length;
    const count = messages + this.#texts.drafts(user);
    if (count > 0) {
      const yes = await ask({
        question: [
          t(count === 1 ? "A message is not sent yet." : "{count} messages are not sent yet.", { count }), " ",
          t("Signing out deletes what you wrote, also what is kept of tabs that were closed."),
        ],
        no: [t("Stay")],
        yes: [t("Delete and sign out")],
      });
      if (!yes || this.#user !== user) return;
    }
    this.#texts.forget(user);
    this.#visited.forget(user);
    const isAccount = this.#session.accountToken !== null;
    this.end("");
    if (isAccount && !(await this.#account.logOut()) && !this.#open) {
      showText($("sign-in-error"), NOT_TOLD);
    }
  }

  /** Show the form to sign in, and the reason; the user's texts are kept for the next sign-in. */
  end(reason) {
    const user = this.#user;
    this.#open = false;
    this.#user = null;
    this.#session.token = null;
    clearTimeout(this.#warning);
    this.#onEnd();
    $("chat").hidden = true;
    $("sign-in").hidden = false;
    // Waiting messages become known as unsent a moment later.
    const kept = user !== null && (this.#texts.unsent(user).length || this.#texts.drafts(user));
    const advice = t("What you have not sent is kept: sign in as {name} again.", { name: isolated(user) });
    showText($("sign-in-error"), kept ? `${reason} ${advice}` : reason);
    document.title = t("Sign in");
    this.#form.focus();
  }

  #submitToken(event) {
    event.preventDefault();
    const token = $("token").value.replace(/\s/g, "");
    if (!isToken(token)) {
      showText($("sign-in-error"), NO_TOKEN);
      return;
    }
    $("token").value = "";
    this.#enter(token, null);
  }
}
