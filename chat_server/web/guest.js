/** A name and a colour are enough to come in, on servers for development. */

import { t } from "./language.js";
import { showText } from "./status.js";

const TIMEOUT_MS = 10_000;

const $ = (id) => document.getElementById(id);

/** @param {function} onToken called with the token of a guest. */
export function offerGuests(onToken) {
  if (document.documentElement.dataset.guests !== "on") return;
  const hue = $("guest-hue");
  const show = () => $("guest-form").style.setProperty("--hue", hue.value);
  hue.value = Math.floor(Math.random() * 360);
  hue.addEventListener("input", show);
  show();
  $("guest").hidden = false;
  $("guest-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      onToken(await ask($("guest-name").value.trim(), Number(hue.value)));
    } catch (error) {
      showText($("guest-error"), error.message);
    }
  });
}

async function ask(name, hue) {
  const response = await fetch("dev/token", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ name, hue }),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  }).catch(() => {
    throw new Error(t("The server does not answer. Try again in a while."));
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.detail ?? t("The server gave no token."));
  return answer.token;
}
