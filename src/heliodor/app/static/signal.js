/** One thing that can happen, and those who want to know. */
export class Signal {
  /** @type {Set<(...args: any[]) => void>} */
  #listeners = new Set();

  /**
   * @param {(...args: any[]) => void} listener
   * @returns {() => void} takes the listener away again
   */
  on(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** @param {...any} args */
  emit(...args) {
    for (const listener of this.#listeners) listener(...args);
  }
}
