/** What the page says when something did not work. */

import { inert } from "./text.js";

const WORDS = {
  bad_request: "The server did not understand this.",
  unauthorized: "Your sign-in has expired or is not valid.",
  forbidden: "You are not allowed to do this.",
  too_large: "The message is too long.",
  too_many_topics: "You are in too many rooms.",
  rate_limited: "You are writing too fast. It will be sent in a moment.",
  unavailable: "The server cannot store messages now. It will be sent as soon as it can.",
  not_found: "This message is not there any more.",
  gone: "This message is deleted.",
  internal: "Something went wrong on the server.",
  closed: "You were signed out first.",
  outbox_full: "Too many messages wait to be sent.",
};

/** Return a sentence about an error of the client or of the server. */
export function words(error) {
  return WORDS[error.code] ?? (error.message ? inert(error.message) : "It did not work.");
}

/** Return a sentence on a refused sign-in, and why: a token may be expired, or wrong in another way. */
export function signInWords(error) {
  return error.message ? `${words(error)} (${inert(error.message)})` : words(error);
}
