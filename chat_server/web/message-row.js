/** One message on the page, in nodes that stay while the message changes. */

import { locale, t } from "./language.js";
import { mentions } from "./mentions.js";
import { nameList } from "./people-view.js";
import { TextView } from "./text-view.js";
import {
  dataForm, dataText, element, hue, inert, initials, isolated, nameNode, setText, visibleName,
} from "./text.js";

const timeFormat = new Intl.DateTimeFormat(locale, { timeStyle: "short" });
const fullFormat = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "medium" });
/** Milliseconds without growth, or from a request to end, after which a streaming message counts as abandoned. */
const QUIET_MS = 60_000;
const STOP_MS = 10_000;
const DELETED = { name: "p", className: "text deleted", text: t("deleted") };

export class MessageRow {
  /** The list's item. */
  node;
  /** The message in its current state. */
  message;
  #actions;
  #people;
  #own;
  #head = element("p", "head");
  #body = element("div", "body");
  #foot = element("div", "foot");
  #content = null;
  #form = null;
  /**
   * Parts of some messages only: `user`, `reactions`, `marks`, `stop`, `note` about the user's own changes, and `act`,
   * which opens the menu.
   */
  #parts = {};
  #quiet = null;
  /** The chips of reactions, by emoji. */
  #chips = new Map();

  /**
   * @param {object} message the message in its current state.
   * @param {boolean} own whether the reading user is the author.
   * @param {string} link the address of the message.
   * @param {MessageActions} actions the menu of the message.
   * @param {People} people knows names, and whether two names look the same.
   */
  constructor(message, own, link, actions, people) {
    const { at, from } = message;
    this.#actions = actions;
    this.#people = people;
    this.#own = own;
    this.node = element("li", own ? "message own" : "message");
    const name = from ? visibleName(from.name, from.user) : t("Server");
    const avatar = element("span", "avatar", initials(name));
    avatar.setAttribute("aria-hidden", "true");
    avatar.style.setProperty("--hue", hueOf(from));
    const sender = own ? element("span", "sender", t("You")) : nameNode(name, "sender");
    if (from) sender.title = inert(from.user);
    const time = element("time", "time", timeFormat.format(at));
    time.dateTime = new Date(at).toISOString();
    time.title = fullFormat.format(at);
    const place = element("a", "place");
    place.href = link;
    place.append(time);
    this.#head.append(sender, " ", place);
    if (from?.info?.bot === true) sender.after(" ", element("span", "bot", t("Bot")));
    // Later additions are not read out, because they mean nothing without their message.
    this.#foot.ariaLive = "off";
    this.#body.append(this.#head, this.#foot);
    this.show(message);
    this.#tellApart();
    this.node.append(avatar, this.#body);
  }

  /** Show a changed message, and touch only the changed parts. */
  show(message) {
    const { data, state, deleted, edited_at, reactions = {} } = message;
    const isGrowing = state === "streaming" && !deleted;
    const isAsBefore = this.message?.data === data && this.message.state === state;
    this.message = message;
    const changes = this.#actions.changesOf(message);
    this.#showContent(deleted ? DELETED : dataForm(changes?.data ?? data), isGrowing);
    this.#showChanges(changes);
    this.node.classList.toggle("mentioned", !deleted && mentions(dataText(data), this.#actions.user));
    // Markup from an edit is not read out alone either.
    if (edited_at || changes?.data) this.#content.nodes[0].ariaLive = "off";
    this.#showReactions(reactions);
    this.#have("act", !deleted, () => this.#menuButton());
    if (!isAsBefore) this.#watch(isGrowing ? QUIET_MS : null);
    this.#showGrowth(isGrowing && this.#quiet !== null);
  }

  /** Show that a change waits, or the reason of its refusal. */
  #showChanges(changes) {
    const { note, refused = false, isEdit = false } = changes ?? {};
    this.node.classList.toggle("pending", Boolean(changes) && !refused);
    this.node.classList.toggle("refused", refused);
    if (this.#parts.note?.textContent === note) return;
    this.#have("note", false);
    this.#have("note", Boolean(changes), () => element("p", "note", note));
    if (!refused) return;
    const edit = button("quiet", t("Edit"), () => this.#actions.edit(this.message));
    const close = button("quiet", t("Close"), () => this.#actions.dismiss(this.message));
    this.#parts.note.append(" ", ...(isEdit && !this.message.deleted ? [edit, " "] : []), close);
  }

  /** Mark a streaming message as abandoned after a time without changes; null for other messages. */
  #watch(milliseconds) {
    clearTimeout(this.#quiet);
    this.#quiet = milliseconds && setTimeout(() => {
      this.#quiet = null;
      this.#showGrowth(false);
    }, milliseconds);
  }

  #showGrowth(isGrowing) {
    const { state, deleted, edited_at } = this.message;
    // A streaming message is read out at its end.
    if (isGrowing) this.node.ariaBusy = "true";
    else this.node.removeAttribute("aria-busy");
    const end = state === "cancelled" ? t("stopped") : state === "streaming" && !isGrowing && t("unfinished");
    const marks = deleted ? [] : [edited_at && t("edited"), end].filter(Boolean);
    this.#have("marks", marks.length > 0, () => element("span", "time", ""));
    if (this.#parts.marks) this.#parts.marks.textContent = marks.join(", ");
    this.#have("stop", isGrowing, () => this.#stopButton());
  }

  /** Each emoji of the message's reactions, with the names of those who have reacted. */
  get reactions() {
    return [...this.#chips].map(([emoji, { title }]) => [emoji, title]);
  }

  /** Update the parts that depend on names. */
  showNames() {
    this.#tellApart();
    const { data, deleted, reactions = {} } = this.message;
    this.#showReactions(reactions);
    if (!deleted && dataText(data).includes("@")) this.show(this.message);
  }

  /** Show the sender's mark, if another user's name looks the same. */
  #tellApart() {
    const { from } = this.message;
    const mark = from && !this.#own ? this.#people.markOf(from) : null;
    this.#have("user", mark !== null, () => nameNode("", "time user"));
    if (mark !== null) this.#parts.user.textContent = mark;
  }

  /** Add or remove a part. */
  #have(name, isWanted, make) {
    const known = this.#parts[name];
    if (isWanted === Boolean(known)) return;
    known?.remove();
    this.#parts[name] = isWanted ? make() : null;
    if (!isWanted) return;
    if (name === "user") this.#head.firstChild.after(" ", this.#parts[name]);
    else if (name === "reactions") this.#foot.prepend(this.#parts[name]);
    else (name === "act" ? this.#body : this.#foot).append(this.#parts[name]);
  }

  #showContent(form, grows) {
    if (this.#form === form.name) {
      this.#content.show(form, grows);
      return;
    }
    this.#content?.remove();
    this.#content = new TextView(form, this.#people, grows);
    this.#form = form.name;
    this.#head.after(...this.#content.nodes);
  }

  #showReactions(reactions) {
    for (const [emoji, chip] of this.#chips) {
      if (Object.hasOwn(reactions, emoji)) continue;
      chip.remove();
      this.#chips.delete(emoji);
    }
    const all = Object.entries(reactions);
    this.#have("reactions", all.length > 0, () => element("span", "reactions"));
    for (const [emoji, reaction] of all) {
      const chip = this.#chips.get(emoji) ?? this.#addChip(emoji);
      setText(chip.firstChild, `${isolated(emoji)} ${reaction.count}`);
      chip.title = this.#namesOf(reaction);
      chip.ariaPressed = String(this.#actions.isOwn(this.message, emoji));
    }
  }

  /** Return the names of those who have reacted, of which the server tells the first. */
  #namesOf({ users, count }) {
    const names = users.map((user) => (user === this.#actions.user ? t("You") : this.#people.nameOf({ user })));
    return nameList(names, count, users.length);
  }

  #addChip(emoji) {
    const chip = button("quiet chip", "", () => this.#actions.react(this.message, emoji));
    this.#chips.set(emoji, chip);
    this.#parts.reactions.append(chip);
    return chip;
  }

  #stopButton() {
    const stop = button("small stop", t("Stop"), async () => {
      setText(stop.firstChild, t("Stopping…"));
      // Only the writer can end the message.
      if (!(await this.#actions.stop(this.message))) setText(stop.firstChild, t("Stop"));
      else if (this.#quiet !== null) this.#watch(STOP_MS);
    });
    return stop;
  }

  #menuButton() {
    const act = button("quiet act", "⋯", () => this.#actions.open(this, act));
    act.ariaLabel = t("Actions");
    act.ariaHasPopup = "true";
    // In a long list each button would be a tab stop; Enter on the message opens the menu, too.
    act.tabIndex = -1;
    return act;
  }
}

/** Return the hue that a user chose, or else a constant hue for the user. */
function hueOf(from) {
  const chosen = from?.info?.hue;
  return Number.isInteger(chosen) && chosen >= 0 && chosen < 360 ? String(chosen) : hue(from?.user ?? "");
}

function button(className, text, onClick) {
  const node = element("button", className);
  node.type = "button";
  node.append(document.createTextNode(text));
  node.addEventListener("click", onClick);
  return node;
}
