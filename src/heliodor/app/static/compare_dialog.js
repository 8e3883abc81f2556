import { get, post } from "./api.js";
import { Camera } from "./camera.js";
import { byId, createElement, fitCanvas, formatCount, oncePerFrame, setText, toSentence } from "./dom.js";
import { drawMarkers, drawRing } from "./markers.js";
import { TiledImage } from "./tiled_image.js";
import { withTiming } from "./timings.js";

/**
 * @typedef {import("./state.js").AppState} AppState
 * @typedef {{model: number, x: number[], y: number[],
 *   shared: number[], labels_found: number, negatives_picked: number}} Side
 * @typedef {{id: number, sides: Side[], labels: number, negatives: number}} Compared
 */

/** Most micrographs that are compared at a time. */
const MAX_MICROGRAPHS = 4;
const POLL_MS = 500;
/** The color of picks that only one of the two models has. */
const OWN_COLOR = "#ff9d3c";

/** @param {number} number */
function nameModel(number) {
  return number ? `Model ${number}` : "General model";
}

/** The dialog in which two models are seen side by side on the same micrographs. */
export class CompareDialog {
  camera = new Camera();
  redraw = oncePerFrame(withTiming("draw comparison", () => this.#draw()));
  /** @type {Compared[]} */ #result = [];
  #place = 0;
  #isPolling = false;

  /**
   * @param {AppState} state
   * @param {import("./tile_store.js").TileStore} tiles
   */
  constructor(state, tiles) {
    this.state = state;
    this.dialog = byId("compare");
    this.selects = [byId("compare-first"), byId("compare-second")];
    this.images = [0, 1].map((side) => new TiledImage(`compare ${side}`, byId(`compare-image-${side}`), this.camera, tiles));
    byId("compare-button").addEventListener("click", () => void this.#open());
    byId("compare-close").addEventListener("click", () => this.dialog.close());
    byId("compare-start").addEventListener("click", withTiming("compare", () => void this.#start()));
    byId("compare-cancel").addEventListener("click", () => void post("/api/comparison/cancel"));
    byId("compare-previous").addEventListener("click", () => void this.#show(this.#place - 1));
    byId("compare-next").addEventListener("click", () => void this.#show(this.#place + 1));
    this.dialog.addEventListener("close", () => this.images.forEach((image) => image.close()));
    for (const side of [0, 1]) this.#listen(byId(`compare-box-${side}`));
    new ResizeObserver(() => this.#resize()).observe(byId("compare-box-0"));
  }

  /** Pan and zoom both images together. @param {HTMLElement} box */
  #listen(box) {
    box.addEventListener("wheel", (event) => {
      event.preventDefault();
      const bounds = box.getBoundingClientRect();
      const step = Math.max(-240, Math.min(240, event.deltaY * (event.deltaMode === 1 ? 16 : 1)));
      this.camera.zoomBy(Math.exp(-step * 0.0022), event.clientX - bounds.left, event.clientY - bounds.top);
      this.#redrawAll();
    }, { passive: false });
    box.addEventListener("pointermove", (event) => {
      if (!(event.buttons & 1)) return;
      this.camera.panBy(event.movementX, event.movementY);
      this.#redrawAll();
    });
    box.addEventListener("dblclick", () => {
      this.camera.fit();
      this.#redrawAll();
    });
  }

  async #open() {
    const { models } = await get("/api/models");
    this.selects.forEach((select, side) => {
      const chosen = select.value;
      select.replaceChildren(...models.map((/** @type {any} */ model) => {
        const option = createElement("option", "", nameModel(model.number));
        option.value = String(model.number);
        return option;
      }));
      const usual = side ? this.state.engine.model : models[Math.max(0, models.length - 2)].number;
      select.value = chosen || String(usual);
    });
    if (this.selects[0].value === this.selects[1].value && models.length > 1)
      this.selects[0].value = String(models.find((/** @type {any} */ m) => String(m.number) !== this.selects[1].value).number);
    this.dialog.showModal();
    this.#resize();
    this.#apply(await get("/api/comparison"));
    await this.#poll();
  }

  /** The micrograph on screen, and those with the most labels. */
  get #chosen() {
    const { rows, current, count } = this.state;
    const others = [...Array(count).keys()]
      .filter((id) => id !== current && !rows.excluded[id] && !rows.failed[id])
      .sort((a, b) => rows.labels[b] - rows.labels[a] || a - b);
    return [current, ...others].slice(0, MAX_MICROGRAPHS);
  }

  async #start() {
    const models = this.selects.map((select) => Number(select.value));
    this.#result = [];
    this.redraw();
    try {
      this.#apply(await post("/api/comparison", { models, ids: this.#chosen }));
      await this.#poll();
    } catch (error) {
      this.#say(error instanceof Error ? error.message : String(error), true);
    }
  }

  async #poll() {
    if (this.#isPolling) return;
    this.#isPolling = true;
    try {
      let comparison = await get("/api/comparison");
      while (comparison.state === "running" && this.dialog.open) {
        await new Promise((done) => setTimeout(done, POLL_MS));
        comparison = await get("/api/comparison");
      }
      this.#apply(comparison);
    } finally {
      this.#isPolling = false;
    }
  }

  /** @param {string} message @param {boolean} trouble */
  #say(message, trouble) {
    byId("compare-message").classList.toggle("trouble", trouble);
    setText(byId("compare-message"), toSentence(message));
  }

  /** Show the state of the comparison. @param {any} comparison */
  #apply(comparison) {
    const running = comparison.state === "running";
    byId("compare-start").disabled = running;
    byId("compare-cancel").hidden = !running;
    byId("compare-shown").hidden = comparison.state !== "done";
    if (running) this.#say(`Picking ${formatCount(comparison.micrographs.length, "micrograph")} with both models…`, false);
    else if (comparison.state === "failed") this.#say(comparison.says, true);
    else if (comparison.state === "cancelled") this.#say("Canceled", false);
    else if (comparison.state === "none") this.#say("Each model picks at its own threshold, without your corrections", false);
    if (comparison.state !== "done") return;
    const isNew = JSON.stringify(this.#result) !== JSON.stringify(comparison.result);
    this.#result = comparison.result;
    this.#showFigures();
    if (isNew || !this.images[0].micrograph) void this.#show(0);
  }

  /** The sums over all compared micrographs. */
  #showFigures() {
    const sum = (/** @type {(one: Compared) => number} */ of) => this.#result.reduce((total, one) => total + of(one), 0);
    const labels = sum((one) => one.labels);
    const negatives = sum((one) => one.negatives);
    for (const side of [0, 1]) {
      const of = (/** @type {(own: Side) => number} */ value) => sum((one) => value(one.sides[side]));
      const picks = of((own) => own.x.length);
      const own = picks - of((one) => one.shared.reduce((a, b) => a + b, 0));
      const parts = [`${formatCount(picks, "pick")}, ${own.toLocaleString("en")} of them only here`];
      if (labels) parts.push(`${of((one) => one.labels_found).toLocaleString("en")} of ${formatCount(labels, "label")} found`);
      if (negatives) parts.push(`${of((one) => one.negatives_picked).toLocaleString("en")} of ${formatCount(negatives, "rejected position")} picked`);
      setText(byId(`compare-name-${side}`), nameModel(this.#result[0].sides[side].model));
      setText(byId(`compare-figures-${side}`), `${parts.join("; ")}.`);
    }
    this.#say(`${formatCount(this.#result.length, "micrograph")}, each model at its own threshold, without your corrections`, false);
  }

  /** @param {number} place in the result */
  async #show(place) {
    if (place < 0 || place >= this.#result.length) return;
    this.#place = place;
    const { id } = this.#result[place];
    byId("compare-previous").disabled = place === 0;
    byId("compare-next").disabled = place === this.#result.length - 1;
    setText(byId("compare-micrograph"), `${this.state.listName(id)} (${place + 1} of ${this.#result.length})`);
    const info = await this.state.getMicrograph(id);
    if (this.#place !== place) return;
    for (const image of this.images) {
      image.micrograph = info;
      image.lowPass = 0;
    }
    this.camera.setImage(info.width, info.height);
    this.#resize();
  }

  #resize() {
    const box = byId("compare-box-0");
    if (!box.clientWidth) return;
    this.camera.resize(box.clientWidth, box.clientHeight);
    this.#redrawAll();
  }

  #redrawAll() {
    for (const image of this.images) image.redraw();
    this.redraw();
  }

  #draw() {
    const compared = this.#result[this.#place];
    for (const side of [0, 1]) {
      const canvas = byId(`compare-marks-${side}`);
      const { ratio } = fitCanvas(canvas);
      const context = canvas.getContext("2d");
      if (!context) return;
      context.clearRect(0, 0, canvas.width, canvas.height);
      const info = this.images[side].micrograph;
      if (!compared || !info || info.id !== compared.id) continue;
      const diameter = (this.state.settings.diameter ?? 100) / (info.pixel_size ?? 1);
      const { x, y, shared } = compared.sides[side];
      const places = x.map((own, i) => ({ x: own, y: y[i] }));
      drawMarkers(context, this.camera, "pick", places.filter((_, i) => shared[i]), diameter, ratio);
      for (const place of places.filter((_, i) => !shared[i])) {
        const [sx, sy] = this.camera.toScreen(place.x, place.y);
        drawRing(context, sx, sy, (diameter / 2) * this.camera.zoom, ratio, OWN_COLOR);
      }
    }
  }
}
