/** The chat page: puts its parts together, and leads from room to room. */

import { showAddress, webSocketUrl } from "./address.js";
import { ChatClient } from "./client.js";
import { Composer } from "./composer.js";
import { proposeEmoji } from "./emoji.js";
import { listenToKeys } from "./keyboard.js";
import { t } from "./language.js";
import { mentionStart, nameWritten } from "./mentions.js";
import { Notifier } from "./notifier.js";
import { Outbox } from "./outbox.js";
import { RoomField } from "./room-field.js";
import { RoomList } from "./room-list.js";
import { RoomView } from "./room-view.js";
import { Rooms } from "./rooms.js";
import { Search } from "./search.js";
import { Sender } from "./sender.js";
import { SignIn } from "./sign-in.js";
import { Announcer, ConnectionStatus, showText } from "./status.js";
import { Visited, openStorage } from "./storage.js";
import { inert } from "./text.js";
import { nameOf, userOf } from "./token.js";
import { signInWords } from "./words.js";

const DEFAULT_ROOM = "lobby";
const LACK =
  t("This browser has no more space for the page: what you have not sent, or your sign-in, will be gone after a reload.");

const $ = (id) => document.getElementById(id);

class ChatPage {
  /** What one sign-in is told from another by: a client that was left has nothing more to say. */
  #visit = null;
  #client = null;
  #rooms = null;
  #user = null;
  #session;
  #texts;
  #visited = new Visited();
  #url = webSocketUrl();
  #announcer;
  #status;
  #outbox;
  #sender;
  #view;
  #list;
  #composer;
  #field = new RoomField({
    onGo: (room) => this.#go(room),
    onLeave: () => this.#composer.focus(),
    onSay: (text) => this.#announcer.say(text),
    token: () => this.#session.token,
  });
  #search = new Search((room, seq) => this.#go(room, seq));
  #notifier = new Notifier((room, seq) => this.#go(room, seq));
  #signIn;

  constructor() {
    const { session, texts } = openStorage((lacking) => showText($("lack"), lacking ? LACK : ""));
    const announcer = (this.#announcer = new Announcer($("announcer"), $("told")));
    this.#session = session;
    this.#texts = texts;
    this.#status = new ConnectionStatus({
      pill: $("state"),
      retry: $("retry"),
      trouble: $("trouble"),
      announcer,
      url: this.#url,
    });
    this.#outbox = new Outbox({
      texts,
      list: $("outbox"),
      composer: $("text"),
      elsewhere: $("elsewhere"),
      retry: (message) => this.#sender.send(message),
      open: (room) => this.#go(room),
    });
    this.#view = new RoomView({
      outbox: this.#outbox,
      status: this.#status,
      onReply: (quote) => this.#composer.quote(quote),
      onEdit: (edit) => this.#composer.edit(edit),
      onError: (text) => showText($("composer-error"), text),
      onDone: (text) => announcer.tell(text),
    });
    this.#list = new RoomList({
      nav: $("rooms"),
      list: $("room-list"),
      button: $("rooms-button"),
      texts,
      onGo: (room) => this.#go(room),
      onRemove: (room) => this.#remove(room),
    });
    this.#sender = new Sender({
      outbox: this.#outbox,
      announcer,
      onStored: (message, stored) => {
        this.#view.stored(message, stored);
        this.#setMayWrite(message.room, true);
      },
      onForbidden: (room) => this.#setMayWrite(room, false),
      onUnauthorized: (error) => this.#signIn.end(signInWords(error)),
    });
    this.#composer = new Composer({
      form: $("composer"),
      field: $("text"),
      error: $("composer-error"),
      texts,
      proposals: $("proposals"),
      sources: [(text, cursor) => this.#proposePeople(text, cursor), proposeEmoji],
      send: (text) => this.#write(text),
      editing: $("editing"),
      onEdit: (room, edit) => this.#rooms.get(room).edit(edit),
      lastEdit: () => this.#view.lastEdit,
      onTyping: () => this.#rooms.get(this.#view.room)?.type(),
    });
    this.#signIn = new SignIn({
      session,
      texts,
      visited: this.#visited,
      onStart: (...visit) => this.#start(...visit),
      onEnd: () => this.#end(),
      onRoom: (room, seq) => this.#arrive(room, seq),
    });
    listenToKeys(() => this.#composer.focus());
    window.addEventListener("hashchange", () => this.#signIn.follow());
    window.addEventListener("beforeunload", (event) => {
      // Of somebody else who was here before, this one could not send it.
      const unsent = texts.unsent(this.#user ?? undefined).some(({ seq }) => seq === null);
      const unchanged = [...(this.#rooms ?? [])].some(({ changes }) => changes.isWaiting);
      if (unsent || unchanged) event.preventDefault();
    });
    this.#signIn.follow();
  }

  /** Begin for who has signed in, at the message `seq` of their room if one is given; returns the user. */
  #start(token, source, seq) {
    const visit = (this.#visit = {});
    this.#client?.close();
    this.#status.reset();
    this.#user = userOf(token);
    this.#client = new ChatClient({
      url: this.#url,
      token: source,
      onState: (state, details) => {
        if (details.error?.code === "unauthorized") this.#signIn.distrust();
        if (this.#visit === visit) this.#showState(state, details);
      },
    });
    this.#rooms = new Rooms({
      client: this.#client,
      user: this.#user,
      token,
      visited: this.#visited,
      onEvent: (room, event) => {
        if (this.#visit !== visit) return;
        this.#view.receive(room, event);
        if (event.type === "deleted") this.#composer.deleted(room.name, event.target);
        if (event.type === "message") this.#notifier.receive(room, event);
        this.#list.render();
        this.#notifier.render();
      },
      onChange: (room) => {
        if (this.#visit !== visit) return;
        this.#view.changed(room);
        if (room.name === this.#view.room) this.#nameAuthor(room);
        this.#list.render();
        this.#notifier.render();
      },
      onTell: (room, text, where) => {
        if (this.#visit !== visit) return;
        const isHere = room.name === this.#view.room;
        const told = isHere ? text : `#${room.name}: ${text}`;
        if (where === "nowhere") this.#announcer.say(told);
        else if (where === "everywhere" || !isHere) this.#announcer.tell(told);
      },
    });
    this.#view.use(this.#user, token);
    this.#list.use(this.#user, this.#rooms);
    this.#notifier.use(this.#user, this.#rooms);
    this.#sender.use(this.#client, this.#user);
    this.#search.use(source);
    const name = nameOf(token);
    $("me").textContent = inert(name);
    $("me").title = inert(this.#user);
    this.#join(this.#session.room ?? this.#rooms.first ?? DEFAULT_ROOM, seq);
    this.#composer.resume();
    this.#adopt(visit);
    return this.#user;
  }

  /** Show what the user wrote in tabs that have ended. */
  async #adopt(visit) {
    if (!(await this.#texts.adopt(this.#user)) || this.#visit !== visit) return;
    this.#outbox.show(this.#user, this.#view.room);
    this.#composer.show(this.#user, this.#view.room);
    this.#list.render();
  }

  #end() {
    this.#visit = this.#user = null;
    this.#client?.close();
    this.#client = this.#rooms = null;
    this.#status.reset();
    this.#view.use(null, null);
    this.#list.use(null, null);
    this.#notifier.use(null, null);
    this.#sender.use(null, null);
    this.#search.use(null);
    this.#composer.show(null, null);
    this.#field.show(null);
  }

  /** Show a room because the user chose it, so that the browser's Back leads to the one before. */
  #go(room, seq = null) {
    showAddress(room, seq, true);
    this.#join(room, seq);
    this.#composer.resume();
  }

  /** Show the room of the address, or stay where the user is. */
  #arrive(room, seq) {
    this.#join(room ?? this.#view.room, seq);
    if (room !== null) this.#composer.resume();
  }

  #join(name, seq = null) {
    showAddress(name, seq);
    this.#field.show(name);
    const room = this.#rooms.visit(name);
    if (this.#view.open(room, seq)) {
      this.#session.room = name;
      $("heading").textContent = `#${name}`;
      this.#notifier.setTitle(`#${name}`);
      this.#composer.show(this.#user, name);
      this.#nameAuthor(room);
    }
    this.#list.select(name);
    this.#field.offer([...this.#rooms].map(({ name }) => name));
  }

  /** Note whether the user may write in a room, which may change. */
  #setMayWrite(name, mayWrite) {
    const room = this.#rooms?.get(name);
    if (!room || room.mayWrite === mayWrite) return;
    room.mayWrite = mayWrite;
    if (name === this.#view.room) this.#nameAuthor(room);
  }

  /** Invite to write, unless it is known that one may not; who may not read either is the less invited. */
  #nameAuthor({ mayWrite, error }) {
    const mayRead = error?.code !== "forbidden";
    this.#composer.nameAuthor(mayWrite ?? mayRead ? nameOf(this.#session.token) : null, mayRead);
  }

  /** Take a room off the list; from the one that is open the user goes to another. */
  #remove(name) {
    this.#rooms.remove(name);
    if (name === this.#view.room) this.#go([...this.#rooms][0]?.name ?? DEFAULT_ROOM);
    this.#list.render();
  }

  /** Propose people whose names begin as the mention does that is being written; take the one who is named in full. */
  #proposePeople(text, cursor) {
    const people = this.#rooms.get(this.#view.room)?.people;
    const written = nameWritten(text, cursor);
    const user = written && people?.called(written.name);
    if (user) return { start: written.start, whole: `@${user}${text[cursor - 1]}` };
    const start = mentionStart(text, cursor);
    if (start < 0) return null;
    const begun = text.slice(start + 1, cursor);
    const found = people?.find(begun) ?? [];
    // Of a whole one there is nothing to take: Enter sends.
    if (found.some(({ user }) => user === begun)) return null;
    const proposals = found.map(({ user, name }) => ({ label: name, hint: user, text: `@${user} ` }));
    return { start, proposals };
  }

  /** Take a text to be sent; returns whether there is space for it. */
  #write(text) {
    const message = this.#outbox.add(text);
    if (message === null) return false;
    this.#view.scrollToEnd();
    this.#sender.send(message);
    return true;
  }

  #showState(state, details) {
    if (state === "closed" && details.error.code === "unauthorized") {
      this.#signIn.end(signInWords(details.error));
      return;
    }
    this.#status.show(state, details);
    this.#view.connected(state);
  }
}

new ChatPage();
