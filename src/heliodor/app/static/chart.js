/** Small charts on canvases. */

/**
 * A scale from values to pixels.
 * @param {number} from
 * @param {number} to
 * @param {number} start
 * @param {number} end
 */
export function scale(from, to, start, end) {
  const span = to - from || 1;
  return {
    at: (/** @type {number} */ value) => start + ((value - from) / span) * (end - start),
    back: (/** @type {number} */ pixel) => from + ((pixel - start) / (end - start)) * span,
  };
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {[number, number][]} points in pixels
 * @param {string} colour
 * @param {number[]} [dash]
 */
export function drawLine(context, points, colour, dash = []) {
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.strokeStyle = colour;
  context.lineWidth = 1.6;
  context.lineJoin = "round";
  context.setLineDash(dash);
  context.stroke();
  context.setLineDash([]);
}

/**
 * Round values between two bounds, a handful.
 * @param {number} from
 * @param {number} to
 * @param {number} [about]
 */
export function ticks(from, to, about = 6) {
  const raw = (to - from) / about;
  if (!(raw > 0)) return [];
  const ten = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((one) => one * ten).find((one) => one >= raw) ?? ten * 10;
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= to + 1e-9; at += step) found.push(at);
  return found.map((at) => Number(at.toFixed(10)));
}
