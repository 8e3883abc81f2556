import { post } from "./api.js";
import { Emitter } from "./emitter.js";
import { applyStroke, createMask } from "./mask_grid.js";

/**
 * @typedef {import("./emitter.js").Emitter} Emitter
 * @typedef {import("./contamination.js").Mask} Mask
 * @typedef {{ignore: boolean, mask?: Mask | null}} Contamination
 *   `mask`: null for what the model detects; absent to keep what there is
 * @typedef {{current: number, micrograph: import("./tiled_image.js").Micrograph | null,
 *   rows: {ignored: boolean[], mask: (string | null)[]}, rowsChanged: Emitter,
 *   messageRaised: Emitter, waitFor: (sending: Promise<unknown>) => void}} EditorState
 *   the project as the page knows it
 * @typedef {{words: {unknown: string, inDetected: string, inEdited: string, tooEarly: string},
 *   history: {add: (step: any) => void}, scale: number | null, scalePx: number | null,
 *   isKnown: (id: number) => boolean, getMask: (id: number) => Mask | null,
 *   setMask: (id: number, mask: Mask | null) => void, showChanged: (id: number) => void,
 *   reload: (id: number) => Promise<void>, restore: (id: number) => void, onSent: () => void}} Subject
 *   what is picked or traced on the micrographs, and the contamination that comes with it; `scale`
 *   is the diameter of a particle or the width of a filament, `scalePx` in pixels of the image
 */

/** Smallest and largest brush in diameters of a particle, or widths of a filament. */
const BRUSH_RANGE = [0.25, 8];

/** Painting and erasing of contamination on the micrograph on screen. */
export class ContaminationEditor {
  /** Emitted when a stroke grows or ends. */
  strokeChanged = new Emitter();
  /** What a stroke does. @type {"paint" | "erase"} */ mode = "paint";
  /** Width of the brush in diameters or widths. */ brush = 1;
  /** The stroke that is being drawn. @type {(import("./mask_grid.js").Stroke & {erases: boolean}) | null} */
  stroke = null;
  /** The changes are sent one after another. @type {Promise<void>} */ #sending = Promise.resolve();

  /** @param {EditorState} state @param {Subject} subject */
  constructor(state, subject) {
    this.state = state;
    this.subject = subject;
  }

  /**
   * Set the brush.
   * @param {number} share of the range, 0 to 1
   */
  setBrush(share) {
    const [least, most] = BRUSH_RANGE;
    this.brush = least * (most / least) ** share;
  }

  /** Radius of the brush in pixels of the image; null while the diameter or width is not known. */
  get radius() {
    const { scalePx } = this.subject;
    return scalePx === null ? null : (this.brush * scalePx) / 2;
  }

  /**
   * Begin a stroke; return whether that is possible.
   * @param {number} x
   * @param {number} y
   * @param {boolean} inverse whether it does the opposite of the mode
   */
  begin(x, y, inverse) {
    const { state, subject, radius } = this;
    if (radius === null || !subject.isKnown(state.current)) {
      state.messageRaised.emit(subject.words.tooEarly);
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
    const { state, subject, stroke } = this;
    this.stroke = null;
    this.strokeChanged.emit();
    const { micrograph, current } = state;
    const shown = subject.getMask(current);
    if (!stroke || !micrograph || micrograph.id !== current || subject.scalePx === null) return;
    // What is ignored does not come back with the first stroke.
    const empty = createMask(micrograph.width, micrograph.height, subject.scalePx);
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

  /**
   * Change contamination as one step that can be undone.
   * @param {number} micrograph
   * @param {Contamination} after
   */
  #change(micrograph, after) {
    const { state, subject } = this;
    /** @type {Contamination} */
    const before = { ignore: state.rows.ignored[micrograph] };
    if (after.mask !== undefined)
      before.mask = state.rows.mask[micrograph] === null ? null : subject.getMask(micrograph);
    subject.history.add({
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
    const { state, subject } = this;
    state.rows.ignored[micrograph] = contamination.ignore;
    if (contamination.mask !== undefined) {
      state.rows.mask[micrograph] = contamination.mask && "edited";
      subject.setMask(micrograph, contamination.mask);
    }
    subject.showChanged(micrograph);
    state.rowsChanged.emit([micrograph]);
    this.#sending = this.#sending.then(() => this.#send(micrograph, contamination));
    state.waitFor(this.#sending);
  }

  /**
   * @param {number} micrograph
   * @param {Contamination} contamination
   */
  async #send(micrograph, contamination) {
    const { state, subject } = this;
    try {
      await post(`/api/micrographs/${micrograph}/contamination`, contamination);
      await subject.reload(micrograph);
    } catch (error) {
      state.messageRaised.emit(`Not saved: ${error instanceof Error ? error.message : error}`);
      subject.restore(micrograph);
    }
    subject.onSent();
  }
}
