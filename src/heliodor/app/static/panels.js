import { byId } from "./dom.js";
import { Signal } from "./signal.js";
import { timed } from "./timings.js";

const NAMES = ["label", "train", "judge", "ask", "out"];

/** The panels down the right, one at a time. */
export class Panels {
  /** Told the name of the panel that is shown now. */
  shown = new Signal();
  current = "label";

  constructor() {
    for (const name of NAMES)
      byId(`tab-${name}`).addEventListener("click", timed("panel", () => this.show(name)));
    byId("tabs").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const place = (NAMES.indexOf(this.current) + step + NAMES.length) % NAMES.length;
      this.show(NAMES[place]);
      byId(`tab-${NAMES[place]}`).focus();
    });
    this.show("label");
  }

  /** @param {string | number} which a name, or a place from 0 */
  show(which) {
    const name = typeof which === "number" ? NAMES[which] : which;
    this.current = name;
    for (const one of NAMES) {
      const tab = byId(`tab-${one}`);
      tab.setAttribute("aria-selected", String(one === name));
      tab.tabIndex = one === name ? 0 : -1;
      byId(`panel-${one}`).hidden = one !== name;
    }
    this.shown.emit(name);
  }
}
