/** Lists from the server: connections, topics and denials. */

import { sentence } from "./admin-api.js";
import { Live } from "./admin-live.js";
import { $, Pages, button, facts, group, moment, table } from "./admin-view.js";
import { element, inert } from "./text.js";

const MAX_TOPICS = 200;

export class Lists {
  #api;
  #orders;
  #live;
  #pages;

  constructor(api, orders) {
    this.#api = api;
    this.#orders = orders;
    this.#live = new Live(api);
    this.#pages = {
      connections: new Pages(api, $("connections-list"), {
        path: "connections", rows: "connections", key: "session", empty: "There is none.",
        show: (rows) => this.#connections(rows),
      }),
      topics: new Pages(api, $("topics-list"), {
        path: "topics", rows: "topics", key: "topic", empty: "There is none with subscribers.",
        show: (rows) => this.#topics(rows),
      }),
      out: new Pages(api, $("out-list"), {
        path: "blocks", rows: "denials", key: "target", empty: "Nobody and nothing.",
        show: (rows) => this.#denials(rows),
      }),
    };
    for (const name of Object.keys(this.#pages)) {
      $(`${name}-form`).onsubmit = (event) => {
        event.preventDefault();
        this.open(name);
      };
    }
    $("detail-close").onclick = () => $("detail").close();
  }

  /** Show a list, filtered by its form. */
  open(name) {
    const query = Object.fromEntries(new FormData($(`${name}-form`)));
    return this.#pages[name]?.find(query);
  }

  has(name) {
    return name in this.#pages;
  }

  refresh(name) {
    return this.#pages[name]?.refresh();
  }

  close() {
    this.#live.stop();
    $("detail").close();
  }

  #connections(rows) {
    const topic = $("connections-form").elements.topic.value;
    const ordersFor = ({ session, user }) => [
      button("Details", () => this.#detail(session), "quiet everything"),
      this.#orders.button("disconnect", { session }, { label: "Disconnect…", about: { user } }),
      ...(user ? [this.#orders.button("block", { user }, { label: "Block…" })] : []),
      ...(user && topic ? [this.#orders.button("unsubscribe", { user, topic }, { label: "Unsubscribe…" })] : []),
    ];
    const columns = ["User", "Address", "Client", "Encoding", "Worker", "Since", "Topics", "Orders"];
    return table("Connections", columns, rows.map((row) => [
      row.user ? row.user : element("i", "", "no token yet"),
      row.address ?? "–",
      row.client,
      `${row.encoding}, ${row.transport}`,
      row.node,
      moment(row.opened_at),
      String(row.topics),
      group(...ordersFor(row)),
    ]));
  }

  async #detail(session) {
    const place = $("detail-content");
    place.replaceChildren(element("p", "hint", "…"));
    if (!$("detail").open) $("detail").showModal();
    try {
      place.replaceChildren(...this.#full(await this.#api.ask(`connections/${encodeURIComponent(session)}`)));
    } catch (error) {
      place.replaceChildren(element("p", "error", sentence(error)));
    }
  }

  #full(view) {
    const { connection: row, topics } = view;
    const { session, user, address } = row;
    const order = (verb, given, label, about) => this.#orders.button(verb, given, { label, about });
    const grants = Object.entries(view.grants).map(([action, patterns]) => [
      `May ${action}`, [patterns].flat().slice(0, MAX_TOPICS).map(inert).join(", ") || "–",
    ]);
    const known = facts([
      ["User", row.user], ["Name", view.name], ["Session", row.session], ["Worker", row.node],
      ["Address", row.address], ["Client", row.client], ["Encoding", `${row.encoding}, ${row.transport}`],
      ["Since", moment(row.opened_at)], ["Token issued", moment(view.issued_at)],
      ["Token ends", moment(view.expires_at)], ["Token (jti)", view.jti], ["Key (kid)", view.kid],
      ["Reads", view.reads ? "yes" : "too slowly"], ...grants,
    ]);
    const list = element("ul", "rows");
    list.append(...topics.slice(0, MAX_TOPICS).map((topic) => {
      const item = element("li", "");
      const end = order("unsubscribe", { user, topic }, "Unsubscribe…");
      item.append(element("bdi", "", inert(topic)), end);
      return item;
    }));
    const orders = [order("disconnect", { session }, "Disconnect…", { user })];
    if (user) {
      orders.push(order("disconnect", { user }, "Disconnect the user…"));
      orders.push(order("block", { user }, "Block the user…"));
      orders.push(order("revoke", { user }, "Revoke the user's tokens…"));
    }
    if (address) orders.push(order("disconnect", { address }, "Disconnect the address…"));
    if (view.jti) orders.push(order("revoke", { jti: view.jti }, "Revoke the token…"));
    const rest = topics.length > MAX_TOPICS ? `, the first ${MAX_TOPICS}` : "";
    return [group(...orders), known, element("h3", "", `Topics: ${topics.length}${rest}`), list];
  }

  #topics(rows) {
    return table("Topics", ["Topic", "Subscribers", "Last seq", "Epoch", "Orders"], rows.map((row) => [
      row.topic, row.subscribers.toLocaleString(), String(row.seq), row.epoch,
      group(
        button("Watch", () => this.#live.watch(row.topic)),
        button("Who", () => this.#who(row.topic)),
        this.#orders.button("close", { topic: row.topic }, { label: "Close…" }),
      ),
    ]));
  }

  #who(topic) {
    $("connections-form").reset();
    $("connections-form").elements.topic.value = topic;
    location.hash = "#connections";
  }

  #denials(rows) {
    const list = $("out-form").elements.list.value;
    const undo = { users: ["unblock", "user", "Unblock…"], topics: ["open", "topic", "Open…"] }[list];
    return table("Kept out", ["Who or what", "Until", "Issued up to", "By", "Reason", "Orders"], rows.map((row) => [
      row.target, moment(row.until), moment(row.at), row.by, row.reason,
      undo ? this.#orders.button(undo[0], { [undo[1]]: row.target }, { label: undo[2] }) : "–",
    ]));
  }
}
