import { onceAFrame, sized } from "./dom.js";
import { Signal } from "./signal.js";
import { COLOURS, drawHandle, drawMarks, drawRing } from "./marks.js";
import { timed } from "./timings.js";

/** A pick within this share of a diameter of a label is the same particle (as in the export). */
const SAME = 0.4;

/**
 * @typedef {import("./outbox.js").Label} Label
 * @typedef {import("./picks.js").Pick} Pick
 * @typedef {{x: number, y: number}} Point
 */

/** What lies over the micrograph on the screen: its labels, its picks, and the tool in hand. */
export class Overlay {
  /** Told after a change of what is drawn. */
  changed = new Signal();
  /** @type {Label[]} */ labels = [];
  /** @type {Pick[]} those at the threshold that no label or rejection stands for */ picks = [];
  hidden = false;
  /** The size being measured before any is known. @type {Point | null} */ sizing = null;
  /** The circle whose handle is shown. @type {Point | null} */ held = null;
  /** @type {{x: number, y: number, radius: number} | null} */ brush = null;
  redraw = onceAFrame(timed("draw marks", () => this.#draw()));

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./camera.js").Camera} camera
   * @param {import("./room.js").Room} room
   */
  constructor(canvas, camera, room) {
    this.canvas = canvas;
    this.camera = camera;
    this.room = room;
    const refresh = timed("refresh marks", () => this.refresh());
    room.opened.on(() => {
      this.held = null;
      refresh();
    });
    room.thresholdChanged.on(refresh);
    room.settingsChanged.on(refresh);
    for (const signal of [room.labels.changed, room.picks.changed])
      signal.on((id) => {
        if (id === room.current) refresh();
      });
  }

  /** Work out anew what is to be drawn. */
  refresh() {
    const { room } = this;
    const shown = room.micrograph?.id === room.current;
    this.labels = (shown && room.labels.of(room.current)) || [];
    this.picks = shown ? this.#openPicks() : [];
    this.changed.emit();
    this.redraw();
  }

  /** @returns {Pick[]} */
  #openPicks() {
    const { room } = this;
    const { threshold, diameterPx } = room;
    if (threshold === null || diameterPx === null || room.settings.diameter === null) return [];
    const near = SAME * diameterPx;
    // Labels by squares of that side: each pick looks at nine of them.
    /** @type {Map<string, Label[]>} */
    const squares = new Map();
    for (const label of this.labels) {
      const key = `${Math.floor(label.x / near)},${Math.floor(label.y / near)}`;
      const there = squares.get(key);
      if (there) there.push(label);
      else squares.set(key, [label]);
    }
    const taken = (/** @type {Point} */ { x, y }) => {
      const [column, row] = [Math.floor(x / near), Math.floor(y / near)];
      for (let i = column - 1; i <= column + 1; i++)
        for (let j = row - 1; j <= row + 1; j++)
          for (const label of squares.get(`${i},${j}`) ?? [])
            if (Math.hypot(label.x - x, label.y - y) <= near) return true;
      return false;
    };
    const found = [];
    const end = room.picks.reaching(room.current, threshold);
    for (let place = 0; place < end; place++) {
      const pick = room.picks.at(room.current, place);
      if (!pick.bad && !(squares.size && taken(pick))) found.push(pick);
    }
    return found;
  }

  /** Radius of a click's reach around a centre, in pixels of the image. */
  get reach() {
    return Math.max((this.room.diameterPx ?? 0) / 2, 7 / this.camera.zoom);
  }

  /**
   * The nearest of some marks whose circle holds the point.
   * @template {Point} T
   * @param {T[]} marks
   * @param {number} x
   * @param {number} y
   * @returns {T | null}
   */
  nearest(marks, x, y) {
    let [best, least] = [/** @type {T | null} */ (null), this.reach];
    for (const mark of marks) {
      const away = Math.hypot(mark.x - x, mark.y - y);
      if (away <= least) [best, least] = [mark, away];
    }
    return best;
  }

  /** Where on the screen the handle of a circle is. @param {Point} mark */
  handleOf(mark) {
    const radius = ((this.room.diameterPx ?? 0) / 2) * this.camera.zoom;
    const [sx, sy] = this.camera.toScreen(mark.x, mark.y);
    return [sx + radius, sy];
  }

  #draw() {
    const { ratio } = sized(this.canvas);
    const context = this.canvas.getContext("2d");
    if (!context) return;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const { camera, room } = this;
    const diameter = room.diameterPx;
    if (this.hidden || !room.micrograph || room.micrograph.id !== room.current) return;
    if (diameter !== null) {
      const of = (/** @type {string} */ kind) => this.labels.filter((one) => one.kind === kind);
      if (!this.sizing) drawMarks(context, camera, "pick", this.picks, diameter, ratio);
      drawMarks(context, camera, "negative", of("negative"), diameter, ratio);
      drawMarks(context, camera, "particle", of("particle"), diameter, ratio);
      const held = this.sizing ?? this.held;
      if (this.sizing) {
        const [sx, sy] = camera.toScreen(this.sizing.x, this.sizing.y);
        drawRing(context, sx, sy, (diameter / 2) * camera.zoom, ratio, COLOURS.particle);
      }
      if (held) {
        const [sx, sy] = this.handleOf(held);
        drawHandle(context, sx, sy, ratio);
      }
    } else drawMarks(context, camera, "particle", this.labels, 0, ratio);
    if (this.brush) {
      const { x, y, radius } = this.brush;
      const [sx, sy] = camera.toScreen(x, y);
      drawRing(context, sx, sy, radius * camera.zoom, ratio, "#f4f6fa");
    }
  }
}
