import { getBlob, RequestRefused } from "./api.js";
import { Emitter } from "./emitter.js";

/** Decoded tiles kept in memory, of 1 MB each at most. */
const MAX_TILES = 160;
/** Parallel requests; few, so that other requests need not wait for them. */
const MAX_REQUESTS = 4;
const RETRY_DELAY_MS = 400;

/**
 * @typedef {{id: number, version: number, level: number, column: number, row: number,
 *   lowPass: number}} Tile
 * @typedef {{key: string, tile: Tile, rank: number, abort: AbortController}} Wanted
 */

/** @param {Tile} tile */
export function getTileKey(tile) {
  return `${tile.id}/${tile.version}/${tile.level}/${tile.column}/${tile.row}/${tile.lowPass}`;
}

/** Tiles of micrographs: fetched in order of need; the latest ones are kept decoded. */
export class TileStore {
  /** Emitted with the key of each tile that arrived. */
  arrived = new Emitter();
  /** @type {Map<string, ImageBitmap>} least recently used first */
  #tiles = new Map();
  /** @type {Map<string, Wanted>} */
  #waiting = new Map();
  /** @type {Map<string, Wanted>} */
  #pending = new Map();
  /** @type {Map<string, Map<string, Tile>>} by owner */
  #requested = new Map();
  /** @type {Map<string, number>} when to try again tiles that failed */
  #notBefore = new Map();

  #boot;

  /** @param {string} boot of the server: tiles from before a restart may differ */
  constructor(boot) {
    this.#boot = encodeURIComponent(boot);
  }

  /**
   * @param {string} key
   * @returns {ImageBitmap | undefined}
   */
  find(key) {
    const found = this.#tiles.get(key);
    if (found) {
      this.#tiles.delete(key);
      this.#tiles.set(key, found);
    }
    return found;
  }

  /**
   * Request all tiles that an owner needs now, most needed first. Tiles that nobody needs any more
   * are dropped, pending or not.
   * @param {string} owner
   * @param {Tile[]} tiles
   * @param {number} [rank] lower comes first
   */
  request(owner, tiles, rank = 0) {
    this.#requested.set(owner, new Map(tiles.map((tile) => [getTileKey(tile), tile])));
    const wanted = new Set();
    for (const one of this.#requested.values()) for (const key of one.keys()) wanted.add(key);
    for (const key of this.#waiting.keys()) if (!wanted.has(key)) this.#waiting.delete(key);
    for (const [key, one] of this.#pending) {
      if (wanted.has(key)) continue;
      one.abort.abort();
      this.#pending.delete(key);
    }
    tiles.forEach((tile, place) => {
      const key = getTileKey(tile);
      if (this.#tiles.has(key) || this.#pending.has(key)) return;
      const order = rank * 1000 + place;
      const known = this.#waiting.get(key);
      if (known) known.rank = Math.min(known.rank, order);
      else this.#waiting.set(key, { key, tile, rank: order, abort: new AbortController() });
    });
    this.#fetchNext();
  }

  #fetchNext() {
    const now = performance.now();
    while (this.#pending.size < MAX_REQUESTS) {
      /** @type {Wanted | null} */
      let best = null;
      for (const one of this.#waiting.values()) {
        if ((this.#notBefore.get(one.key) ?? 0) > now) continue;
        if (!best || one.rank < best.rank) best = one;
      }
      if (!best) return;
      this.#waiting.delete(best.key);
      this.#pending.set(best.key, best);
      void this.#fetch(best);
    }
  }

  /** @param {Wanted} wanted */
  async #fetch(wanted) {
    const { id, version, level, column, row, lowPass } = wanted.tile;
    const path = `/api/micrographs/${id}/tiles/${level}/${column}/${row}.jpg`;
    try {
      const blob = await getBlob(`${path}?low_pass=${lowPass}&v=${this.#boot}-${version}`, wanted.abort.signal);
      const bitmap = await createImageBitmap(blob);
      if (wanted.abort.signal.aborted) bitmap.close();
      else this.#store(wanted.key, bitmap);
    } catch (error) {
      if (!wanted.abort.signal.aborted) this.#handleFailure(wanted, error);
    } finally {
      if (this.#pending.get(wanted.key) === wanted) this.#pending.delete(wanted.key);
      this.#fetchNext();
    }
  }

  /**
   * Retry a tile soon, or after a longer pause if the server refused it for good.
   * @param {Wanted} wanted
   * @param {unknown} error
   */
  #handleFailure(wanted, error) {
    const forGood = error instanceof RequestRefused && !error.isTemporary;
    const pause = forGood ? 30000 : RETRY_DELAY_MS;
    this.#notBefore.set(wanted.key, performance.now() + pause);
    if (forGood) return;
    this.#waiting.set(wanted.key, { ...wanted, abort: new AbortController() });
    setTimeout(() => this.#fetchNext(), pause + 10);
  }

  /**
   * @param {string} key
   * @param {ImageBitmap} bitmap
   */
  #store(key, bitmap) {
    this.#tiles.get(key)?.close();
    this.#tiles.set(key, bitmap);
    this.#notBefore.delete(key);
    for (const [old, image] of this.#tiles) {
      if (this.#tiles.size <= MAX_TILES) break;
      image.close();
      this.#tiles.delete(old);
    }
    this.arrived.emit(key);
  }
}
