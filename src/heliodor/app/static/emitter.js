/** An event with its listeners. */
export class Emitter {
  /** @type {Set<(...args: any[]) => void>} */
  #listeners = new Set();

  /**
   * @param {(...args: any[]) => void} listener
   * @returns {() => void} removes the listener
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
