/** Where a topic stands, asked by HTTP. */

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { readPosition as read } from "./client-position.js";

const closing = new AbortController();
const readPosition = (...asked) => read(...asked, closing.signal);
let url;
let respond;
const requests = [];
const server = createServer((request, response) => {
  requests.push([request.url, request.headers.authorization]);
  const [status, body, headers = {}] = respond(request);
  response.writeHead(status, headers).end(body);
});

before(async () => {
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  url = `ws://127.0.0.1:${server.address().port}`;
});
after(() => server.close());

test("the API is asked beside the WebSocket, with the token", async () => {
  respond = () => [200, '{"topic":"a","epoch":"e1","seq":7}'];
  assert.deepEqual(await readPosition(`${url}/chat/ws?a=b`, "t0", "room:a~"), { epoch: "e1", seq: 7 });
  assert.deepEqual(requests.at(-1), ["/chat/api/topics/room%3Aa~/position?a=b", "Bearer t0"]);
});

test("a refusal is the protocol's", async () => {
  respond = () => [429, '{"code":"rate_limited","detail":"slow down","retry_in_ms":250}'];
  await assert.rejects(readPosition(`${url}/ws`, "t", "room:a"), (error) => {
    const { name, code, message, retryInMs, transient } = error;
    const expected = ["ChatError", "rate_limited", "slow down", 250, true];
    assert.deepEqual([name, code, message, retryInMs, transient], expected);
    return true;
  });
});

test("what is no API is told, and a token follows no redirect", async () => {
  for (const answer of [[404, "<html>"], [200, "<html>"], [200, "{}"], [500, "null"]]) {
    respond = () => answer;
    await assert.rejects(readPosition(`${url}/ws`, "t", "room:a"), { code: "cannot_connect" });
  }
  respond = () => [302, "", { Location: "/elsewhere" }];
  const count = requests.length;
  await assert.rejects(readPosition(`${url}/ws`, "t", "room:a"), { code: "connection_lost" });
  assert.equal(requests.length, count + 1);
});

test("a server that is away is told", async () => {
  const gone = createServer();
  await new Promise((listening) => gone.listen(0, "127.0.0.1", listening));
  const { port } = gone.address();
  await new Promise((closed) => gone.close(closed));
  const asked = readPosition(`ws://127.0.0.1:${port}/ws`, "t", "room:a");
  await assert.rejects(asked, { code: "connection_lost" });
});

test("a request ends with the client", async () => {
  const asked = new Promise((arrived) => server.once("request", arrived));
  respond = () => [200, "{}"];
  const stop = new AbortController();
  server.prependOnceListener("request", () => stop.abort(new Error("the client is closed")));
  await assert.rejects(read(`${url}/ws`, "t", "room:a", stop.signal), /the client is closed/);
  await asked;
});
