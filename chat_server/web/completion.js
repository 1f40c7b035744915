/** A list of proposals over the field: arrows choose, Enter and Tab take, Escape closes it. */

import { element, nameNode } from "./text.js";

const MAX_SHOWN = 6;

export class Completion {
  #field;
  #list;
  #sources;
  /** The open proposals: `{start, proposals}`, or null. */
  #open = null;
  #chosen = 0;

  /**
   * @param {HTMLTextAreaElement} field
   * @param {Element} list shows the proposals.
   * @param {function[]} sources each is called with the text and the cursor, and returns null, or
   *   `{start, proposals}`: the beginning of the completed word, and `{label, hint, text}` of each proposal;
   *   or `{start, whole}`, with the replacement of a complete word.
   */
  constructor(field, list, sources) {
    this.#field = field;
    this.#list = list;
    this.#sources = sources;
    field.addEventListener("input", () => this.#look());
    field.addEventListener("blur", () => this.close());
    field.addEventListener("keydown", (event) => this.#keyPressed(event), { capture: true });
    // A press must not take the cursor out of the field.
    list.addEventListener("pointerdown", (event) => event.preventDefault());
  }

  close() {
    this.#open = null;
    this.#show();
  }

  #look() {
    const { value, selectionStart } = this.#field;
    this.#open = null;
    for (const source of this.#sources) this.#open ??= source(value, selectionStart);
    if (this.#open?.whole) return this.#put(this.#open.whole);
    if (this.#open?.proposals.length === 0) this.#open = null;
    this.#chosen = 0;
    this.#show();
  }

  #show() {
    const proposals = this.#open?.proposals.slice(0, MAX_SHOWN) ?? [];
    this.#list.hidden = proposals.length === 0;
    this.#list.replaceChildren(...proposals.map(({ label, hint }, index) => {
      const option = element("li", "");
      option.id = `proposal-${index}`;
      option.role = "option";
      option.ariaSelected = String(index === this.#chosen);
      option.append(nameNode(label), " ", nameNode(hint, "time"));
      option.addEventListener("click", () => this.#take(index));
      return option;
    }));
    this.#list.children[this.#chosen]?.scrollIntoView({ block: "nearest" });
    if (proposals.length > 0) this.#field.setAttribute("aria-activedescendant", `proposal-${this.#chosen}`);
    else this.#field.removeAttribute("aria-activedescendant");
  }

  #keyPressed(event) {
    if (this.#open === null || event.isComposing) return;
    const count = this.#list.children.length;
    if (event.key === "ArrowDown") this.#chosen = (this.#chosen + 1) % count;
    else if (event.key === "ArrowUp") this.#chosen = (this.#chosen + count - 1) % count;
    else if ((event.key === "Enter" && !event.shiftKey) || event.key === "Tab") this.#take(this.#chosen);
    else if (event.key === "Escape") this.close();
    else return;
    event.preventDefault();
    event.stopImmediatePropagation();
    this.#show();
  }

  #take(index) {
    this.#put(this.#open.proposals[index].text);
  }

  #put(text) {
    const { start } = this.#open;
    this.#open = null;
    this.#field.setRangeText(text, start, this.#field.selectionStart, "end");
    this.#field.dispatchEvent(new Event("input", { bubbles: true }));
  }
}
