import { Camera } from "./camera.js";
import { byId, fitCanvas, oncePerFrame, setText } from "./dom.js";
import { COLORS } from "./markers.js";
import { drawScaleBar } from "./scale_bar.js";
import { TiledImage } from "./tiled_image.js";

/** How far a click may be from a point or a line, and how far the pointer may move in a click. */
const REACH_PX = 8;
const STILL_PX = 4;
const DOUBLE_CLICK_MS = 350;

/**
 * @typedef {import("./filament_store.js").FilamentStore} FilamentStore
 * @typedef {import("./filament_store.js").Points} Points
 * @typedef {import("./filament_store.js").Drawn} Drawn
 */

/**
 * Return the distance of a point from a polyline.
 * @param {Points} line
 * @param {number} x
 * @param {number} y
 */
export function measureDistance(line, x, y) {
  let least = Infinity;
  for (let i = 1; i < line.length; i++) {
    const [[x0, y0], [x1, y1]] = [line[i - 1], line[i]];
    const [dx, dy] = [x1 - x0, y1 - y0];
    const along = ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy || 1);
    const share = Math.min(1, Math.max(0, along));
    least = Math.min(least, Math.hypot(x - x0 - share * dx, y - y0 - share * dy));
  }
  return least;
}

/** The micrograph on screen with its filaments, and what the pointer does to them. */
export class FilamentView {
  camera = new Camera();
  hidden = false;
  isReadOnly = false;
  /** The points of the filament that is being drawn. @type {Points} */
  drawing = [];
  /** The identity of the filament that is chosen. @type {number | null} */
  chosen = null;
  /** Where the pointer is, in the image. @type {[number, number] | null} */
  #pointer = null;
  /** What the pressed pointer does. @type {{at: [number, number], last: [number, number], moved: boolean, point: {id: number, index: number} | null} | null} */
  #press = null;
  /** The points of a filament while one of them is dragged. @type {Drawn | null} */
  #dragged = null;
  #lastClick = { at: [-1e9, -1e9], when: -1e9 };
  redraw = oncePerFrame(() => this.#draw());

  /**
   * @param {FilamentStore} store
   * @param {import("./tile_store.js").TileStore} tiles
   */
  constructor(store, tiles) {
    this.store = store;
    this.stage = byId("stage");
    this.canvas = byId("markers");
    this.image = new TiledImage("viewer", byId("micrograph-image"), this.camera, tiles);
    new ResizeObserver(() => {
      this.camera.resize(this.stage.clientWidth, this.stage.clientHeight);
      this.redrawAll();
    }).observe(this.stage);
    store.changed.on(() => this.redraw());
    const { stage } = this;
    stage.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => this.#onDown(event));
    stage.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => this.#onMove(event));
    stage.addEventListener("pointerup", (/** @type {PointerEvent} */ event) => this.#onUp(event));
    stage.addEventListener("pointercancel", () => this.#release());
    stage.addEventListener("pointerleave", () => {
      this.#pointer = null;
      this.redraw();
    });
    stage.addEventListener("wheel", (/** @type {WheelEvent} */ event) => {
      event.preventDefault();
      const box = stage.getBoundingClientRect();
      this.zoomBy(Math.exp(-event.deltaY * 0.0015), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
  }

  /** @param {any} micrograph as the server describes it; null for one that cannot be used */
  show(micrograph) {
    this.drawing = [];
    this.chosen = null;
    this.#release();
    if (!micrograph) {
      this.image.close();
      this.redraw();
      return;
    }
    this.camera.setImage(micrograph.width, micrograph.height);
    this.image.micrograph = micrograph;
    this.redrawAll();
  }

  redrawAll() {
    this.image.redraw();
    this.redraw();
    drawScaleBar(byId("scale-bar"), this.image.micrograph, this.camera.zoom);
    setText(byId("zoom"), `${Math.round(this.camera.zoom * 100)}%`);
  }

  fit() {
    this.camera.fit();
    this.redrawAll();
  }

  /** @param {number} factor @param {number} [sx] @param {number} [sy] */
  zoomBy(factor, sx, sy) {
    this.camera.zoomBy(factor, sx, sy);
    this.redrawAll();
  }

  /** End the filament that is being drawn. @returns {boolean} whether there was one */
  finish() {
    if (!this.drawing.length) return false;
    const points = this.drawing;
    this.drawing = [];
    if (points.length > 1) {
      const id = this.store.createId();
      this.store.change([{ id, kind: "label", points }], []);
      this.chosen = id;
    }
    this.redraw();
    return true;
  }

  /** Forget the filament that is being drawn, or choose none. @returns {boolean} whether there was one */
  cancel() {
    const had = this.drawing.length > 0 || this.chosen !== null;
    this.drawing = [];
    this.chosen = null;
    this.redraw();
    return had;
  }

  /** Remove the last point of what is being drawn, or the filament that is chosen. @returns {boolean} whether there was one */
  remove() {
    if (this.drawing.length) {
      this.drawing = this.drawing.slice(0, -1);
      this.redraw();
      return true;
    }
    const one = this.store.shown?.labels.find((label) => label.id === this.chosen);
    if (!one) return false;
    this.chosen = null;
    this.store.change([], [{ ...one, kind: "label" }]);
    return true;
  }

  /** @param {MouseEvent} event @returns {[number, number]} on the stage */
  #locate(event) {
    const box = this.stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  /** Half the width of the filaments, or the reach of a click if that is more, in pixels of the image. */
  get #reach() {
    return Math.max((this.store.shown?.width_px ?? 0) / 2, REACH_PX / this.camera.zoom);
  }

  /** @param {number} x @param {number} y @returns {{id: number, index: number} | null} the point of a drawn filament there */
  #findPoint(x, y) {
    let [best, least] = [/** @type {{id: number, index: number} | null} */ (null), REACH_PX / this.camera.zoom];
    for (const { id, points } of this.store.shown?.labels ?? [])
      points.forEach(([px, py], index) => {
        const away = Math.hypot(px - x, py - y);
        if (away <= least) [best, least] = [{ id, index }, away];
      });
    return best;
  }

  /**
   * @template {{points: Points}} T
   * @param {T[]} lines
   * @param {number} x
   * @param {number} y
   * @returns {T | null} the nearest one there
   */
  #findLine(lines, x, y) {
    let [best, least] = [/** @type {T | null} */ (null), this.#reach];
    for (const line of lines) {
      const away = measureDistance(line.points, x, y);
      if (away <= least) [best, least] = [line, away];
    }
    return best;
  }

  /** @param {PointerEvent} event */
  #onDown(event) {
    if (event.button !== 0 || !this.image.micrograph) return;
    this.stage.focus({ preventScroll: true });
    this.stage.setPointerCapture(event.pointerId);
    const at = this.#locate(event);
    const point = this.drawing.length || this.isReadOnly ? null : this.#findPoint(...this.camera.toImage(...at));
    this.#press = { at, last: at, moved: false, point };
  }

  /** @param {PointerEvent} event */
  #onMove(event) {
    const at = this.#locate(event);
    const [x, y] = this.camera.toImage(...at);
    this.#pointer = [x, y];
    setText(byId("pointer-position"), this.camera.contains(x, y) ? `x ${Math.round(x)}  y ${Math.round(y)}` : "");
    const press = this.#press;
    if (press) {
      press.moved ||= Math.hypot(at[0] - press.at[0], at[1] - press.at[1]) > STILL_PX;
      if (press.moved && press.point) this.#movePoint(press.point, x, y);
      else if (press.moved) {
        this.camera.panBy(at[0] - press.last[0], at[1] - press.last[1]);
        this.redrawAll();
      }
      press.last = at;
    }
    if (this.drawing.length) this.redraw();
  }

  /** @param {{id: number, index: number}} point @param {number} x @param {number} y */
  #movePoint({ id, index }, x, y) {
    const own = this.store.shown?.labels.find((label) => label.id === id);
    if (!own || !this.camera.contains(x, y)) return;
    this.#dragged = { id, points: own.points.map((at, i) => (i === index ? [x, y] : at)) };
    this.redraw();
  }

  /** @param {PointerEvent} event */
  #onUp(event) {
    const press = this.#press;
    if (!press) return;
    const dragged = this.#dragged;
    this.#release();
    if (dragged) {
      const before = this.store.shown?.labels.find((label) => label.id === dragged.id);
      if (before) this.store.change([{ ...dragged, kind: "label" }], [{ ...before, kind: "label" }]);
      this.chosen = dragged.id;
    } else if (!press.moved) this.#click(event, press.at);
    this.redraw();
  }

  #release() {
    this.#press = null;
    this.#dragged = null;
  }

  /** @param {PointerEvent} event @param {[number, number]} at on the stage */
  #click(event, at) {
    const [x, y] = this.camera.toImage(...at);
    const { shown } = this.store;
    if (this.isReadOnly || !shown || !this.camera.contains(x, y)) return;
    const before = this.#lastClick;
    this.#lastClick = { at, when: event.timeStamp };
    const isDouble = event.timeStamp - before.when < DOUBLE_CLICK_MS
      && Math.hypot(at[0] - before.at[0], at[1] - before.at[1]) <= STILL_PX;
    if (this.drawing.length) {
      // The first click of the two has added the last point.
      if (isDouble) this.finish();
      else this.drawing = [...this.drawing, [x, y]];
      return;
    }
    if (isDouble) return;
    if (!event.shiftKey) {
      const label = this.#findLine(shown.labels, x, y);
      if (label) {
        this.chosen = label.id;
        return;
      }
      const rejected = this.#findLine(shown.rejected, x, y);
      if (rejected) {
        this.store.change([], [{ ...rejected, kind: "rejected" }]);
        return;
      }
      const traced = this.#findLine((shown.traced ?? []).filter((one) => one.is === "kept"), x, y);
      if (traced) {
        this.store.change([{ id: this.store.createId(), kind: "rejected", points: traced.points }], []);
        return;
      }
    }
    this.chosen = null;
    this.drawing = [[x, y]];
  }

  #draw() {
    const { ratio } = fitCanvas(this.canvas);
    const context = this.canvas.getContext("2d");
    if (!context) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.camera.width, this.camera.height);
    const { shown } = this.store;
    if (!shown || this.hidden || !this.image.micrograph) return;
    for (const one of shown.traced ?? [])
      if (one.is === "kept") this.#drawLine(context, one.points, COLORS.pick, false);
    for (const one of shown.rejected) this.#drawLine(context, one.points, COLORS.negative, true);
    for (const one of shown.labels) {
      const points = this.#dragged?.id === one.id ? this.#dragged.points : one.points;
      this.#drawLine(context, points, COLORS.particle, false);
      this.#drawPoints(context, points, one.id === this.chosen);
    }
    if (this.drawing.length) {
      const points = this.#pointer ? [...this.drawing, this.#pointer] : this.drawing;
      this.#drawLine(context, points, COLORS.particle, true);
      this.#drawPoints(context, this.drawing, true);
    }
  }

  /**
   * Draw an axis, and a band as wide as the filament.
   * @param {CanvasRenderingContext2D} context
   * @param {Points} points
   * @param {string} color
   * @param {boolean} dashed
   */
  #drawLine(context, points, color, dashed) {
    context.beginPath();
    points.forEach(([x, y], i) => {
      const at = this.camera.toScreen(x, y);
      if (i) context.lineTo(...at);
      else context.moveTo(...at);
    });
    context.strokeStyle = color;
    context.lineJoin = "round";
    const width = (this.store.shown?.width_px ?? 0) * this.camera.zoom;
    if (width > 3) {
      context.globalAlpha = 0.22;
      context.lineWidth = width;
      context.setLineDash([]);
      context.stroke();
      context.globalAlpha = 1;
    }
    context.lineWidth = 1.8;
    context.setLineDash(dashed ? [6, 4] : []);
    context.stroke();
    context.setLineDash([]);
  }

  /** @param {CanvasRenderingContext2D} context @param {Points} points @param {boolean} isChosen */
  #drawPoints(context, points, isChosen) {
    context.fillStyle = isChosen ? "#ffffff" : COLORS.particle;
    for (const [x, y] of points) {
      const [sx, sy] = this.camera.toScreen(x, y);
      context.beginPath();
      context.arc(sx, sy, isChosen ? 4.5 : 3, 0, 2 * Math.PI);
      context.fill();
    }
  }
}
