import { fitCanvas, oncePerFrame } from "./dom.js";
import { getTileKey } from "./tile_store.js";
import { withTiming } from "./timings.js";

/**
 * @typedef {import("./camera.js").Camera} Camera
 * @typedef {import("./tile_store.js").TileStore} TileStore
 * @typedef {{id: number, name: string, width: number, height: number,
 *   pixel_size: number | null, levels: number, tile: number, version: number}} Micrograph
 */

/**
 * Return width and height of a whole tile in pixels of the original: each level has half the pixels
 * of the one before, rounded up.
 * @param {Micrograph} micrograph
 * @param {number} level
 * @returns {[number, number]}
 */
function getTileSize({ width, height, tile }, level) {
  const shrink = 2 ** level;
  return [
    (tile * width) / Math.ceil(width / shrink),
    (tile * height) / Math.ceil(height / shrink),
  ];
}

/** A micrograph drawn through a camera from the tiles that are loaded. */
export class TiledImage {
  /** @type {Micrograph | null} */
  micrograph = null;
  /** Low-pass filter in angstrom, 0 for none. */
  lowPass = 0;
  /** The filter of the tiles that last filled the window: shown until those of another one arrive. */
  #completeLowPass = 0;
  redraw = oncePerFrame(withTiming("draw micrograph", () => this.#draw()));

  /**
   * @param {string} owner a unique name among the users of the tiles
   * @param {HTMLCanvasElement} canvas
   * @param {Camera} camera
   * @param {TileStore} tiles
   */
  constructor(owner, canvas, camera, tiles) {
    this.owner = owner;
    this.canvas = canvas;
    this.camera = camera;
    this.tiles = tiles;
    tiles.arrived.on((/** @type {string} */ key) => {
      if (this.micrograph && key.startsWith(`${this.micrograph.id}/`)) this.redraw();
    });
  }

  /** The level whose pixels are about the size of screen pixels. */
  get level() {
    if (!this.micrograph) return 0;
    const shrink = 1 / (this.camera.zoom * (window.devicePixelRatio || 1));
    const level = Math.floor(Math.log2(Math.max(shrink, 1)) + 0.3);
    return Math.min(Math.max(level, 0), this.micrograph.levels - 1);
  }

  /** Show nothing, and request no tiles. */
  close() {
    this.micrograph = null;
    this.tiles.request(this.owner, []);
    this.redraw();
  }

  /**
   * List the tiles of a level in the window, the central ones first.
   * @param {number} level
   * @returns {import("./tile_store.js").Tile[]}
   */
  listVisibleTiles(level) {
    const shown = this.micrograph;
    if (!shown) return [];
    const { camera, lowPass } = this;
    const [across, down] = getTileSize(shown, level);
    const [left, top] = camera.toImage(0, 0);
    const [right, bottom] = camera.toImage(camera.width, camera.height);
    const first = (/** @type {number} */ at, /** @type {number} */ side) =>
      Math.max(0, Math.floor((at + 0.5) / side));
    const last = (
      /** @type {number} */ at,
      /** @type {number} */ side,
      /** @type {number} */ size,
    ) => Math.min(Math.ceil(size / side - 1e-9) - 1, Math.floor((at + 0.5) / side));
    const visible = [];
    for (let row = first(top, down); row <= last(bottom, down, shown.height); row++)
      for (let column = first(left, across); column <= last(right, across, shown.width); column++)
        visible.push({ id: shown.id, version: shown.version, level, column, row, lowPass });
    const away = (/** @type {import("./tile_store.js").Tile} */ tile) =>
      Math.hypot((tile.column + 0.5) * across - camera.x, (tile.row + 0.5) * down - camera.y);
    return visible.sort((a, b) => away(a) - away(b));
  }

  #draw() {
    const { width, height, ratio } = fitCanvas(this.canvas);
    const context = this.canvas.getContext("2d", { alpha: true });
    if (!context) return;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.micrograph || !width || !height) return;
    const wanted = this.listVisibleTiles(this.level);
    const coarse = this.micrograph.levels - 1;
    const overview = { ...this.#tileAt(coarse), column: 0, row: 0 };
    this.tiles.request(this.owner, this.level === coarse ? wanted : [overview, ...wanted]);
    // Draw what is loaded, from coarse to fine, so that nothing is blank meanwhile.
    const whole = wanted.every((tile) => this.tiles.find(getTileKey(tile)));
    context.imageSmoothingEnabled = this.camera.zoom * ratio < 4;
    context.imageSmoothingQuality = "medium";
    const filters = whole ? [this.lowPass] : [this.#completeLowPass, this.lowPass];
    for (const lowPass of filters)
      for (let level = whole ? this.level : coarse; level >= this.level; level--)
        for (const tile of this.listVisibleTiles(level))
          this.#drawTile(context, { ...tile, lowPass }, ratio);
    if (whole) this.#completeLowPass = this.lowPass;
  }

  /** @param {number} level */
  #tileAt(level) {
    const { id = -1, version = 0 } = this.micrograph ?? {};
    return { id, version, level, lowPass: this.lowPass };
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {import("./tile_store.js").Tile} tile
   * @param {number} ratio
   */
  #drawTile(context, tile, ratio) {
    const bitmap = this.tiles.find(getTileKey(tile));
    if (!bitmap || !this.micrograph) return;
    const [across, down] = getTileSize(this.micrograph, tile.level);
    const [x, y] = [tile.column * across, tile.row * down];
    const right = x + (bitmap.width / this.micrograph.tile) * across;
    const bottom = y + (bitmap.height / this.micrograph.tile) * down;
    const [left, top] = this.camera.toScreen(x - 0.5, y - 0.5);
    const [end, foot] = this.camera.toScreen(right - 0.5, bottom - 0.5);
    // Whole device pixels: no seams between tiles.
    const [x0, y0, x1, y1] = [left, top, end, foot].map((at) => Math.round(at * ratio));
    context.drawImage(bitmap, x0, y0, x1 - x0, y1 - y0);
  }
}
