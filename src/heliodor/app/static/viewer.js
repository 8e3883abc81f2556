import { Camera } from "./camera.js";
import { byId, say, sentence } from "./dom.js";
import { Hand } from "./hand.js";
import { Labelling } from "./labelling.js";
import { Overlay } from "./overlay.js";
import { Picture } from "./picture.js";
import { drawScaleBar } from "./scale_bar.js";
import { Signal } from "./signal.js";

/**
 * @typedef {import("./room.js").Room} Room
 * @typedef {import("./tiles.js").TileStore} TileStore
 */

const SMALLEST = 4;

/** The middle of the page: a micrograph, its marks, and where one is in it. */
export class Viewer {
  camera = new Camera();
  /** Told (diameter in angstrom) when the size of the circle was let go. */
  sizeChosen = new Signal();
  /** Where in the image the pointer is. @type {[number, number] | null} */ pointer = null;

  /**
   * @param {Room} room
   * @param {TileStore} tiles
   */
  constructor(room, tiles) {
    this.room = room;
    this.tiles = tiles;
    this.stage = byId("stage");
    this.picture = new Picture("viewer", byId("picture"), this.camera, tiles);
    this.overlay = new Overlay(byId("marks"), this.camera, room);
    this.labelling = new Labelling(room, this.overlay);
    this.hand = new Hand(this, this.stage, this.labelling);
    new ResizeObserver(() => {
      this.camera.resize(this.stage.clientWidth, this.stage.clientHeight);
      this.#moved();
    }).observe(this.stage);
    room.opened.on((id) => this.#open(id));
    room.settingsChanged.on(() => this.overlay.redraw());
  }

  /** Whether the micrograph wanted is the one shown, with its labels. */
  get ready() {
    const { room } = this;
    return room.micrograph?.id === room.current && room.labels.of(room.current) !== null;
  }

  /** @param {number} id */
  #open(id) {
    const { micrograph, rows } = this.room;
    const failed = rows.failed[id];
    say(byId("stage-failed"), failed ? sentence(`This micrograph cannot be used: ${failed}`) : "");
    byId("stage-failed").hidden = !failed;
    say(byId("micrograph-name"), this.room.shortName(id));
    byId("micrograph-name").title = rows.name[id];
    if (micrograph?.id !== id) {
      if (failed) this.picture.close();
      return;
    }
    this.camera.open(micrograph.width, micrograph.height);
    this.picture.micrograph = micrograph;
    this.#moved();
    this.#prefetch(id);
  }

  /** The overviews of the next two, when nothing else is to be fetched. @param {number} id */
  #prefetch(id) {
    const next = [...this.after(id, 2)];
    for (const one of next) void this.room.info(one);
    const { lowPass, level } = this.picture;
    const shown = this.picture.inWindow(level);
    const tiles = next.flatMap((one) => shown.map((tile) => ({ ...tile, id: one, lowPass })));
    this.tiles.want("next ones", tiles.slice(0, 24), 1);
  }

  /** Set by the list, which knows the order. @type {(id: number, n: number) => number[]} */
  after = () => [];

  #moved() {
    this.picture.redraw();
    this.overlay.redraw();
    drawScaleBar(byId("scale-bar"), this.room.micrograph, this.camera.zoom);
    say(byId("zoom"), `${Math.round(this.camera.zoom * 100)} %`);
  }

  fit() {
    this.camera.fit();
    this.#moved();
  }

  /** @param {number} factor @param {number} [sx] @param {number} [sy] */
  zoomBy(factor, sx, sy) {
    this.camera.zoomBy(factor, sx, sy);
    this.#moved();
  }

  /** @param {number} dx @param {number} dy */
  panBy(dx, dy) {
    this.camera.panBy(dx, dy);
    this.#moved();
  }

  /**
   * Show a place of a micrograph, its particles large enough to see.
   * @param {number} id
   * @param {number} x
   * @param {number} y
   */
  async show(id, x, y) {
    await this.room.open(id);
    const large = 90 / (this.room.diameterPx ?? 90);
    this.camera.lookAt(x, y, Math.max(this.camera.zoom, large));
    this.#moved();
  }

  /** @param {number} lowPass in angstrom */
  filter(lowPass) {
    this.picture.lowPass = lowPass;
    this.picture.redraw();
  }

  /** @param {number} contrast @param {number} brightness @param {boolean} inverted */
  expose(contrast, brightness, inverted) {
    const invert = inverted ? "invert(1) " : "";
    const filter = `${invert}brightness(${brightness}) contrast(${contrast})`;
    for (const id of ["picture", "question-picture"]) byId(id).style.filter = filter;
  }

  /** Say what is under the pointer. @param {[number, number] | null} point */
  pointAt(point) {
    this.pointer = point;
    const inside = point && this.ready && this.camera.holds(...point);
    const { overlay } = this;
    if (!point) {
      overlay.brush = null;
      overlay.redraw();
    }
    say(byId("where"), inside ? `x ${Math.round(point[0])}  y ${Math.round(point[1])}` : "");
    const pick = inside ? overlay.nearest(overlay.picks, ...point) : null;
    const chance = pick?.probability == null ? "" : `, ${Math.round(pick.probability * 100)} %`;
    say(byId("under"), pick ? `score ${pick.score.toFixed(2)}${chance}` : "");
  }

  /** Put a circle in the middle, to be made as large as a particle. */
  startSizing() {
    const { camera, room } = this;
    if (room.diameter === null) {
      const scale = room.micrograph?.pixel_size ?? 1;
      room.draggedDiameter = Math.round((11 / camera.zoom) * scale) * 10;
    }
    this.overlay.sizing = { x: camera.x, y: camera.y };
    this.overlay.redraw();
  }

  /** @param {number} x @param {number} y */
  moveSizing(x, y) {
    if (!this.camera.holds(x, y)) return;
    this.overlay.sizing = { x, y };
    this.overlay.redraw();
  }

  stopSizing() {
    this.overlay.sizing = null;
    this.room.draggedDiameter = null;
    this.overlay.redraw();
    this.room.settingsChanged.emit();
  }

  /** @param {number} diameterPx */
  dragSize(diameterPx) {
    const { micrograph } = this.room;
    if (!micrograph) return;
    const scale = micrograph.pixel_size ?? 1;
    const most = Math.min(micrograph.width, micrograph.height) / 2;
    const kept = Math.min(Math.max(diameterPx, SMALLEST), most);
    this.room.draggedDiameter = Math.round(kept * scale);
    this.room.settingsChanged.emit();
  }

  letGoOfSize() {
    if (this.room.draggedDiameter === null) return;
    if (!this.overlay.sizing) this.sizeChosen.emit(this.room.draggedDiameter);
  }
}
