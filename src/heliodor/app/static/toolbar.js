import { post } from "./api.js";
import { byId, formatCount, setText, toSentence } from "./dom.js";
import { formatRemaining } from "./durations.js";
import { Notifier } from "./notifier.js";
import { withTiming } from "./timings.js";
import { showToast } from "./toast.js";

/**
 * @typedef {import("./state.js").AppState} AppState
 * @typedef {import("./viewer.js").Viewer} Viewer
 * @typedef {import("./micrograph_list.js").MicrographList} List
 */

const ENGINE_ACTIVITY = { starting: "Starting", training: "Training", scoring: "Picking" };

/**
 * Return where the engine computes, in words.
 * @param {string | null | undefined} device
 */
function describeDevice(device) {
  if (!device) return "";
  const number = /^cuda:(\d+)$/.exec(device);
  return device === "cpu" ? "on CPU" : number ? `on GPU ${number[1]}` : device === "cuda" ? "on GPU" : `on ${device}`;
}

/** The buttons above the micrograph, the counts below it, and the status at the top of the page. */
export class Toolbar {
  /**
   * @param {AppState} state
   * @param {Viewer} viewer
   * @param {List} list
   */
  constructor(state, viewer, list) {
    this.state = state;
    this.viewer = viewer;
    this.list = list;
    const on = (/** @type {string} */ id, /** @type {() => void} */ act) =>
      byId(id).addEventListener("click", withTiming(id, (/** @type {MouseEvent} */ event) => {
        act();
        // After a mouse click, the keyboard shortcuts act on the micrograph again.
        if (event.detail) byId("stage").focus({ preventScroll: true });
      }));
    on("previous", () => list.step(-1));
    on("next", () => list.step(1));
    on("tool-label", () => this.selectTool("label"));
    on("tool-eraser", () => this.selectTool("eraser"));
    on("tool-select", () => this.toggleSelection());
    on("tool-brush", () => this.toggleBrush("paint"));
    on("brush-paint", () => this.toggleBrush("paint"));
    on("brush-erase", () => this.toggleBrush("erase"));
    on("undo", () => this.undo());
    on("redo", () => this.redo());
    on("toggle-markers", () => this.toggleMarkers());
    on("fit", () => viewer.fit());
    on("reviewed", () => this.toggleReviewed());
    on("exclude", () => this.toggleExcluded());
    on("toggle-contamination", () => this.toggleContamination());
    state.opened.on(() => this.#showMicrograph());
    state.rowsChanged.on(() => this.#showMicrograph());
    state.labels.history.changed.on(() => this.#showHistory());
    viewer.overlay.changed.on(() => this.#showCounts());
    state.activityChanged.on(() => this.#showEngine());
    state.saveQueue.changed.on(() => this.#showSaving());
    this.notifier = new Notifier(state, () => this.#showTitle());
    const parts = state.project.folder.split("/");
    setText(byId("folder"), parts.length > 3 ? `…/${parts.slice(-2).join("/")}` : state.project.folder);
    byId("folder").title = state.project.folder;
    this.#showHistory();
    this.#showEngine();
    this.#showSaving();
  }

  /** @param {import("./pointer.js").Tool} tool */
  selectTool(tool) {
    this.viewer.pointerTools.selectTool(tool);
    for (const one of ["label", "select", "eraser", "brush"])
      byId(`tool-${one}`).setAttribute("aria-pressed", String(tool === one));
    for (const mode of ["paint", "erase"])
      byId(`brush-${mode}`).setAttribute("aria-pressed", String(tool === "brush" && this.viewer.contaminationEditor.mode === mode));
  }

  /** Select picks and labels, or stop that. */
  toggleSelection() {
    this.selectTool(this.viewer.pointerTools.tool === "select" ? "label" : "select");
  }

  /** Paint or erase contamination, or stop that. @param {"paint" | "erase"} mode */
  toggleBrush(mode) {
    const { pointerTools, contaminationEditor, overlay } = this.viewer;
    const isOn = pointerTools.tool === "brush" && contaminationEditor.mode === mode;
    contaminationEditor.mode = mode;
    this.selectTool(isOn ? "label" : "brush");
    if (!isOn && !overlay.showsContamination) this.toggleContamination();
  }

  undo() {
    // Its message may be about what is undone now.
    byId("toast").hidden = true;
    this.#openChangedMicrograph(this.state.labels.undo());
  }

  redo() {
    this.#openChangedMicrograph(this.state.labels.redo());
  }

  /**
   * Show the micrograph on which something was undone or redone.
   * @param {import("./label_store.js").Step | import("./label_store.js").OtherStep | undefined} step
   */
  #openChangedMicrograph(step) {
    if (step?.micrograph !== undefined && step.micrograph !== this.state.current) void this.state.open(step.micrograph);
  }

  toggleMarkers() {
    const { overlay } = this.viewer;
    overlay.hidden = !overlay.hidden;
    byId("toggle-markers").setAttribute("aria-pressed", String(overlay.hidden));
    overlay.redraw();
  }

  /** Show or hide the outline of contamination. */
  toggleContamination() {
    const { overlay } = this.viewer;
    overlay.showsContamination = !overlay.showsContamination;
    byId("toggle-contamination").setAttribute("aria-pressed", String(overlay.showsContamination));
    overlay.redraw();
  }

  /** Leave the micrograph out of everything, or take it back. */
  toggleExcluded() {
    const { state } = this;
    const id = state.current;
    if (id < 0) return;
    const before = state.rows.excluded[id];
    const set = (/** @type {boolean} */ excluded) => this.#setExcluded(id, excluded);
    state.labels.history.add({ micrograph: id, undo: () => set(before), redo: () => set(!before) });
    set(!before);
  }

  /** @param {number} id @param {boolean} excluded */
  #setExcluded(id, excluded) {
    const { state } = this;
    state.rows.excluded[id] = excluded;
    state.rowsChanged.emit([id]);
    state.waitFor(post(`/api/micrographs/${id}/excluded`, { excluded })
      .then(() => void state.readHistogram())
      .catch((error) => {
        state.rows.excluded[id] = !excluded;
        state.rowsChanged.emit([id]);
        showToast(error.message);
      }));
  }

  toggleReviewed() {
    this.#changeReviewed(!this.state.rows.done[this.state.current]);
  }

  /** Mark the micrograph on screen as reviewed, or not, as a step that can be undone. @param {boolean} done */
  #changeReviewed(done) {
    const { current: id, rows, labels } = this.state;
    const before = rows.done[id];
    if (before !== done)
      labels.history.add({
        micrograph: id, undo: () => this.#setReviewed(id, before), redo: () => this.#setReviewed(id, done),
      });
    this.#setReviewed(id, done);
  }

  /** Mark as reviewed and go to the next micrograph. */
  markReviewed() {
    const next = this.list.findNext(this.state.current, 1)[0];
    this.#changeReviewed(true);
    if (next !== undefined) void this.state.open(next);
  }

  /** @param {number} id @param {boolean} done */
  #setReviewed(id, done) {
    const { state } = this;
    state.rows.done[id] = done;
    state.rowsChanged.emit([id]);
    post(`/api/micrographs/${id}/done`, { done }).catch((error) => {
      state.rows.done[id] = !done;
      state.rowsChanged.emit([id]);
      showToast(error.message);
    });
  }

  #showMicrograph() {
    const { state } = this;
    if (state.current < 0) return;
    byId("reviewed").setAttribute("aria-pressed", String(state.rows.done[state.current]));
    byId("exclude").setAttribute("aria-pressed", String(state.rows.excluded[state.current]));
    this.#showSize();
    this.#showTitle();
  }

  /** The size of the micrograph on screen and of its pixels. */
  #showSize() {
    const shown = this.state.micrograph;
    const known = shown && shown.id === this.state.current;
    const pixel = known && shown.pixel_size !== null ? `, ${shown.pixel_size.toPrecision(4)} Å/px` : "";
    setText(byId("micrograph-size"), known ? `${shown.width} × ${shown.height} px${pixel}` : "");
  }

  /** The title of the browser tab: what is running, otherwise the micrograph. */
  #showTitle() {
    const { state } = this;
    const running = this.#describeActivity();
    const name = state.current < 0 ? "" : state.shortName(state.current);
    const news = this.notifier?.news ? `✓ ${this.notifier.news}` : "";
    const title = [news || running || name, "heliodor"].filter(Boolean).join(" – ");
    if (document.title !== title) document.title = title;
  }

  /** @returns {string} what the engine, the run or the thorough training is doing; "" for nothing */
  #describeActivity() {
    const { engine, training, thorough, run } = this.state;
    if (engine.state === "training" && training.of)
      return `Training ${Math.round((100 * (training.update ?? 0)) / training.of)}%`;
    if (engine.state === "scoring" && engine.queue)
      return `Picking: ${formatCount(engine.queue, "micrograph")}${formatRemaining(engine.seconds_left) || " left"}`;
    const activity = ENGINE_ACTIVITY[/** @type {keyof typeof ENGINE_ACTIVITY} */ (engine.state)];
    if (activity) return activity;
    if (run.state === "running" && run.of) return `Picking all: ${run.done ?? 0} of ${run.of}`;
    if (thorough.state === "running")
      return `Training thoroughly ${Math.round(100 * (thorough.share ?? 0))}%${formatRemaining(thorough.seconds_left)}`;
    return "";
  }

  #showHistory() {
    byId("undo").disabled = !this.state.labels.history.canUndo;
    byId("redo").disabled = !this.state.labels.history.canRedo;
  }

  #showCounts() {
    const { overlay } = this.viewer;
    const particles = overlay.labels.filter((label) => label.kind === "particle").length;
    setText(byId("label-count"), String(particles));
    setText(byId("negative-count"), String(overlay.labels.length - particles));
    const table = this.state.picks.get(this.state.current);
    setText(byId("pick-count"), table ? String(overlay.picks.length) : "–");
  }

  #showEngine() {
    const { engine } = this.state;
    const box = byId("engine");
    const activity = this.#describeActivity();
    const model = engine.model ? `Model ${engine.model}` : "General model";
    box.classList.toggle("busy", Boolean(activity));
    box.classList.toggle("trouble", engine.state === "failed");
    setText(box, engine.state === "failed" ? toSentence(engine.says ?? "The engine failed") : activity || model);
    setText(byId("device"), describeDevice(engine.device));
    box.title = engine.says ? toSentence(engine.says) : "";
    this.#showTitle();
  }

  #showSaving() {
    const { size, problem } = this.state.saveQueue;
    const box = byId("saving");
    const failing = size > 0 && problem !== "";
    box.classList.toggle("trouble", failing);
    setText(box, failing ? `Not saved: ${formatCount(size, "change")}` : size ? "Saving…" : "Saved");
    box.title = failing ? `${problem} Retrying. The changes are kept in this tab.` : "";
  }
}
