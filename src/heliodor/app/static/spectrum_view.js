import { get } from "./api.js";
import { byId, setText, toSentence } from "./dom.js";

const RING_COLOR = "#ffb000";

/**
 * Say what a CTF fit found.
 * @param {any} ctf
 */
function describeCtf(ctf) {
  const [u, v] = [ctf.defocus_u_angstrom, ctf.defocus_v_angstrom];
  const phase = ctf.phase_shift_deg ? `, phase shift ${ctf.phase_shift_deg.toFixed(0)}°` : "";
  return `Defocus ${((u + v) / 2e4).toFixed(2)} µm, astigmatism ${Math.abs(u - v).toFixed(0)} Å at ` +
    `${ctf.defocus_angle_deg.toFixed(0)}°, ${ctf.voltage_kv.toFixed(0)} kV, Cs ${ctf.spherical_aberration_mm} mm, ` +
    `amplitude contrast ${ctf.amplitude_contrast}${phase}. The dark rings should lie on the lines.`;
}

/** The power spectrum of the micrograph on screen, with the rings of its CTF. */
export class SpectrumView {
  /** @type {any} */ #spectrum = null;
  /** @type {HTMLImageElement | null} */ #image = null;

  /** @param {{current: number, listName: (id: number) => string}} state the micrograph on screen */
  constructor(state) {
    this.state = state;
    this.dialog = byId("spectrum");
    this.canvas = byId("spectrum-image");
    byId("spectrum-button").addEventListener("click", () => void this.show());
    byId("spectrum-close").addEventListener("click", () => this.dialog.close());
    byId("spectrum-rings").addEventListener("change", () => this.#draw());
    this.dialog.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key.toLowerCase() !== "w") return;
      event.stopPropagation(); // the shortcut would open it again
      this.dialog.close();
    });
  }

  /** Show the spectrum of the micrograph on screen. */
  async show() {
    const id = this.state.current;
    if (id < 0 || this.dialog.open) return;
    this.#spectrum = this.#image = null;
    setText(byId("spectrum-title"), `Power spectrum of ${this.state.listName(id)}`);
    setText(byId("spectrum-message"), "Computing…");
    byId("spectrum-rings").disabled = true;
    this.#draw();
    this.dialog.showModal();
    try {
      const spectrum = await get(`/api/micrographs/${id}/spectrum`);
      const image = new Image();
      image.src = `data:image/jpeg;base64,${spectrum.image}`;
      await image.decode();
      if (this.state.current !== id) return;
      this.#spectrum = spectrum;
      this.#image = image;
      byId("spectrum-rings").disabled = !spectrum.rings.length;
      const edge = spectrum.nyquist_angstrom === null ? "" : ` The edges are at ${spectrum.nyquist_angstrom.toFixed(1)} Å.`;
      setText(byId("spectrum-message"), (spectrum.ctf ? describeCtf(spectrum.ctf)
        : "The defocus is unknown: start heliodor app with the STAR or .cs file of the CTF estimation to see the rings.") + edge);
      this.#draw();
    } catch (error) {
      setText(byId("spectrum-message"), toSentence(error instanceof Error ? error.message : String(error)));
    }
  }

  #draw() {
    const { canvas } = this;
    const context = canvas.getContext("2d");
    if (!context) return;
    const side = canvas.width;
    context.clearRect(0, 0, side, side);
    if (!this.#image) return;
    context.drawImage(this.#image, 0, 0, side, side);
    if (!byId("spectrum-rings").checked) return;
    context.strokeStyle = RING_COLOR;
    context.lineWidth = 1.2;
    for (const ring of this.#spectrum.rings) {
      context.beginPath();
      let isDrawing = false;
      for (const [x, y] of ring) {
        if (x === null) isDrawing = false;
        else {
          const at = /** @type {[number, number]} */ ([(1 + x) * side / 2, (1 + y) * side / 2]);
          if (isDrawing) context.lineTo(...at);
          else context.moveTo(...at);
          isDrawing = true;
        }
      }
      context.stroke();
    }
  }
}
