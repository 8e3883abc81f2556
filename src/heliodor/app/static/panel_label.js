import { ContaminationPanel } from "./contamination_panel.js";
import { byId, setText } from "./dom.js";
import { withTiming } from "./timings.js";
import { confirmAction } from "./toast.js";

const DISPLAY_SLIDERS = ["contrast", "brightness", "low-pass"];
/** Low-pass filters in Å; 0 for none. */
const LOW_PASS_ANGSTROM = [0, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200];

/**
 * @typedef {import("./state.js").AppState} AppState
 * @typedef {import("./viewer.js").Viewer} Viewer
 */

/** The particle diameter, the display of the micrograph, and the eraser. */
export class LabelPanel {
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #lowPassTimer;

  /**
   * @param {AppState} state
   * @param {Viewer} viewer
   */
  constructor(state, viewer) {
    this.state = state;
    this.viewer = viewer;
    this.diameter = byId("diameter");
    this.sizingNumber = byId("sizing-number");
    const on = (/** @type {string} */ id, /** @type {string} */ event, /** @type {any} */ act) =>
      byId(id).addEventListener(event, withTiming(`${id} ${event}`, act));
    for (const id of ["contrast", "brightness", "invert"]) on(id, "input", () => this.#applyExposure());
    on("low-pass", "input", () => this.#applyLowPass());
    on("eraser-radius", "input", () => this.#applyEraserRadius());
    on("display-reset", "click", () => this.#resetDisplay());
    on("measure", "click", () => this.measure());
    const { contaminationEditor } = viewer;
    this.contamination = new ContaminationPanel(state, contaminationEditor, contaminationEditor.subject);
    for (const id of ["color-by-score", "show-boxes", "box-diameters"]) on(id, "input", () => this.#applyMarkers());
    for (const signal of [state.settingsChanged, state.opened, state.thresholdChanged]) signal.on(() => this.#applyMarkers());
    on("diameter", "change", () => void this.setDiameter(Number(this.diameter.value)));
    on("sizing-number", "input", () => this.#onTyped());
    on("sizing-number", "keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Enter") return;
      // The same key must not press a button of a dialog that opens now.
      event.preventDefault();
      this.#useDiameter();
    });
    on("sizing-use", "click", () => this.#useDiameter());
    on("sizing-cancel", "click", () => this.stopMeasuring());
    byId("sizing").addEventListener("pointerdown", (/** @type {Event} */ e) => e.stopPropagation());
    byId("sizing").addEventListener("pointerup", (/** @type {Event} */ e) => e.stopPropagation());
    viewer.sizeChosen.on((angstrom) => void this.setDiameter(angstrom));
    state.settingsChanged.on(() => this.#show());
    state.opened.on(() => this.#onOpened());
    state.picks.changed.on(() => this.contamination.show());
    this.#restoreDisplay();
    this.#show();
    this.#applyExposure();
    this.#applyEraserRadius();
    this.#applyLowPass();
  }

  #show() {
    const { diameter, settings } = this.state;
    if (document.activeElement !== this.diameter || diameter !== settings.diameter)
      this.diameter.value = diameter ?? "";
    if (document.activeElement !== this.sizingNumber) this.sizingNumber.value = diameter ?? "";
    this.contamination.showBrush();
  }

  /** Color picks by their scores, and show boxes around them, or not. */
  #applyMarkers() {
    const { overlay } = this.viewer;
    overlay.colorsByScore = byId("color-by-score").checked;
    byId("color-scale").hidden = !overlay.colorsByScore;
    const [low, high] = overlay.scoreRange;
    setText(byId("color-low"), low.toFixed(1));
    setText(byId("color-high"), high.toFixed(1));
    const { diameterPx, micrograph } = this.state;
    const diameters = Number(byId("box-diameters").value);
    const isShown = byId("show-boxes").checked && diameterPx !== null && diameters > 0;
    // RELION's boxes have an even number of pixels.
    overlay.boxPx = isShown ? 2 * Math.ceil((diameters * diameterPx) / 2) : null;
    byId("box-size").hidden = overlay.boxPx === null;
    const size = micrograph?.pixel_size;
    const angstrom = overlay.boxPx !== null && size ? ` (${Math.round(overlay.boxPx * size)} Å)` : "";
    setText(byId("box-size"), `Box size for RELION's particle extraction: ${overlay.boxPx} px${angstrom}.`);
    overlay.redraw();
  }

  /** Ask for the diameter first if it is not known yet. */
  #onOpened() {
    const { state, viewer } = this;
    if (state.micrograph?.id !== state.current) return;
    const unit = state.micrograph.pixel_size === null ? "px" : "Å";
    for (const span of document.querySelectorAll(".unit")) setText(span, unit);
    if (state.settings.diameter === null && !viewer.overlay.sizing) this.measure();
  }

  measure() {
    const { state, viewer } = this;
    if (!state.micrograph) return;
    viewer.startSizing();
    byId("sizing").hidden = false;
    byId("sizing-cancel").hidden = state.settings.diameter === null;
    this.#show();
  }

  stopMeasuring() {
    if (this.state.settings.diameter === null) return false;
    const open = !byId("sizing").hidden;
    byId("sizing").hidden = true;
    this.viewer.stopSizing();
    return open;
  }

  #onTyped() {
    const typed = Number(this.sizingNumber.value);
    if (!(typed > 0)) return;
    this.state.draggedDiameter = typed;
    this.viewer.overlay.redraw();
  }

  #useDiameter() {
    const chosen = this.state.draggedDiameter ?? this.state.settings.diameter;
    if (chosen !== null) void this.setDiameter(chosen);
  }

  /**
   * Set the diameter, after a confirmation if there was another one.
   * @param {number} angstrom
   */
  async setDiameter(angstrom) {
    const { state, viewer } = this;
    const { model } = state.engine;
    const [min, max] = [Number(this.diameter.min), Number(this.diameter.max)];
    const unit = state.micrograph?.pixel_size === null ? "px" : "Å";
    const before = state.settings.diameter;
    const then = model
      ? `Model ${model} is for ${before} ${unit}: the general model is used until you train again. ` +
        "You can go back to the model, and to its diameter, under Train."
      : "All micrographs are picked again.";
    const warning = `Change the diameter from ${before} to ${angstrom} ${unit}? ${then} Your labels are kept.`;
    if (!(angstrom >= min && angstrom <= max))
      state.messageRaised.emit(`The diameter must be between ${min} and ${max.toLocaleString("en")} ${unit}.`);
    else if (angstrom !== state.settings.diameter
      && (before === null || (await confirmAction(warning, "Change diameter"))))
      await state.saveSettings({ diameter: angstrom });
    state.draggedDiameter = null;
    viewer.overlay.sizing = null;
    byId("sizing").hidden = state.settings.diameter !== null;
    if (state.settings.diameter === null) this.measure();
    state.settingsChanged.emit();
    // Show the diameter in use, whatever was typed.
    this.diameter.value = state.settings.diameter ?? "";
  }

  #applyExposure() {
    const [contrast, brightness] = [byId("contrast").value, byId("brightness").value].map(Number);
    setText(byId("contrast-value"), contrast.toFixed(2));
    setText(byId("brightness-value"), brightness.toFixed(2));
    this.viewer.setExposure(contrast, brightness, byId("invert").checked);
    this.#saveDisplay();
  }

  #applyLowPass() {
    const angstrom = LOW_PASS_ANGSTROM[Number(byId("low-pass").value)];
    setText(byId("low-pass-value"), angstrom ? `${angstrom} Å` : "none");
    // The server makes the filtered tiles: request them once the slider rests.
    clearTimeout(this.#lowPassTimer);
    this.#lowPassTimer = setTimeout(() => this.viewer.setLowPass(angstrom), 150);
    this.#saveDisplay();
  }

  /** The display settings belong to this browser, not to the project. */
  #saveDisplay() {
    const display = Object.fromEntries(DISPLAY_SLIDERS.map((id) => [id, byId(id).value]));
    localStorage.setItem("heliodor look", JSON.stringify({ ...display, invert: byId("invert").checked }));
  }

  #restoreDisplay() {
    const display = JSON.parse(localStorage.getItem("heliodor look") ?? "{}");
    for (const id of DISPLAY_SLIDERS) if (display[id] !== undefined) byId(id).value = display[id];
    byId("invert").checked = Boolean(display.invert);
  }

  #applyEraserRadius() {
    const size = Number(byId("eraser-radius").value);
    setText(byId("eraser-value"), `${size} px on screen`);
    this.viewer.pointerTools.eraserRadius = size;
  }

  #resetDisplay() {
    byId("contrast").value = 1.2;
    byId("brightness").value = 1;
    byId("low-pass").value = 0;
    byId("invert").checked = false;
    this.#applyExposure();
    this.#applyLowPass();
  }
}
