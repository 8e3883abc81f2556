import { say } from "./dom.js";

const STEPS = [1, 2, 5];

/**
 * The longest round length that is at most so many angstrom.
 * @param {number} most
 */
export function roundLength(most) {
  const ten = 10 ** Math.floor(Math.log10(most));
  return Math.max(...STEPS.filter((step) => step * ten <= most)) * ten;
}

/**
 * @param {number} angstrom
 * @returns {string} in nm from 10 nm on
 */
export function lengthText(angstrom) {
  return angstrom >= 100 ? `${angstrom / 10} nm` : `${angstrom} Å`;
}

/**
 * Set the bar at the foot of the picture.
 * @param {HTMLElement} bar has a line and a text
 * @param {{pixel_size: number | null} | null} micrograph
 * @param {number} zoom
 */
export function drawScaleBar(bar, micrograph, zoom) {
  bar.hidden = !micrograph;
  if (!micrograph) return;
  const scale = micrograph.pixel_size ?? 1;
  const length = roundLength((130 / zoom) * scale);
  const [line, text] = /** @type {HTMLCollectionOf<HTMLElement>} */ (bar.children);
  line.style.width = `${(length / scale) * zoom}px`;
  say(text, micrograph.pixel_size === null ? `${length} px` : lengthText(length));
}
