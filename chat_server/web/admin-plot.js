/** Small plots of the last minutes: one line, its last value and its highest. */

import { element } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 240;
const HEIGHT = 48;

export const WINDOW_MS = 900_000;

export class Plot {
  #label;
  #isState;
  #write;
  #value = element("strong", "", "–");
  #highest = element("span", "hint", "");
  #line = document.createElementNS(SVG, "path");
  #picture = document.createElementNS(SVG, "svg");

  /**
   * @param {function} write returns a value as a text.
   * @param {boolean} isState whether values are states: 1 for ok, else 0.
   */
  constructor(label, write, isState = false) {
    this.#label = label;
    this.#isState = isState;
    this.#write = write;
    this.#picture.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.#picture.setAttribute("preserveAspectRatio", "none");
    this.#picture.setAttribute("role", "img");
    this.#picture.append(this.#line);
    this.node = element("figure", "plot");
    const caption = element("figcaption", "");
    caption.append(element("span", "", label), this.#value, this.#highest);
    this.node.append(caption, this.#picture);
    this.show([]);
  }

  /** Show pairs of a time, in milliseconds, and a value, null for an unknown one. */
  show(points, now = Date.now()) {
    const values = points.map(([, value]) => value).filter((value) => value !== null);
    const highest = Math.max(0, ...values);
    const last = points.at(-1)?.[1] ?? null;
    this.#value.textContent = last === null ? "–" : this.#write(last);
    const extreme = this.#isState ? `worst ${this.#write(Math.min(...values))}` : `highest ${this.#write(highest)}`;
    this.#highest.textContent = values.length ? extreme : "";
    this.#line.setAttribute("d", path(points, now, highest || 1));
    this.#picture.setAttribute(
      "aria-label",
      `${this.#label}: ${this.#value.textContent} now, ${this.#highest.textContent || "nothing yet"}`,
    );
  }
}

function path(points, now, highest) {
  let isBroken = true;
  let text = "";
  for (const [at, value] of points) {
    if (value !== null) {
      const x = WIDTH * (1 - (now - at) / WINDOW_MS);
      const y = HEIGHT - 2 - (HEIGHT - 4) * (value / highest);
      text += `${isBroken ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
      // A first point alone is a dot.
      if (isBroken) text += "h.1";
    }
    isBroken = value === null;
  }
  return text;
}
