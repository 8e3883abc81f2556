import { get, postForBlob, RequestRefused, ServerUnreachable } from "./api.js";
import { Emitter } from "./emitter.js";

export const PAGE_SIZE = 60;
const CROP_PX = 96;
const SPRITE_COLUMNS = 10;
const MAX_PAGES = 16;

/**
 * @typedef {{micrograph: number, x: number, y: number, score: number,
 *   kind: "particle" | "negative" | null}} Item
 * @typedef {{items: Item[], sprite: ImageBitmap | null, version: number}} Page
 */

/** All candidates, best score first, fetched one page of crops at a time. */
export class CropStore {
  /** Emitted when a page arrived or the number of candidates changed. */
  arrived = new Emitter();
  /** Number of candidates; null while it is not known. @type {number | null} */
  total = null;
  /** @type {Map<number, Page>} */ #pages = new Map();
  /** @type {Set<number>} */ #pending = new Set();
  #version = 0;

  /** The scores changed: keep showing the old pages until they have been fetched again. */
  invalidate() {
    this.#version += 1;
    this.#pending.clear();
  }

  /**
   * Return a candidate by its rank if it has been fetched; otherwise fetch it.
   * @param {number} place
   * @returns {{item: Item, sprite: ImageBitmap | null, sx: number, sy: number, side: number} | null}
   */
  find(place) {
    const number = Math.floor(place / PAGE_SIZE);
    const page = this.#pages.get(number);
    if (page?.version !== this.#version && !this.#pending.has(number)) void this.#fetchPage(number);
    if (!page) return null;
    this.#pages.delete(number);
    this.#pages.set(number, page);
    const within = place % PAGE_SIZE;
    const item = page.items[within];
    if (!item) return null;
    const sx = (within % SPRITE_COLUMNS) * CROP_PX;
    const sy = Math.floor(within / SPRITE_COLUMNS) * CROP_PX;
    return { item, sprite: page.sprite, sx, sy, side: CROP_PX };
  }

  /**
   * Return the fetched candidates of a micrograph.
   * @param {number} micrograph
   * @returns {Item[]}
   */
  listOn(micrograph) {
    const items = [...this.#pages.values()].flatMap((page) => page.items);
    return items.filter((item) => item.micrograph === micrograph);
  }

  /** @param {number} number */
  async #fetchPage(number) {
    const version = this.#version;
    this.#pending.add(number);
    try {
      const { total, items } = await get(`/api/gallery?start=${number * PAGE_SIZE}&count=${PAGE_SIZE}`);
      if (version !== this.#version) return;
      this.total = total;
      const at = items.map((/** @type {Item} */ one) => [one.micrograph, one.x, one.y]);
      const sprite = at.length
        ? await createImageBitmap(await postForBlob("/api/crops", { at }))
        : null;
      if (version !== this.#version) {
        sprite?.close();
        return;
      }
      this.#pages.get(number)?.sprite?.close();
      this.#pages.delete(number);
      this.#pages.set(number, { items, sprite, version });
      this.#evictPages();
      this.arrived.emit();
    } catch (error) {
      if (!(error instanceof RequestRefused || error instanceof ServerUnreachable)) throw error;
      // The next drawing tries again.
      await new Promise((done) => setTimeout(done, 1000));
      if (version === this.#version) this.#pending.delete(number);
      this.arrived.emit();
    } finally {
      if (version === this.#version) this.#pending.delete(number);
    }
  }

  #evictPages() {
    for (const [number, { sprite }] of this.#pages) {
      if (this.#pages.size <= MAX_PAGES) break;
      sprite?.close();
      this.#pages.delete(number);
    }
  }
}
