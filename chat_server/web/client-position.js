/** Asks by HTTP where a topic stands: no command of the WebSocket tells it. */

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
  const address = new URL(url);
  address.protocol = address.protocol === "wss:" ? "https:" : "http:";
  const base = address.pathname.replace(/\/ws$/, "");
  address.pathname = `${base}/api/topics/${encodeURIComponent(topic)}/position`;
  const { ok, status, answer } = await ask(address, token, closed);
  if (ok && typeof answer?.epoch === "string") return { epoch: answer.epoch, seq: answer.seq };
  if (typeof answer?.code === "string") throw toError({ ...answer, message: answer.detail });
  throw new ChatError("cannot_connect", `HTTP ${status}: there is no chat server's API`);
}

async function ask(address, token, closed) {
  let response;
  try {
    response = await fetch(address, {
      headers: { Authorization: `Bearer ${token}` },
      // A token is sent to no other address than the one given.
      redirect: "error",
      signal: AbortSignal.any([closed, AbortSignal.timeout(TIMEOUT_MS)]),
    });
  } catch (error) {
    closed.throwIfAborted();
    throw new ChatError("connection_lost", `the server cannot be asked by HTTP: ${error.message}`);
  }
  const { ok, status } = response;
  return { ok, status, answer: await response.json().catch(() => null) };
}
