import { CropStore, PAGE_SIZE } from "./crop_store.js";
import { byId, createElement, createIcon, formatCount, oncePerFrame, setText } from "./dom.js";
import { SAME_PARTICLE_DIAMETERS } from "./overlay.js";
import { withTiming } from "./timings.js";
import { showToast } from "./toast.js";

/** Width of a crop and its margin, about. */
const CELL_PX = 78;

/**
 * @typedef {import("./state.js").AppState} AppState
 * @typedef {import("./viewer.js").Viewer} Viewer
 * @typedef {{button: any, canvas: any, score: any, icon: Element | null, drawn: unknown,
 *   kind: string | null, place: number}} Cell
 */

/** What a click on a candidate does, as shown in its tooltip. */
const CLICK_HELP = {
  show: "click to show on its micrograph",
  reject: "click to mark as not a particle",
  confirm: "click to label as a particle",
  threshold: "click to drop this candidate and everything with a lower score",
};

/** Crops of the candidates, best score first. */
export class Gallery {
  crops = new CropStore();
  /** @type {Cell[]} */ #cells = [];
  #stale = true;
  /** The candidate that was shown last. */ #shownPlace = -1;
  #cellSize = CELL_PX;
  redraw = oncePerFrame(withTiming("draw gallery", () => this.#draw()));

  /**
   * @param {AppState} state
   * @param {Viewer} viewer
   */
  constructor(state, viewer) {
    this.state = state;
    this.viewer = viewer;
    this.box = byId("gallery");
    this.space = byId("gallery-space");
    /** @type {keyof typeof CLICK_HELP} */
    this.clickAction = "show";
    const choices = byId("gallery-click");
    choices.addEventListener("click", (/** @type {any} */ event) => {
      if (!event.target.value) return;
      this.clickAction = event.target.value;
      for (const one of choices.children)
        one.setAttribute("aria-pressed", String(one.value === this.clickAction));
      this.redraw();
    });
    this.box.addEventListener("scroll", () => this.redraw(), { passive: true });
    this.space.addEventListener("click", withTiming("click crop", (/** @type {any} */ event) => {
      const button = event.target.closest(".crop");
      const cell = this.#cells.find((one) => one.button === button);
      if (cell) this.#applyClick(cell.place);
    }));
    byId("gallery-scroll").addEventListener("click", withTiming("scroll to threshold", () => this.scrollToThreshold()));
    this.crops.arrived.on(() => this.redraw());
    state.thresholdChanged.on(() => this.redraw());
    state.histogramChanged.on(() => {
      this.#stale = true;
      this.#shownPlace = -1;
      this.redraw();
    });
    state.labels.changed.on((micrograph) => void this.#updateKinds(micrograph));
    new ResizeObserver(() => this.redraw()).observe(this.box);
  }

  /** Scroll to the first candidate below the threshold. */
  scrollToThreshold() {
    const { threshold, histogram } = this.state;
    if (threshold === null) return;
    const above = histogram.counts.reduce(
      (sum, count, bin) => sum + (histogram.edges[bin] >= threshold ? count : 0), 0);
    const row = Math.floor(above / this.#columns);
    this.box.scrollTop = Math.max(0, row * this.#cellSize - this.box.clientHeight / 2);
    this.redraw();
  }

  get #columns() {
    return Math.max(3, Math.floor(this.space.clientWidth / CELL_PX));
  }

  /** @param {number} place */
  #applyClick(place) {
    const crop = this.crops.find(place);
    if (!crop) return;
    const { state } = this;
    const { micrograph, x, y, score } = crop.item;
    if (this.clickAction === "show") {
      void this.viewer.show(micrograph, x, y);
      this.#shownPlace = place;
    } else if (this.clickAction === "threshold") {
      const before = state.settings.threshold;
      // Just above this one, so that it is the first to be dropped.
      state.setThreshold(Math.ceil(score * 100 + 0.001) / 100);
      showToast(`Threshold set to ${state.threshold?.toFixed(2)}: ${formatCount(place, "pick")} kept.`,
        () => state.setThreshold(before));
    } else {
      const kind = this.clickAction === "reject" ? "negative" : "particle";
      if (crop.item.kind === kind) return;
      crop.item.kind = kind;
      void this.#addLabel(micrograph, x, y, kind);
    }
    this.redraw();
  }

  /**
   * @param {number} micrograph
   * @param {number} x
   * @param {number} y
   * @param {"particle" | "negative"} kind
   */
  async #addLabel(micrograph, x, y, kind) {
    const { state } = this;
    await state.labels.open(micrograph);
    const near = await this.#mergeDistance(micrograph);
    const replaced = (state.labels.get(micrograph) ?? []).filter(
      (label) => Math.hypot(label.x - x, label.y - y) <= near);
    state.labels.change(micrograph, [{ x, y, kind }], replaced);
  }

  /** Distance in pixels up to which a label and a candidate are the same particle. @param {number} micrograph */
  async #mergeDistance(micrograph) {
    const { pixel_size } = await this.state.getMicrograph(micrograph);
    return (SAME_PARTICLE_DIAMETERS * (this.state.settings.diameter ?? 0)) / (pixel_size ?? 1);
  }

  /** Show changes of the labels, undo included, on the candidates. @param {number} micrograph */
  async #updateKinds(micrograph) {
    const items = this.crops.listOn(micrograph);
    if (!items.length) return;
    const near = await this.#mergeDistance(micrograph);
    const labels = this.state.labels.get(micrograph);
    if (!labels) return;
    for (const item of items) {
      const label = labels.find(({ x, y }) => Math.hypot(x - item.x, y - item.y) <= near);
      item.kind = label?.kind ?? null;
    }
    this.redraw();
  }

  /** @param {HTMLElement} button */
  #resizeCell(button) {
    button.style.width = button.style.height = `${this.#cellSize - 4}px`;
  }

  /** @returns {Cell} */
  #createCell() {
    const button = createElement("button", "crop");
    button.type = "button";
    const canvas = createElement("canvas");
    canvas.width = canvas.height = 96;
    const score = createElement("span", "score");
    button.append(canvas, score);
    this.#resizeCell(button);
    this.space.append(button);
    return { button, canvas, score, icon: null, drawn: null, kind: null, place: -1 };
  }

  #draw() {
    if (!this.box.clientHeight) return;
    if (this.#stale) {
      this.#stale = false;
      this.crops.invalidate();
    }
    const across = this.#columns;
    const size = Math.floor(this.space.clientWidth / across);
    if (size !== this.#cellSize) {
      this.#cellSize = size;
      for (const { button } of this.#cells) this.#resizeCell(button);
    }
    const total = this.crops.total ?? PAGE_SIZE;
    this.space.style.height = `${Math.ceil(total / across) * size}px`;
    const needed = (Math.ceil(this.box.clientHeight / size) + 2) * across;
    while (this.#cells.length < needed) this.#cells.push(this.#createCell());
    const first = Math.max(0, Math.floor((this.box.scrollTop - 4) / size)) * across;
    const shown = new Set();
    // The first one is always looked up: while there are none, that asks for them again.
    for (let place = first; place < Math.max(1, Math.min(total, first + needed)); place++)
      if (this.#fillCell(this.#cells[place % this.#cells.length], place, across))
        shown.add(place % this.#cells.length);
    this.#cells.forEach((cell, at) => (cell.button.hidden = !shown.has(at)));
    byId("gallery-empty").hidden = this.crops.total !== 0;
  }

  /**
   * @param {Cell} cell
   * @param {number} place
   * @param {number} across
   * @returns {boolean} whether there is something to show
   */
  #fillCell(cell, place, across) {
    const crop = this.crops.find(place);
    if (!crop) return false;
    const { item, sprite, sx, sy, side } = crop;
    const { button } = cell;
    cell.place = place;
    button.hidden = false;
    const left = (place % across) * this.#cellSize;
    const top = Math.floor(place / across) * this.#cellSize;
    button.style.transform = `translate(${left}px, ${top}px)`;
    const { threshold } = this.state;
    button.classList.toggle("shown", place === this.#shownPlace);
    button.classList.toggle("below", threshold !== null && item.score < threshold);
    setText(cell.score, item.score.toFixed(1));
    const label = `Candidate ${(place + 1).toLocaleString("en")}, score ${item.score.toFixed(2)}`;
    button.setAttribute("aria-label", label);
    button.title = `${label}: ${CLICK_HELP[this.clickAction]}`;
    if (cell.kind !== item.kind) {
      cell.icon?.remove();
      cell.icon = item.kind ? createIcon(item.kind) : null;
      if (cell.icon) button.append(cell.icon);
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
