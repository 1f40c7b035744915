/** The page's sentences about errors. */

import { t } from "./language.js";
import { inert } from "./text.js";

const WORDS = {
  bad_request: t("The server did not understand this."),
  unauthorized: t("Your sign-in has expired or is not valid."),
  forbidden: t("You are not allowed to do this."),
  too_large: t("The message is too long."),
  too_many_topics: t("You are in too many rooms."),
  rate_limited: t("You are writing too fast. It will be sent in a moment."),
  unavailable: t("The server cannot store messages now. It will be sent as soon as it can."),
  not_found: t("This message is not there any more."),
  gone: t("This message is deleted."),
  internal: t("Something went wrong on the server."),
  closed: t("You were signed out first."),
  outbox_full: t("Too many messages wait to be sent."),
};

/** Return a sentence about an error of the client or of the server. */
export function words(error) {
  return WORDS[error.code] ?? (error.message ? inert(error.message) : t("It did not work."));
}

/** Return the reason why a room is closed to the user, if from an application or an operator; else "". */
export function reasonOf({ message }) {
  return message && !message.startsWith("topic: ") ? ` (${inert(message)})` : "";
}

/** Return a sentence about a refused sign-in, with the reason: an expired or otherwise wrong token. */
export function signInWords(error) {
  if (/^(?:the token|token:) has expired/.test(error.message)) return t("Your sign-in has expired.");
  return error.message ? `${words(error)} (${inert(error.message)})` : words(error);
}
