/** Mentions: `@` and a user's id, as the completion puts it. */

/** Characters of a user's id; an id may have others, and is mentioned all the same. */
const WORD = /[\p{L}\p{N}_]/u;

/** Return whether a text mentions a user. */
export function mentions(text, user) {
  if (typeof text !== "string" || !user) return false;
  const [low, wanted] = [text.toLowerCase(), `@${user.toLowerCase()}`];
  for (let at = low.indexOf(wanted); at >= 0; at = low.indexOf(wanted, at + 1)) {
    const [before, behind] = [low[at - 1], low[at + wanted.length]];
    if (!(before && WORD.test(before)) && !(behind && WORD.test(behind))) return true;
  }
  return false;
}

/** Return where a mention begins that is being written before the cursor, or -1. */
export function mentionStart(text, cursor) {
  const at = text.lastIndexOf("@", cursor - 1);
  if (at < 0 || /\s/u.test(text.slice(at, cursor)) || (at > 0 && WORD.test(text[at - 1]))) return -1;
  return at;
}
