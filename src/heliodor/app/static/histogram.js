import { chooseTicks, createScale, drawText } from "./chart.js";
import { byId, fitCanvas, oncePerFrame } from "./dom.js";
import { readColor, themeChanged } from "./theme.js";
import { withTiming } from "./timings.js";

/** Height of the tick labels and the axis title. */
const AXIS_HEIGHT_PX = 32;

/** @typedef {import("./state.js").AppState} AppState */

/** Histogram of the scores of all candidates, with the threshold as a line to drag. */
export class HistogramChart {
  redraw = oncePerFrame(withTiming("draw histogram", () => this.#draw()));
  #dragging = false;

  /** @param {AppState} state */
  constructor(state) {
    this.state = state;
    this.canvas = byId("histogram");
    const on = (/** @type {string} */ name, /** @type {(e: any) => void} */ act) =>
      this.canvas.addEventListener(name, withTiming(`histogram ${name}`, act));
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
      if (!step || state.threshold === null) return;
      event.preventDefault();
      state.setThreshold(Math.round((state.threshold + step * 0.1) * 100) / 100);
    });
    state.histogramChanged.on(() => this.redraw());
    state.thresholdChanged.on(() => this.redraw());
    themeChanged.on(() => this.redraw());
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
  }

  get #axis() {
    const { edges } = this.state.histogram;
    if (edges.length < 2) return null;
    return createScale(edges[0], edges[edges.length - 1], 8, this.canvas.clientWidth - 8);
  }

  /** @param {PointerEvent} event */
  #drag(event) {
    const axis = this.#axis;
    if (!axis) return;
    const { edges } = this.state.histogram;
    const value = axis.toValue(event.clientX - this.canvas.getBoundingClientRect().left);
    const clamped = Math.min(Math.max(value, edges[0]), edges[edges.length - 1]);
    this.state.setThreshold(Math.round(clamped * 100) / 100);
  }

  #draw() {
    this.canvas.setAttribute("aria-valuenow", String(this.state.threshold ?? 0));
    if (!this.canvas.clientWidth) return;
    const { width, height, ratio } = fitCanvas(this.canvas);
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const axis = this.#axis;
    const { edges, counts } = this.state.histogram;
    const { threshold } = this.state;
    if (!axis) {
      drawText(context, "No scores yet", width / 2, height / 2);
      return;
    }
    const foot = height - AXIS_HEIGHT_PX;
    // Square roots, so that the few high scores can be seen beside the many low ones.
    const most = Math.sqrt(Math.max(1, ...counts));
    const [keptColor, restColor] = [readColor("--histogram-kept"), readColor("--histogram-rest")];
    counts.forEach((count, bin) => {
      const [left, right] = [axis.toPixel(edges[bin]), axis.toPixel(edges[bin + 1])];
      const tall = (Math.sqrt(count) / most) * (foot - 10);
      const kept = threshold !== null && (edges[bin] + edges[bin + 1]) / 2 >= threshold;
      context.fillStyle = kept ? keptColor : restColor;
      context.fillRect(left, foot - tall, Math.max(1, right - left - 0.6), tall);
    });
    for (const tick of chooseTicks(edges[0], edges[edges.length - 1]))
      drawText(context, String(tick), Math.min(Math.max(axis.toPixel(tick), 8), width - 8), foot + 12);
    drawText(context, "Score (log-odds)", width / 2, height - 5);
    drawText(context, "Candidates (square-root scale)", width - 8, 12, "right");
    if (threshold === null) return;
    const x = Math.round(axis.toPixel(threshold)) + 0.5;
    context.strokeStyle = readColor("--strong");
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(x, 4);
    context.lineTo(x, foot);
    context.stroke();
    context.fillStyle = readColor("--strong");
    context.beginPath();
    context.moveTo(x - 5, 2);
    context.lineTo(x + 5, 2);
    context.lineTo(x, 9);
    context.fill();
  }
}
