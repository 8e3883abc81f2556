/** The outline of contamination: carbon, ice and aggregates as the model sees them. */

const LINE_COLOR = "#ff7a45";
const FILL_COLOR = "rgba(255, 122, 69, 0.13)";

/**
 * @typedef {{rows: number, columns: number, step: number, bits: string}} Mask
 *   `step`: pixels of the image from one point of the mask to the next
 */

/** @type {WeakMap<Mask, {fill: Path2D, edge: Path2D}>} */
const paths = new WeakMap();

/**
 * Return the paths of a mask, in its own units: the point of row i and column j covers the square
 * around (j, i).
 * @param {Mask} mask
 */
function tracePaths(mask) {
  const known = paths.get(mask);
  if (known) return known;
  const bytes = Uint8Array.from(atob(mask.bits), (letter) => letter.charCodeAt(0));
  const isSet = (/** @type {number} */ i, /** @type {number} */ j) => {
    if (i < 0 || j < 0 || i >= mask.rows || j >= mask.columns) return false;
    const bit = i * mask.columns + j;
    return Boolean(bytes[bit >> 3] & (128 >> (bit & 7)));
  };
  const [fill, edge] = [new Path2D(), new Path2D()];
  const line = (/** @type {number[]} */ ...ends) => {
    edge.moveTo(ends[0], ends[1]);
    edge.lineTo(ends[2], ends[3]);
  };
  for (let i = 0; i < mask.rows; i++)
    for (let j = 0; j < mask.columns; j++) {
      if (!isSet(i, j)) continue;
      if (!isSet(i, j - 1)) {
        let end = j + 1;
        while (isSet(i, end)) end += 1;
        fill.rect(j - 0.5, i - 0.5, end - j, 1);
      }
      if (!isSet(i - 1, j)) line(j - 0.5, i - 0.5, j + 0.5, i - 0.5);
      if (!isSet(i + 1, j)) line(j - 0.5, i + 0.5, j + 0.5, i + 0.5);
      if (!isSet(i, j - 1)) line(j - 0.5, i - 0.5, j - 0.5, i + 0.5);
      if (!isSet(i, j + 1)) line(j + 0.5, i - 0.5, j + 0.5, i + 0.5);
    }
  const traced = { fill, edge };
  paths.set(mask, traced);
  return traced;
}

/**
 * Draw the outline of contamination.
 * @param {CanvasRenderingContext2D} context with no transformation set
 * @param {import("./camera.js").Camera} camera
 * @param {Mask} mask
 * @param {number} ratio device pixels per CSS pixel
 * @param {boolean} ignored whether it has no effect on the picks
 */
export function drawContamination(context, camera, mask, ratio, ignored) {
  const { fill, edge } = tracePaths(mask);
  const [left, top] = camera.toScreen(0, 0);
  const scale = mask.step * camera.zoom * ratio;
  context.save();
  context.setTransform(scale, 0, 0, scale, left * ratio, top * ratio);
  context.fillStyle = FILL_COLOR;
  if (!ignored) context.fill(fill);
  context.strokeStyle = LINE_COLOR;
  context.lineWidth = (1.6 * ratio) / scale;
  if (ignored) context.setLineDash([(5 * ratio) / scale, (5 * ratio) / scale]);
  context.stroke(edge);
  context.restore();
}

/**
 * Draw a stroke of a brush while it is being made.
 * @param {CanvasRenderingContext2D} context with no transformation set
 * @param {import("./camera.js").Camera} camera
 * @param {import("./mask_grid.js").Stroke & {erases: boolean}} stroke
 * @param {number} ratio device pixels per CSS pixel
 */
export function drawStroke(context, camera, { points, radius, erases }, ratio) {
  context.save();
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = 2 * radius * camera.zoom * ratio;
  context.strokeStyle = erases ? "rgba(160, 205, 255, 0.4)" : "rgba(255, 122, 69, 0.4)";
  context.beginPath();
  for (const [x, y] of [points[0], ...points]) {
    const [sx, sy] = camera.toScreen(x, y);
    context.lineTo(sx * ratio, sy * ratio);
  }
  context.stroke();
  context.restore();
}
