/** Small charts on canvases. */

import { readColor } from "./theme.js";

/**
 * Return a linear scale from values to pixels.
 * @param {number} from
 * @param {number} to
 * @param {number} start
 * @param {number} end
 */
export function createScale(from, to, start, end) {
  const span = to - from || 1;
  return {
    toPixel: (/** @type {number} */ value) => start + ((value - from) / span) * (end - start),
    toValue: (/** @type {number} */ pixel) => from + ((pixel - start) / (end - start)) * span,
  };
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {[number, number][]} points in pixels
 * @param {string} color
 * @param {number[]} [dash]
 */
export function drawLine(context, points, color, dash = []) {
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.strokeStyle = color;
  context.lineWidth = 1.6;
  context.lineJoin = "round";
  context.setLineDash(dash);
  context.stroke();
  context.setLineDash([]);
}

/**
 * Draw a small text, as for axes.
 * @param {CanvasRenderingContext2D} context
 * @param {string} text
 * @param {number} x
 * @param {number} y of its baseline
 * @param {CanvasTextAlign} [align]
 */
export function drawText(context, text, x, y, align = "center") {
  context.fillStyle = readColor("--axis");
  context.font = "10px system-ui, sans-serif";
  context.textAlign = align;
  context.fillText(text, x, y);
}

/**
 * Choose a few round values between two bounds.
 * @param {number} from
 * @param {number} to
 * @param {number} [about]
 */
export function chooseTicks(from, to, about = 6) {
  const raw = (to - from) / about;
  if (!(raw > 0)) return [];
  const ten = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((one) => one * ten).find((one) => one >= raw) ?? ten * 10;
  const values = [];
  for (let at = Math.ceil(from / step) * step; at <= to + 1e-9; at += step) values.push(at);
  return values.map((at) => Number(at.toFixed(10)));
}
