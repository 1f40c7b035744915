// What test_epochs.py starts: it stops and starts the server in between, each time it is told to.

import { createInterface } from "node:readline/promises";
import { ChatClient } from "./client.js";
import { Faults, faultyWebSocket, generator } from "./faulty_socket.mjs";

const [url, token] = process.argv.slice(2);
const TOPIC = "room:a";
const calm = Object.assign(new Faults(generator(1), 0), { active: false });
const WebSocket = faultyWebSocket(calm);
const connect = () => new ChatClient({ url, token, WebSocket });
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const told = async (what) => {
  console.log(what);
  await lines.next();
};
const refused = (promise) =>
  promise.then(
    () => "stored",
    ({ code, message }) => `${code}: ${message}`,
  );
const until = async (condition) => {
  while (!condition()) await new Promise((wake) => setTimeout(wake, 10));
};

const chat = connect();
const stream = await chat.stream(TOPIC, { data: { text: "one: " } });
stream.write("before ");
await until(() => stream.text === "one: before ");
const { seq, epoch } = stream;

await told("stop");
// Written while the user looks at the first message, and sent when there is a server again.
const deleted = refused(chat.delete(TOPIC, seq, { epoch }));
const other = connect();
const another = other.publish(TOPIC, { text: "another" });
await told("start");
const place = await another;
const answers = {
  waiting: await deleted,
  stream: await refused(stream.write("after ").then(() => stream.complete())),
  edit: await refused(chat.edit(TOPIC, seq, 1, { epoch })),
  append: await refused(chat.append(TOPIC, seq, "x", { epoch })),
  delete: await refused(chat.delete(TOPIC, seq, { epoch })),
  react: await refused(chat.react(TOPIC, seq, "x", { epoch })),
  read: await refused(chat.read(TOPIC, seq, { epoch })),
};
const history = await chat.history(TOPIC);
answers.present = await refused(chat.react(TOPIC, seq, "x", { epoch: history.epoch }));
answers.bare = await refused(chat.read(TOPIC, seq));
console.log(JSON.stringify({ answers, seq, place, messages: history.messages }));
process.exit();
