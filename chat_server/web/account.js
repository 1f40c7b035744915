/** The visitor's account on this server: signing in, staying signed in, and signing out. */

import { isToken } from "./address.js";
import { claims } from "./client-common.js";
import { t } from "./language.js";

/** The way to sign in: "" by tokens alone, "closed", "invited", "open", or "session". */
const { accounts: MODE = "", tokenUrl: TOKEN_URL = "" } = document.documentElement.dataset;
/** Storage key of the signed-in user's name, for all tabs; the credential is in a cookie. */
const WHO = "chat.account";
const TIMEOUT_MS = 10_000;
/** Milliseconds before the end of a token at which the client asks for the next; at most half its life. */
const RENEW_AHEAD_MS = 60_000;
const SPARE_MS = 5_000;
const LOG_OUT_ATTEMPTS = 3;
const PAUSE_MS = 1_000;

export const hasAccounts = MODE !== "";
/** Whether an application signs its users in, so that the page has no form. */
export const isForeign = MODE === "session";

export function maySignUp(invitation) {
  return MODE === "open" || (MODE === "invited" && invitation !== null);
}

/** A refusal by the server: `code` and `message` of its problem document, and maybe `fields`. */
export class Refusal extends Error {
  constructor({ code, detail, fields, retry_in_ms }, status) {
    super(detail ?? t("The server answered {status}.", { status }));
    this.code = code ?? "internal";
    this.fields = fields ?? {};
    this.retryInMs = retry_in_ms ?? 0;
  }
}

export class Account {
  #onEnd;
  #token = null;
  /** By `performance.now()`: the time until which the token is handed out again. */
  #fresh = 0;
  #refreshing = null;
  /** Number of the sign-in; results for an earlier sign-in are ignored. */
  #visit = 0;

  /** @param {function} onEnd called with a sentence when the sign-in is over, also by another tab. */
  constructor(onEnd) {
    this.#onEnd = onEnd;
    window.addEventListener("storage", ({ key }) => {
      if ((key === WHO || key === null) && this.#token !== null && remembered() !== this.user) {
        this.#end(t("You were signed out in another tab."));
      }
    });
  }

  /** The signed-in user, or null. */
  user = null;

  /** Whether a sign-in may still exist, from before a reload or from another tab. */
  get mayResume() {
    return isForeign || (hasAccounts && remembered() !== null);
  }

  /** Sign in with the cookie; resolves to a token, or null without a sign-in. */
  async resume() {
    try {
      return await this.#refresh();
    } catch (error) {
      if (!isOver(error)) throw error;
      this.forget();
      return null;
    }
  }

  /** Resolves to a token; rejected with a `Refusal`, or with an error of the network. */
  async logIn(name, password) {
    this.#visit += 1;
    return this.#take(await post("auth/login", { name, password, cookie: true }));
  }

  /** Make an account, without signing in. */
  async signUp(name, password, invitation) {
    await post("users", { name, password, ...(invitation && { invitation }) });
  }

  /** Resolves to a token for the chat: the present one while fresh, else the next. */
  async token() {
    if (this.#token !== null && performance.now() < this.#fresh) return this.#token;
    const visit = this.#visit;
    try {
      return await this.#refresh();
    } catch (error) {
      if (isOver(error) && visit === this.#visit) this.#end(t("Your sign-in has ended."));
      throw error;
    }
  }

  /** Discard the token, which the chat has refused. */
  distrust() {
    this.#fresh = 0;
  }

  /** Sign out in every tab; resolves to whether the server knows. */
  async logOut() {
    this.forget();
    // The application's own session is not ours to end.
    if (isForeign) return true;
    for (let attempt = 1; ; attempt += 1) {
      try {
        await post("auth/logout", {});
        return true;
      } catch {
        if (attempt === LOG_OUT_ATTEMPTS) return false;
        await new Promise((resume) => setTimeout(resume, PAUSE_MS));
      }
    }
  }

  /** Forget the signed-in user, in this tab and in the others. */
  forget() {
    this.#visit += 1;
    this.#token = this.user = this.#refreshing = null;
    if (!isForeign) remember(null);
  }

  #end(reason) {
    const standing = remembered() === this.user;
    this.#visit += 1;
    this.#token = this.user = this.#refreshing = null;
    // Another tab may have another user by now.
    if (standing && !isForeign) remember(null);
    this.#onEnd(reason);
  }

  /** Refresh the token. Calls at the same time share an answer; the server does the same for tabs. */
  #refresh() {
    const visit = this.#visit;
    this.#refreshing ??= renew().then((answer) => {
      if (visit !== this.#visit) throw new Error("signed out meanwhile");
      if (this.user !== null && answer.user !== undefined && idOf(answer) !== this.user) {
        throw new Refusal({ code: "unauthorized", detail: "another user is signed in" }, 401);
      }
      return this.#take(answer);
    }).finally(() => {
      if (visit === this.#visit) this.#refreshing = null;
    });
    return this.#refreshing;
  }

  #take(answer) {
    const life = answer.expires_in * 1000;
    const ahead = Math.min(life / 2, RENEW_AHEAD_MS) + Math.min(life / 8, SPARE_MS);
    this.#token = answer.access_token;
    this.#fresh = performance.now() + life - ahead;
    this.user = idOf(answer);
    if (!isForeign) remember(this.user);
    return this.#token;
  }
}

function idOf({ user }) {
  return user.id ?? user.user;
}

function isOver(error) {
  return error instanceof Refusal && error.code === "unauthorized";
}

/** Ask for the next token: the application's own address if there is one, else this server. */
async function renew() {
  if (TOKEN_URL === "") return post("auth/refresh", {});
  const response = await fetch(TOKEN_URL, {
    method: "POST",
    credentials: "include",
    redirect: "manual",
    cache: "no-store",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const token = (await response.text()).trim();
  const { status } = response;
  // Many applications redirect users without a session to their form.
  if (status === 401 || status === 403 || response.type === "opaqueredirect") {
    throw new Refusal({ code: "unauthorized" }, status);
  }
  if (!response.ok) throw new Refusal({}, status);
  if (!isToken(token)) throw new Refusal({ detail: t("The application gave no token.") }, status);
  const { sub, iat, exp } = claims(token);
  return { access_token: token, expires_in: exp - (iat ?? Date.now() / 1000), user: { id: String(sub) } };
}

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    cache: "no-store",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refusal(answer, response.status);
  return answer;
}

function remembered() {
  try {
    return localStorage.getItem(WHO);
  } catch {
    return null;
  }
}

function remember(user) {
  try {
    if (user === null) localStorage.removeItem(WHO);
    else localStorage.setItem(WHO, user);
  } catch {
    // The sign-in ends with the page, then.
  }
}
