import { timed } from "./timings.js";

const STILL = 4;
const HANDLE = 8;
/** Two clicks within so many milliseconds, in one place, are a double click. */
const DOUBLE = 350;

/**
 * @typedef {import("./viewer.js").Viewer} Viewer
 * @typedef {"none" | "maybe click" | "maybe resize" | "pan" | "brush" | "resize" | "move"} Doing
 */

/** What the pointer does over the micrograph. */
export class Hand {
  /** @type {"label" | "brush"} */ tool = "label";
  /** Brush radius in pixels of the screen. */ brushSize = 24;
  spaceHeld = false;
  /** @type {Doing} */ #doing = "none";
  /** @type {[number, number]} */ #from = [0, 0];
  /** @type {[number, number]} */ #last = [0, 0];
  /** @type {{at: [number, number], when: number}} */
  #clicked = { at: [0, 0], when: -DOUBLE };
  /** Labels the stroke has erased so far. @type {Set<import("./outbox.js").Label>} */
  #erased = new Set();

  /**
   * @param {Viewer} viewer
   * @param {HTMLElement} stage
   * @param {import("./labelling.js").Labelling} labelling
   */
  constructor(viewer, stage, labelling) {
    this.viewer = viewer;
    this.stage = stage;
    this.labelling = labelling;
    const listen = (/** @type {string} */ name, /** @type {(e: any) => void} */ act) =>
      stage.addEventListener(name, timed(name, act), { passive: false });
    listen("wheel", (event) => this.#wheel(event));
    listen("pointerdown", (event) => this.#down(event));
    listen("pointermove", (event) => this.#move(event));
    listen("pointerup", (event) => this.#up(event));
    listen("pointercancel", () => this.#stop());
    listen("pointerleave", () => this.viewer.pointAt(null));
    listen("contextmenu", (event) => event.preventDefault());
  }

  /** @param {"label" | "brush"} tool */
  take(tool) {
    this.tool = tool;
    this.stage.classList.toggle("brushing", tool === "brush");
    if (tool !== "brush") this.viewer.overlay.brush = null;
    this.viewer.overlay.redraw();
  }

  /** @param {MouseEvent} event @returns {[number, number]} */
  #at(event) {
    const box = this.stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
    const step = Math.max(-240, Math.min(240, event.deltaY * unit));
    this.viewer.zoomBy(Math.exp(-step * (event.ctrlKey ? 0.008 : 0.0022)), ...this.#at(event));
    this.#hover(event);
  }

  /** @param {PointerEvent} event */
  #down(event) {
    if (!this.viewer.ready) return;
    this.stage.setPointerCapture(event.pointerId);
    this.stage.focus({ preventScroll: true });
    this.#from = this.#last = this.#at(event);
    const { overlay } = this.viewer;
    if (event.button === 1 || (event.button === 0 && this.spaceHeld)) this.#doing = "pan";
    else if (event.button === 2) this.#doing = "maybe click";
    else if (event.button !== 0) return;
    else if (this.#onHandle()) this.#doing = "maybe resize";
    else if (overlay.sizing && this.#inSizing()) this.#doing = "move";
    else if (this.tool === "brush" && !event.altKey) this.#doing = "brush";
    else this.#doing = "maybe click";
    if (event.button === 1) event.preventDefault();
    if (this.#doing === "brush") this.#erase();
    this.stage.classList.toggle("panning", this.#doing === "pan");
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const at = this.#at(event);
    const [dx, dy] = [at[0] - this.#last[0], at[1] - this.#last[1]];
    const { viewer } = this;
    const still = Math.hypot(at[0] - this.#from[0], at[1] - this.#from[1]) <= STILL;
    if (this.#doing.startsWith("maybe") && still) return;
    if (this.#doing === "maybe resize") this.#doing = "resize";
    if (this.#doing === "maybe click") {
      this.#doing = "pan";
      this.stage.classList.add("panning");
      viewer.panBy(at[0] - this.#from[0], at[1] - this.#from[1]);
    } else if (this.#doing === "pan") viewer.panBy(dx, dy);
    else if (this.#doing === "resize") this.#resize(at);
    else if (this.#doing === "move" && viewer.overlay.sizing) {
      const { zoom } = viewer.camera;
      const { x, y } = viewer.overlay.sizing;
      viewer.overlay.sizing = { x: x + dx / zoom, y: y + dy / zoom };
      viewer.overlay.redraw();
    }
    this.#last = at;
    if (this.#doing === "brush") this.#erase();
    this.#hover(event);
  }

  /** @param {PointerEvent} event */
  #up(event) {
    const doing = this.#doing;
    // A click at a handle that was not pulled is meant for what lies there.
    if (doing === "maybe click" || (doing === "maybe resize" && !this.viewer.overlay.sizing)) {
      this.#click(event);
    } else if (doing === "brush") {
      this.labelling.erase([...this.#erased]);
    } else if (doing === "resize") this.viewer.letGoOfSize();
    this.#stop();
    this.#hover(event);
  }

  #stop() {
    this.#doing = "none";
    this.#erased.clear();
    this.stage.classList.remove("panning");
  }

  /** @param {PointerEvent} event */
  #click(event) {
    const point = this.viewer.camera.toImage(...this.#from);
    const reject = event.button === 2 || event.altKey;
    const { at, when } = this.#clicked;
    const near = Math.hypot(at[0] - this.#from[0], at[1] - this.#from[1]) <= STILL;
    this.#clicked = { at: this.#from, when: event.timeStamp };
    if (this.viewer.overlay.sizing && !reject) this.viewer.moveSizing(...point);
    else if (reject) this.labelling.reject(...point);
    else if (near && event.timeStamp - when < DOUBLE) {
      // What the first of the two clicks did was not meant.
      this.#clicked.when = -DOUBLE;
      this.labelling.retract();
      this.viewer.fit();
    } else this.labelling.click(...point);
  }

  /** @param {MouseEvent} event */
  #hover(event) {
    const { viewer } = this;
    const at = this.#at(event);
    const [x, y] = viewer.camera.toImage(...at);
    viewer.pointAt([x, y]);
    const { overlay } = viewer;
    if (this.tool === "brush") {
      overlay.brush = { x, y, radius: this.brushSize / viewer.camera.zoom };
      overlay.redraw();
      return;
    }
    if (this.#doing === "none") {
      const onHandle = this.#onHandle(at);
      if (!onHandle) {
        const held = overlay.nearest(overlay.labels, x, y) ?? overlay.nearest(overlay.picks, x, y);
        if (held !== overlay.held) {
          overlay.held = held;
          overlay.redraw();
        }
      }
      this.stage.classList.toggle("on-handle", onHandle);
    }
  }

  /** @param {[number, number]} [at] on the screen */
  #onHandle(at = this.#last) {
    const { overlay, room } = this.viewer;
    const held = overlay.sizing ?? overlay.held;
    if (!held || room.diameterPx === null || this.tool === "brush") return false;
    const [hx, hy] = overlay.handleOf(held);
    return Math.hypot(at[0] - hx, at[1] - hy) <= HANDLE;
  }

  #inSizing() {
    const { overlay, room, camera } = this.viewer;
    if (!overlay.sizing || room.diameterPx === null) return false;
    const [x, y] = camera.toImage(...this.#from);
    return Math.hypot(x - overlay.sizing.x, y - overlay.sizing.y) <= room.diameterPx / 2;
  }

  /** @param {[number, number]} at */
  #resize(at) {
    const { overlay, camera } = this.viewer;
    const held = overlay.sizing ?? overlay.held;
    if (!held) return;
    const [sx, sy] = camera.toScreen(held.x, held.y);
    this.viewer.dragSize((2 * Math.hypot(at[0] - sx, at[1] - sy)) / camera.zoom);
  }

  /** Take away, for now on the screen alone, what is under the brush. */
  #erase() {
    const { overlay, camera } = this.viewer;
    const [x, y] = camera.toImage(...this.#last);
    const radius = this.brushSize / camera.zoom;
    const hit = overlay.labels.filter((one) => Math.hypot(one.x - x, one.y - y) <= radius);
    if (!hit.length) return;
    for (const label of hit) this.#erased.add(label);
    overlay.labels = overlay.labels.filter((label) => !this.#erased.has(label));
    overlay.redraw();
  }
}
