import { get } from "./api.js";
import { Signal } from "./signal.js";

const KEPT = 12;

/**
 * @typedef {{x: number, y: number, score: number, probability: number | null, bad: boolean}} Pick
 * @typedef {{state: "ready" | "waiting" | "none", model: number | null, x: number[], y: number[],
 *   score: number[], probability: number[] | null, bad: number[]}} Table
 */

/** What the model in use found on the micrographs, by falling score. */
export class Picks {
  /** Told the micrograph whose picks came. */
  changed = new Signal();
  /** @type {Map<number, Table>} */
  #tables = new Map();
  /** @type {Map<number, Promise<void>>} */
  #reading = new Map();

  /**
   * @param {number} micrograph
   * @returns {Table | null} null while it is not known
   */
  of(micrograph) {
    return this.#tables.get(micrograph) ?? null;
  }

  /** @param {number} micrograph */
  async open(micrograph) {
    if (!this.#tables.has(micrograph)) await this.reread(micrograph);
  }

  /** @param {number} micrograph */
  reread(micrograph) {
    const reading = (this.#reading.get(micrograph) ?? Promise.resolve()).then(async () => {
      const table = await get(`/api/micrographs/${micrograph}/picks`);
      // While the new picks are waited for, those that were there stay.
      if (table.state !== "waiting") this.#tables.delete(micrograph);
      if (table.state === "ready") this.#tables.set(micrograph, table);
      for (const old of this.#tables.keys()) {
        if (this.#tables.size <= KEPT) break;
        this.#tables.delete(old);
      }
      this.changed.emit(micrograph);
    });
    this.#reading.set(micrograph, reading);
    return reading.finally(() => {
      if (this.#reading.get(micrograph) === reading) this.#reading.delete(micrograph);
    });
  }

  /**
   * These were scored anew: read again at once if on screen, when opened else.
   * @param {number[] | null} micrographs null for all
   * @param {number} onScreen
   */
  outdated(micrographs, onScreen) {
    // What is on the screen stays there until the new picks have come.
    for (const id of micrographs ?? [...this.#tables.keys()])
      if (id !== onScreen) this.#tables.delete(id);
    if (!micrographs || micrographs.includes(onScreen)) void this.reread(onScreen);
  }

  /** Forget all: they are of another size. */
  clear() {
    this.#tables.clear();
  }

  /**
   * How many picks of a micrograph reach a threshold, those in bad areas included.
   * @param {number} micrograph
   * @param {number} threshold
   */
  reaching(micrograph, threshold) {
    const score = this.#tables.get(micrograph)?.score ?? [];
    let [low, high] = [0, score.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (score[middle] >= threshold) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /**
   * @param {number} micrograph
   * @param {number} place
   * @returns {Pick}
   */
  at(micrograph, place) {
    const table = this.#tables.get(micrograph);
    if (!table) throw new Error("no picks are at hand");
    return {
      x: table.x[place],
      y: table.y[place],
      score: table.score[place],
      probability: table.probability?.[place] ?? null,
      bad: Boolean(table.bad[place]),
    };
  }
}
