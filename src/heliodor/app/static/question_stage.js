import { Camera } from "./camera.js";
import { byId, onceAFrame, sized } from "./dom.js";
import { drawRing } from "./marks.js";
import { Picture } from "./picture.js";

/** So many diameters are seen across. */
const ACROSS = 7;
/** Noise finer than this share of a diameter says nothing about it. */
const FINEST = 0.1;

/** @typedef {{micrograph: number, x: number, y: number}} Place */

/** A candidate, large, in the midst of its surroundings. */
export class QuestionStage {
  camera = new Camera();
  redraw = onceAFrame(() => this.#draw());
  /** @type {Place | null} */ #place = null;
  #lowPass;
  /** Only for working out which tiles come next; it is drawn nowhere. */
  #ahead = new Camera();

  /**
   * @param {import("./room.js").Room} room
   * @param {import("./tiles.js").TileStore} tiles
   * @param {() => number} lowPass the filter in use
   */
  constructor(room, tiles, lowPass) {
    this.#lowPass = lowPass;
    this.room = room;
    this.tiles = tiles;
    this.box = byId("question-stage");
    this.picture = new Picture("question", byId("question-picture"), this.camera, tiles);
    this.next = new Picture("next question", document.createElement("canvas"), this.#ahead, tiles);
    for (const name of ["pointerdown", "pointermove", "pointerup", "wheel", "contextmenu"])
      this.box.addEventListener(name, (/** @type {Event} */ event) => event.stopPropagation());
    new ResizeObserver(() => this.#aim()).observe(this.box);
  }

  /**
   * @param {Place} place
   * @param {Place | null} next whose tiles are fetched ahead
   */
  async show(place, next) {
    this.#place = place;
    this.box.hidden = false;
    const info = await this.room.info(place.micrograph);
    if (this.#place !== place) return;
    const lowPass = this.#lowPass() || Math.round((this.room.settings.diameter ?? 0) * FINEST);
    this.picture.lowPass = lowPass;
    this.picture.micrograph = info;
    this.#aim();
    if (!next) return;
    this.next.micrograph = await this.room.info(next.micrograph);
    this.next.lowPass = lowPass;
    this.#point(this.#ahead, next, this.next.micrograph);
    this.tiles.want("next question", this.next.inWindow(this.next.level), 1);
  }

  close() {
    if (this.box.hidden) return;
    this.#place = null;
    this.box.hidden = true;
    this.picture.close();
    this.tiles.want("next question", []);
  }

  /**
   * @param {Camera} camera
   * @param {Place} place
   * @param {any} info
   */
  #point(camera, place, info) {
    camera.resize(this.box.clientWidth, this.box.clientHeight);
    camera.imageWidth = info.width;
    camera.imageHeight = info.height;
    const diameter = (this.room.settings.diameter ?? 100) / (info.pixel_size ?? 1);
    const zoom = Math.min(camera.width, camera.height) / (ACROSS * diameter);
    camera.lookAt(place.x, place.y, zoom);
  }

  #aim() {
    if (!this.#place || !this.picture.micrograph || this.box.hidden) return;
    this.#point(this.camera, this.#place, this.picture.micrograph);
    this.picture.redraw();
    this.redraw();
  }

  #draw() {
    const canvas = byId("question-ring");
    const { width, height, ratio } = sized(canvas);
    const context = canvas.getContext("2d");
    if (!context || !this.#place) return;
    context.clearRect(0, 0, canvas.width, canvas.height);
    const radius = Math.min(width, height) / ACROSS / 2;
    drawRing(context, width / 2, height / 2, radius, ratio, "#ffffff");
  }
}
