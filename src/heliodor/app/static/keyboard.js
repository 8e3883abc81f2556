import { byId, createElement } from "./dom.js";
import { withTiming } from "./timings.js";

/**
 * @typedef {{keys: string[], keycaps: string[], description: string, run: () => void | boolean}} Shortcut
 *   `run` returns false if the key is not meant for it, so that the next shortcut is tried
 */

/** Keyboard shortcuts, and the help that lists them. */
export class Keyboard {
  /** @param {Shortcut[]} shortcuts those with the same key are tried in this order */
  constructor(shortcuts) {
    this.shortcuts = shortcuts;
    const onKeyDown = withTiming("key", (/** @type {KeyboardEvent} */ event) => this.#onKeyDown(event));
    document.addEventListener("keydown", onKeyDown);
    this.#fillHelp();
    const sheet = byId("help");
    byId("help-button").addEventListener("click", () => sheet.showModal());
    sheet.querySelector("button").addEventListener("click", () => sheet.close());
  }

  /** @param {KeyboardEvent} event */
  static nameKey(event) {
    const control = event.ctrlKey || event.metaKey ? "Ctrl+" : "";
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const shift = event.shiftKey && (control || event.key.length > 1) ? "Shift+" : "";
    return control + shift + key;
  }

  /** @param {KeyboardEvent} event */
  #onKeyDown(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const typing = target.matches?.("input:not([type=range]):not([type=checkbox]), select, textarea");
    const name = Keyboard.nameKey(event);
    const sheet = byId("help");
    if (name === "?" && sheet.open) {
      sheet.close();
      return;
    }
    if (event.altKey || document.querySelector("dialog[open]")) return;
    if (typing) {
      // A number that was typed takes effect, and the shortcuts work again.
      const entered = name === "Enter" && target.matches("input[type=number]");
      // The same key must not press a button of a dialog that opens now.
      if (entered) event.preventDefault();
      if (name === "Escape" || entered) target.blur();
      return;
    }
    // Keys that the focused element handles itself.
    if (name === " " && target.matches?.("button, a, [role=tab]")) return;
    if (name.startsWith("Arrow") && target.matches?.("input, [role=slider], [role=tab]")) return;
    for (const { keys, run } of this.shortcuts) {
      if (!keys.includes(name) || run() === false) continue;
      event.preventDefault();
      return;
    }
  }

  #fillHelp() {
    const sheet = byId("help-keys");
    const isReview = (/** @type {Shortcut} */ one) => Number(one.description.startsWith("Review"));
    const listed = this.shortcuts
      .filter((one) => one.description)
      .sort((a, b) => isReview(a) - isReview(b));
    for (const { keycaps, description } of listed) {
      const line = createElement("div");
      const keys = createElement("dt");
      for (const key of keycaps) keys.append(createElement("kbd", "", key));
      line.append(keys, createElement("dd", "", description));
      sheet.append(line);
    }
  }
}
