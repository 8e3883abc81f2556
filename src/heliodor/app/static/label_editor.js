/** A label is put on the center of a pick that is at most this many diameters away. */
const SNAP_DIAMETERS = 0.1;

/**
 * @typedef {import("./save_queue.js").Label} Label
 * @typedef {import("./state.js").AppState} AppState
 * @typedef {import("./overlay.js").Overlay} Overlay
 */

/** Turns clicks into changes of the labels, depending on what is under the pointer. */
export class LabelEditor {
  /** What the last click changed. @type {import("./label_store.js").Step | null} */
  #lastClick = null;

  /**
   * @param {AppState} state
   * @param {Overlay} overlay
   */
  constructor(state, overlay) {
    this.state = state;
    this.overlay = overlay;
  }

  /** @param {number} x @param {number} y */
  #isInside(x, y) {
    const shown = this.state.micrograph;
    const loaded = shown && shown.id === this.state.current && this.state.labels.get(shown.id);
    if (!shown || !loaded) return false;
    return x >= 0 && y >= 0 && x <= shown.width - 1 && y <= shown.height - 1;
  }

  /**
   * On a label: remove it. Elsewhere: add a particle, at the center of a pick that is very near.
   * @param {number} x
   * @param {number} y
   */
  click(x, y) {
    if (!this.#isInside(x, y)) return;
    const { overlay, state } = this;
    const label = overlay.findNearest(overlay.labels, x, y);
    if (label) {
      this.#lastClick = state.labels.change(state.current, [], [label]);
      return;
    }
    const pick = overlay.findNearest(overlay.picks, x, y);
    const reach = SNAP_DIAMETERS * (state.diameterPx ?? 0);
    const center = pick && Math.hypot(pick.x - x, pick.y - y) <= reach ? pick : { x, y };
    const particle = { x: center.x, y: center.y, kind: /** @type {const} */ ("particle") };
    this.#lastClick = state.labels.change(state.current, [particle]);
  }

  /** Undo the last click and forget it. */
  undoLastClick() {
    if (this.#lastClick) this.state.labels.retract(this.#lastClick);
    this.#lastClick = null;
  }

  /**
   * On a negative: remove it. On a label or a pick: make it a negative. Elsewhere: add a negative.
   * @param {number} x
   * @param {number} y
   */
  reject(x, y) {
    if (!this.#isInside(x, y)) return;
    const { overlay, state } = this;
    const label = overlay.findNearest(overlay.labels, x, y);
    if (label?.kind === "negative") {
      state.labels.change(state.current, [], [label]);
      return;
    }
    const center = label ?? overlay.findNearest(overlay.picks, x, y) ?? { x, y };
    const rejected = { x: center.x, y: center.y, kind: /** @type {const} */ ("negative") };
    state.labels.change(state.current, [rejected], label ? [label] : []);
  }

  /**
   * @param {Label} label
   * @param {number} x
   * @param {number} y
   */
  move(label, x, y) {
    if (this.#isInside(x, y)) this.state.labels.change(this.state.current, [{ x, y, kind: label.kind }], [label]);
  }

  /** @param {Label[]} labels */
  erase(labels) {
    if (labels.length) this.state.labels.change(this.state.current, [], labels);
  }
}
