/** What a token says, read without verifying it: it is only shown to its bearer. */

import { claims } from "./client-common.js";
import { t } from "./language.js";
import { isolated, visibleName } from "./text.js";

const MAX_PATTERNS = 5;

export function userOf(token) {
  return String(claims(token).sub ?? "");
}

export function nameOf(token) {
  const { name, sub } = claims(token);
  return visibleName(name, sub);
}

/** Return when a token ends, in milliseconds since 1970, or NaN. */
export function endOf(token) {
  return claims(token).exp * 1000;
}

export function isExpired(token) {
  return endOf(token) <= Date.now();
}

/** Whether a token may allow to change what others wrote, somewhere. */
export function mayModerate(token) {
  return (claims(token).topics?.moderate?.length ?? 0) > 0;
}

/** Return a sentence about the topics that a token allows to read. */
export function allowed(token) {
  const patterns = claims(token).topics?.subscribe;
  if (!Array.isArray(patterns)) return t("Your token names no rooms, so the server's settings decide.");
  if (patterns.length === 0) return t("Your token allows you to read nothing.");
  const shown = patterns.slice(0, MAX_PATTERNS).map(isolated).join(", ");
  const more = patterns.length > MAX_PATTERNS ? ", …" : "";
  return t("Your token allows {patterns}.", { patterns: `${shown}${more}` });
}
