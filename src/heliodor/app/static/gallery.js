import { Crops, PAGE } from "./crops.js";
import { byId, icon, make, onceAFrame, say } from "./dom.js";
import { timed } from "./timings.js";
import { toast } from "./toast.js";

/** A crop is about so wide, its neighbours' distance included. */
const CELL = 78;

/**
 * @typedef {import("./room.js").Room} Room
 * @typedef {import("./viewer.js").Viewer} Viewer
 * @typedef {{button: any, canvas: any, score: any, sign: Element | null, drawn: unknown,
 *   kind: string | null, place: number}} Cell
 */

/** Crops of the picks by falling score: where does the junk start? */
export class Gallery {
  crops = new Crops();
  /** @type {Cell[]} */ #cells = [];
  #stale = true;
  #cellSize = CELL;
  redraw = onceAFrame(timed("draw gallery", () => this.#draw()));

  /**
   * @param {Room} room
   * @param {Viewer} viewer
   */
  constructor(room, viewer) {
    this.room = room;
    this.viewer = viewer;
    this.box = byId("gallery");
    this.space = byId("gallery-space");
    this.choice = "junk";
    const choices = byId("gallery-click");
    choices.addEventListener("click", (/** @type {any} */ event) => {
      if (!event.target.value) return;
      this.choice = event.target.value;
      for (const one of choices.children)
        one.setAttribute("aria-pressed", String(one.value === this.choice));
    });
    this.box.addEventListener("scroll", () => this.redraw(), { passive: true });
    this.space.addEventListener("click", timed("click crop", (/** @type {any} */ event) => {
      const button = event.target.closest(".crop");
      const cell = this.#cells.find((one) => one.button === button);
      if (cell) this.#click(cell.place);
    }));
    byId("gallery-jump").addEventListener("click", timed("jump", () => this.jump()));
    this.crops.arrived.on(() => this.redraw());
    room.thresholdChanged.on(() => this.redraw());
    room.histogramChanged.on(() => {
      this.#stale = true;
      this.redraw();
    });
    new ResizeObserver(() => this.redraw()).observe(this.box);
  }

  /** Scroll to where the threshold is. */
  jump() {
    const { threshold, histogram } = this.room;
    if (threshold === null) return;
    const above = histogram.counts.reduce(
      (sum, count, bin) => sum + (histogram.edges[bin] >= threshold ? count : 0), 0);
    const row = Math.floor(above / this.#across);
    this.box.scrollTop = Math.max(0, row * this.#cellSize - this.box.clientHeight / 2);
    this.redraw();
  }

  get #across() {
    return Math.max(3, Math.floor(this.space.clientWidth / CELL));
  }

  /** @param {number} place */
  #click(place) {
    const found = this.crops.at(place);
    if (!found) return;
    const { room } = this;
    const { micrograph, x, y, score } = found.item;
    if (this.choice === "show") void this.viewer.show(micrograph, x, y);
    else if (this.choice === "junk") {
      const before = room.settings.threshold;
      // Just above this one, so that it is the first that goes.
      room.setThreshold(Math.ceil(score * 100 + 0.001) / 100);
      toast(`Threshold ${room.threshold?.toFixed(2)}: ${place.toLocaleString("en")} picks are kept.`,
        () => room.setThreshold(before));
    } else {
      const kind = this.choice === "reject" ? "negative" : "particle";
      if (found.item.kind === kind) return;
      found.item.kind = kind;
      void this.#mark(micrograph, x, y, kind);
    }
    this.redraw();
  }

  /**
   * @param {number} micrograph
   * @param {number} x
   * @param {number} y
   * @param {"particle" | "negative"} kind
   */
  async #mark(micrograph, x, y, kind) {
    const { room } = this;
    await room.labels.open(micrograph);
    const { pixel_size } = await room.info(micrograph);
    const near = (0.4 * (room.settings.diameter ?? 0)) / (pixel_size ?? 1);
    const there = (room.labels.of(micrograph) ?? []).filter(
      (label) => Math.hypot(label.x - x, label.y - y) <= near);
    room.labels.change(micrograph, [{ x, y, kind }], there);
  }

  /** @param {HTMLElement} button */
  #fit(button) {
    button.style.width = button.style.height = `${this.#cellSize - 4}px`;
  }

  /** @returns {Cell} */
  #cell() {
    const button = make("button", "crop");
    button.type = "button";
    const canvas = make("canvas");
    canvas.width = canvas.height = 96;
    const score = make("span", "score");
    button.append(canvas, score);
    this.#fit(button);
    this.space.append(button);
    return { button, canvas, score, sign: null, drawn: null, kind: null, place: -1 };
  }

  #draw() {
    if (!this.box.clientHeight) return;
    if (this.#stale) {
      this.#stale = false;
      this.crops.outdate();
    }
    const across = this.#across;
    const size = Math.floor(this.space.clientWidth / across);
    if (size !== this.#cellSize) {
      this.#cellSize = size;
      for (const { button } of this.#cells) this.#fit(button);
    }
    const total = this.crops.total ?? PAGE;
    this.space.style.height = `${Math.ceil(total / across) * size}px`;
    const needed = (Math.ceil(this.box.clientHeight / size) + 2) * across;
    while (this.#cells.length < needed) this.#cells.push(this.#cell());
    const first = Math.max(0, Math.floor((this.box.scrollTop - 4) / size)) * across;
    const shown = new Set();
    for (let place = first; place < Math.min(total, first + needed); place++)
      if (this.#fill(this.#cells[place % this.#cells.length], place, across))
        shown.add(place % this.#cells.length);
    this.#cells.forEach((cell, at) => (cell.button.hidden = !shown.has(at)));
    byId("gallery-none").hidden = this.crops.total !== 0;
  }

  /**
   * @param {Cell} cell
   * @param {number} place
   * @param {number} across
   * @returns {boolean} whether there is something to show
   */
  #fill(cell, place, across) {
    const found = this.crops.at(place);
    if (!found) return false;
    const { item, sprite, sx, sy, side } = found;
    const { button } = cell;
    cell.place = place;
    button.hidden = false;
    const left = (place % across) * this.#cellSize;
    const top = Math.floor(place / across) * this.#cellSize;
    button.style.transform = `translate(${left}px, ${top}px)`;
    const { threshold } = this.room;
    button.classList.toggle("below", threshold !== null && item.score < threshold);
    say(cell.score, item.score.toFixed(1));
    button.setAttribute("aria-label", `Crop ${place + 1}, score ${item.score.toFixed(2)}`);
    if (cell.kind !== item.kind) {
      cell.sign?.remove();
      cell.sign = item.kind ? icon(item.kind) : null;
      if (cell.sign) button.append(cell.sign);
      cell.kind = item.kind;
    }
    if (cell.drawn === item && sprite) return true;
    const context = cell.canvas.getContext("2d");
    context.clearRect(0, 0, 96, 96);
    if (sprite) context.drawImage(sprite, sx, sy, side, side, 0, 0, 96, 96);
    cell.drawn = sprite ? item : null;
    return true;
  }
}
