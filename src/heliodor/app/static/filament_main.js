import { allowReadingOnly, get, post, RequestRefused, ServerUnreachable } from "./api.js";
import { byId, createElement, formatCount, setText, toSentence } from "./dom.js";
import { FilamentPanel } from "./filament_panel.js";
import { FilamentStore } from "./filament_store.js";
import { FilamentView } from "./filament_view.js";
import { Keyboard } from "./keyboard.js";
import { isSessionReplaced, openSession, readAddressToken } from "./session.js";
import { ShareDialog } from "./share_dialog.js";
import { startTheme } from "./theme.js";
import { TileStore } from "./tile_store.js";
import { showToast } from "./toast.js";

/** How often the server is asked what is running, and otherwise. */
const BUSY_MS = 700;
const IDLE_MS = 3000;

/** The page of a project of filaments. */
class FilamentPage {
  /** @type {any} what the server says of all filaments */
  summary = null;
  /** What was said last of changes that could not be saved. */
  lastProblem = "";
  current = -1;

  /** @param {any} project @param {any} rows the list of micrographs, by columns */
  constructor(project, rows) {
    this.project = project;
    this.rows = rows;
    this.store = new FilamentStore();
    this.view = new FilamentView(this.store, new TileStore(project.boot));
    this.view.isReadOnly = project.read_only;
    this.view.image.lowPass = Number(byId("low-pass").value);
    this.panel = new FilamentPanel(() => this.refresh());
    new ShareDialog();
    this.#buildList();
    this.#listen();
    const parts = project.folder.split("/");
    setText(byId("folder"), parts.length > 3 ? `…/${parts.slice(-2).join("/")}` : project.folder);
    byId("folder").title = project.folder;
    if (project.read_only) {
      allowReadingOnly();
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
    on("exclude", () => void this.toggleExcluded());
    byId("low-pass").addEventListener("change", () => {
      this.view.image.lowPass = Math.min(1000, Math.max(0, Number(byId("low-pass").value) || 0));
      this.view.image.redraw();
    });
    this.store.changed.on(() => this.#showCounts());
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
      { keys: ["Enter"], keycaps: ["Enter"], description: "End the filament that is being drawn", run: () => view.finish() },
      { keys: ["Escape"], keycaps: ["Esc"], description: "Forget the filament that is being drawn", run: () => view.cancel() },
      { keys: ["Delete", "Backspace"], keycaps: ["Delete"], description: "Remove the last point, or the chosen filament", run: () => view.remove() },
      { keys: ["Ctrl+z"], keycaps: ["Ctrl", "Z"], description: "Undo", run: () => this.undo() },
      { keys: ["Ctrl+y", "Ctrl+Shift+z"], keycaps: ["Ctrl", "Y"], description: "Redo", run: () => this.redo() },
      { keys: ["h"], keycaps: ["H"], description: "Hide or show the filaments", run: () => this.toggleMarkers() },
      { keys: ["f"], keycaps: ["F"], description: "Show the whole micrograph", run: () => view.fit() },
      { keys: ["+", "="], keycaps: ["+"], description: "Zoom in", run: () => view.zoomBy(1.25) },
      { keys: ["-"], keycaps: ["-"], description: "Zoom out", run: () => view.zoomBy(0.8) },
      { keys: ["x"], keycaps: ["X"], description: "Leave the micrograph out, or take it back", run: () => void this.toggleExcluded() },
      { keys: ["?"], keycaps: ["?"], description: "Show this help", run: () => byId("help").showModal() },
      { keys: [], keycaps: ["Shift", "Click"], description: "Begin to draw on a filament", run: () => false },
    ]);
  }

  #buildList() {
    const list = byId("filament-list");
    this.entries = this.rows.name.map((/** @type {string} */ name, /** @type {number} */ id) => {
      const entry = createElement("div", "entry");
      entry.id = `row-${id}`;
      entry.setAttribute("role", "option");
      const title = createElement("div", "name", name.split("/").at(-1));
      title.title = name;
      entry.append(title, createElement("div", "counts"));
      entry.addEventListener("click", () => void this.open(id));
      list.append(entry);
      return entry;
    });
    setText(byId("list-count"), formatCount(this.rows.name.length, "micrograph"));
  }

  /** @param {number} id */
  async open(id) {
    // What was being drawn is not lost.
    this.view.finish();
    this.current = id;
    this.entries.forEach((/** @type {HTMLElement} */ entry, /** @type {number} */ n) =>
      entry.setAttribute("aria-selected", String(n === id)));
    this.entries[id].scrollIntoView({ block: "nearest" });
    setText(byId("micrograph-name"), this.rows.name[id].split("/").at(-1));
    byId("exclude").setAttribute("aria-pressed", String(this.rows.excluded[id]));
    const described = await get(`/api/micrographs/${id}`);
    if (id !== this.current) return;
    const failed = described.width === null ? described.failed ?? "it cannot be read" : "";
    setText(byId("stage-failed"), failed && toSentence(`This micrograph cannot be used: ${failed}`));
    byId("stage-failed").hidden = !failed;
    this.view.show(failed ? null : described);
    await this.store.open(id);
    if (readAddressToken() === null) window.history.replaceState(null, "", `#${id + 1}`);
  }

  /** @param {number} by */
  step(by) {
    const next = this.current + by;
    if (next >= 0 && next < this.rows.name.length) void this.open(next);
  }

  undo() {
    const step = this.store.undo();
    if (step && step.micrograph !== this.current) void this.open(step.micrograph);
  }

  redo() {
    const step = this.store.redo();
    if (step && step.micrograph !== this.current) void this.open(step.micrograph);
  }

  toggleMarkers() {
    this.view.hidden = !this.view.hidden;
    byId("toggle-markers").setAttribute("aria-pressed", String(this.view.hidden));
    this.view.redraw();
  }

  async toggleExcluded() {
    const id = this.current;
    const excluded = !this.rows.excluded[id];
    await post(`/api/micrographs/${id}/excluded`, { excluded });
    this.rows.excluded[id] = excluded;
    if (id === this.current) byId("exclude").setAttribute("aria-pressed", String(excluded));
    this.#showList();
  }

  #showCounts() {
    const { shown } = this.store;
    const kept = shown?.traced?.filter((one) => one.is === "kept").length;
    setText(byId("traced-count"), kept === undefined ? "–" : String(kept));
    setText(byId("rejected-count"), String(shown?.rejected.length ?? 0));
    setText(byId("label-count"), String(shown?.labels.length ?? 0));
    if (shown && this.summary) {
      this.summary.labels[this.store.micrograph] = shown.labels.length;
      this.#showList();
    }
  }

  #showList() {
    const { summary, rows } = this;
    if (!summary) return;
    this.entries.forEach((/** @type {HTMLElement} */ entry, /** @type {number} */ id) => {
      entry.classList.toggle("excluded", rows.excluded[id]);
      const words = [
        summary.traced && `${summary.traced[id]} traced`,
        summary.labels[id] && `${summary.labels[id]} drawn`,
      ];
      setText(/** @type {Element} */ (entry.lastElementChild), words.filter(Boolean).join(", ") || " ");
    });
  }

  #showSaving() {
    const { saving, problem } = this.store;
    const box = byId("saving");
    box.classList.toggle("trouble", problem !== "");
    setText(box, problem ? "Not saved" : saving ? "Saving…" : "Saved");
    box.title = problem;
    if (problem && problem !== this.lastProblem) showToast(problem);
    this.lastProblem = problem;
  }

  /** Read what the server says of all filaments. */
  async refresh() {
    const before = this.summary;
    this.summary = await get("/api/filaments");
    setText(byId("connection"), "");
    this.panel.show(this.summary);
    this.#showList();
    if (before && before.traced_version !== this.summary.traced_version) await this.store.reload();
  }

  /** Ask the server again and again. */
  async poll() {
    try {
      await this.refresh();
    } catch (error) {
      if (!(error instanceof ServerUnreachable || error instanceof RequestRefused)) throw error;
      setText(byId("connection"), toSentence(error.message));
    }
    setTimeout(() => void this.poll(), this.summary?.job.state === "running" ? BUSY_MS : IDLE_MS);
  }
}

async function start() {
  startTheme();
  try {
    await openSession();
    const page = new FilamentPage(await get("/api/project"), await get("/api/micrographs"));
    await page.refresh();
    const named = Number(window.location.hash.slice(1)) - 1;
    await page.open(named >= 0 && named < page.rows.name.length ? named : 0);
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
