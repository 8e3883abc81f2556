import { get } from "./api.js";
import { Emitter } from "./emitter.js";

const MAX_CACHED = 12;

/**
 * @typedef {{x: number, y: number, score: number, probability: number | null, bad: boolean}} Pick
 * @typedef {{state: "ready" | "waiting" | "none", model: number | null, x: number[], y: number[],
 *   score: number[], probability: number[] | null, bad: number[],
 *   contamination: import("./contamination.js").Mask | null}} Table
 */

/** The candidates of the model in use on each micrograph, best score first. */
export class PickStore {
  /** Emitted with a micrograph whose picks arrived. */
  changed = new Emitter();
  /** @type {Map<number, Table>} */
  #tables = new Map();
  /** @type {Map<number, Promise<void>>} */
  #reading = new Map();

  /**
   * @param {number} micrograph
   * @returns {Table | null} null while it is not loaded
   */
  get(micrograph) {
    return this.#tables.get(micrograph) ?? null;
  }

  /** @param {number} micrograph */
  async open(micrograph) {
    if (!this.#tables.has(micrograph)) await this.reload(micrograph);
  }

  /** @param {number} micrograph */
  reload(micrograph) {
    const reading = (this.#reading.get(micrograph) ?? Promise.resolve()).then(async () => {
      const table = await get(`/api/micrographs/${micrograph}/picks`);
      // Keep the old picks until the new ones are there.
      if (table.state !== "waiting") this.#tables.delete(micrograph);
      if (table.state === "ready") this.#tables.set(micrograph, table);
      for (const old of this.#tables.keys()) {
        if (this.#tables.size <= MAX_CACHED) break;
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
   * These were scored again: reload the one on screen, the others when they are opened.
   * @param {number[] | null} micrographs null for all
   * @param {number} onScreen
   */
  invalidate(micrographs, onScreen) {
    // Those on screen are kept until the new picks arrive.
    for (const id of micrographs ?? [...this.#tables.keys()])
      if (id !== onScreen) this.#tables.delete(id);
    if (!micrographs || micrographs.includes(onScreen)) void this.reload(onScreen);
  }

  /** Forget all picks, as the diameter changed. */
  clear() {
    this.#tables.clear();
  }

  /**
   * Count the candidates of a micrograph at or above a threshold, contamination included.
   * @param {number} micrograph
   * @param {number} threshold
   */
  countAtThreshold(micrograph, threshold) {
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
  getPick(micrograph, place) {
    const table = this.#tables.get(micrograph);
    if (!table) throw new Error("the picks are not loaded");
    return {
      x: table.x[place],
      y: table.y[place],
      score: table.score[place],
      probability: table.probability?.[place] ?? null,
      bad: Boolean(table.bad[place]),
    };
  }
}
