import { get, post } from "./api.js";
import { Labels } from "./labels.js";
import { commonFolder } from "./order.js";
import { Outbox } from "./outbox.js";
import { Picks } from "./picks.js";
import { Signal } from "./signal.js";

/**
 * @typedef {{revision: number, name: string[], labels: number[], negatives: number[],
 *   picks: (number | null)[], done: boolean[], quality: (number | null)[],
 *   scored: (number | null)[], failed: (string | null)[]}} Rows
 * @typedef {{diameter: number | null, threshold: number | null}} Settings
 * @typedef {{model: number | null, micrographs: number, edges: number[], counts: number[],
 *   automatic: number | null, estimates: null | {threshold: number[], picks: number[],
 *   precision: number[], recall: number[]}}} Histogram
 */

/** Milliseconds between two readings of the histogram. */
const REST = 1200;
const NO_HISTOGRAM = { model: null, micrographs: 0, edges: [], counts: [], automatic: null };

/** The project as this page knows it, and the micrograph on the screen. */
export class Room {
  /** Told (ids or null for all) when rows of the list differ. */
  rowsChanged = new Signal();
  settingsChanged = new Signal();
  thresholdChanged = new Signal();
  histogramChanged = new Signal();
  /** Told when the engine, the training or the run over all says something new. */
  workChanged = new Signal();
  /** Told (micrograph) when another one is to be shown. */
  opened = new Signal();
  /** Told (sentence) what the user should know. */
  said = new Signal();
  /** Told when something was asked of the server whose answer shows in the next changes. */
  asked = new Signal();

  /** @type {Histogram} */ histogram = { ...NO_HISTOGRAM, estimates: null };
  /** @type {import("./picture.js").Micrograph | null} */ micrograph = null;
  /** Place of the micrograph on the screen, or on its way there. */
  current = -1;
  /** A diameter while it is being dragged. @type {number | null} */ draggedDiameter = null;
  /** @type {Map<number, any>} */ #known = new Map();
  #folder = 0;
  #reading = false;
  #outdated = false;
  /**
   * Set while a threshold is on its way to the server.
   * @type {ReturnType<typeof setTimeout> | undefined}
   */
  #posting;

  /** Read the project, all of it. */
  static async load() {
    return new Room(...(await Promise.all([get("/api/project"), get("/api/micrographs")])));
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
    this.run = project.run;
    this.#folder = commonFolder(rows.name).length;
    this.outbox = new Outbox(project.folder);
    this.labels = new Labels(this.outbox, (id) => this.rows.name[id]);
    this.picks = new Picks();
    this.outbox.refused.on((_, says) => this.said.emit(`Not saved: ${says}`));
    this.labels.counted.on((id, particles, negatives) => {
      this.rows.labels[id] = particles;
      this.rows.negatives[id] = negatives;
      this.rowsChanged.emit([id]);
    });
    this.outbox.recover((name) => this.rows.name.indexOf(name));
  }

  /** A micrograph's name without the folders that all have. @param {number} id */
  shortName(id) {
    return this.rows.name[id].slice(this.#folder);
  }

  get count() {
    return this.rows.name.length;
  }

  /** What the server says of a micrograph. @param {number} id */
  async info(id) {
    const known = this.#known.get(id);
    if (known) return known;
    const read = await get(`/api/micrographs/${id}`);
    this.#known.set(id, read);
    return read;
  }

  /** Show a micrograph. @param {number} id */
  async open(id) {
    if (id < 0 || id >= this.count || id === this.current) return;
    this.current = id;
    this.opened.emit(id);
    const info = await this.info(id);
    if (this.current !== id) return;
    // What cannot be read has no size; the list says why.
    this.micrograph = info.width ? info : null;
    this.rows.failed[id] ??= info.failed;
    this.opened.emit(id);
    if (!this.micrograph) return;
    void post("/api/focus", { id });
    await Promise.all([this.labels.open(id), this.picks.open(id)]);
  }

  /** The threshold in use; null where there is none yet. */
  get threshold() {
    return this.settings.threshold ?? this.histogram.automatic;
  }

  /** Diameter in angstrom; null where nobody has said it yet. */
  get diameter() {
    return this.draggedDiameter ?? this.settings.diameter;
  }

  /** Diameter in pixels of the micrograph on screen; null where one of the two is missing. */
  get diameterPx() {
    const diameter = this.diameter;
    if (diameter === null || !this.micrograph) return null;
    return diameter / (this.micrograph.pixel_size ?? 1);
  }

  /**
   * Move the threshold: seen at once, told to the server when it rests.
   * @param {number | null} threshold null for the automatic one
   */
  setThreshold(threshold) {
    this.settings.threshold = threshold;
    this.thresholdChanged.emit();
    clearTimeout(this.#posting);
    const posting = setTimeout(async () => {
      await this.set({ threshold });
      if (this.#posting === posting) this.#posting = undefined;
    }, 200);
    this.#posting = posting;
  }

  /** @param {Partial<Settings>} settings */
  async set(settings) {
    try {
      this.take(await post("/api/settings", settings));
    } catch (error) {
      this.said.emit(String(error instanceof Error ? error.message : error));
    }
    this.asked.emit();
  }

  /** Take over settings from the server. @param {Settings} settings */
  take(settings) {
    const { diameter, threshold } = this.settings;
    // While it is on its way from here, the threshold on the screen is the newer one.
    const moving = this.#posting !== undefined;
    this.settings = { ...settings, threshold: moving ? threshold : settings.threshold };
    if (diameter !== settings.diameter) {
      this.picks.clear();
      this.settingsChanged.emit();
      if (this.current >= 0) void this.picks.reread(this.current);
    }
    if (threshold !== this.settings.threshold) this.thresholdChanged.emit();
  }

  /** Read the histogram again; one at a time, and once more if it changed meanwhile. */
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
        // While many micrographs are scored it changes all the time.
        await new Promise((done) => setTimeout(done, REST));
      }
    } finally {
      this.#reading = false;
    }
  }
}
