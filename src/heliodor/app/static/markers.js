/** Drawing of labels, negatives and picks: they differ in shape first, in color second. */

export const COLORS = { particle: "#ffb000", negative: "#ff6fb5", pick: "#5cd3ff" };
const OUTLINE_COLOR = "rgba(8, 10, 14, 0.75)";
const MIN_RADIUS_PX = 3.5;
const MAX_STAMPS = 64;

/** @type {Map<string, OffscreenCanvas>} */
const stamps = new Map();

/**
 * Trace one marker around (0, 0).
 * @param {OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D} context
 * @param {keyof typeof COLORS} kind
 * @param {number} radius
 */
function traceMarker(context, kind, radius) {
  context.beginPath();
  const turn = 2 * Math.PI;
  if (kind === "pick") {
    const dashes = Math.max(6, Math.round(radius / 1.6));
    context.setLineDash([(turn * radius * 0.6) / dashes, (turn * radius * 0.4) / dashes]);
    context.arc(0, 0, radius, 0, turn);
    return;
  }
  context.setLineDash([]);
  context.arc(0, 0, radius, 0, turn);
  if (kind === "negative") {
    const arm = radius * Math.SQRT1_2;
    context.moveTo(-arm, -arm);
    context.lineTo(arm, arm);
    context.moveTo(arm, -arm);
    context.lineTo(-arm, arm);
  } else {
    const arm = Math.min(4, radius * 0.45);
    context.moveTo(-arm, 0);
    context.lineTo(arm, 0);
    context.moveTo(0, -arm);
    context.lineTo(0, arm);
  }
}

/**
 * Return a marker drawn once, to be copied: hundreds of dashed circles per frame would be too slow.
 * @param {keyof typeof COLORS} kind
 * @param {number} radius in CSS pixels
 * @param {number} ratio device pixels per CSS pixel
 * @param {string} own its color
 */
function getStamp(kind, radius, ratio, own) {
  const rounded = Math.max(MIN_RADIUS_PX, Math.round(radius * 2) / 2);
  const key = `${kind}/${rounded}/${ratio}/${own}`;
  const known = stamps.get(key);
  if (known) return known;
  const side = Math.ceil((rounded + 3) * 2 * ratio);
  const stamp = new OffscreenCanvas(side, side);
  const context = stamp.getContext("2d");
  if (context) {
    context.translate(side / 2, side / 2);
    context.scale(ratio, ratio);
    const width = kind === "particle" ? 2 : 1.6;
    for (const [color, line] of [[OUTLINE_COLOR, width + 1.6], [own, width]]) {
      traceMarker(context, kind, rounded);
      context.strokeStyle = /** @type {string} */ (color);
      context.lineWidth = /** @type {number} */ (line);
      context.stroke();
    }
  }
  for (const old of stamps.keys()) {
    if (stamps.size < MAX_STAMPS) break;
    stamps.delete(old);
  }
  stamps.set(key, stamp);
  return stamp;
}

/** Colors of scores from low to high: dark to light, so that they differ in brightness too. */
export const SCORE_COLORS = ["#5b3fd6", "#4560de", "#2f8fe0", "#2fb0b5", "#2fd08a", "#92d96a", "#f3e24a"];

/**
 * Draw the markers of one kind that are inside the window.
 * @param {CanvasRenderingContext2D} context with no transformation set
 * @param {import("./camera.js").Camera} camera
 * @param {keyof typeof COLORS} kind
 * @param {Iterable<{x: number, y: number}>} markers
 * @param {number} diameter in pixels of the image
 * @param {number} ratio
 * @param {string} [color]
 */
export function drawMarkers(context, camera, kind, markers, diameter, ratio, color = COLORS[kind]) {
  const radius = (diameter / 2) * camera.zoom;
  const tooLarge = radius > 600;
  const stamp = tooLarge ? null : getStamp(kind, radius, ratio, color);
  const half = tooLarge ? 0 : /** @type {OffscreenCanvas} */ (stamp).width / 2;
  const reach = Math.max(radius, MIN_RADIUS_PX) + 4;
  for (const { x, y } of markers) {
    const [sx, sy] = camera.toScreen(x, y);
    if (sx < -reach || sy < -reach || sx > camera.width + reach || sy > camera.height + reach)
      continue;
    if (stamp) context.drawImage(stamp, sx * ratio - half, sy * ratio - half);
    else {
      context.save();
      context.setTransform(ratio, 0, 0, ratio, sx * ratio, sy * ratio);
      traceMarker(context, kind, radius);
      context.strokeStyle = color;
      context.lineWidth = 2;
      context.stroke();
      context.restore();
    }
  }
}

/**
 * Draw square boxes around markers.
 * @param {CanvasRenderingContext2D} context with no transformation set
 * @param {import("./camera.js").Camera} camera
 * @param {Iterable<{x: number, y: number}>} markers
 * @param {number} side in pixels of the image
 * @param {number} ratio
 */
export function drawBoxes(context, camera, markers, side, ratio) {
  const half = (side / 2) * camera.zoom;
  context.save();
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.beginPath();
  for (const { x, y } of markers) {
    const [sx, sy] = camera.toScreen(x, y);
    if (sx < -half || sy < -half || sx > camera.width + half || sy > camera.height + half) continue;
    context.rect(sx - half, sy - half, 2 * half, 2 * half);
  }
  context.strokeStyle = "rgba(255, 255, 255, 0.4)";
  context.lineWidth = 1;
  context.stroke();
  context.restore();
}

/**
 * Draw the outline of a selection, and what is selected.
 * @param {CanvasRenderingContext2D} context with no transformation set
 * @param {import("./camera.js").Camera} camera
 * @param {import("./selection_tool.js").SelectionTool} selection
 * @param {number} diameter in pixels of the image
 * @param {number} ratio
 */
export function drawSelection(context, camera, { corners, labels, picks }, diameter, ratio) {
  if (!corners.length) return;
  for (const { x, y } of [...labels, ...picks]) {
    const [sx, sy] = camera.toScreen(x, y);
    drawRing(context, sx, sy, (diameter / 2) * camera.zoom + 3, ratio, "#ffffff");
  }
  context.save();
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.beginPath();
  for (const [x, y] of corners) context.lineTo(...camera.toScreen(x, y));
  context.closePath();
  context.fillStyle = "rgba(255, 255, 255, 0.08)";
  context.fill();
  context.setLineDash([5, 4]);
  context.strokeStyle = "#ffffff";
  context.lineWidth = 1.4;
  context.stroke();
  context.restore();
}

/**
 * Draw the small square on the right of a circle that sets its size.
 * @param {CanvasRenderingContext2D} context with no transformation set
 * @param {number} sx
 * @param {number} sy
 * @param {number} ratio
 */
export function drawHandle(context, sx, sy, ratio) {
  context.save();
  context.setTransform(ratio, 0, 0, ratio, sx * ratio, sy * ratio);
  context.fillStyle = "#f4f6fa";
  context.strokeStyle = "#0b0d11";
  context.lineWidth = 1.5;
  context.beginPath();
  context.rect(-4, -4, 8, 8);
  context.fill();
  context.stroke();
  context.restore();
}

/**
 * Draw a plain ring: the eraser, the circle being resized, the candidate under review.
 * @param {CanvasRenderingContext2D} context with no transformation set
 * @param {number} sx
 * @param {number} sy
 * @param {number} radius
 * @param {number} ratio
 * @param {string} color
 */
export function drawRing(context, sx, sy, radius, ratio, color) {
  context.save();
  context.setTransform(ratio, 0, 0, ratio, sx * ratio, sy * ratio);
  for (const [line, width] of /** @type {[string, number][]} */ ([[OUTLINE_COLOR, 3.5], [color, 1.8]])) {
    context.beginPath();
    context.arc(0, 0, radius, 0, 2 * Math.PI);
    context.strokeStyle = line;
    context.lineWidth = width;
    context.stroke();
  }
  context.restore();
}
