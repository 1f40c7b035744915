/** For each test a clock, a server and an application of its own, and a client that connects. */

import { afterEach, beforeEach } from "node:test";
import { ChatClient } from "./client.js";
import { Application, Clock, Server, settle } from "./virtual.mjs";

export let clock, server, app, client;

beforeEach(() => {
  clock = new Clock().install();
  server = new Server(clock);
  app = new Application();
  client = undefined;
});
afterEach(() => client?.close());

/** Connect to the server of the test; `options` are those of the client. */
export async function connect(options = {}) {
  const url = "ws://chat.example/ws";
  client = new ChatClient({ url, token: "t", onState: app.onState, WebSocket: server.WebSocket, ...options });
  await settle();
  return client;
}
