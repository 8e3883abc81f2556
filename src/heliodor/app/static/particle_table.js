import { get } from "./api.js";
import { createColumns, createContaminationColumn, createNumberColumn, createTextColumn } from "./table_columns.js";

/** Shortest time between two requests for the outliers. */
const OUTLIERS_INTERVAL_MS = 2000;

/**
 * @typedef {import("./state.js").AppState} AppState
 * @typedef {import("./micrograph_table.js").MicrographTable} MicrographTable
 * @typedef {import("./table_columns.js").TableData} TableData
 */

/** What the table of micrographs shows of a project of particles. */
export class ParticleTable {
  /** @type {MicrographTable | null} */ #table = null;
  /** @type {Map<number, string[]>} */ #outliers = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #outlierTimer;

  /**
   * @param {AppState} state
   * @param {import("./micrograph_list.js").MicrographList} list
   */
  constructor(state, list) {
    this.state = state;
    this.list = list;
    this.history = state.labels.history;
    state.histogramChanged.on(() => this.#readOutliersLater());
    state.micrographsAdded.on(() => this.#table?.isOpen && void this.#table.read());
  }

  undo() {
    this.state.labels.undo();
  }

  /** @param {MicrographTable} table */
  onOpened(table) {
    this.#table = table;
    this.#readOutliersLater();
  }

  onSorted() {
    if (this.list.followsTable) this.list.sortAndFilter();
  }

  onExcluded() {
    void this.state.readHistogram();
  }

  /** @param {Promise<unknown>} sending */
  waitFor(sending) {
    this.state.waitFor(sending);
  }

  #readOutliersLater() {
    if (!this.#table?.isOpen || this.#outlierTimer) return;
    this.#outlierTimer = setTimeout(async () => {
      const { outliers } = await get("/api/outliers");
      this.#outliers = new Map(Object.entries(outliers).map(([id, reasons]) => [Number(id), reasons]));
      this.#outlierTimer = undefined;
      this.#table?.update();
    }, this.#outliers.size ? OUTLIERS_INTERVAL_MS : 0);
  }

  /** What can be asked for beside columns. @returns {Record<string, (id: number) => boolean>} */
  get words() {
    const { rows } = this.state;
    const isOutlier = (/** @type {number} */ id) => this.#outliers.has(id);
    return {
      reviewed: (id) => rows.done[id], failed: (id) => Boolean(rows.failed[id]),
      picked: (id) => rows.picks[id] !== null, labeled: (id) => rows.labels[id] > 0,
      outlier: isOutlier, outliers: isOutlier,
    };
  }

  /** @param {TableData} data */
  createColumns(data) {
    const { state } = this;
    const row = (/** @type {"picks" | "particles" | "labels"} */ key) => (/** @type {number} */ id) => state.rows[key][id];
    return createColumns(state, data, [
      createTextColumn("status", "Status", 14, "Excluded, reviewed, or not picked yet", (id) => this.#describeStatus(id)),
      createNumberColumn("picks", "Picks", "", "Candidates at or above the threshold", row("picks")),
      createNumberColumn("particles", "Particles", "", "Estimated number of particles among all candidates; empty where it cannot be estimated", row("particles")),
      createNumberColumn("labels", "Labels", "", "Particles that you labeled", row("labels")),
      createContaminationColumn(state),
    ], [
      createTextColumn("outlier", "Outlier", 34, "Why the micrograph is unlike the others", (id) => (this.#outliers.get(id) ?? []).join("; ")),
    ]);
  }

  /** Say what is the matter with a micrograph. @param {number} id */
  #describeStatus(id) {
    const { rows } = this.state;
    if (rows.failed[id]) return "failed";
    if (rows.excluded[id]) return "excluded";
    if (rows.done[id]) return "reviewed";
    return rows.picks[id] === null ? "not picked yet" : "";
  }
}
