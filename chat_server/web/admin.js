/** The page for operators: the sign-in, and the shown view. */

import { Account, hasAccounts, isForeign } from "./account.js";
import { Api, sentence } from "./admin-api.js";
import { Explain } from "./admin-explain.js";
import { Lists } from "./admin-lists.js";
import { Orders } from "./admin-orders.js";
import { Overview } from "./admin-overview.js";
import { $, showText } from "./admin-view.js";
import { claims } from "./client-common.js";
import { inert } from "./text.js";

const KEY = "chat.admin";
const VIEWS = ["overview", "connections", "topics", "out", "explain", "orders"];
const NO_GRANT = "You are no operator: this token does not have the grant admin.";

const account = new Account((reason) => end(reason));
/** What is open for an operator, or null. */
let open = null;
/** The current attempt; answers to earlier attempts are ignored. */
let attempt = null;

/** Show the page if the token has the grant. */
async function enter(source, keep) {
  const mine = (attempt = Symbol("attempt"));
  showText($("sign-in-error"), "");
  const api = new Api({ source, distrust: keep ? undefined : () => account.distrust(), onEnd: end });
  let token;
  try {
    token = await source();
    await api.ask("topics", { limit: 1 });
  } catch (error) {
    if (mine !== attempt || error.code === "unauthorized") return;
    // Operators are let in while the store is away, when the page is needed most.
    if (error.code === undefined || error.code === "forbidden") {
      end(error.code ? NO_GRANT : sentence(error), error.code !== undefined);
      return;
    }
  }
  if (mine !== attempt) return;
  if (keep) store(token);
  $("me").textContent = inert(claims(token).sub);
  $("sign-in").hidden = true;
  $("page").hidden = false;
  document.body.classList.remove("limited");
  const orders = new Orders(api, () => open?.lists.refresh(view()));
  const overview = new Overview(api, () => document.body.classList.add("limited"));
  open = { overview, lists: new Lists(api, orders), explain: new Explain(api) };
  show();
}

/** Show the form to sign in, and the reason. */
function end(reason, forget = true) {
  attempt = null;
  open?.overview.close();
  open?.lists.close();
  open = null;
  if (forget) store(null);
  $("order").close();
  $("page").hidden = true;
  $("sign-in").hidden = false;
  showText($("sign-in-error"), reason);
  (hasAccounts && !isForeign ? $("name") : $("token")).focus();
}

function view() {
  const name = location.hash.slice(1);
  return VIEWS.includes(name) ? name : "overview";
}

function show() {
  const name = view();
  for (const each of VIEWS) $(each).hidden = each !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (open?.lists.has(name)) open.lists.open(name);
}

/** Keep a token in this tab only; an account's token is fetched anew instead. */
function store(token) {
  try {
    if (token === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, token);
  } catch {
    // Storage is blocked: the sign-in ends with the page.
  }
}

function stored() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

async function start() {
  const token = stored();
  $("account-form").hidden = !hasAccounts || isForeign;
  $("sign-in").hidden = false;
  if (token !== null) {
    await enter(() => token, true);
  } else if (account.mayResume) {
    try {
      if ((await account.resume()) !== null) await enter(() => account.token(), false);
    } catch (error) {
      showText($("sign-in-error"), sentence(error));
    }
  }
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = $("token").value.replace(/\s/g, "");
  $("token").value = "";
  // A header takes no other characters, and the server would not be asked.
  if (!/^[\w-]+\.[\w-]+\.[\w-]*$/.test(token)) end("This is not a token: it has three parts with dots between.");
  else enter(() => token, true);
});
$("account-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const password = $("password").value;
  $("password").value = "";
  try {
    await account.logIn($("name").value.trim(), password);
    await enter(() => account.token(), false);
  } catch (error) {
    end(error.code === "unauthorized" ? "The name or the password is wrong." : sentence(error));
  }
});
$("sign-out").addEventListener("click", () => {
  end("");
  if (account.user !== null) account.logOut();
});
window.addEventListener("hashchange", show);
start();
