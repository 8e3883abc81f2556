import { Emitter } from "./emitter.js";

/** Number of steps that can be undone. */
const MAX_STEPS = 1000;

/**
 * What was done in this tab, for undo and redo.
 * @template S
 */
export class UndoHistory {
  changed = new Emitter();
  /** @type {S[]} */
  #done = [];
  /** @type {S[]} */
  #undone = [];

  /** @param {S} step */
  add(step) {
    this.#done.push(step);
    if (this.#done.length > MAX_STEPS) this.#done.shift();
    this.#undone.length = 0;
    this.changed.emit();
  }

  /**
   * Forget the last step, if it is this one.
   * @param {S} step
   * @returns {boolean}
   */
  drop(step) {
    if (this.#done.at(-1) !== step) return false;
    this.#done.pop();
    this.changed.emit();
    return true;
  }

  /** @returns {S | undefined} the step to undo */
  undo() {
    return this.#move(this.#done, this.#undone);
  }

  /** @returns {S | undefined} the step to redo */
  redo() {
    return this.#move(this.#undone, this.#done);
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /**
   * @param {S[]} from
   * @param {S[]} to
   */
  #move(from, to) {
    const step = from.pop();
    if (step !== undefined) {
      to.push(step);
      this.changed.emit();
    }
    return step;
  }
}
