import { post } from "./api.js";
import { Emitter } from "./emitter.js";
import { applyStroke, createMask } from "./mask_grid.js";

/**
 * @typedef {import("./state.js").AppState} AppState
 * @typedef {import("./contamination.js").Mask} Mask
 * @typedef {{ignore: boolean, mask?: Mask | null}} Contamination
 *   `mask`: null for what the model detects; absent to keep what there is
 */

/** Smallest and largest brush in diameters. */
const BRUSH_RANGE = [0.25, 8];

/** Painting and erasing of contamination on the micrograph on screen. */
export class ContaminationEditor {
  /** Emitted when a stroke grows or ends. */
  strokeChanged = new Emitter();
  /** What a stroke does. @type {"paint" | "erase"} */ mode = "paint";
  /** Width of the brush in diameters. */ brush = 1;
  /** The stroke that is being drawn. @type {(import("./mask_grid.js").Stroke & {erases: boolean}) | null} */
  stroke = null;
  /** The changes are sent one after another. @type {Promise<void>} */ #sending = Promise.resolve();

  /** @param {AppState} state */
  constructor(state) {
    this.state = state;
  }

  /**
   * Set the brush.
   * @param {number} share of the range, 0 to 1
   */
  setBrush(share) {
    const [least, most] = BRUSH_RANGE;
    this.brush = least * (most / least) ** share;
  }

  /** Radius of the brush in pixels of the image; null while the diameter is not known. */
  get radius() {
    const { diameterPx } = this.state;
    return diameterPx === null ? null : (this.brush * diameterPx) / 2;
  }

  /**
   * Begin a stroke; return whether that is possible.
   * @param {number} x
   * @param {number} y
   * @param {boolean} inverse whether it does the opposite of the mode
   */
  begin(x, y, inverse) {
    const { state, radius } = this;
    if (radius === null || !state.picks.get(state.current)) {
      state.messageRaised.emit("Contamination can be edited once this micrograph has been picked.");
      return false;
    }
    this.stroke = { points: [[x, y]], radius, erases: (this.mode === "erase") !== inverse };
    this.strokeChanged.emit();
    return true;
  }

  /** @param {number} x @param {number} y */
  extend(x, y) {
    this.stroke?.points.push([x, y]);
    this.strokeChanged.emit();
  }

  /** End the stroke and change the mask. */
  finish() {
    const { state, stroke } = this;
    this.stroke = null;
    this.strokeChanged.emit();
    const { micrograph, current } = state;
    const shown = this.#shownMask();
    if (!stroke || !micrograph || micrograph.id !== current || state.diameterPx === null) return;
    // What is ignored does not come back with the first stroke.
    const empty = createMask(micrograph.width, micrograph.height, state.diameterPx);
    const before = (state.rows.ignored[current] ? null : shown) ?? empty;
    this.#change(current, { ignore: false, mask: applyStroke(before, stroke, stroke.erases) });
  }

  /** Forget the stroke. */
  cancel() {
    this.stroke = null;
    this.strokeChanged.emit();
  }

  /** Ignore contamination on the micrograph on screen, or not. @param {boolean} ignore */
  ignore(ignore) {
    this.#change(this.state.current, { ignore });
  }

  /** Use what the model detects on the micrograph on screen again. */
  useDetected() {
    this.#change(this.state.current, { ignore: false, mask: null });
  }

  /** The mask on screen. @returns {Mask | null} */
  #shownMask() {
    return this.state.picks.get(this.state.current)?.contamination ?? null;
  }

  /**
   * Change contamination as one step that can be undone.
   * @param {number} micrograph
   * @param {Contamination} after
   */
  #change(micrograph, after) {
    const { state } = this;
    /** @type {Contamination} */
    const before = { ignore: state.rows.ignored[micrograph] };
    if (after.mask !== undefined) before.mask = state.rows.mask[micrograph] === null ? null : this.#shownMask();
    state.labels.history.add({
      micrograph,
      undo: () => this.#apply(micrograph, before),
      redo: () => this.#apply(micrograph, after),
    });
    this.#apply(micrograph, after);
  }

  /**
   * Show a change at once, and send it.
   * @param {number} micrograph
   * @param {Contamination} contamination
   */
  #apply(micrograph, contamination) {
    const { state } = this;
    state.rows.ignored[micrograph] = contamination.ignore;
    const table = state.picks.get(micrograph);
    if (contamination.mask !== undefined) {
      state.rows.mask[micrograph] = contamination.mask && "edited";
      if (table && contamination.mask) table.contamination = contamination.mask;
    }
    state.picks.changed.emit(micrograph);
    state.rowsChanged.emit([micrograph]);
    this.#sending = this.#sending.then(() => this.#send(micrograph, contamination));
    state.waitFor(this.#sending);
  }

  /**
   * @param {number} micrograph
   * @param {Contamination} contamination
   */
  async #send(micrograph, contamination) {
    const { state } = this;
    try {
      await post(`/api/micrographs/${micrograph}/contamination`, contamination);
      await state.picks.reload(micrograph);
    } catch (error) {
      state.messageRaised.emit(`Not saved: ${error instanceof Error ? error.message : error}`);
      // Show what the server has.
      state.picks.invalidate([micrograph], state.current);
    }
    state.requested.emit();
    void state.readHistogram();
  }
}
