import { Camera } from "./camera.js";
import { ContaminationEditor } from "./contamination_editor.js";
import { ParticleContamination } from "./particle_contamination.js";
import { byId, setText, toSentence } from "./dom.js";
import { Emitter } from "./emitter.js";
import { LabelEditor } from "./label_editor.js";
import { describeAuthor } from "./my_name.js";
import { Overlay } from "./overlay.js";
import { PointerTools } from "./pointer.js";
import { drawScaleBar } from "./scale_bar.js";
import { SelectionTool } from "./selection_tool.js";
import { TiledImage } from "./tiled_image.js";

/**
 * @typedef {import("./state.js").AppState} AppState
 * @typedef {import("./tile_store.js").TileStore} TileStore
 */

const MIN_DIAMETER_PX = 4;
/** The diameter in Å that the first circle has. */
const USUAL_DIAMETER = 150;

/** The middle of the page: a micrograph with its markers. */
export class Viewer {
  camera = new Camera();
  /** Emitted with the diameter in Å when the handle of a circle was released. */
  sizeChosen = new Emitter();
  /** Position of the pointer in the image. @type {[number, number] | null} */ pointer = null;

  /**
   * @param {AppState} state
   * @param {TileStore} tiles
   */
  constructor(state, tiles) {
    this.state = state;
    this.tiles = tiles;
    this.stage = byId("stage");
    this.image = new TiledImage("viewer", byId("micrograph-image"), this.camera, tiles);
    this.overlay = new Overlay(byId("markers"), this.camera, state);
    this.labelEditor = new LabelEditor(state, this.overlay);
    this.contaminationEditor = new ContaminationEditor(state, new ParticleContamination(state));
    this.contaminationEditor.strokeChanged.on(() => {
      this.overlay.stroke = this.contaminationEditor.stroke;
      this.overlay.redraw();
    });
    this.selectionTool = new SelectionTool(state, this.overlay);
    this.selectionTool.changed.on(() => {
      this.overlay.selection = this.selectionTool;
      this.overlay.redraw();
    });
    this.pointerTools = new PointerTools(
      this, this.stage, this.labelEditor, this.contaminationEditor, this.selectionTool);
    new ResizeObserver(() => {
      this.camera.resize(this.stage.clientWidth, this.stage.clientHeight);
      this.#redrawAll();
    }).observe(this.stage);
    state.opened.on((id) => this.#showMicrograph(id));
    state.settingsChanged.on(() => this.overlay.redraw());
    this.overlay.changed.on(() => this.pointer && this.showPointerPosition(this.pointer));
  }

  /** Whether the chosen micrograph and its labels are on screen. */
  get ready() {
    const { state } = this;
    return state.micrograph?.id === state.current && state.labels.get(state.current) !== null;
  }

  /** @param {number} id */
  #showMicrograph(id) {
    const { micrograph, rows } = this.state;
    const failed = rows.failed[id];
    setText(byId("stage-failed"), failed ? toSentence(`This micrograph cannot be used: ${failed}`) : "");
    byId("stage-failed").hidden = !failed;
    setText(byId("micrograph-name"), this.state.shortName(id));
    byId("micrograph-name").title = rows.name[id];
    if (micrograph?.id !== id) {
      if (failed) this.image.close();
      return;
    }
    this.camera.setImage(micrograph.width, micrograph.height);
    this.image.micrograph = micrograph;
    this.#redrawAll();
    this.#prefetch(id);
  }

  /** Fetch the tiles of the next two micrographs once nothing else is needed. @param {number} id */
  #prefetch(id) {
    const next = [...this.findNext(id, 2)];
    for (const one of next) void this.state.getMicrograph(one);
    const { lowPass, level } = this.image;
    const shown = this.image.listVisibleTiles(level);
    const tiles = next.flatMap((one) => shown.map((tile) => ({ ...tile, id: one, version: this.state.rows.version[one], lowPass })));
    this.tiles.request("next micrographs", tiles.slice(0, 24), 1);
  }

  /** Set by the list, which has the order. @type {(id: number, n: number) => number[]} */
  findNext = () => [];

  #redrawAll() {
    this.image.redraw();
    this.overlay.redraw();
    drawScaleBar(byId("scale-bar"), this.state.micrograph, this.camera.zoom);
    setText(byId("zoom"), `${Math.round(this.camera.zoom * 100)}%`);
  }

  fit() {
    this.camera.fit();
    this.#redrawAll();
  }

  /** @param {number} factor @param {number} [sx] @param {number} [sy] */
  zoomBy(factor, sx, sy) {
    this.camera.zoomBy(factor, sx, sy);
    this.#redrawAll();
  }

  /** @param {number} dx @param {number} dy */
  panBy(dx, dy) {
    this.camera.panBy(dx, dy);
    this.#redrawAll();
  }

  /**
   * Show a position on a micrograph, zoomed in enough to see the particle.
   * @param {number} id
   * @param {number} x
   * @param {number} y
   */
  async show(id, x, y) {
    await this.state.open(id);
    const large = 90 / (this.state.diameterPx ?? 90);
    this.overlay.pointedAt = { micrograph: id, x, y };
    this.camera.centerOn(x, y, Math.max(this.camera.zoom, large));
    this.#redrawAll();
  }

  /** @param {number} lowPass in Å */
  setLowPass(lowPass) {
    this.image.lowPass = lowPass;
    this.image.redraw();
  }

  /** @param {number} contrast @param {number} brightness @param {boolean} inverted */
  setExposure(contrast, brightness, inverted) {
    const invert = inverted ? "invert(1) " : "";
    const filter = `${invert}brightness(${brightness}) contrast(${contrast})`;
    for (const id of ["micrograph-image", "candidate-image"]) byId(id).style.filter = filter;
  }

  /** Show the position of the pointer, and the label and the pick under it. @param {[number, number] | null} point */
  showPointerPosition(point) {
    this.pointer = point;
    const inside = point && this.ready && this.camera.contains(...point);
    const { overlay } = this;
    if (!point) {
      overlay.eraser = null;
      overlay.redraw();
    }
    setText(byId("pointer-position"), inside ? `x ${Math.round(point[0])}  y ${Math.round(point[1])}` : "");
    const pick = inside ? overlay.findNearest(overlay.picks, ...point) : null;
    const score = pick && `score ${pick.score.toFixed(2)}`;
    const probability = pick?.probability == null ? "" : `probability ${Math.round(pick.probability * 100)}%`;
    const label = inside ? overlay.findNearest(overlay.labels, ...point) : null;
    const author = label ? describeAuthor(label) : "";
    setText(byId("pointer-pick"), [author, probability, score].filter(Boolean).join("  "));
  }

  /** Put a circle in the middle, to be resized to the size of a particle. */
  startSizing() {
    const { camera, state } = this;
    if (state.diameter === null) {
      const scale = state.micrograph?.pixel_size;
      state.draggedDiameter = scale ? USUAL_DIAMETER : Math.round(11 / camera.zoom) * 10;
    }
    this.overlay.sizing = { x: camera.x, y: camera.y };
    this.overlay.redraw();
  }

  /** @param {number} x @param {number} y */
  moveSizing(x, y) {
    if (!this.camera.contains(x, y)) return;
    this.overlay.sizing = { x, y };
    this.overlay.redraw();
  }

  stopSizing() {
    this.overlay.sizing = null;
    this.state.draggedDiameter = null;
    this.overlay.redraw();
    this.state.settingsChanged.emit();
  }

  /** @param {number} diameterPx */
  dragSize(diameterPx) {
    const { micrograph } = this.state;
    if (!micrograph) return;
    const scale = micrograph.pixel_size ?? 1;
    const most = Math.min(micrograph.width, micrograph.height) / 2;
    const kept = Math.min(Math.max(diameterPx, MIN_DIAMETER_PX), most);
    this.state.draggedDiameter = Math.round(kept * scale);
    this.state.settingsChanged.emit();
  }

  finishSizing() {
    if (this.state.draggedDiameter === null) return;
    if (!this.overlay.sizing) this.sizeChosen.emit(this.state.draggedDiameter);
  }
}
