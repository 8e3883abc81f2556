import { getBlob, Refused } from "./api.js";
import { Signal } from "./signal.js";

/** Tiles kept decoded: one is 1 MB at most. */
const KEPT = 160;
/** Requests at a time, so that what the user does is never behind them. */
const AT_ONCE = 4;
const FIRST_PAUSE = 400;

/**
 * @typedef {{id: number, level: number, column: number, row: number, lowPass: number}} Tile
 * @typedef {{key: string, tile: Tile, rank: number, abort: AbortController}} Wanted
 */

/** @param {Tile} tile */
export function keyOf(tile) {
  return `${tile.id}/${tile.level}/${tile.column}/${tile.row}/${tile.lowPass}`;
}

/** Tiles of micrographs: fetched in order of need, kept decoded within bounds. */
export class TileStore {
  /** Told the key of each tile that came. */
  arrived = new Signal();
  /** @type {Map<string, ImageBitmap>} the one used longest ago first */
  #kept = new Map();
  /** @type {Map<string, Wanted>} */
  #waiting = new Map();
  /** @type {Map<string, Wanted>} */
  #coming = new Map();
  /** @type {Map<string, Map<string, Tile>>} by whoever wants them */
  #wants = new Map();
  /** @type {Map<string, number>} tiles that failed, and when to try again */
  #notBefore = new Map();

  #boot;

  /** @param {string} boot of the server: what it said in another life may differ */
  constructor(boot) {
    this.#boot = encodeURIComponent(boot);
  }

  /**
   * @param {string} key
   * @returns {ImageBitmap | undefined}
   */
  find(key) {
    const found = this.#kept.get(key);
    if (found) {
      this.#kept.delete(key);
      this.#kept.set(key, found);
    }
    return found;
  }

  /**
   * Say all tiles somebody wants now, most needed first; what nobody wants any more is dropped,
   * on its way or not.
   * @param {string} who
   * @param {Tile[]} tiles
   * @param {number} [rank] lower comes first
   */
  want(who, tiles, rank = 0) {
    this.#wants.set(who, new Map(tiles.map((tile) => [keyOf(tile), tile])));
    const wanted = new Set();
    for (const one of this.#wants.values()) for (const key of one.keys()) wanted.add(key);
    for (const key of this.#waiting.keys()) if (!wanted.has(key)) this.#waiting.delete(key);
    for (const [key, one] of this.#coming) {
      if (wanted.has(key)) continue;
      one.abort.abort();
      this.#coming.delete(key);
    }
    tiles.forEach((tile, place) => {
      const key = keyOf(tile);
      if (this.#kept.has(key) || this.#coming.has(key)) return;
      const order = rank * 1000 + place;
      const known = this.#waiting.get(key);
      if (known) known.rank = Math.min(known.rank, order);
      else this.#waiting.set(key, { key, tile, rank: order, abort: new AbortController() });
    });
    this.#pump();
  }

  /** Forget all: the server has started anew. */
  clear() {
    for (const one of this.#coming.values()) one.abort.abort();
    this.#coming.clear();
    for (const bitmap of this.#kept.values()) bitmap.close();
    this.#kept.clear();
    this.#waiting.clear();
    this.#notBefore.clear();
  }

  #pump() {
    const now = performance.now();
    while (this.#coming.size < AT_ONCE) {
      /** @type {Wanted | null} */
      let best = null;
      for (const one of this.#waiting.values()) {
        if ((this.#notBefore.get(one.key) ?? 0) > now) continue;
        if (!best || one.rank < best.rank) best = one;
      }
      if (!best) return;
      this.#waiting.delete(best.key);
      this.#coming.set(best.key, best);
      void this.#fetch(best);
    }
  }

  /** @param {Wanted} wanted */
  async #fetch(wanted) {
    const { id, level, column, row, lowPass } = wanted.tile;
    const path = `/api/micrographs/${id}/tiles/${level}/${column}/${row}.jpg`;
    try {
      const blob = await getBlob(`${path}?low_pass=${lowPass}&v=${this.#boot}`, wanted.abort.signal);
      const bitmap = await createImageBitmap(blob);
      if (wanted.abort.signal.aborted) bitmap.close();
      else this.#keep(wanted.key, bitmap);
    } catch (error) {
      if (!wanted.abort.signal.aborted) this.#failed(wanted, error);
    } finally {
      if (this.#coming.get(wanted.key) === wanted) this.#coming.delete(wanted.key);
      this.#pump();
    }
  }

  /**
   * A tile that was refused for good is not asked for again for a while; the rest soon.
   * @param {Wanted} wanted
   * @param {unknown} error
   */
  #failed(wanted, error) {
    const forGood = error instanceof Refused && !error.passing;
    const pause = forGood ? 30000 : FIRST_PAUSE;
    this.#notBefore.set(wanted.key, performance.now() + pause);
    if (forGood) return;
    this.#waiting.set(wanted.key, { ...wanted, abort: new AbortController() });
    setTimeout(() => this.#pump(), pause + 10);
  }

  /**
   * @param {string} key
   * @param {ImageBitmap} bitmap
   */
  #keep(key, bitmap) {
    this.#kept.get(key)?.close();
    this.#kept.set(key, bitmap);
    this.#notBefore.delete(key);
    for (const [old, image] of this.#kept) {
      if (this.#kept.size <= KEPT) break;
      image.close();
      this.#kept.delete(old);
    }
    this.arrived.emit(key);
  }
}
