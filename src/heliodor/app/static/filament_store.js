import { get, post } from "./api.js";
import { Emitter } from "./emitter.js";
import { UndoHistory } from "./undo_history.js";

/** The largest number that identifies a filament. */
const LARGEST_ID = 2 ** 31 - 1;

/**
 * @typedef {[number, number][]} Points
 * @typedef {{id: number, points: Points}} Drawn
 * @typedef {{points: Points, score: number | null, is: "kept" | "rejected" | "drawn"}} Traced
 * @typedef {{labels: Drawn[], rejected: Drawn[], traced: Traced[] | null, width_px: number | null}} Filaments
 * @typedef {{id: number, kind: "label" | "rejected", points: Points}} Change
 * @typedef {{micrograph: number, add: Change[], remove: Change[]}} Step
 */

/** The filaments of the micrograph on screen: shown and saved, with undo and redo. */
export class FilamentStore {
  /** Emitted when the filaments on screen changed. */
  changed = new Emitter();
  /** Emitted when saving begins, ends or fails. */
  savingChanged = new Emitter();
  /** @type {UndoHistory<Step>} */
  history = new UndoHistory();
  /** The number of the micrograph on screen. */
  micrograph = -1;
  /** @type {Filaments | null} null while they are loaded */
  shown = null;
  /** How many changes are being saved, and why the last one could not be. */
  saving = 0;
  problem = "";
  /** Changes are sent one after another. @type {Promise<void>} */
  #sent = Promise.resolve();

  /** @param {number} micrograph */
  async open(micrograph) {
    if (micrograph !== this.micrograph) this.shown = null;
    this.micrograph = micrograph;
    await this.reload();
  }

  /** Read the filaments on screen again. */
  async reload() {
    const { micrograph } = this;
    await this.#sent;
    const read = await get(`/api/micrographs/${micrograph}/filaments`);
    if (micrograph === this.micrograph && !this.saving) this.#show(read);
  }

  /** @param {Filaments} read */
  #show(read) {
    this.shown = read;
    this.changed.emit();
  }

  /** @returns {number} an identity for a new filament */
  createId() {
    const [random] = crypto.getRandomValues(new Uint32Array(1));
    return 1 + (random % LARGEST_ID);
  }

  /**
   * Change the filaments on screen, as one step that can be undone.
   * @param {Change[]} add
   * @param {Change[]} remove
   */
  change(add, remove) {
    const step = { micrograph: this.micrograph, add, remove };
    this.history.add(step);
    this.#save(step.micrograph, add, remove);
  }

  /** @returns {Step | undefined} what was undone */
  undo() {
    const step = this.history.undo();
    if (step) this.#save(step.micrograph, step.remove, step.add);
    return step;
  }

  /** @returns {Step | undefined} what was done again */
  redo() {
    const step = this.history.redo();
    if (step) this.#save(step.micrograph, step.add, step.remove);
    return step;
  }

  /**
   * @param {number} micrograph
   * @param {Change[]} add
   * @param {Change[]} remove
   */
  #save(micrograph, add, remove) {
    if (micrograph === this.micrograph && this.shown) this.#apply(add, remove);
    this.saving += 1;
    this.savingChanged.emit();
    this.#sent = this.#sent.then(async () => {
      try {
        const body = { add, remove: remove.map((one) => one.id) };
        const read = await post(`/api/micrographs/${micrograph}/filaments`, body);
        this.problem = "";
        this.saving -= 1;
        if (micrograph === this.micrograph && !this.saving) this.#show(read);
      } catch (error) {
        this.saving -= 1;
        this.problem = error instanceof Error ? error.message : String(error);
        if (micrograph === this.micrograph) void this.reload();
      }
      this.savingChanged.emit();
    });
  }

  /** Show a change before the server has answered. @param {Change[]} add @param {Change[]} remove */
  #apply(add, remove) {
    const { shown } = this;
    if (!shown) return;
    const gone = new Set(remove.map((one) => one.id));
    const of = (/** @type {string} */ kind, /** @type {Drawn[]} */ before) => [
      ...before.filter((one) => !gone.has(one.id)),
      ...add.filter((one) => one.kind === kind).map(({ id, points }) => ({ id, points })),
    ];
    this.shown = { ...shown, labels: of("label", shown.labels), rejected: of("rejected", shown.rejected) };
    this.changed.emit();
  }
}
