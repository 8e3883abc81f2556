import { allowReadingOnly, get, post } from "./api.js";
import { Emitter } from "./emitter.js";
import { LabelStore } from "./label_store.js";
import { MicrographNames } from "./micrograph_names.js";
import { PickStore } from "./pick_store.js";
import { SaveQueue } from "./save_queue.js";

/**
 * @typedef {{revision: number, name: string[], labels: number[], negatives: number[],
 *   picks: (number | null)[], done: boolean[], excluded: boolean[], ignored: boolean[],
 *   mask: (string | null)[], offset: number[],
 *   quality: (number | null)[], particles: (number | null)[], note: string[], scored: (number | null)[], failed: (string | null)[],
 *   version: number[]}} Rows
 * @typedef {{diameter: number | null, threshold: number | null,
 *   relion_project: string | null, max_fdr: number | null, exclusion_radius: number | null,
 *   edge_margin: number | null}} Settings
 * @typedef {Record<string, (number | null)[]> & {threshold: number[]}} Estimates
 * @typedef {{model: number | null, micrographs: number, edges: number[], counts: number[],
 *   automatic: number | null, settled: boolean, estimates: null | Estimates}} Histogram
 */

/** Shortest time between two requests for the histogram. */
const HISTOGRAM_INTERVAL_MS = 1200;
/** Time between two looks at what is not saved yet. */
const SETTLE_INTERVAL_MS = 30;
const EMPTY_HISTOGRAM = { model: null, micrographs: 0, edges: [], counts: [], automatic: null, settled: false };

/** The project as this page knows it, and the micrograph on screen. */
export class AppState {
  /** Emitted with ids (null for all) when rows of the list changed. */
  rowsChanged = new Emitter();
  settingsChanged = new Emitter();
  /** Emitted with the number of micrographs that have arrived. */
  micrographsAdded = new Emitter();
  thresholdChanged = new Emitter();
  /** Emitted when the largest FDR or a distance of picking changed. */
  optionsChanged = new Emitter();
  histogramChanged = new Emitter();
  /** Emitted when the engine, a training or the run on all micrographs reports something. */
  activityChanged = new Emitter();
  /** Emitted with a micrograph: first when it is chosen, again when it can be shown. */
  opened = new Emitter();
  /** Emitted when another model is in use, or there may be a new one. */
  modelsChanged = new Emitter();
  /** Emitted with a message for the user. */
  messageRaised = new Emitter();
  /** Emitted after a request whose result is in the next changes. */
  requested = new Emitter();

  /** @type {Histogram} */ histogram = { ...EMPTY_HISTOGRAM, estimates: null };
  /** @type {import("./tiled_image.js").Micrograph | null} */ micrograph = null;
  /** Id of the micrograph on screen, or being opened; -1 for none. */
  current = -1;
  /** The threshold that the numbers of picks in `rows` are for. @type {number | null} */
  countedAt = null;
  /** Micrographs as the table shows them; null before it was opened. @type {number[] | null} */ tableOrder = null;
  /** A diameter while it is being dragged. @type {number | null} */ draggedDiameter = null;
  /** @type {Map<number, any>} */ #micrographs = new Map();
  /** @type {MicrographNames} */ #names;
  #reading = false;
  #outdated = false;
  /** Number of changes on their way to the server that are not in the save queue. */
  #waitingFor = 0;
  /**
   * Set while a threshold is on its way to the server.
   * @type {ReturnType<typeof setTimeout> | undefined}
   */
  #posting;
  /**
   * The threshold before it was moved, until it rests.
   * @type {{threshold: number | null} | null}
   */
  #thresholdBefore = null;

  /** Load the project from the server. */
  static async load() {
    return new AppState(...(await Promise.all([get("/api/project"), get("/api/micrographs")])));
  }

  /**
   * @param {any} project
   * @param {Rows} rows
   */
  constructor(project, rows) {
    this.project = project;
    this.rows = rows;
    /** @type {Settings} */
    this.settings = project.settings;
    this.engine = project.engine;
    this.training = project.training;
    this.thorough = project.thorough;
    this.run = project.run;
    this.#names = new MicrographNames(rows.name);
    this.saveQueue = new SaveQueue(project.folder);
    this.labels = new LabelStore(this.saveQueue, (id) => this.rows.name[id]);
    this.picks = new PickStore();
    this.saveQueue.refused.on((_, message) => this.messageRaised.emit(`Not saved: ${message}`));
    this.labels.countsChanged.on((id, particles, negatives) => {
      this.rows.labels[id] = particles;
      this.rows.negatives[id] = negatives;
      this.rowsChanged.emit([id]);
    });
    this.isReadOnly = project.read_only === true;
    if (this.isReadOnly) allowReadingOnly();
    else this.saveQueue.restore((name) => this.rows.name.indexOf(name));
  }

  /** Take over all rows from the server, which may be more than before. @param {Rows} rows */
  setRows(rows) {
    const added = rows.name.length - this.count;
    this.rows = rows;
    if (!added) return;
    this.#names = new MicrographNames(rows.name);
    this.micrographsAdded.emit(added);
  }

  /** Return a micrograph's name without the folders that all names start with. @param {number} id */
  shortName(id) {
    return this.#names.withoutFolder(id);
  }

  /** Return a micrograph's name without most of what all names share. @param {number} id */
  listName(id) {
    return this.#names.short(id);
  }

  get count() {
    return this.rows.name.length;
  }

  /** Number of micrographs that are excluded. */
  get excludedCount() {
    return this.rows.excluded.filter(Boolean).length;
  }

  /** Return the size and pixel size of a micrograph. @param {number} id */
  async getMicrograph(id) {
    const cached = this.#micrographs.get(id);
    if (cached) return cached;
    const micrograph = await get(`/api/micrographs/${id}`);
    this.#micrographs.set(id, micrograph);
    return micrograph;
  }

  /** Show a micrograph. @param {number} id */
  async open(id) {
    if (id < 0 || id >= this.count || id === this.current) return;
    this.current = id;
    this.opened.emit(id);
    const info = await this.getMicrograph(id);
    if (this.current !== id) return;
    // A file that cannot be read has no size; the list shows why.
    this.micrograph = info.width ? info : null;
    this.rows.failed[id] ??= info.failed;
    this.opened.emit(id);
    if (!this.micrograph) return;
    if (!this.isReadOnly) void post("/api/focus", { id });
    await Promise.all([this.labels.open(id), this.picks.open(id)]);
  }

  /** The number of picks on all micrographs; null while it is being counted. */
  get pickCount() {
    if (this.#posting !== undefined || this.countedAt !== this.threshold) return null;
    const { picks, excluded } = this.rows;
    return picks.reduce((/** @type {number} */ sum, one, id) => sum + (excluded[id] ? 0 : one ?? 0), 0);
  }

  /** Read a micrograph again whose file was replaced. @param {number} id */
  async reopen(id) {
    this.#micrographs.delete(id);
    if (id !== this.current) return;
    this.current = -1;
    await this.open(id);
  }

  /** The threshold in use; null where there is none yet. */
  get threshold() {
    return this.settings.threshold ?? this.histogram.automatic;
  }

  /** Diameter in Å; null while it is not set. */
  get diameter() {
    return this.draggedDiameter ?? this.settings.diameter;
  }

  /** Diameter in pixels of the micrograph on screen; null if one of them is missing. */
  get diameterPx() {
    const diameter = this.diameter;
    if (diameter === null || !this.micrograph) return null;
    return diameter / (this.micrograph.pixel_size ?? 1);
  }

  /**
   * Move the threshold: shown at once, sent to the server once it rests. It can be undone.
   * @param {number | null} threshold null for the automatic one
   */
  setThreshold(threshold) {
    if (this.isReadOnly) return;
    this.#thresholdBefore ??= { threshold: this.settings.threshold };
    this.#moveThreshold(threshold, () => {
      const before = this.#thresholdBefore?.threshold ?? null;
      this.#thresholdBefore = null;
      if (before !== threshold)
        this.labels.history.add({
          undo: () => this.#moveThreshold(before),
          redo: () => this.#moveThreshold(threshold),
        });
    });
  }

  /**
   * @param {number | null} threshold
   * @param {() => void} [onRest] called once it is sent
   */
  #moveThreshold(threshold, onRest) {
    this.settings.threshold = threshold;
    this.thresholdChanged.emit();
    clearTimeout(this.#posting);
    const posting = setTimeout(async () => {
      onRest?.();
      await this.saveSettings({ threshold });
      if (this.#posting === posting) this.#posting = undefined;
    }, 200);
    this.#posting = posting;
  }

  /** @param {Partial<Settings>} settings */
  async saveSettings(settings) {
    try {
      this.applySettings(await post("/api/settings", settings));
    } catch (error) {
      this.messageRaised.emit(String(error instanceof Error ? error.message : error));
    }
    this.requested.emit();
  }

  /** Wait until the server has all that this page shows; throw an error if it cannot be saved. */
  async settle() {
    const pending = () => this.saveQueue.size > 0 && !this.saveQueue.problem;
    while (pending() || this.#posting !== undefined || this.#waitingFor > 0)
      await new Promise((done) => setTimeout(done, SETTLE_INTERVAL_MS));
    if (this.saveQueue.size)
      throw new Error("Some changes could not be saved yet. Wait until the page says Saved, then try again.");
  }

  /** Let `settle` wait for a change on its way to the server. @param {Promise<unknown>} sending */
  waitFor(sending) {
    this.#waitingFor += 1;
    void sending.finally(() => (this.#waitingFor -= 1));
  }

  /** Apply settings from the server. @param {Settings} settings */
  applySettings(settings) {
    const { diameter, threshold, exclusion_radius, edge_margin, max_fdr } = this.settings;
    // While it is being sent, the threshold on screen is the newer one.
    const moving = this.#posting !== undefined;
    this.settings = { ...settings, threshold: moving ? threshold : settings.threshold };
    const scoredAgain = exclusion_radius !== settings.exclusion_radius || edge_margin !== settings.edge_margin;
    if (max_fdr !== settings.max_fdr || scoredAgain) this.optionsChanged.emit();
    if (max_fdr !== settings.max_fdr) void this.readHistogram();
    if (diameter !== settings.diameter || scoredAgain) {
      this.picks.clear();
      this.settingsChanged.emit();
      if (this.current >= 0) void this.picks.reload(this.current);
    }
    if (threshold !== this.settings.threshold) this.thresholdChanged.emit();
  }

  /** Read the histogram again: one request at a time, repeated if it changed meanwhile. */
  async readHistogram() {
    this.#outdated = true;
    if (this.#reading) return;
    this.#reading = true;
    try {
      while (this.#outdated) {
        this.#outdated = false;
        this.histogram = await get("/api/histogram");
        this.histogramChanged.emit();
        this.thresholdChanged.emit();
        // It changes all the time while micrographs are being scored.
        await new Promise((done) => setTimeout(done, HISTOGRAM_INTERVAL_MS));
      }
    } finally {
      this.#reading = false;
    }
  }
}
