/** For each test a clock, a server and an application of its own, and a client that connects. */

import { getEventListeners } from "node:events";
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
  #targets = { window: new EventTarget(), document: new EventTarget() };
  #names = new Set();

  /** Make it the page of a test, which `t` is the context of. */
  constructor(t) {
    const listen = (target) => (name, ...more) => {
      this.#names.add(name);
      target.addEventListener(name, ...more);
    };
    const { window, document } = this.#targets;
    globalThis.addEventListener = listen(window);
    globalThis.document = { visibilityState: "visible", addEventListener: listen(document) };
    t.after(() => {
      delete globalThis.addEventListener;
      delete globalThis.document;
    });
  }

  tell(name, fields = {}) {
    const event = Object.assign(new Event(name), fields);
    for (const target of Object.values(this.#targets)) target.dispatchEvent(event);
  }

  get listeners() {
    return Object.values(this.#targets).flatMap((target) =>
      [...this.#names].flatMap((name) => getEventListeners(target, name)),
    );
  }
}
