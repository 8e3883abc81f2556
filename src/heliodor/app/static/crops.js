import { get, postForBlob, Refused, Unreachable } from "./api.js";
import { Signal } from "./signal.js";

export const PAGE = 60;
const SIDE = 96;
const ACROSS = 10;
const KEPT = 16;

/**
 * @typedef {{micrograph: number, x: number, y: number, score: number,
 *   kind: "particle" | "negative" | null}} Item
 * @typedef {{items: Item[], sprite: ImageBitmap | null, version: number}} Page
 */

/** All candidates by falling score, a page of crops at a time. */
export class Crops {
  /** Told when a page came, or the number of candidates differs. */
  arrived = new Signal();
  /** How many there are; null while nobody knows. @type {number | null} */
  total = null;
  /** @type {Map<number, Page>} */ #pages = new Map();
  /** @type {Set<number>} */ #coming = new Set();
  #version = 0;

  /** They were scored anew: what is at hand is shown until it has been read again. */
  outdate() {
    this.#version += 1;
    this.#coming.clear();
  }

  /**
   * A candidate by its place, if it is at hand; else it is asked for.
   * @param {number} place
   * @returns {{item: Item, sprite: ImageBitmap | null, sx: number, sy: number, side: number} | null}
   */
  at(place) {
    const number = Math.floor(place / PAGE);
    const page = this.#pages.get(number);
    if (page?.version !== this.#version && !this.#coming.has(number)) void this.#read(number);
    if (!page) return null;
    this.#pages.delete(number);
    this.#pages.set(number, page);
    const within = place % PAGE;
    const item = page.items[within];
    if (!item) return null;
    const sx = (within % ACROSS) * SIDE;
    const sy = Math.floor(within / ACROSS) * SIDE;
    return { item, sprite: page.sprite, sx, sy, side: SIDE };
  }

  /** @param {number} number */
  async #read(number) {
    const version = this.#version;
    this.#coming.add(number);
    try {
      const { total, items } = await get(`/api/gallery?start=${number * PAGE}&count=${PAGE}`);
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
      this.#bound();
      this.arrived.emit();
    } catch (error) {
      if (!(error instanceof Refused || error instanceof Unreachable)) throw error;
      // Drawing again asks again, in a while.
      await new Promise((done) => setTimeout(done, 1000));
      if (version === this.#version) this.#coming.delete(number);
      this.arrived.emit();
    } finally {
      if (version === this.#version) this.#coming.delete(number);
    }
  }

  #bound() {
    for (const [number, { sprite }] of this.#pages) {
      if (this.#pages.size <= KEPT) break;
      sprite?.close();
      this.#pages.delete(number);
    }
  }
}
