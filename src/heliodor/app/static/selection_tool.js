import { byId, formatCount, setText } from "./dom.js";
import { Emitter } from "./emitter.js";
import { withTiming } from "./timings.js";

/**
 * @typedef {import("./state.js").AppState} AppState
 * @typedef {import("./overlay.js").Overlay} Overlay
 * @typedef {import("./save_queue.js").Label} Label
 * @typedef {import("./pick_store.js").Pick} Pick
 * @typedef {[number, number]} Corner in pixels of the image
 */

/**
 * Return whether a point is inside a polygon (even-odd rule).
 * @param {number} x
 * @param {number} y
 * @param {Corner[]} corners
 */
function isInside(x, y, corners) {
  let inside = false;
  corners.forEach(([ax, ay], i) => {
    const [bx, by] = corners[(i + 1) % corners.length];
    if (ay > y !== by > y && x < ax + ((y - ay) * (bx - ax)) / (by - ay)) inside = !inside;
  });
  return inside;
}

/** Selection of picks and labels with a rectangle or a lasso, and what is done with them. */
export class SelectionTool {
  /** Emitted when the outline or what is selected changes. */
  changed = new Emitter();
  /** @type {"rectangle" | "lasso"} */ mode = "rectangle";
  /** The outline. @type {Corner[]} */ corners = [];
  /** @type {Label[]} */ labels = [];
  /** @type {Pick[]} */ picks = [];
  /** @type {Corner} */ #start = [0, 0];

  /**
   * @param {AppState} state
   * @param {Overlay} overlay
   */
  constructor(state, overlay) {
    this.state = state;
    this.overlay = overlay;
    const on = (/** @type {string} */ id, /** @type {() => void} */ act) =>
      byId(id).addEventListener("click", withTiming(id, () => {
        act();
        byId("stage").focus({ preventScroll: true });
      }));
    on("select-rectangle", () => this.#setMode("rectangle"));
    on("select-lasso", () => this.#setMode("lasso"));
    on("selection-reject", () => this.label("negative"));
    on("selection-label", () => this.label("particle"));
    on("selection-remove", () => this.removeLabels());
    for (const name of ["pointerdown", "pointerup", "pointermove"])
      byId("selection").addEventListener(name, (/** @type {Event} */ event) => event.stopPropagation());
    state.opened.on(() => this.clear());
    overlay.changed.on(() => this.corners.length && this.#collect());
    this.#show();
  }

  /** Whether something is selected. */
  get isEmpty() {
    return !this.labels.length && !this.picks.length;
  }

  /** @param {boolean} isOn whether the tool is in use */
  setActive(isOn) {
    byId("selection").hidden = !isOn;
    this.clear();
  }

  /** @param {"rectangle" | "lasso"} mode */
  #setMode(mode) {
    this.mode = mode;
    this.clear();
  }

  /** @param {number} x @param {number} y */
  begin(x, y) {
    this.clear();
    this.#start = [x, y];
    this.corners = [[x, y]];
  }

  /** @param {number} x @param {number} y */
  extend(x, y) {
    if (this.mode === "lasso") this.corners.push([x, y]);
    else {
      const [left, top] = this.#start;
      this.corners = [[left, top], [x, top], [x, y], [left, y]];
    }
    this.#collect();
  }

  clear() {
    this.corners = [];
    this.labels = [];
    this.picks = [];
    this.#show();
  }

  /** Find what is inside the outline. */
  #collect() {
    const inside = (/** @type {{x: number, y: number}} */ { x, y }) => isInside(x, y, this.corners);
    this.labels = this.overlay.labels.filter(inside);
    this.picks = this.overlay.picks.filter(inside);
    this.#show();
  }

  #show() {
    for (const mode of ["rectangle", "lasso"]) byId(`select-${mode}`).setAttribute("aria-pressed", String(mode === this.mode));
    setText(byId("selection-message"), this.isEmpty ? "Drag around picks and labels."
      : `${formatCount(this.picks.length, "pick")} and ${formatCount(this.labels.length, "label")} selected.`);
    const has = (/** @type {string} */ kind) => this.labels.some((label) => label.kind === kind);
    byId("selection-reject").disabled = !this.picks.length && !has("particle");
    byId("selection-label").disabled = !this.picks.length && !has("negative");
    byId("selection-remove").disabled = !this.labels.length;
    this.changed.emit();
  }

  /** Give all that is selected a label of this kind. @param {"particle" | "negative"} kind */
  label(kind) {
    const others = this.labels.filter((label) => label.kind !== kind);
    const add = [...others, ...this.picks].map(({ x, y }) => ({ x, y, kind }));
    this.clear();
    if (add.length) this.state.labels.change(this.state.current, add, others);
  }

  /** Remove the labels that are selected. */
  removeLabels() {
    const { labels } = this;
    this.clear();
    if (labels.length) this.state.labels.change(this.state.current, [], labels);
  }
}
