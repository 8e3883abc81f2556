import { withTiming } from "./timings.js";

const CLICK_TOLERANCE_PX = 4;
const HANDLE_RADIUS_PX = 8;
/** Two clicks in one place within this time are a double click. */
const DOUBLE_CLICK_MS = 350;

/**
 * @typedef {import("./viewer.js").Viewer} Viewer
 * @typedef {{label: import("./save_queue.js").Label, x: number, y: number}} LabelMove
 * @typedef {"label" | "eraser" | "brush" | "select"} Tool
 * @typedef {"none" | "maybe click" | "maybe resize" | "maybe move label" | "pan" | "erase" | "resize"
 *   | "move" | "move label" | "paint" | "select"} Gesture
 */

/** What mouse and pen do on the micrograph: click, pan, zoom, erase, resize. */
export class PointerTools {
  /** @type {Tool} */ tool = "label";
  /** Eraser radius in pixels of the screen. */ eraserRadius = 24;
  spaceHeld = false;
  /** @type {Gesture} */ #gesture = "none";
  /** The label that is held, and where it is now. @type {LabelMove | null} */ #held = null;
  /** @type {[number, number]} */ #start = [0, 0];
  /** @type {[number, number]} */ #position = [0, 0];
  /** @type {{at: [number, number], when: number}} */
  #lastClick = { at: [0, 0], when: -DOUBLE_CLICK_MS };
  /** Labels erased so far by the current stroke. @type {Set<import("./save_queue.js").Label>} */
  #erased = new Set();

  /**
   * @param {Viewer} viewer
   * @param {HTMLElement} stage
   * @param {import("./label_editor.js").LabelEditor} labelling
   * @param {import("./contamination_editor.js").ContaminationEditor} painting
   * @param {import("./selection_tool.js").SelectionTool} selecting
   */
  constructor(viewer, stage, labelling, painting, selecting) {
    this.selecting = selecting;
    this.painting = painting;
    this.viewer = viewer;
    this.stage = stage;
    this.labelling = labelling;
    const listen = (/** @type {string} */ name, /** @type {(e: any) => void} */ act) =>
      stage.addEventListener(name, withTiming(name, act), { passive: false });
    listen("wheel", (event) => this.#onWheel(event));
    listen("pointerdown", (event) => this.#onDown(event));
    listen("pointermove", (event) => this.#onMove(event));
    listen("pointerup", (event) => this.#onUp(event));
    listen("pointercancel", () => this.#endGesture());
    listen("pointerleave", () => this.viewer.showPointerPosition(null));
    listen("contextmenu", (event) => event.preventDefault());
  }

  /** @param {Tool} tool */
  selectTool(tool) {
    this.tool = tool;
    this.stage.classList.toggle("erasing", ["eraser", "brush"].includes(tool));
    if (!["eraser", "brush"].includes(tool)) this.viewer.overlay.eraser = null;
    this.viewer.overlay.handleOwner = null;
    this.selecting.setActive(tool === "select");
    this.viewer.overlay.redraw();
  }

  /** @param {MouseEvent} event @returns {[number, number]} */
  #locate(event) {
    const box = this.stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  /** @param {WheelEvent} event */
  #onWheel(event) {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
    const step = Math.max(-240, Math.min(240, event.deltaY * unit));
    this.viewer.zoomBy(Math.exp(-step * (event.ctrlKey ? 0.008 : 0.0022)), ...this.#locate(event));
    this.#updateHover(event);
  }

  /** @param {PointerEvent} event */
  #onDown(event) {
    if (!this.viewer.ready) return;
    this.stage.setPointerCapture(event.pointerId);
    this.stage.focus({ preventScroll: true });
    this.#start = this.#position = this.#locate(event);
    const { overlay } = this.viewer;
    if (event.button === 1 || (event.button === 0 && this.spaceHeld)) this.#gesture = "pan";
    else if (this.tool === "brush" && event.button !== 1) {
      const inverse = event.button === 2 || event.altKey;
      const [x, y] = this.viewer.camera.toImage(...this.#start);
      if (this.painting.begin(x, y, inverse)) this.#gesture = "paint";
    } else if (this.tool === "select" && event.button === 0) {
      this.selecting.begin(...this.viewer.camera.toImage(...this.#start));
      this.#gesture = "select";
    } else if (event.button === 2) this.#gesture = "maybe click";
    else if (event.button !== 0) return;
    else if (this.#isOnHandle()) this.#gesture = "maybe resize";
    else if (overlay.sizing && this.#isInSizingCircle()) this.#gesture = "move";
    else if (this.tool === "eraser" && !event.altKey) this.#gesture = "erase";
    else {
      const [x, y] = this.viewer.camera.toImage(...this.#start);
      const label = event.altKey ? null : overlay.findNearest(overlay.labels, x, y);
      this.#held = label && { label, x: label.x, y: label.y };
      this.#gesture = label ? "maybe move label" : "maybe click";
    }
    if (event.button === 1) event.preventDefault();
    if (this.#gesture === "erase") this.#erase();
    this.stage.classList.toggle("panning", this.#gesture === "pan");
  }

  /** @param {PointerEvent} event */
  #onMove(event) {
    const at = this.#locate(event);
    const [dx, dy] = [at[0] - this.#position[0], at[1] - this.#position[1]];
    const { viewer } = this;
    const still = Math.hypot(at[0] - this.#start[0], at[1] - this.#start[1]) <= CLICK_TOLERANCE_PX;
    if (this.#gesture.startsWith("maybe") && still) return;
    if (this.#gesture === "maybe resize") this.#gesture = "resize";
    if (this.#gesture === "maybe move label") this.#gesture = "move label";
    if (this.#gesture === "maybe click") {
      this.#gesture = "pan";
      this.stage.classList.add("panning");
      viewer.panBy(at[0] - this.#start[0], at[1] - this.#start[1]);
    } else if (this.#gesture === "pan") viewer.panBy(dx, dy);
    else if (this.#gesture === "resize") this.#resize(at);
    else if (this.#gesture === "move label") this.#moveLabel(at);
    else if (this.#gesture === "move" && viewer.overlay.sizing) {
      const { zoom } = viewer.camera;
      const { x, y } = viewer.overlay.sizing;
      viewer.overlay.sizing = { x: x + dx / zoom, y: y + dy / zoom };
      viewer.overlay.redraw();
    }
    this.#position = at;
    if (this.#gesture === "erase") this.#erase();
    if (this.#gesture === "select" && !still) this.selecting.extend(...viewer.camera.toImage(...at));
    if (this.#gesture === "paint") this.painting.extend(...viewer.camera.toImage(...at));
    this.#updateHover(event);
  }

  /** @param {PointerEvent} event */
  #onUp(event) {
    const gesture = this.#gesture;
    // A click on a handle that was not dragged is a click on what is below it.
    if (["maybe click", "maybe move label"].includes(gesture) || (gesture === "maybe resize" && !this.viewer.overlay.sizing)) {
      this.#onClick(event);
    } else if (gesture === "erase") {
      this.labelling.erase([...this.#erased]);
    } else if (gesture === "paint") this.painting.finish();
    else if (gesture === "resize") this.viewer.finishSizing();
    else if (gesture === "move label" && this.#held) {
      const { label, x, y } = this.#held;
      this.labelling.move(label, x, y);
    }
    this.#endGesture();
    this.#updateHover(event);
  }

  #endGesture() {
    if (this.#gesture === "move label") this.viewer.overlay.refresh();
    if (this.painting.stroke) this.painting.cancel();
    this.#gesture = "none";
    this.#held = null;
    this.#erased.clear();
    this.stage.classList.remove("panning");
  }

  /** @param {PointerEvent} event */
  #onClick(event) {
    const point = this.viewer.camera.toImage(...this.#start);
    const reject = event.button === 2 || event.altKey;
    const { at, when } = this.#lastClick;
    const near = Math.hypot(at[0] - this.#start[0], at[1] - this.#start[1]) <= CLICK_TOLERANCE_PX;
    this.#lastClick = { at: this.#start, when: event.timeStamp };
    if (this.viewer.overlay.sizing && !reject) this.viewer.moveSizing(...point);
    else if (reject) this.labelling.reject(...point);
    else if (near && event.timeStamp - when < DOUBLE_CLICK_MS) {
      // A double click only zooms out: undo what its first click did.
      this.#lastClick.when = -DOUBLE_CLICK_MS;
      this.labelling.undoLastClick();
      this.viewer.fit();
    } else this.labelling.click(...point);
  }

  /** @param {MouseEvent} event */
  #updateHover(event) {
    const { viewer } = this;
    const at = this.#locate(event);
    const [x, y] = viewer.camera.toImage(...at);
    viewer.showPointerPosition([x, y]);
    const { overlay } = viewer;
    if (["eraser", "brush"].includes(this.tool)) {
      const radius = this.tool === "brush" ? this.painting.radius : this.eraserRadius / viewer.camera.zoom;
      overlay.eraser = { x, y, radius: radius ?? 0 };
      overlay.redraw();
      return;
    }
    if (this.#gesture === "none" && this.tool === "label") {
      const onHandle = this.#isOnHandle(at);
      if (!onHandle) {
        const held = overlay.findNearest(overlay.labels, x, y) ?? overlay.findNearest(overlay.picks, x, y);
        if (held !== overlay.handleOwner) {
          overlay.handleOwner = held;
          overlay.redraw();
        }
      }
      this.stage.classList.toggle("on-handle", onHandle);
    }
  }

  /** @param {[number, number]} [at] on the screen */
  #isOnHandle(at = this.#position) {
    const { overlay, state } = this.viewer;
    const held = overlay.sizing ?? overlay.handleOwner;
    if (!held || state.diameterPx === null || this.tool !== "label") return false;
    const [hx, hy] = overlay.locateHandle(held);
    return Math.hypot(at[0] - hx, at[1] - hy) <= HANDLE_RADIUS_PX;
  }

  #isInSizingCircle() {
    const { overlay, state, camera } = this.viewer;
    if (!overlay.sizing || state.diameterPx === null) return false;
    const [x, y] = camera.toImage(...this.#start);
    return Math.hypot(x - overlay.sizing.x, y - overlay.sizing.y) <= state.diameterPx / 2;
  }

  /** @param {[number, number]} at */
  #resize(at) {
    const { overlay, camera } = this.viewer;
    const held = overlay.sizing ?? overlay.handleOwner;
    if (!held) return;
    const [sx, sy] = camera.toScreen(held.x, held.y);
    this.viewer.dragSize((2 * Math.hypot(at[0] - sx, at[1] - sy)) / camera.zoom);
  }

  /**
   * Show the label that is held where it would be put; it is saved when the pointer is released.
   * @param {[number, number]} at on the screen
   */
  #moveLabel(at) {
    const held = this.#held;
    if (!held) return;
    const { overlay, camera } = this.viewer;
    const [x, y] = [
      held.label.x + (at[0] - this.#start[0]) / camera.zoom,
      held.label.y + (at[1] - this.#start[1]) / camera.zoom,
    ];
    if (!camera.contains(x, y)) return;
    this.#held = { label: held.label, x, y };
    overlay.labels = overlay.labels.map((label) =>
      label.id === held.label.id ? { ...label, x, y } : label);
    overlay.redraw();
  }

  /** Remove the labels under the eraser from the screen; they are saved when the stroke ends. */
  #erase() {
    const { overlay, camera } = this.viewer;
    const [x, y] = camera.toImage(...this.#position);
    const radius = this.eraserRadius / camera.zoom;
    const hit = overlay.labels.filter((one) => Math.hypot(one.x - x, one.y - y) <= radius);
    if (!hit.length) return;
    for (const label of hit) this.#erased.add(label);
    overlay.labels = overlay.labels.filter((label) => !this.#erased.has(label));
    overlay.redraw();
  }
}
