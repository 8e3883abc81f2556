import { createColumns, createContaminationColumn, createNumberColumn, createTextColumn } from "./table_columns.js";

/** Å in a micrometer. */
const ANGSTROM_PER_MICROMETER = 1e4;

/** What the table of micrographs shows of a project of filaments. */
export class FilamentTable {
  /**
   * @param {import("./filament_state.js").FilamentState} state
   * @param {import("./filament_store.js").FilamentStore} store
   * @param {{undo: () => void, showList: () => void}} page
   */
  constructor(state, store, page) {
    this.state = state;
    this.history = store.history;
    this.page = page;
  }

  undo() {
    this.page.undo();
  }

  onOpened() {}

  onSorted() {
    this.page.showList();
  }

  onExcluded() {}

  /** @param {Promise<unknown>} sending */
  waitFor(sending) {
    this.state.waitFor(sending);
  }

  /** What can be asked for beside columns. @returns {Record<string, (id: number) => boolean>} */
  get words() {
    const { rows } = this.state;
    return {
      failed: (id) => Boolean(rows.failed[id]), traced: (id) => rows.traced[id] !== null,
      drawn: (id) => rows.labels[id] > 0, rejected: (id) => rows.rejected[id] > 0,
    };
  }

  /** @param {import("./table_columns.js").TableData} data */
  createColumns(data) {
    const { state } = this;
    const row = (/** @type {"labels" | "rejected" | "traced"} */ key) => (/** @type {number} */ id) => state.rows[key][id];
    return createColumns(state, data, [
      createTextColumn("status", "Status", 14, "Excluded, or not traced yet", (id) => this.#describeStatus(id)),
      createNumberColumn("traced", "Traced", "", "Traced filaments that were neither rejected nor drawn too", row("traced")),
      createNumberColumn("length", "Length", "µm", "Length of the traced filaments together", (id) => {
        const length = state.rows.length[id];
        return length === null ? null : length / ANGSTROM_PER_MICROMETER;
      }, 2),
      createNumberColumn("labels", "Drawn", "", "Filaments that you drew", row("labels")),
      createNumberColumn("rejected", "Rejected", "", "Traced filaments that you rejected", row("rejected")),
      createContaminationColumn(state),
    ]);
  }

  /** Say what is the matter with a micrograph. @param {number} id */
  #describeStatus(id) {
    const { rows } = this.state;
    if (rows.failed[id]) return "failed";
    if (rows.excluded[id]) return "excluded";
    return rows.traced[id] === null ? "not traced yet" : "";
  }
}
