/** Asks for a topic's position by HTTP, because no command of the WebSocket returns a position. */

import { ChatError, toError } from "./client-common.js";

const TIMEOUT_MS = 10_000;

/**
 * Read a topic's position; resolves to `{epoch, seq}`.
 *
 * @param {string} url the address of the WebSocket: `…/api` stands where `…/ws` stands.
 * @param {string} token
 * @param {string} topic
 * @param {AbortSignal} closed ends the request with the client.
 */
export async function readPosition(url, token, topic, closed) {
  const path = `/api/topics/${encodeURIComponent(topic)}/position`;
  let response;
  try {
    response = await fetch(url.replace(/^ws/, "http").replace(/\/ws(?=$|[?#])/, path), {
      headers: { Authorization: `Bearer ${token}` },
      // The token must not be sent to another address.
      redirect: "error",
      signal: AbortSignal.any([closed, AbortSignal.timeout(TIMEOUT_MS)]),
    });
  } catch (error) {
    closed.throwIfAborted();
    throw new ChatError("connection_lost", `the server cannot be asked by HTTP: ${error.message}`);
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && typeof answer?.epoch === "string") return { epoch: answer.epoch, seq: answer.seq };
  if (typeof answer?.code === "string") throw toError({ ...answer, message: answer.detail });
  throw new ChatError("cannot_connect", `HTTP ${response.status}: there is no chat server's API`);
}
