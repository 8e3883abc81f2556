import { byId, say } from "./dom.js";
import { timed } from "./timings.js";
import { askFirst } from "./toast.js";

const LOOK = ["contrast", "brightness", "low-pass"];
/** Low-pass filters offered, in angstrom; the first is none. */
const LOW_PASS = [0, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200];

/**
 * @typedef {import("./room.js").Room} Room
 * @typedef {import("./viewer.js").Viewer} Viewer
 */

/** The particle's size, how the picture looks, and the brush. */
export class LabelPanel {
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #filtering;

  /**
   * @param {Room} room
   * @param {Viewer} viewer
   */
  constructor(room, viewer) {
    this.room = room;
    this.viewer = viewer;
    this.diameter = byId("diameter");
    this.sizing = byId("sizing-number");
    const on = (/** @type {string} */ id, /** @type {string} */ event, /** @type {any} */ act) =>
      byId(id).addEventListener(event, timed(`${id} ${event}`, act));
    for (const id of ["contrast", "brightness", "invert"]) on(id, "input", () => this.#expose());
    on("low-pass", "input", () => this.#filter());
    on("brush-size", "input", () => this.#brush());
    on("picture-reset", "click", () => this.#reset());
    on("measure", "click", () => this.measure());
    on("diameter", "change", () => void this.choose(Number(this.diameter.value)));
    on("sizing-number", "input", () => this.#typed());
    on("sizing-number", "keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Enter") this.#use();
    });
    on("sizing-use", "click", () => this.#use());
    on("sizing-cancel", "click", () => this.stopMeasuring());
    byId("sizing").addEventListener("pointerdown", (/** @type {Event} */ e) => e.stopPropagation());
    byId("sizing").addEventListener("pointerup", (/** @type {Event} */ e) => e.stopPropagation());
    viewer.sizeChosen.on((angstrom) => void this.choose(angstrom));
    room.settingsChanged.on(() => this.#show());
    room.opened.on(() => this.#opened());
    this.#remembered();
    this.#show();
    this.#expose();
    this.#brush();
    this.#filter();
  }

  #show() {
    const { diameter, settings } = this.room;
    if (document.activeElement !== this.diameter || diameter !== settings.diameter)
      this.diameter.value = diameter ?? "";
    if (document.activeElement !== this.sizing) this.sizing.value = diameter ?? "";
  }

  /** Where nobody has said the diameter yet, that is the first question. */
  #opened() {
    const { room, viewer } = this;
    if (room.micrograph?.id !== room.current) return;
    const unit = room.micrograph.pixel_size === null ? "px" : "Å";
    for (const span of document.querySelectorAll(".unit")) say(span, unit);
    if (room.settings.diameter === null && !viewer.overlay.sizing) this.measure();
  }

  measure() {
    const { room, viewer } = this;
    if (!room.micrograph) return;
    viewer.startSizing();
    byId("sizing").hidden = false;
    byId("sizing-cancel").hidden = room.settings.diameter === null;
    this.#show();
  }

  stopMeasuring() {
    if (this.room.settings.diameter === null) return false;
    const open = !byId("sizing").hidden;
    byId("sizing").hidden = true;
    this.viewer.stopSizing();
    return open;
  }

  #typed() {
    const typed = Number(this.sizing.value);
    if (!(typed > 0)) return;
    this.room.draggedDiameter = typed;
    this.viewer.overlay.redraw();
  }

  #use() {
    const chosen = this.room.draggedDiameter ?? this.room.settings.diameter;
    if (chosen !== null) void this.choose(chosen);
  }

  /**
   * Take a new diameter; a model that was trained with another one is lost by it.
   * @param {number} angstrom
   */
  async choose(angstrom) {
    const { room, viewer } = this;
    const trained = room.engine.model > 0;
    const differs = angstrom !== room.settings.diameter;
    const says =
      `With a diameter of ${angstrom} Å the model trained so far no longer fits: picks are made ` +
      "anew by the general model until you train again. Labels are kept.";
    if (angstrom > 0 && differs && (!trained || (await askFirst(says, "Change it"))))
      await room.set({ diameter: angstrom });
    room.draggedDiameter = null;
    viewer.overlay.sizing = null;
    byId("sizing").hidden = room.settings.diameter !== null;
    if (room.settings.diameter === null) this.measure();
    room.settingsChanged.emit();
    // Whatever was typed, what holds is shown, even in the field that is being typed in.
    this.diameter.value = room.settings.diameter ?? "";
  }

  #expose() {
    const [contrast, brightness] = [byId("contrast").value, byId("brightness").value].map(Number);
    say(byId("contrast-value"), contrast.toFixed(2));
    say(byId("brightness-value"), brightness.toFixed(2));
    this.viewer.expose(contrast, brightness, byId("invert").checked);
    this.#remember();
  }

  #filter() {
    const angstrom = LOW_PASS[Number(byId("low-pass").value)];
    say(byId("low-pass-value"), angstrom ? `${angstrom} Å` : "none");
    // Filtered tiles are the server's work: ask when the slider rests.
    clearTimeout(this.#filtering);
    this.#filtering = setTimeout(() => this.viewer.filter(angstrom), 150);
    this.#remember();
  }

  /** How the picture looks is this browser's, not the project's. */
  #remember() {
    const look = Object.fromEntries(LOOK.map((id) => [id, byId(id).value]));
    localStorage.setItem("heliodor look", JSON.stringify({ ...look, invert: byId("invert").checked }));
  }

  #remembered() {
    const look = JSON.parse(localStorage.getItem("heliodor look") ?? "{}");
    for (const id of LOOK) if (look[id] !== undefined) byId(id).value = look[id];
    byId("invert").checked = Boolean(look.invert);
  }

  #brush() {
    const size = Number(byId("brush-size").value);
    say(byId("brush-value"), `${size} px on screen`);
    this.viewer.hand.brushSize = size;
  }

  #reset() {
    byId("contrast").value = 1.6;
    byId("brightness").value = 1;
    byId("low-pass").value = 0;
    byId("invert").checked = false;
    this.#expose();
    this.#filter();
  }
}
