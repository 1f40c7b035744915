/** Mentions: `@` and a user's id, as the completion puts it. */

/** Characters of a user's id; an id may have others, and is mentioned all the same. */
const WORD = /[\p{L}\p{N}_]/u;
const MAX_ID = 255;

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

/** Iterate over what may be the id of whom an `@` mentions, the longest first. */
export function* idsAt(text, at) {
  for (let end = Math.min(text.length, at + 1 + MAX_ID); end > at + 1; end -= 1) {
    if (!WORD.test(text[end] ?? "")) yield text.slice(at + 1, end);
  }
}

/** Return what a space or the like ends that may be a name behind an `@`, `{start, name}`, or null. */
export function nameWritten(text, cursor) {
  const start = text.lastIndexOf("@", cursor - 1);
  if (start < 0 || cursor - start > MAX_ID || !/[\s,!?]/u.test(text[cursor - 1])) return null;
  return start > 0 && WORD.test(text[start - 1]) ? null : { start, name: text.slice(start + 1, cursor - 1) };
}

/** Return where a mention begins that is being written before the cursor, or -1. */
export function mentionStart(text, cursor) {
  const at = text.lastIndexOf("@", cursor - 1);
  if (at < 0 || /\s/u.test(text.slice(at, cursor)) || (at > 0 && WORD.test(text[at - 1]))) return -1;
  return at;
}
