/** Masks of contamination as grids of points: read, painted and written. */

/**
 * @typedef {import("./contamination.js").Mask} Mask
 * @typedef {{points: [number, number][], radius: number}} Stroke in pixels of the image
 */

/** Points of a new grid along a brush of the smallest size. */
const POINTS_PER_DIAMETER = 12;
/** A new grid has at most this many points along a side. */
const MAX_SIDE = 1500;

/**
 * Return an empty mask that covers an image.
 * @param {number} width of the image
 * @param {number} height
 * @param {number} diameterPx of a particle
 * @returns {Mask}
 */
export function createMask(width, height, diameterPx) {
  const step = Math.max(1, diameterPx / POINTS_PER_DIAMETER, Math.max(width, height) / MAX_SIDE);
  const [rows, columns] = [height, width].map((side) => Math.floor((side - 1) / step) + 1);
  return encode(new Uint8Array(rows * columns), rows, columns, step);
}

/** @param {Mask} mask @returns {Uint8Array} a number per point, 1 in contamination */
function decode({ rows, columns, bits }) {
  const bytes = Uint8Array.from(atob(bits), (letter) => letter.charCodeAt(0));
  return Uint8Array.from({ length: rows * columns }, (_, i) => (bytes[i >> 3] >> (7 - (i & 7))) & 1);
}

/**
 * @param {Uint8Array} points
 * @param {number} rows
 * @param {number} columns
 * @param {number} step
 * @returns {Mask}
 */
function encode(points, rows, columns, step) {
  const bytes = new Uint8Array(Math.ceil(points.length / 8));
  points.forEach((value, i) => (bytes[i >> 3] |= value << (7 - (i & 7))));
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return { rows, columns, step, bits: btoa(text) };
}

/**
 * Return the square of the distance from a point to a line from one point to another.
 * @param {number} x
 * @param {number} y
 * @param {[number, number]} from
 * @param {[number, number]} to
 */
function squaredDistance(x, y, [ax, ay], [bx, by]) {
  const [dx, dy] = [bx - ax, by - ay];
  const length = dx * dx + dy * dy;
  const along = length ? Math.min(Math.max(((x - ax) * dx + (y - ay) * dy) / length, 0), 1) : 0;
  return (x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2;
}

/**
 * Return a mask with the points that a brush touched set or cleared.
 * @param {Mask} mask
 * @param {Stroke} stroke
 * @param {boolean} erases
 * @returns {Mask}
 */
export function applyStroke(mask, { points, radius }, erases) {
  const { rows, columns, step } = mask;
  const grid = decode(mask);
  points.forEach((to, i) => {
    const from = points[Math.max(0, i - 1)];
    const bounds = (/** @type {0 | 1} */ axis, /** @type {number} */ count) => [
      Math.max(0, Math.ceil((Math.min(from[axis], to[axis]) - radius) / step)),
      Math.min(count - 1, Math.floor((Math.max(from[axis], to[axis]) + radius) / step)),
    ];
    const [[left, right], [top, bottom]] = [bounds(0, columns), bounds(1, rows)];
    for (let row = top; row <= bottom; row++)
      for (let column = left; column <= right; column++)
        if (squaredDistance(column * step, row * step, from, to) <= radius * radius)
          grid[row * columns + column] = erases ? 0 : 1;
  });
  return encode(grid, rows, columns, step);
}
