import { Signal } from "./signal.js";

/** Steps that can be undone. */
const KEPT = 1000;

/**
 * What was done in this tab, to be undone and done again.
 * @template S
 */
export class History {
  changed = new Signal();
  /** @type {S[]} */
  #done = [];
  /** @type {S[]} */
  #undone = [];

  /** @param {S} step */
  add(step) {
    this.#done.push(step);
    if (this.#done.length > KEPT) this.#done.shift();
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

  /** @returns {S | undefined} the step to be taken back */
  back() {
    return this.#move(this.#done, this.#undone);
  }

  /** @returns {S | undefined} the step to be taken again */
  again() {
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
