import { fitCanvas, oncePerFrame } from "./dom.js";
import { drawContamination, drawStroke } from "./contamination.js";
import { Emitter } from "./emitter.js";
import { COLORS, drawBoxes, drawHandle, drawMarkers, drawRing, drawSelection, SCORE_COLORS } from "./markers.js";
import { withTiming } from "./timings.js";

/** A pick within this many diameters of a label is the same particle (as in the export). */
export const SAME_PARTICLE_DIAMETERS = 0.4;

/**
 * @typedef {import("./save_queue.js").Label} Label
 * @typedef {import("./pick_store.js").Pick} Pick
 * @typedef {{x: number, y: number}} Point
 */

/** The markers over the micrograph on screen: its labels, its picks and the tool in use. */
export class Overlay {
  /** Emitted when what is drawn changed. */
  changed = new Emitter();
  /** @type {Label[]} */ labels = [];
  /** @type {Pick[]} at or above the threshold, without those that are labels or negatives */ picks = [];
  hidden = false;
  /** Whether contamination is outlined. */
  showsContamination = true;
  /** Whether the color of a pick shows its score. */
  colorsByScore = false;
  /** Side of the boxes around picks and particles, in pixels; null for none. @type {number | null} */
  boxPx = null;
  /** Center of the circle by which the diameter is measured. @type {Point | null} */ sizing = null;
  /** A candidate that the user looks for. @type {{micrograph: number, x: number, y: number} | null} */
  pointedAt = null;
  /** The circle whose handle is shown. @type {Point | null} */ handleOwner = null;
  /** @type {{x: number, y: number, radius: number} | null} */ eraser = null;
  /** What is being selected. @type {import("./selection_tool.js").SelectionTool | null} */
  selection = null;
  /** The stroke of a brush. @type {import("./contamination_editor.js").ContaminationEditor["stroke"]} */
  stroke = null;
  redraw = oncePerFrame(withTiming("draw markers", () => this.#draw()));

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./camera.js").Camera} camera
   * @param {import("./state.js").AppState} state
   */
  constructor(canvas, camera, state) {
    this.canvas = canvas;
    this.camera = camera;
    this.state = state;
    const refresh = withTiming("refresh markers", () => this.refresh());
    state.opened.on((id) => {
      this.handleOwner = null;
      if (this.pointedAt?.micrograph !== id) this.pointedAt = null;
      refresh();
    });
    state.thresholdChanged.on(refresh);
    state.settingsChanged.on(refresh);
    for (const signal of [state.labels.changed, state.picks.changed])
      signal.on((id) => {
        if (id === state.current) refresh();
      });
  }

  /** Find out again what to draw. */
  refresh() {
    const { state } = this;
    const shown = state.micrograph?.id === state.current;
    this.labels = (shown && state.labels.get(state.current)) || [];
    this.picks = shown ? this.#findUnlabeledPicks() : [];
    this.changed.emit();
    this.redraw();
  }

  /** @returns {Pick[]} */
  #findUnlabeledPicks() {
    const { state } = this;
    const { threshold, diameterPx } = state;
    if (threshold === null || diameterPx === null || state.settings.diameter === null) return [];
    const near = SAME_PARTICLE_DIAMETERS * diameterPx;
    // Labels by squares of that side: each pick needs only nine of them.
    /** @type {Map<string, Label[]>} */
    const squares = new Map();
    for (const label of this.labels) {
      const key = `${Math.floor(label.x / near)},${Math.floor(label.y / near)}`;
      const square = squares.get(key);
      if (square) square.push(label);
      else squares.set(key, [label]);
    }
    const isLabeled = (/** @type {Point} */ { x, y }) => {
      const [column, row] = [Math.floor(x / near), Math.floor(y / near)];
      for (let i = column - 1; i <= column + 1; i++)
        for (let j = row - 1; j <= row + 1; j++)
          for (const label of squares.get(`${i},${j}`) ?? [])
            if (Math.hypot(label.x - x, label.y - y) <= near) return true;
      return false;
    };
    const unlabeled = [];
    const end = state.picks.countAtThreshold(state.current, threshold);
    for (let place = 0; place < end; place++) {
      const pick = state.picks.getPick(state.current, place);
      if (!(squares.size && isLabeled(pick))) unlabeled.push(pick);
    }
    return unlabeled;
  }

  /** Radius of a click's reach around a center, in pixels of the image. */
  get clickRadius() {
    return Math.max((this.state.diameterPx ?? 0) / 2, 7 / this.camera.zoom);
  }

  /**
   * Return the nearest marker whose circle contains the point.
   * @template {Point} T
   * @param {T[]} markers
   * @param {number} x
   * @param {number} y
   * @returns {T | null}
   */
  findNearest(markers, x, y) {
    let [best, least] = [/** @type {T | null} */ (null), this.clickRadius];
    for (const marker of markers) {
      const away = Math.hypot(marker.x - x, marker.y - y);
      if (away <= least) [best, least] = [marker, away];
    }
    return best;
  }

  /** Return where on the screen the handle of a circle is. @param {Point} marker */
  locateHandle(marker) {
    const radius = ((this.state.diameterPx ?? 0) / 2) * this.camera.zoom;
    const [sx, sy] = this.camera.toScreen(marker.x, marker.y);
    return [sx + radius, sy];
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {number} diameter
   * @param {number} ratio
   */
  #drawPicks(context, diameter, ratio) {
    const { camera, picks } = this;
    if (!this.colorsByScore || !picks.length) {
      drawMarkers(context, camera, "pick", picks, diameter, ratio);
      return;
    }
    const [low, high] = this.scoreRange;
    /** @type {Pick[][]} */
    const parts = SCORE_COLORS.map(() => []);
    for (const pick of picks) {
      const share = high > low ? (pick.score - low) / (high - low) : 1;
      parts[Math.min(parts.length - 1, Math.max(0, Math.floor(share * parts.length)))].push(pick);
    }
    parts.forEach((part, i) => drawMarkers(context, camera, "pick", part, diameter, ratio, SCORE_COLORS[i]));
  }

  /** The scores that the first and the last color stand for: the threshold, and the best. @returns {[number, number]} */
  get scoreRange() {
    const { edges } = this.state.histogram;
    return [this.state.threshold ?? 0, edges.length ? edges[edges.length - 1] : 0];
  }

  #draw() {
    const { ratio } = fitCanvas(this.canvas);
    const context = this.canvas.getContext("2d");
    if (!context) return;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const { camera, state } = this;
    const diameter = state.diameterPx;
    if (!state.micrograph || state.micrograph.id !== state.current) return;
    const found = state.picks.get(state.current)?.contamination;
    if (this.showsContamination && found)
      drawContamination(context, camera, found, ratio, state.rows.ignored[state.current]);
    if (this.stroke) drawStroke(context, camera, this.stroke, ratio);
    if (this.hidden) return;
    if (diameter !== null) {
      const of = (/** @type {string} */ kind) => this.labels.filter((one) => one.kind === kind);
      if (!this.sizing) this.#drawPicks(context, diameter, ratio);
      if (this.boxPx !== null && !this.sizing)
        drawBoxes(context, camera, [...this.picks, ...of("particle")], this.boxPx, ratio);
      drawMarkers(context, camera, "negative", of("negative"), diameter, ratio);
      drawMarkers(context, camera, "particle", of("particle"), diameter, ratio);
      if (this.pointedAt?.micrograph === state.current) {
        const [sx, sy] = camera.toScreen(this.pointedAt.x, this.pointedAt.y);
        drawRing(context, sx, sy, (diameter / 2) * camera.zoom + 5, ratio, "#ffffff");
      }
      const held = this.sizing ?? this.handleOwner;
      if (this.sizing) {
        const [sx, sy] = camera.toScreen(this.sizing.x, this.sizing.y);
        drawRing(context, sx, sy, (diameter / 2) * camera.zoom, ratio, COLORS.particle);
      }
      if (held) {
        const [sx, sy] = this.locateHandle(held);
        drawHandle(context, sx, sy, ratio);
      }
    } else drawMarkers(context, camera, "particle", this.labels, 0, ratio);
    if (this.selection) drawSelection(context, camera, this.selection, diameter ?? 0, ratio);
    if (this.eraser) {
      const { x, y, radius } = this.eraser;
      const [sx, sy] = camera.toScreen(x, y);
      drawRing(context, sx, sy, radius * camera.zoom, ratio, "#f4f6fa");
    }
  }
}
