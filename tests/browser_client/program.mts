/** A program in TypeScript that uses all of the client; tests/packaging/test_npm.py compiles it with `--strict`. */

import { ChatClient, ChatError, Messages, changed, isChange } from "quart-chat-client";
import type {
  Changed, ChatEvent, ClientOptions, ErrorCode, Grown, History, Message, Position, Presence, Published, State,
  Stream, Subscription, Unread,
} from "quart-chat-client";

declare const WebSocket: new (url: string, protocols: string[]) => {
  send(text: string): void;
  close(): void;
  onmessage: ((event: { data: string }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: ((event: unknown) => void) | null;
};

const options: ClientOptions = {
  url: "wss://chat.example.org/ws",
  token: async () => "a token",
  tokenTimeoutMs: 5_000,
  WebSocket,
  onState: (state, { error, retryInMs }) => {
    const named: State = state;
    const code: ErrorCode | undefined = error?.code;
    const wait: number = retryInMs ?? 0;
    void [named, code, wait];
  },
};
const chat = new ChatClient(options);
const user: string | null = chat.user;

const messages = new Messages(500);
const seen = (event: ChatEvent): string => {
  const message: Message | undefined = messages.apply(event);
  if (isChange(event)) return `${event.target} ${message?.version ?? 0}`;
  switch (event.type) {
    case "message":
      return `${event.seq} ${event.from?.name ?? "?"} ${String(event.data)} ${event.reactions?.["👍"]?.count ?? 0}`;
    case "gap":
      return `${event.after} ${event.before} ${event.reason}`;
    case "join":
    case "leave":
      return event.user;
    case "presence":
      return event.joined.map(({ user }) => user).join();
    case "signal":
      return JSON.stringify(event.data);
    case "read":
      return `${event.user} ${event.seq}`;
  }
};
const since: Position = { epoch: "e", seq: 7 };
const room: Subscription = chat.subscribe("room:a", {
  last: 50, since, strict: true, presence: true, onEvent: seen, onReady: () => {},
  onError: (error) => error.transient,
});
const position: Position | null = room.position;
const here: Presence | null = room.presence;
chat.subscribe("room:b");
chat.unsubscribe(room);

export async function everything(): Promise<unknown[]> {
  const sent: Published = await chat.publish("room:a", { text: "hi" }, { key: "k", onDelay: ({ code }) => code });
  const { seq, epoch } = sent;
  const edited: Changed = await chat.edit("room:a", seq, "hello", { epoch });
  const grown: Grown = await chat.append("room:a", seq, "!", { epoch, state: "complete" });
  await chat.react("room:a", seq, "👍", { remove: true });
  await chat.delete("room:a", seq);
  const { unread } = await chat.read("room:a", seq);
  const stream: Stream = await chat.stream("room:a", { data: { text: "", bot: true } });
  await stream.write("text");
  if (stream.cancelled) await stream.cancel();
  const last: Grown = await stream.complete();
  await chat.signal("room:a", { typing: true });
  chat.typing("room:a");
  await chat.cancel("room:a", seq);
  const page: History = await chat.history("room:a", { before: seq, limit: 10 });
  messages.add(page.messages);
  const counts: Record<string, Unread> = await chat.unread("room:a", "room:b");
  const { users } = await chat.presence("room:a", { after: "bob", limit: 10 });
  const rolled: unknown = await chat.call("roll", "d20");
  const place: Position = await chat.position("room:a");
  const shown: string[] = [...messages].map((message) => changed(message, message).topic);
  return [edited, grown, unread, last, counts, users, rolled, place, shown, messages.get(1), messages.size];
}

everything().catch((error: unknown) => {
  if (error instanceof ChatError && error.code === "rate_limited") return error.retryInMs;
  return error instanceof ChatError && error.mayBeSent ? error.seq : undefined;
});
void [user, position, here];
chat.close();
chat.dispose();

// What the types refuse:
// @ts-expect-error: it needs a token
new ChatClient({ url: "ws://127.0.0.1:8000/ws" });
// @ts-expect-error: a seq is a number
void chat.edit("room:a", "7", "text");
// @ts-expect-error: there is no such option
chat.subscribe("room:a", { first: 10 });
// @ts-expect-error: there is no such state
void chat.append("room:a", 7, "text", { state: "done" });
// @ts-expect-error: data must have a text
void chat.stream("room:a", { data: { bot: true } });
// @ts-expect-error: it belongs to the client
new Subscription("room:a");
// @ts-expect-error: of the client's own
room.command();
// @ts-expect-error: a private part
chat.connection;
// @ts-expect-error: no event has it
seen({ type: "message" });
