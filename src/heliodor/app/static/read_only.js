/** The page of a read-only link: everything can be seen, nothing can be changed. */

import { byId } from "./dom.js";

/** Keys of the shortcuts that change nothing. */
const READER_KEYS = new Set([
  "n", "p", "f", "+", "-", "h", "c", "m", "w", "?", "Escape", "1", "2", "3", "4", "5",
]);

/**
 * Return the shortcuts that change nothing.
 * @param {import("./keyboard.js").Shortcut[]} shortcuts
 */
export function keepReading(shortcuts) {
  return shortcuts.filter(({ keys }) => keys.some((key) => READER_KEYS.has(key)));
}

/**
 * Hide what changes something, and let the mouse only move and zoom the micrograph. What belongs
 * to the class `reader` stays.
 * @param {import("./viewer.js").Viewer} viewer
 */
export function makeReadOnly(viewer) {
  document.body.classList.add("read-only");
  byId("read-only").hidden = false;
  byId("saving").hidden = true;
  makeNotesReadOnly();
  const stage = byId("stage");
  stage.setAttribute("aria-label", "Micrograph: drag to pan, use the wheel to zoom");
  stage.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
    viewer.pointerTools.spaceHeld = true;
    if (event.button !== 2 && !event.altKey) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }, { capture: true });
}

/** Let the notes in the table only be read. */
export function makeNotesReadOnly() {
  byId("table-note").readOnly = true;
  byId("table-note").placeholder = "No note";
}
