import { byId, make } from "./dom.js";
import { timed } from "./timings.js";

/**
 * @typedef {{keys: string[], shown: string[], says: string, act: () => void | boolean}} Shortcut
 *   `act` may answer false: not meant for it, try the next one
 */

/** Shortcuts of the keyboard, and the sheet that tells them. */
export class Keys {
  /** @param {Shortcut[]} shortcuts the first that has the key is asked first */
  constructor(shortcuts) {
    this.shortcuts = shortcuts;
    const press = timed("key", (/** @type {KeyboardEvent} */ event) => this.#press(event));
    document.addEventListener("keydown", press);
    this.#tell();
    const sheet = byId("help");
    byId("help-button").addEventListener("click", () => sheet.showModal());
    sheet.querySelector("button").addEventListener("click", () => sheet.close());
  }

  /** @param {KeyboardEvent} event */
  static nameOf(event) {
    const control = event.ctrlKey || event.metaKey ? "Ctrl+" : "";
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const shift = event.shiftKey && (control || event.key.length > 1) ? "Shift+" : "";
    return control + shift + key;
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const typing = target.matches?.("input:not([type=range]):not([type=checkbox]), select, textarea");
    const name = Keys.nameOf(event);
    const sheet = byId("help");
    if (name === "?" && sheet.open) {
      sheet.close();
      return;
    }
    if (event.altKey || document.querySelector("dialog[open]")) return;
    if (typing) {
      if (name === "Escape") target.blur();
      return;
    }
    // Keys that the focused element answers to itself.
    if (name === " " && target.matches?.("button, a, [role=tab]")) return;
    if (name.startsWith("Arrow") && target.matches?.("input, [role=slider], [role=tab]")) return;
    for (const { keys, act } of this.shortcuts) {
      if (!keys.includes(name) || act() === false) continue;
      event.preventDefault();
      return;
    }
  }

  #tell() {
    const sheet = byId("help-keys");
    const asking = (/** @type {Shortcut} */ one) => Number(one.says.startsWith("Ask"));
    const told = this.shortcuts.filter((one) => one.says).sort((a, b) => asking(a) - asking(b));
    for (const { shown, says } of told) {
      const line = make("div");
      const keys = make("dt");
      for (const key of shown) keys.append(make("kbd", "", key));
      line.append(keys, make("dd", "", says));
      sheet.append(line);
    }
  }
}
