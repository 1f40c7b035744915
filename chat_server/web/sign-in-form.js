/** The form to sign in and to sign up, on servers with accounts. */

import { hasAccounts, isForeign, maySignUp } from "./account.js";
import { t } from "./language.js";
import { showText } from "./status.js";

const $ = (id) => document.getElementById(id);

const WORDS = {
  unauthorized: t("The name or the password is wrong."),
  rate_limited: t("There were too many attempts."),
  unavailable: t("The server cannot sign anybody in at the moment."),
};
const NO_ANSWER = t("The server does not answer.");
const LATER = t("Try again in a while.");
const FOREIGN = t("You are not signed in. Sign in where this chat belongs to, and load this page again.");
const MINUTE_MS = 60_000;

export class SignInForm {
  #account;
  #onToken;
  #invitation = null;
  #isNew = false;

  /**
   * @param {Account} account
   * @param {function} onToken called with a token once a user is signed in.
   */
  constructor(account, onToken) {
    this.#account = account;
    this.#onToken = onToken;
    if (!hasAccounts) return;
    $("with-token").append($("sign-in-form"));
    $("with-token").hidden = false;
    $("account-form").hidden = $("sign-out").hidden = isForeign;
    $("account-form").addEventListener("submit", (event) => this.#submit(event));
    $("sign-up").addEventListener("click", () => this.#show(!this.#isNew));
    this.#show(false);
  }

  /** Offer to sign up with an invitation. */
  invite(invitation) {
    this.#invitation = invitation;
    this.#show(maySignUp(invitation));
  }

  /** The advice to users without an account. */
  get advice() {
    return isForeign ? FOREIGN : "";
  }

  /** Show that the server cannot check the sign-in, and is asked again. */
  wait(error) {
    const reason = WORDS[error.code] ?? (error.code === "internal" ? error.message : NO_ANSWER);
    this.#tell({}, t("{reason} Trying again…", { reason }));
  }

  /** Put the cursor into the first field to fill in. */
  focus() {
    $(hasAccounts && !isForeign ? "name" : "token").focus();
  }

  #show(isNew) {
    this.#isNew = isNew;
    const what = isNew ? t("Sign up") : t("Sign in");
    $("sign-in-heading").textContent = $("account-submit").textContent = what;
    $("sign-up").textContent = isNew ? t("I have an account") : t("I am new here");
    $("sign-up").hidden = !isNew && !maySignUp(this.#invitation);
    $("password").autocomplete = isNew ? "new-password" : "current-password";
    this.#tell({});
  }

  #tell(fields, message = "") {
    const { name = "", password = "", ...others } = fields;
    for (const [id, text] of Object.entries({ name, password })) {
      showText($(`${id}-error`), text && t("It {mistake}.", { mistake: text }));
      $(id).setAttribute("aria-invalid", String(text !== ""));
    }
    const rest = Object.entries(others).map(([field, mistake]) => t("The {field} {mistake}.", { field, mistake }));
    showText($("sign-in-error"), [message, ...rest].join(" ").trim());
  }

  async #submit(event) {
    event.preventDefault();
    const button = $("account-submit");
    if (button.disabled) return;
    button.disabled = true;
    const [name, password] = [$("name").value.trim(), $("password").value];
    try {
      if (this.#isNew) await this.#account.signUp(name, password, this.#invitation);
      const token = await this.#account.logIn(name, password);
      $("password").value = "";
      this.#invitation = null;
      this.#show(false);
      this.#onToken(token);
    } catch (error) {
      this.#refused(error);
    } finally {
      button.disabled = false;
    }
  }

  #refused(error) {
    if (error.code === undefined) this.#tell({}, `${NO_ANSWER} ${LATER}`);
    else if (error.code === "invalid") this.#tell(error.fields);
    else this.#tell({}, `${WORDS[error.code] ?? `${error.message}.`}${waitWords(error)}`);
    const wrong = ["name", "password"].find((id) => !$(`${id}-error`).hidden);
    $(wrong ?? "password").focus();
  }
}

function waitWords({ retryInMs }) {
  if (retryInMs < MINUTE_MS) return retryInMs > 0 ? ` ${LATER}` : "";
  return ` ${t("The next is possible in {minutes} minutes.", { minutes: Math.ceil(retryInMs / MINUTE_MS) })}`;
}
