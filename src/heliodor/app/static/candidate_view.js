import { Camera } from "./camera.js";
import { byId, fitCanvas, oncePerFrame, setText } from "./dom.js";
import { drawRing } from "./markers.js";
import { TiledImage } from "./tiled_image.js";

/** Width of the view in diameters. */
const DIAMETERS_ACROSS = 7;
/** Low-pass filter in diameters: finer detail is mostly noise. */
const FINEST_DIAMETERS = 0.1;

/** @typedef {{micrograph: number, x: number, y: number}} Place */

/** A candidate under review, enlarged, with its surroundings. */
export class CandidateView {
  camera = new Camera();
  redraw = oncePerFrame(() => this.#draw());
  /** @type {Place | null} */ #place = null;
  #lowPass;
  /** Only used to find the tiles of the next candidate; never drawn. */
  #nextCamera = new Camera();

  /**
   * @param {import("./state.js").AppState} state
   * @param {import("./tile_store.js").TileStore} tiles
   * @param {() => number} lowPass returns the filter in use
   */
  constructor(state, tiles, lowPass) {
    this.#lowPass = lowPass;
    this.state = state;
    this.tiles = tiles;
    this.box = byId("candidate-view");
    this.image = new TiledImage("candidate", byId("candidate-image"), this.camera, tiles);
    this.nextImage = new TiledImage("next candidate", document.createElement("canvas"), this.#nextCamera, tiles);
    for (const name of ["pointerdown", "pointermove", "pointerup", "wheel", "contextmenu"])
      this.box.addEventListener(name, (/** @type {any} */ event) => {
        event.stopPropagation();
        if (name === "wheel" || name === "contextmenu") event.preventDefault();
        if (name === "wheel") this.#zoom(event);
        else if (name === "pointermove" && event.buttons & 1) this.#pan(event.movementX, event.movementY);
      }, { passive: false });
    new ResizeObserver(() => this.#centerOnCandidate()).observe(this.box);
  }

  /**
   * @param {Place} place
   * @param {Place | null} next its tiles are fetched in advance
   */
  async show(place, next) {
    this.#place = place;
    this.box.hidden = false;
    const info = await this.state.getMicrograph(place.micrograph);
    if (this.#place !== place) return;
    const lowPass = this.#lowPass() || Math.round((this.state.settings.diameter ?? 0) * FINEST_DIAMETERS);
    this.image.lowPass = lowPass;
    this.image.micrograph = info;
    this.#centerOnCandidate();
    if (!next) return;
    this.nextImage.micrograph = await this.state.getMicrograph(next.micrograph);
    this.nextImage.lowPass = lowPass;
    this.#aimCamera(this.#nextCamera, next, this.nextImage.micrograph);
    this.tiles.request("next candidate", this.nextImage.listVisibleTiles(this.nextImage.level), 1);
  }

  close() {
    if (this.box.hidden) return;
    this.#place = null;
    this.box.hidden = true;
    this.image.close();
    this.tiles.request("next candidate", []);
  }

  /** @param {WheelEvent} event */
  #zoom(event) {
    const box = this.box.getBoundingClientRect();
    const step = Math.max(-240, Math.min(240, event.deltaY * (event.deltaMode === 1 ? 16 : 1)));
    this.camera.zoomBy(Math.exp(-step * 0.0022), event.clientX - box.left, event.clientY - box.top);
    this.#redrawAll();
  }

  /** @param {number} dx @param {number} dy */
  #pan(dx, dy) {
    this.camera.panBy(dx, dy);
    this.#redrawAll();
  }

  #redrawAll() {
    this.image.redraw();
    this.redraw();
    setText(byId("zoom"), `${Math.round(this.camera.zoom * 100)}%`);
  }

  /**
   * @param {Camera} camera
   * @param {Place} place
   * @param {any} info
   */
  #aimCamera(camera, place, info) {
    camera.resize(this.box.clientWidth, this.box.clientHeight);
    camera.imageWidth = info.width;
    camera.imageHeight = info.height;
    const diameter = (this.state.settings.diameter ?? 100) / (info.pixel_size ?? 1);
    const zoom = Math.min(camera.width, camera.height) / (DIAMETERS_ACROSS * diameter);
    camera.centerOn(place.x, place.y, zoom);
  }

  #centerOnCandidate() {
    if (!this.#place || !this.image.micrograph || this.box.hidden) return;
    this.#aimCamera(this.camera, this.#place, this.image.micrograph);
    this.#redrawAll();
  }

  #draw() {
    const canvas = byId("candidate-ring");
    const { ratio } = fitCanvas(canvas);
    const context = canvas.getContext("2d");
    const info = this.image.micrograph;
    if (!context || !this.#place || !info) return;
    context.clearRect(0, 0, canvas.width, canvas.height);
    const diameter = (this.state.settings.diameter ?? 100) / (info.pixel_size ?? 1);
    const [sx, sy] = this.camera.toScreen(this.#place.x, this.#place.y);
    drawRing(context, sx, sy, (diameter / 2) * this.camera.zoom, ratio, "#ffffff");
  }
}
