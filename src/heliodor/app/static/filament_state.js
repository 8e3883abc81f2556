import { get } from "./api.js";
import { Emitter } from "./emitter.js";
import { MicrographNames } from "./micrograph_names.js";

/**
 * @typedef {{name: string[], excluded: boolean[], note: string[], failed: (string | null)[],
 *   ignored: boolean[], mask: (string | null)[], quality: (number | null)[],
 *   labels: number[], rejected: number[], traced: (number | null)[], length: (number | null)[]}} Rows
 *   `length` is that of the traced filaments in angstrom; null for what is not known
 */

/** Time between two looks at changes on their way to the server. */
const SETTLE_MS = 30;
/** The columns of the list that come with the numbers of filaments. */
const OF_SUMMARY = /** @type {const} */ (["labels", "rejected", "traced", "length"]);

/** A project of filaments as this page knows it, and which micrograph is on screen. */
export class FilamentState {
  /** Emitted with ids (null for all) when rows of the list changed. */
  rowsChanged = new Emitter();
  /** Emitted with a micrograph when it is chosen. */
  opened = new Emitter();
  /** Emitted with a message for the user. */
  messageRaised = new Emitter();
  /** @type {import("./tiled_image.js").Micrograph | null} what the server says of the micrograph on screen */
  micrograph = null;
  /** Id of the micrograph on screen, or being opened; -1 for none. */
  current = -1;
  /** Micrographs as the table shows them; null before it was opened. @type {number[] | null} */ tableOrder = null;
  /** @type {any} what the server says of all filaments; null before it was asked */
  summary = null;
  /** Number of changes of rows on their way to the server. */
  #waitingFor = 0;
  #revision;

  /** @param {any} project @param {any} rows the list of micrographs, by columns */
  constructor(project, rows) {
    this.project = project;
    const unknown = rows.name.map(() => null);
    const none = rows.name.map(() => 0);
    /** @type {Rows} */
    this.rows = { ...rows, labels: none, rejected: [...none], traced: unknown, length: [...unknown] };
    this.names = new MicrographNames(rows.name);
    this.#revision = rows.revision;
  }

  get isReadOnly() {
    return this.project.read_only === true;
  }

  get count() {
    return this.rows.name.length;
  }

  /** Number of micrographs that are excluded. */
  get excludedCount() {
    return this.rows.excluded.filter(Boolean).length;
  }

  /** Return a micrograph's name without most of what all names share. @param {number} id */
  listName(id) {
    return this.names.short(id);
  }

  /** Show a micrograph. @param {number} id */
  async open(id) {
    if (id < 0 || id >= this.count || id === this.current) return;
    this.current = id;
    this.micrograph = null;
    this.opened.emit(id);
  }

  /** The sum of numbers of the micrographs that are not excluded. @param {(number | null)[]} values */
  sumIncluded(values) {
    return values.reduce((/** @type {number} */ sum, one, id) => sum + (this.rows.excluded[id] ? 0 : one ?? 0), 0);
  }

  /** Let rows from the server wait for a change on its way to it. @param {Promise<unknown>} sending */
  waitFor(sending) {
    this.#waitingFor += 1;
    void sending.finally(() => (this.#waitingFor -= 1));
  }

  /** Wait until the changes of rows have reached the server. */
  async settle() {
    while (this.#waitingFor) await new Promise((done) => setTimeout(done, SETTLE_MS));
  }

  /** Read what the server says of all micrographs. */
  async refresh() {
    const summary = await get("/api/filaments");
    // Contamination is detected in tracing.
    const isNew = summary.revision !== this.#revision || summary.traced_version !== this.summary?.traced_version;
    this.summary = summary;
    const unknown = this.rows.name.map(() => null);
    let changed = false;
    for (const key of OF_SUMMARY) {
      const values = summary[key] ?? unknown;
      changed ||= JSON.stringify(values) !== JSON.stringify(this.rows[key]);
      this.rows[key] = values;
    }
    if (isNew && !this.#waitingFor) {
      // Excluded, or noted, in another tab as well.
      const rows = await get("/api/micrographs");
      if (!this.#waitingFor) {
        const { labels, ...own } = rows; // those of particles, of which there are none
        Object.assign(this.rows, own);
        this.#revision = rows.revision;
        changed = true;
      }
    }
    if (changed) this.rowsChanged.emit(null);
  }
}
