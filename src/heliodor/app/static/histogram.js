import { byId, onceAFrame, sized } from "./dom.js";
import { scale, ticks } from "./chart.js";
import { timed } from "./timings.js";

const FOOT = 18;

/** @typedef {import("./room.js").Room} Room */

/** The scores of all candidates, with the threshold as a line that can be dragged. */
export class HistogramChart {
  redraw = onceAFrame(timed("draw histogram", () => this.#draw()));
  #dragging = false;

  /** @param {Room} room */
  constructor(room) {
    this.room = room;
    this.canvas = byId("histogram");
    const on = (/** @type {string} */ name, /** @type {(e: any) => void} */ act) =>
      this.canvas.addEventListener(name, timed(`histogram ${name}`, act));
    on("pointerdown", (event) => {
      this.#dragging = true;
      this.canvas.setPointerCapture(event.pointerId);
      this.#drag(event);
    });
    on("pointermove", (event) => this.#dragging && this.#drag(event));
    on("pointerup", () => (this.#dragging = false));
    on("pointercancel", () => (this.#dragging = false));
    on("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[
        /** @type {"ArrowLeft"} */ (event.key)
      ];
      if (!step || room.threshold === null) return;
      event.preventDefault();
      room.setThreshold(Math.round((room.threshold + step * 0.1) * 100) / 100);
    });
    room.histogramChanged.on(() => this.redraw());
    room.thresholdChanged.on(() => this.redraw());
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
  }

  get #axis() {
    const { edges } = this.room.histogram;
    if (edges.length < 2) return null;
    return scale(edges[0], edges[edges.length - 1], 8, this.canvas.clientWidth - 8);
  }

  /** @param {PointerEvent} event */
  #drag(event) {
    const axis = this.#axis;
    if (!axis) return;
    const { edges } = this.room.histogram;
    const value = axis.back(event.clientX - this.canvas.getBoundingClientRect().left);
    const kept = Math.min(Math.max(value, edges[0]), edges[edges.length - 1]);
    this.room.setThreshold(Math.round(kept * 100) / 100);
  }

  #draw() {
    this.canvas.setAttribute("aria-valuenow", String(this.room.threshold ?? 0));
    if (!this.canvas.clientWidth) return;
    const { width, height, ratio } = sized(this.canvas);
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const axis = this.#axis;
    const { edges, counts } = this.room.histogram;
    const { threshold } = this.room;
    if (!axis) return;
    const foot = height - FOOT;
    // Square roots: the few at the right matter as much as the many at the left.
    const most = Math.sqrt(Math.max(1, ...counts));
    counts.forEach((count, bin) => {
      const [left, right] = [axis.at(edges[bin]), axis.at(edges[bin + 1])];
      const tall = (Math.sqrt(count) / most) * (foot - 10);
      const kept = threshold !== null && (edges[bin] + edges[bin + 1]) / 2 >= threshold;
      context.fillStyle = kept ? "#5cd3ff" : "#465264";
      context.fillRect(left, foot - tall, Math.max(1, right - left - 0.6), tall);
    });
    context.fillStyle = "#93a0b1";
    context.font = "10px system-ui, sans-serif";
    context.textAlign = "center";
    for (const tick of ticks(edges[0], edges[edges.length - 1])) {
      context.fillText(String(tick), Math.min(Math.max(axis.at(tick), 8), width - 8), height - 5);
    }
    if (threshold === null) return;
    const x = Math.round(axis.at(threshold)) + 0.5;
    context.strokeStyle = "#ffffff";
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(x, 4);
    context.lineTo(x, foot);
    context.stroke();
    context.fillStyle = "#ffffff";
    context.beginPath();
    context.moveTo(x - 5, 2);
    context.lineTo(x + 5, 2);
    context.lineTo(x, 9);
    context.fill();
  }
}
