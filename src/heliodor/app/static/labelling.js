/**
 * @typedef {import("./outbox.js").Label} Label
 * @typedef {import("./room.js").Room} Room
 * @typedef {import("./overlay.js").Overlay} Overlay
 */

/** What a click means, given what lies under it. */
export class Labelling {
  /** What the last click did. @type {import("./labels.js").Step | null} */
  #clicked = null;

  /**
   * @param {Room} room
   * @param {Overlay} overlay
   */
  constructor(room, overlay) {
    this.room = room;
    this.overlay = overlay;
  }

  /** @param {number} x @param {number} y */
  #inside(x, y) {
    const shown = this.room.micrograph;
    const known = shown && shown.id === this.room.current && this.room.labels.of(shown.id);
    if (!shown || !known) return false;
    return x >= 0 && y >= 0 && x <= shown.width - 1 && y <= shown.height - 1;
  }

  /**
   * On a label: take it away. On a pick: confirm it. Elsewhere: a new particle.
   * @param {number} x
   * @param {number} y
   */
  click(x, y) {
    if (!this.#inside(x, y)) return;
    const { overlay, room } = this;
    const label = overlay.nearest(overlay.labels, x, y);
    if (label) {
      this.#clicked = room.labels.change(room.current, [], [label]);
      return;
    }
    const centre = overlay.nearest(overlay.picks, x, y) ?? { x, y };
    const particle = { x: centre.x, y: centre.y, kind: /** @type {const} */ ("particle") };
    this.#clicked = room.labels.change(room.current, [particle]);
  }

  /** Take back the last click, as if it had not been. */
  retract() {
    if (this.#clicked) this.room.labels.retract(this.#clicked);
    this.#clicked = null;
  }

  /**
   * On a rejection: take it away. On a label or a pick: reject it. Elsewhere: no particle here.
   * @param {number} x
   * @param {number} y
   */
  reject(x, y) {
    if (!this.#inside(x, y)) return;
    const { overlay, room } = this;
    const label = overlay.nearest(overlay.labels, x, y);
    if (label?.kind === "negative") {
      room.labels.change(room.current, [], [label]);
      return;
    }
    const centre = label ?? overlay.nearest(overlay.picks, x, y) ?? { x, y };
    const rejected = { x: centre.x, y: centre.y, kind: /** @type {const} */ ("negative") };
    room.labels.change(room.current, [rejected], label ? [label] : []);
  }

  /** @param {Label[]} labels */
  erase(labels) {
    if (labels.length) this.room.labels.change(this.room.current, [], labels);
  }
}
