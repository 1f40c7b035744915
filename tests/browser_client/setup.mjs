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

/** A window and its document, as far as the client listens to them. */
export class Page {
  /** Those of an `EventTarget` in Node outlive their signal, where garbage was collected before it. */
  listeners = new Set();

  /** Make it the page of a test, which `t` is the context of. */
  constructor(t) {
    globalThis.addEventListener = (name, listener, { signal }) => {
      const entry = { name, listener };
      this.listeners.add(entry);
      signal.addEventListener("abort", () => this.listeners.delete(entry));
    };
    globalThis.document = { visibilityState: "visible", addEventListener: globalThis.addEventListener };
    t.after(() => {
      delete globalThis.addEventListener;
      delete globalThis.document;
    });
  }

  tell(name, fields = {}) {
    for (const entry of this.listeners) if (entry.name === name) entry.listener({ ...fields, type: name });
  }
}
