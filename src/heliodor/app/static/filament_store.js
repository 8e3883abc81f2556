import { get, post, RequestRefused } from "./api.js";
import { Emitter } from "./emitter.js";
import { UndoHistory } from "./undo_history.js";

/** The largest number that identifies a filament. */
const LARGEST_ID = 2 ** 31 - 1;
/** How long to wait before a change is sent again. */
const RETRY_MS = 1000;
/** Time between two looks at what is not saved yet. */
const SETTLE_MS = 30;

/**
 * @typedef {[number, number][]} Points
 * @typedef {{id: number, points: Points}} Drawn
 * @typedef {{points: Points, score: number | null, is: "kept" | "rejected" | "drawn"}} Traced
 * @typedef {{labels: Drawn[], rejected: Drawn[], traced: Traced[] | null, width_px: number | null,
 *   contamination: import("./contamination.js").Mask | null}} Filaments
 * @typedef {{id: number, kind: "label" | "rejected", points: Points}} Change
 * @typedef {{micrograph: number, add: Change[], remove: Change[]}} Step
 * @typedef {import("./label_store.js").OtherStep} OtherStep
 */

/** The filaments of the micrograph on screen: shown and saved, with undo and redo. */
export class FilamentStore {
  /** Emitted when the filaments on screen changed. */
  changed = new Emitter();
  /** Emitted when saving begins, ends or fails. */
  savingChanged = new Emitter();
  /** @type {UndoHistory<Step | OtherStep>} */
  history = new UndoHistory();
  /** The number of the micrograph on screen. */
  micrograph = -1;
  /** @type {Filaments | null} null while they are loaded */
  shown = null;
  /** Why the last change could not be saved; "" if it could. */
  problem = "";
  /** Changes that are not saved yet, oldest first. @type {Step[]} */
  #unsaved = [];
  #isSending = false;
  /** How many changes have been saved. */
  #savedCount = 0;

  /** The number of changes that are not saved yet. */
  get saving() {
    return this.#unsaved.length;
  }

  /** @param {number} micrograph */
  async open(micrograph) {
    if (micrograph !== this.micrograph) this.shown = null;
    this.micrograph = micrograph;
    await this.reload();
  }

  /** Read the filaments on screen again. */
  async reload() {
    const { micrograph } = this;
    let before, read;
    do {
      // An answer from before the last save would make a filament flicker.
      before = this.#savedCount;
      read = await get(`/api/micrographs/${micrograph}/filaments`);
    } while (before !== this.#savedCount);
    if (micrograph === this.micrograph) this.#show(read);
  }

  /** Show what the server says, with the changes that it does not have yet. @param {Filaments} read */
  #show(read) {
    this.shown = read;
    for (const { micrograph, add, remove } of this.#unsaved)
      if (micrograph === this.micrograph) this.#apply(add, remove);
    this.changed.emit();
  }

  /** Wait until all changes are saved; throw an error if one cannot be. */
  async settle() {
    while (this.#unsaved.length && !this.problem) await new Promise((done) => setTimeout(done, SETTLE_MS));
    if (this.#unsaved.length)
      throw new Error("Some changes could not be saved yet. Wait until the page says Saved, then try again.");
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

  /** @returns {Step | OtherStep | undefined} what was undone */
  undo() {
    const step = this.history.undo();
    if (step && "undo" in step) step.undo();
    else if (step) this.#save(step.micrograph, step.remove, step.add);
    return step;
  }

  /** @returns {Step | OtherStep | undefined} what was done again */
  redo() {
    const step = this.history.redo();
    if (step && "redo" in step) step.redo();
    else if (step) this.#save(step.micrograph, step.add, step.remove);
    return step;
  }

  /**
   * @param {number} micrograph
   * @param {Change[]} add
   * @param {Change[]} remove
   */
  #save(micrograph, add, remove) {
    this.#unsaved.push({ micrograph, add, remove });
    if (micrograph === this.micrograph && this.shown) {
      this.#apply(add, remove);
      this.changed.emit();
    }
    this.savingChanged.emit();
    void this.#send();
  }

  /** Send the changes one after another, and again until the server has them. */
  async #send() {
    if (this.#isSending) return;
    this.#isSending = true;
    while (this.#unsaved.length) {
      const { micrograph, add, remove } = this.#unsaved[0];
      try {
        const body = { add, remove: remove.map((one) => one.id) };
        const read = await post(`/api/micrographs/${micrograph}/filaments`, body);
        this.#unsaved.shift();
        this.#savedCount += 1;
        this.problem = "";
        if (micrograph === this.micrograph) this.#show(read);
      } catch (error) {
        this.problem = error instanceof Error ? error.message : String(error);
        if (error instanceof RequestRefused && !error.isTemporary) {
          this.#unsaved.shift();
          if (micrograph === this.micrograph) this.reload().catch(() => {});
        } else {
          this.savingChanged.emit();
          await new Promise((done) => setTimeout(done, RETRY_MS));
        }
      }
      this.savingChanged.emit();
    }
    this.#isSending = false;
  }

  /** Show a change before the server has answered. @param {Change[]} add @param {Change[]} remove */
  #apply(add, remove) {
    const { shown } = this;
    if (!shown) return;
    const gone = new Set([...remove, ...add].map((one) => one.id));
    const of = (/** @type {string} */ kind, /** @type {Drawn[]} */ before) => [
      ...before.filter((one) => !gone.has(one.id)),
      ...add.filter((one) => one.kind === kind).map(({ id, points }) => ({ id, points })),
    ];
    this.shown = { ...shown, labels: of("label", shown.labels), rejected: of("rejected", shown.rejected) };
  }
}
