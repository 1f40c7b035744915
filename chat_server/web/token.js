/** Reads tokens without verification, only to show their content to the bearer. */

import { claims } from "./client-common.js";
import { t } from "./language.js";
import { isolated, visibleName } from "./text.js";

const MAX_PATTERNS = 5;
const WILDCARDS = t("* stands for any part of a name between colons, ** for one or more.");

export function userOf(token) {
  return String(claims(token).sub ?? "");
}

export function nameOf(token) {
  const { name, sub } = claims(token);
  return visibleName(name, sub);
}

/** Return the end of a token, in milliseconds since 1970, or NaN. */
export function endOf(token) {
  return claims(token).exp * 1000;
}

export function isExpired(token) {
  return endOf(token) <= Date.now();
}

/** Whether a token may grant changes to messages of others, in some topic. */
export function mayModerate(token) {
  return (claims(token).topics?.moderate?.length ?? 0) > 0;
}

/** Return the patterns of topics in which a token grants an action; undefined without a list. */
export function patternsOf(token, action) {
  const { topics } = claims(token);
  const patterns = !topics || Array.isArray(topics) ? topics : topics[action];
  // Null in place of a list is an empty list.
  return patterns === undefined ? undefined : [patterns ?? []].flat().filter((one) => typeof one === "string");
}

/** Return a user as a segment of a topic (docs/tokens.md). */
export function segmentOf(user) {
  return Array.from(new TextEncoder().encode(user), (byte) => {
    const character = String.fromCharCode(byte);
    return /[\w.@-]/.test(character) ? character : `~${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }).join("");
}

/** Return whether a token grants an action in a topic; undefined if only the server knows. */
export function grants(token, action, topic) {
  const segments = topic.split(":");
  const user = segmentOf(userOf(token));
  return patternsOf(token, action)?.some((pattern) => {
    const wanted = pattern.split(":");
    const isLong = wanted.at(-1) === "**" && segments.length > wanted.length;
    return (isLong || segments.length === wanted.length) && wanted.every((one, at) => {
      return ["*", "**"].includes(one) || one.replaceAll("{sub}", user) === segments[at];
    });
  });
}

/** Return a sentence about the readable rooms of a token, and the meaning of patterns. */
export function allowed(token) {
  const patterns = patternsOf(token, "subscribe");
  if (!patterns) return t("Your token names no rooms, so the server's settings decide.");
  // The segment before a room's name is `room`, or a wildcard.
  const names = patterns.map((pattern) => (pattern === "**" ? pattern : /^(?:room|\*):(.+)/s.exec(pattern)?.[1]));
  const rooms = names.filter(Boolean).map((name) => `#${name.replaceAll("{sub}", segmentOf(userOf(token)))}`);
  if (rooms.length === 0) return t("Your token allows you to read nothing.");
  const shown = rooms.slice(0, MAX_PATTERNS).map(isolated).join(", ");
  const more = rooms.length > MAX_PATTERNS ? ", …" : "";
  const told = t("Your token allows {patterns}.", { patterns: `${shown}${more}` });
  return shown.includes("*") ? `${told} ${WILDCARDS}` : told;
}
