import { allowReadingOnly, get, RequestRefused, ServerUnreachable } from "./api.js";
import { ContaminationPanel } from "./contamination_panel.js";
import { byId, createElement, formatCount, setText, toSentence } from "./dom.js";
import { FilamentPanel } from "./filament_panel.js";
import { FilamentState } from "./filament_state.js";
import { FilamentStore } from "./filament_store.js";
import { FilamentTable } from "./filament_table.js";
import { FilamentView } from "./filament_view.js";
import { Keyboard } from "./keyboard.js";
import { MicrographTable } from "./micrograph_table.js";
import { makeNotesReadOnly } from "./read_only.js";
import { isSessionReplaced, openSession, readAddressToken } from "./session.js";
import { ShareDialog } from "./share_dialog.js";
import { SpectrumView } from "./spectrum_view.js";
import { startTheme } from "./theme.js";
import { TileStore } from "./tile_store.js";
import { showToast } from "./toast.js";

/** How often the server is asked what is running, and otherwise. */
const BUSY_MS = 700;
const IDLE_MS = 3000;

/** The page of a project of filaments. */
class FilamentPage {
  /** What was said last of changes that could not be saved. */
  lastProblem = "";
  #wasSaving = false;

  /** @param {FilamentState} state */
  constructor(state) {
    const { project } = state;
    this.state = state;
    this.store = new FilamentStore();
    this.view = new FilamentView(state, this.store, new TileStore(project.boot));
    this.view.isReadOnly = project.read_only;
    this.view.image.lowPass = Number(byId("low-pass").value);
    this.panel = new FilamentPanel(state, this.store, () => this.refresh());
    const { contaminationEditor } = this.view;
    this.contamination = new ContaminationPanel(state, contaminationEditor, contaminationEditor.subject);
    this.spectrum = new SpectrumView(state);
    this.table = new MicrographTable(state, new FilamentTable(state, this.store, this), this.spectrum);
    new ShareDialog();
    this.#buildList();
    this.#listen();
    const parts = project.folder.split("/");
    setText(byId("folder"), parts.length > 3 ? `…/${parts.slice(-2).join("/")}` : project.folder);
    byId("folder").title = project.folder;
    if (project.read_only) {
      allowReadingOnly();
      makeNotesReadOnly();
      document.body.classList.add("read-only");
      byId("read-only").hidden = false;
    }
  }

  #listen() {
    const on = (/** @type {string} */ id, /** @type {() => void} */ act) => byId(id).addEventListener("click", act);
    on("previous", () => this.step(-1));
    on("next", () => this.step(1));
    on("undo", () => this.undo());
    on("redo", () => this.redo());
    on("fit", () => this.view.fit());
    on("toggle-markers", () => this.toggleMarkers());
    on("exclude", () => this.toggleExcluded());
    on("toggle-contamination", () => this.toggleContamination());
    on("brush-paint", () => this.toggleBrush("paint"));
    on("brush-erase", () => this.toggleBrush("erase"));
    byId("low-pass").addEventListener("change", () => {
      this.view.image.lowPass = Math.min(1000, Math.max(0, Number(byId("low-pass").value) || 0));
      this.view.image.redraw();
    });
    this.state.opened.on((id) => void this.#show(id));
    this.state.rowsChanged.on(() => this.showList());
    this.store.changed.on(() => this.#showCounts());
    this.state.messageRaised.on((message) => showToast(message));
    this.store.history.changed.on(() => {
      byId("undo").disabled = !this.store.history.canUndo;
      byId("redo").disabled = !this.store.history.canRedo;
    });
    this.store.savingChanged.on(() => this.#showSaving());
    window.addEventListener("beforeunload", (event) => {
      if (this.store.saving || this.view.drawing.length) event.preventDefault();
    });
    const { view } = this;
    new Keyboard([
      { keys: ["n", "ArrowDown"], keycaps: ["N"], description: "Next micrograph", run: () => this.step(1) },
      { keys: ["p", "ArrowUp"], keycaps: ["P"], description: "Previous micrograph", run: () => this.step(-1) },
      { keys: ["Escape"], keycaps: [], description: "", run: () => this.#close() },
      { keys: ["Enter"], keycaps: ["Enter"], description: "End the filament that is being drawn", run: () => view.finish() },
      { keys: ["Escape"], keycaps: ["Esc"], description: "Forget the filament that is being drawn", run: () => view.cancel() },
      { keys: ["Delete", "Backspace"], keycaps: ["Delete"], description: "Remove the last point, or the chosen filament", run: () => view.remove() },
      { keys: ["Ctrl+z"], keycaps: ["Ctrl", "Z"], description: "Undo", run: () => this.undo() },
      { keys: ["Ctrl+y", "Ctrl+Shift+z"], keycaps: ["Ctrl", "Y"], description: "Redo", run: () => this.redo() },
      { keys: ["h"], keycaps: ["H"], description: "Hide or show the filaments", run: () => this.toggleMarkers() },
      { keys: ["f"], keycaps: ["F"], description: "Show the whole micrograph", run: () => view.fit() },
      { keys: ["+", "="], keycaps: ["+"], description: "Zoom in", run: () => view.zoomBy(1.25) },
      { keys: ["-"], keycaps: ["-"], description: "Zoom out", run: () => view.zoomBy(0.8) },
      { keys: ["x"], keycaps: ["X"], description: "Leave the micrograph out, or take it back", run: () => this.toggleExcluded() },
      { keys: ["j"], keycaps: ["J"], description: "Point at the next traced filament", run: () => view.pointAt(1) },
      { keys: ["k"], keycaps: ["K"], description: "Point at the traced filament before", run: () => view.pointAt(-1) },
      { keys: ["r"], keycaps: ["R"], description: "Reject the traced filament pointed at, or keep it again", run: () => view.toggleRejected() },
      { keys: ["c"], keycaps: ["C"], description: "Show or hide contamination", run: () => this.toggleContamination() },
      { keys: ["g"], keycaps: ["G"], description: "Paint contamination", run: () => this.toggleBrush("paint") },
      { keys: ["v"], keycaps: ["V"], description: "Erase contamination", run: () => this.toggleBrush("erase") },
      { keys: ["m"], keycaps: ["M"], description: "Table of micrographs", run: () => this.table.toggle() },
      { keys: ["w"], keycaps: ["W"], description: "Power spectrum of the micrograph", run: () => void this.spectrum.show() },
      { keys: ["?"], keycaps: ["?"], description: "Show this help", run: () => byId("help").showModal() },
      { keys: [], keycaps: ["Shift", "Click"], description: "Begin to draw on a filament", run: () => false },
    ]);
  }

  #buildList() {
    const list = byId("filament-list");
    this.entries = this.state.rows.name.map((/** @type {string} */ name, /** @type {number} */ id) => {
      const entry = createElement("div", "entry");
      entry.id = `row-${id}`;
      entry.setAttribute("role", "option");
      const title = createElement("div", "name", name.split("/").at(-1));
      title.title = name;
      entry.append(title, createElement("div", "counts"));
      entry.addEventListener("click", () => void this.state.open(id));
      list.append(entry);
      return entry;
    });
  }

  /** @param {number} id a micrograph that was chosen */
  async #show(id) {
    const { rows } = this.state;
    // What was being drawn is not lost.
    this.view.finish();
    this.entries.forEach((/** @type {HTMLElement} */ entry, /** @type {number} */ n) =>
      entry.setAttribute("aria-selected", String(n === id)));
    this.entries[id].scrollIntoView({ block: "nearest" });
    setText(byId("micrograph-name"), rows.name[id].split("/").at(-1) ?? "");
    this.showList();
    const described = await get(`/api/micrographs/${id}`);
    if (id !== this.state.current) return;
    const failed = described.width === null ? described.failed ?? "it cannot be read" : "";
    setText(byId("stage-failed"), failed && toSentence(`This micrograph cannot be used: ${failed}`));
    byId("stage-failed").hidden = !failed;
    this.state.micrograph = failed ? null : described;
    this.view.show(this.state.micrograph);
    await this.store.open(id);
    if (readAddressToken() === null) window.history.replaceState(null, "", `#${id + 1}`);
  }

  /** @param {number} by */
  step(by) {
    void this.state.open(this.state.current + by);
  }

  undo() {
    this.#openChanged(this.store.undo());
  }

  redo() {
    this.#openChanged(this.store.redo());
  }

  /**
   * Show the micrograph on which something was undone or redone.
   * @param {import("./filament_store.js").Step | import("./filament_store.js").OtherStep | undefined} step
   */
  #openChanged(step) {
    if (step?.micrograph !== undefined) void this.state.open(step.micrograph);
  }

  toggleMarkers() {
    this.view.hidden = !this.view.hidden;
    byId("toggle-markers").setAttribute("aria-pressed", String(this.view.hidden));
    this.view.redraw();
  }

  /** Close the table, or put the brush away. @returns {boolean} whether there was one */
  #close() {
    if (this.table.isOpen) this.table.toggle();
    else if (this.view.isPainting) this.toggleBrush(this.view.contaminationEditor.mode);
    else return false;
    return true;
  }

  /** Show or hide the outline of contamination. */
  toggleContamination() {
    const { view } = this;
    view.showsContamination = !view.showsContamination;
    byId("toggle-contamination").setAttribute("aria-pressed", String(view.showsContamination));
    view.redraw();
  }

  /** Paint or erase contamination, or stop that. @param {"paint" | "erase"} mode */
  toggleBrush(mode) {
    const { view } = this;
    const { contaminationEditor } = view;
    if (this.state.isReadOnly) return;
    view.finish();
    view.isPainting = !(view.isPainting && contaminationEditor.mode === mode);
    contaminationEditor.mode = mode;
    for (const one of ["paint", "erase"])
      byId(`brush-${one}`).setAttribute("aria-pressed", String(view.isPainting && mode === one));
    if (view.isPainting && !view.showsContamination) this.toggleContamination();
    view.redraw();
  }

  /** Leave the micrograph out of everything, or take it back. */
  toggleExcluded() {
    const { current, rows, isReadOnly } = this.state;
    if (current >= 0 && !isReadOnly) this.table.exclude([current], !rows.excluded[current]);
  }

  #showCounts() {
    const { shown, micrograph } = this.store;
    const kept = shown?.traced?.filter((one) => one.is === "kept").length;
    setText(byId("traced-count"), kept === undefined ? "–" : String(kept));
    setText(byId("rejected-count"), String(shown?.rejected.length ?? 0));
    setText(byId("label-count"), String(shown?.labels.length ?? 0));
    const { rows } = this.state;
    if (!shown) return;
    rows.labels[micrograph] = shown.labels.length;
    rows.rejected[micrograph] = shown.rejected.length;
    if (kept !== undefined) rows.traced[micrograph] = kept;
    this.contamination.showBrush();
    this.state.rowsChanged.emit([micrograph]);
  }

  /** Show the numbers in the list, and what is excluded. */
  showList() {
    const { rows, count, excludedCount, current } = this.state;
    setText(byId("list-count"), formatCount(count, "micrograph")
      + (excludedCount ? `, ${excludedCount.toLocaleString("en")} excluded` : ""));
    byId("exclude").setAttribute("aria-pressed", String(current >= 0 && rows.excluded[current]));
    this.entries.forEach((/** @type {HTMLElement} */ entry, /** @type {number} */ id) => {
      entry.classList.toggle("excluded", rows.excluded[id]);
      const words = [
        rows.traced[id] !== null && `${rows.traced[id]} traced`,
        rows.labels[id] && `${rows.labels[id]} drawn`,
        rows.excluded[id] && "excluded",
      ];
      setText(/** @type {Element} */ (entry.lastElementChild), words.filter(Boolean).join(", ") || " ");
    });
    this.panel.show();
  }

  #showSaving() {
    const { saving, problem } = this.store;
    // The lengths of what is left are the server's.
    if (this.#wasSaving && !saving) void this.refresh();
    this.#wasSaving = saving > 0;
    const box = byId("saving");
    box.classList.toggle("trouble", problem !== "");
    setText(box, problem ? "Not saved" : saving ? "Saving…" : "Saved");
    box.title = problem;
    if (problem && problem !== this.lastProblem) showToast(problem);
    this.lastProblem = problem;
  }

  /** Read what the server says of all filaments. */
  async refresh() {
    const before = this.state.summary;
    await this.state.refresh();
    setText(byId("connection"), "");
    this.panel.show();
    if (before && before.traced_version !== this.state.summary.traced_version) await this.store.reload();
  }

  /** Ask the server again and again. */
  async poll() {
    try {
      await this.refresh();
    } catch (error) {
      if (!(error instanceof ServerUnreachable || error instanceof RequestRefused)) throw error;
      setText(byId("connection"), toSentence(error.message));
    }
    setTimeout(() => void this.poll(), this.state.summary?.job.state === "running" ? BUSY_MS : IDLE_MS);
  }
}

async function start() {
  startTheme();
  try {
    await openSession();
    const state = new FilamentState(await get("/api/project"), await get("/api/micrographs"));
    const page = new FilamentPage(state);
    await page.refresh();
    const named = Number(window.location.hash.slice(1)) - 1;
    await state.open(named >= 0 && named < state.count ? named : 0);
    void page.poll();
  } catch (error) {
    if (!(error instanceof ServerUnreachable || error instanceof RequestRefused)) throw error;
    setText(byId("connection"), toSentence(error.message));
  }
}

window.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  if (!(event.reason instanceof RequestRefused)) console.error(event.reason);
  showToast(event.reason instanceof Error ? event.reason.message : String(event.reason));
});
const reloadIfReplaced = () => void (isSessionReplaced() && window.location.reload());
window.addEventListener("storage", reloadIfReplaced);
document.addEventListener("visibilitychange", reloadIfReplaced);
window.addEventListener("hashchange", () => {
  if (readAddressToken() !== null) window.location.reload();
});
void start();
