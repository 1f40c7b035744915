/**
 * The list of messages on the page: what has arrived, what waits to be sent, where it is scrolled.
 *
 * All that users wrote goes into the page as text, never as HTML.
 */

export const MAX_SHOWN = 500;
const GROUP_MS = 5 * 60_000;
/** Pixels from the end within which the list counts as being at its end. */
const NEAR_END = 80;

const timeFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const dayFormat = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const fullFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

export class MessageList {
  #log;
  #outbox;
  #scroller;
  #newer;
  #empty;
  #user = null;
  #entries = [];
  #order = 0;
  #unseen = 0;
  #following = true;

  constructor({ log, outbox, scroller, newer, empty }) {
    this.#log = log;
    this.#outbox = outbox;
    this.#scroller = scroller;
    this.#newer = newer;
    this.#empty = empty;
    scroller.addEventListener("scroll", () => this.#scrolled());
    newer.addEventListener("click", () => this.scrollToEnd());
    // Neither a keyboard that opens nor a message that grows may hide the newest message.
    const sizes = new ResizeObserver(() => this.#following && this.scrollToEnd());
    for (const node of [scroller, log, outbox]) sizes.observe(node);
  }

  /** Begin with an empty list, for a room or a user. */
  reset(user) {
    this.#user = user;
    this.#entries = [];
    this.#order = 0;
    this.#log.replaceChildren();
    this.#outbox.replaceChildren();
    this.#log.setAttribute("aria-busy", "true");
    this.#empty.hidden = true;
    this.scrollToEnd();
  }

  /** Tell that what the room had so far is shown. */
  ready() {
    this.#log.setAttribute("aria-busy", "false");
    this.#empty.hidden = this.#entries.length > 0 || this.#outbox.children.length > 0;
  }

  /** Show a message at its place in the order; one that is shown already stays as it is. */
  add(message) {
    const index = this.#indexFor(message.seq);
    const before = this.#entries[index - 1];
    if (before?.seq === message.seq && before.order === this.#order) return;
    const entry = { seq: message.seq, order: this.#order, message, node: null };
    const after = this.#entries[index];
    entry.node = this.#messageNode(message);
    this.#entries.splice(index, 0, entry);
    this.#log.insertBefore(entry.node, after?.node ?? null);
    this.#group(before, entry);
    if (after) this.#group(entry, after);
    this.#trim();
    this.#empty.hidden = true;
    this.#grown(after === undefined && message.from?.user !== this.#user);
  }

  /** Show where messages are missing; with `newOrder`, those that follow are counted anew. */
  addGap(gap, newOrder) {
    if (newOrder) this.#order += 1;
    const node = element("li", "notice", newOrder ? LOST_ORDER : LOST_MESSAGES);
    const entry = { seq: gap.after, order: this.#order, message: null, node };
    this.#entries.push(entry);
    this.#log.append(node);
    this.#trim();
    this.#grown(false);
  }

  /** Show a message that waits to be sent; returns what changes or removes it. */
  addPending(text) {
    const node = element("li", "message own pending");
    const body = element("div", "body");
    const note = element("p", "note", "Sending…");
    body.append(element("p", "text", text), note);
    node.append(body);
    this.#outbox.append(node);
    this.#empty.hidden = true;
    this.scrollToEnd();
    return {
      remove: () => node.remove(),
      explain: (reason) => {
        note.textContent = reason;
        this.#grown(false);
      },
      fail: (reason, retry) => {
        node.classList.replace("pending", "failed");
        const again = element("button", "quiet", "Try again");
        const drop = element("button", "quiet", "Delete");
        again.type = drop.type = "button";
        again.addEventListener("click", () => {
          node.remove();
          retry();
        });
        drop.addEventListener("click", () => node.remove());
        note.replaceChildren(`${reason} `, again, " ", drop);
        note.setAttribute("role", "alert");
        this.#grown(false);
      },
    };
  }

  scrollToEnd() {
    this.#following = true;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#unseen = 0;
    this.#newer.hidden = true;
  }

  /** Return where in the entries a message with `seq` belongs: nearly always at the end. */
  #indexFor(seq) {
    let index = this.#entries.length;
    while (index > 0) {
      const { seq: other, order } = this.#entries[index - 1];
      if (order < this.#order || other <= seq) break;
      index -= 1;
    }
    return index;
  }

  #messageNode({ at, from, data }) {
    const own = from !== null && from.user === this.#user;
    const name = from?.name ?? from?.user ?? "Server";
    const node = element("li", own ? "message own" : "message");
    const avatar = element("span", "avatar", initials(name));
    avatar.setAttribute("aria-hidden", "true");
    avatar.style.setProperty("--hue", hue(from?.user ?? ""));
    const head = element("p", "head");
    const sender = element("span", "sender", own ? "You" : name);
    if (from) sender.title = from.user;
    const time = element("time", "time", timeFormat.format(at));
    time.dateTime = new Date(at).toISOString();
    time.title = fullFormat.format(at);
    head.append(sender, " ", time);
    const body = element("div", "body");
    body.append(head, textNode(data));
    node.append(avatar, body);
    return node;
  }

  /** Mark an entry that continues what the one before it says, or begins another day. */
  #group(before, entry) {
    const [last, next] = [before?.message, entry.message];
    if (!next) return;
    const sameDay = last && new Date(last.at).toDateString() === new Date(next.at).toDateString();
    const sameSender = last && last.from?.user === next.from?.user;
    entry.node.classList.toggle(
      "continued",
      Boolean(sameDay && sameSender && next.at - last.at < GROUP_MS),
    );
    if (sameDay || (before && !last)) delete entry.node.dataset.day;
    else entry.node.dataset.day = dayName(next.at);
  }

  #trim() {
    while (this.#entries.length > MAX_SHOWN) this.#entries.shift().node.remove();
    if (this.#entries.length > 0) this.#group(undefined, this.#entries[0]);
  }

  #grown(news) {
    if (this.#following) {
      this.scrollToEnd();
    } else if (news) {
      this.#unseen += 1;
      this.#newer.textContent =
        this.#unseen === 1 ? "1 new message" : `${this.#unseen} new messages`;
      this.#newer.hidden = false;
    }
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    this.#following = scrollHeight - scrollTop - clientHeight < NEAR_END;
    if (this.#following) {
      this.#unseen = 0;
      this.#newer.hidden = true;
    }
  }
}

const LOST_ORDER = "The server has lost what was written before this.";
const LOST_MESSAGES = "Some messages are missing here.";

function element(name, className, text) {
  const node = document.createElement(name);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** Show `{text}` as text, and data of any other form as what it is. */
function textNode(data) {
  if (typeof data?.text === "string") return element("p", "text", data.text);
  return element("code", "text data", JSON.stringify(data));
}

function initials(name) {
  const words = name.split(/[\s._-]+/u).filter(Boolean);
  const letters = words.slice(0, 2).map((word) => [...word][0]);
  return letters.join("").toUpperCase() || "?";
}

/** Return a colour, as a hue in degrees, that is always the same for one user. */
function hue(user) {
  let hash = 7;
  for (const character of user) hash = (hash * 31 + character.codePointAt(0)) % 360_000;
  return String(hash % 360);
}

function dayName(at) {
  const day = new Date(at).toDateString();
  const now = Date.now();
  if (day === new Date(now).toDateString()) return "Today";
  if (day === new Date(now - 86_400_000).toDateString()) return "Yesterday";
  return dayFormat.format(at);
}
