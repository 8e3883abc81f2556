import { Camera } from "./camera.js";
import { drawContamination, drawStroke } from "./contamination.js";
import { ContaminationEditor } from "./contamination_editor.js";
import { byId, fitCanvas, oncePerFrame, setText } from "./dom.js";
import { FilamentContamination } from "./filament_contamination.js";
import { COLORS, drawRing } from "./markers.js";
import { drawScaleBar } from "./scale_bar.js";
import { TiledImage } from "./tiled_image.js";

/** How far a click may be from a point or a line, and how far the pointer may move in a click. */
const REACH_PX = 8;
const STILL_PX = 4;
const DOUBLE_CLICK_MS = 350;
/** Filaments whose ends are nearer to each other than this, in pixels of the image, are the same. */
const SAME_PX = 0.5;

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
  /** Whether contamination is outlined. */
  showsContamination = true;
  /** Whether the pointer paints contamination, or erases it. */
  isPainting = false;
  /** The traced or rejected filament that the keyboard points at. @type {Points | null} */
  pointedAt = null;
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
   * @param {import("./filament_state.js").FilamentState} state
   * @param {FilamentStore} store
   * @param {import("./tile_store.js").TileStore} tiles
   */
  constructor(state, store, tiles) {
    this.state = state;
    this.store = store;
    this.contaminationEditor = new ContaminationEditor(state, new FilamentContamination(state, store));
    this.contaminationEditor.strokeChanged.on(() => this.redraw());
    state.rowsChanged.on(() => this.redraw());
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
    stage.addEventListener("contextmenu", (/** @type {Event} */ event) => event.preventDefault());
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
    this.chosen = this.pointedAt = null;
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
    const had = this.drawing.length > 0 || this.chosen !== null || this.pointedAt !== null;
    this.drawing = [];
    this.chosen = this.pointedAt = null;
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

  /** Point at the next traced or rejected filament, or the one before. @param {number} by 1 or -1 */
  pointAt(by) {
    const { shown } = this.store;
    if (!shown) return;
    const lines = [...(shown.traced ?? []).filter((one) => one.is === "kept"), ...shown.rejected].map((one) => one.points);
    if (!lines.length) return;
    lines.sort(([[ax, ay]], [[bx, by]]) => ay - by || ax - bx);
    const before = lines.findIndex((points) => this.#isSame(points, this.pointedAt));
    const place = before < 0 ? (by > 0 ? 0 : -1) : before + by;
    this.pointedAt = lines[(place + lines.length) % lines.length];
    this.redraw();
  }

  /** Reject the traced filament that the keyboard points at, or keep it again. */
  toggleRejected() {
    const { shown } = this.store;
    if (!this.pointedAt || !shown || this.isReadOnly) return;
    const rejected = shown.rejected.find((one) => this.#isSame(one.points, this.pointedAt));
    if (rejected) this.store.change([], [{ ...rejected, kind: "rejected" }]);
    else this.#reject(this.pointedAt);
  }

  /** @param {Points} points */
  #reject(points) {
    this.store.change([{ id: this.store.createId(), kind: "rejected", points }], []);
  }

  /** Whether two filaments are the same: files have rounded points. @param {Points} one @param {Points | null} other */
  #isSame(one, other) {
    return other !== null && one.length === other.length
      && Math.hypot(one[0][0] - other[0][0], one[0][1] - other[0][1]) < SAME_PX
      && Math.hypot(one[one.length - 1][0] - other[other.length - 1][0], one[one.length - 1][1] - other[other.length - 1][1]) < SAME_PX;
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
    if (!this.image.micrograph || (event.button !== 0 && !(this.isPainting && event.button === 2))) return;
    this.stage.focus({ preventScroll: true });
    this.stage.setPointerCapture(event.pointerId);
    const at = this.#locate(event);
    if (this.isPainting) {
      this.contaminationEditor.begin(...this.camera.toImage(...at), event.button === 2 || event.altKey);
      return;
    }
    const point = this.drawing.length || this.isReadOnly ? null : this.#findPoint(...this.camera.toImage(...at));
    this.#press = { at, last: at, moved: false, point };
  }

  /** @param {PointerEvent} event */
  #onMove(event) {
    const at = this.#locate(event);
    const [x, y] = this.camera.toImage(...at);
    this.#pointer = [x, y];
    setText(byId("pointer-position"), this.camera.contains(x, y) ? `x ${Math.round(x)}  y ${Math.round(y)}` : "");
    if (this.isPainting) {
      if (this.contaminationEditor.stroke) this.contaminationEditor.extend(x, y);
      this.redraw();
      return;
    }
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
    if (this.contaminationEditor.stroke) {
      this.contaminationEditor.finish();
      return;
    }
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
    if (this.contaminationEditor.stroke) this.contaminationEditor.cancel();
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
        this.#reject(traced.points);
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
    if (!shown || !this.image.micrograph) return;
    this.#drawContamination(context, ratio);
    if (this.hidden) return;
    if (this.pointedAt) this.#drawLine(context, this.pointedAt, "#ffffff", false);
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

  /** @param {CanvasRenderingContext2D} context @param {number} ratio device pixels per CSS pixel */
  #drawContamination(context, ratio) {
    const { state, store, camera } = this;
    const { stroke, radius } = this.contaminationEditor;
    const mask = store.shown?.contamination;
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    if (mask && this.showsContamination) drawContamination(context, camera, mask, ratio, state.rows.ignored[store.micrograph]);
    if (stroke) drawStroke(context, camera, stroke, ratio);
    if (this.isPainting && this.#pointer && radius !== null) {
      const [sx, sy] = camera.toScreen(...this.#pointer);
      drawRing(context, sx, sy, radius * camera.zoom, ratio, "#f4f6fa");
    }
    context.restore();
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
