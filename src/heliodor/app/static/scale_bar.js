import { setText } from "./dom.js";

const STEPS = [1, 2, 5];

/**
 * Return the longest round length that is at most this long.
 * @param {number} most in Å
 */
export function chooseLength(most) {
  const ten = 10 ** Math.floor(Math.log10(most));
  return Math.max(...STEPS.filter((step) => step * ten <= most)) * ten;
}

/**
 * @param {number} angstrom
 * @returns {string} in Å, from 10 nm on in nm
 */
export function formatLength(angstrom) {
  return angstrom >= 100 ? `${angstrom / 10} nm` : `${angstrom} Å`;
}

/**
 * Set the scale bar on the micrograph.
 * @param {HTMLElement} bar has a line and a text
 * @param {{pixel_size: number | null} | null} micrograph
 * @param {number} zoom
 */
export function drawScaleBar(bar, micrograph, zoom) {
  bar.hidden = !micrograph;
  if (!micrograph) return;
  const scale = micrograph.pixel_size ?? 1;
  const length = chooseLength((130 / zoom) * scale);
  const [line, text] = /** @type {HTMLCollectionOf<HTMLElement>} */ (bar.children);
  line.style.width = `${(length / scale) * zoom}px`;
  setText(text, micrograph.pixel_size === null ? `${length} px` : formatLength(length));
}
