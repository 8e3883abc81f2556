import { byId } from "./dom.js";
import { Emitter } from "./emitter.js";
import { withTiming } from "./timings.js";

const PANEL_NAMES = ["label", "train", "inspect", "review", "export"];

/** The panels on the right, shown one at a time. */
export class Panels {
  /** Emitted with the name of the panel that is shown now. */
  shown = new Emitter();
  current = "label";

  constructor() {
    for (const name of PANEL_NAMES)
      byId(`tab-${name}`).addEventListener("click", withTiming("panel", () => this.show(name)));
    byId("tabs").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const place = (PANEL_NAMES.indexOf(this.current) + step + PANEL_NAMES.length) % PANEL_NAMES.length;
      this.show(PANEL_NAMES[place]);
      byId(`tab-${PANEL_NAMES[place]}`).focus();
    });
    this.show("label");
  }

  /** @param {string | number} which a name, or an index from 0 */
  show(which) {
    const name = typeof which === "number" ? PANEL_NAMES[which] : which;
    this.current = name;
    for (const one of PANEL_NAMES) {
      const tab = byId(`tab-${one}`);
      tab.setAttribute("aria-selected", String(one === name));
      tab.tabIndex = one === name ? 0 : -1;
      byId(`panel-${one}`).hidden = one !== name;
    }
    this.shown.emit(name);
  }
}
