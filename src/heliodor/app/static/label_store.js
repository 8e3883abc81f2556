import { get } from "./api.js";
import { Emitter } from "./emitter.js";
import { readMyName } from "./my_name.js";
import { UndoHistory } from "./undo_history.js";

/** Micrographs whose labels are kept in memory. */
const MAX_CACHED = 30;

/**
 * @typedef {import("./save_queue.js").Label} Label
 * @typedef {import("./save_queue.js").SaveQueue} SaveQueue
 * @typedef {{micrograph: number, add: Label[], remove: Label[]}} Step
 * @typedef {{micrograph?: number, undo: () => void, redo: () => void}} OtherStep something else that can be undone
 * @typedef {{revision: number, labels: Map<string, Label>, stale: boolean}} CachedLabels
 */

/** @param {number} size */
function createId(size = 12) {
  const bytes = crypto.getRandomValues(new Uint8Array(size));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * The labels and negatives of the micrographs: shown at once, saved in order, with undo and redo.
 * They are read again whenever the server reports a change; unsaved changes are kept on top.
 */
export class LabelStore {
  /** Emitted with a micrograph whose labels changed. */
  changed = new Emitter();
  /** Emitted with (micrograph, particles, negatives) after each change made here. */
  countsChanged = new Emitter();
  /** @type {UndoHistory<Step | OtherStep>} */
  history = new UndoHistory();
  /** @type {Map<number, CachedLabels>} */
  #cache = new Map();
  /** @type {Map<number, number>} the newest revision with what was saved from here */
  #savedAt = new Map();
  /** @type {Map<number, Promise<void>>} */
  #reading = new Map();

  /**
   * @param {SaveQueue} saveQueue
   * @param {(micrograph: number) => string} getName
   */
  constructor(saveQueue, getName) {
    this.saveQueue = saveQueue;
    this.getName = getName;
    saveQueue.saved.on((change, revision) => this.#savedAt.set(change.micrograph, revision));
    saveQueue.refused.on((change) => void this.reload(change.micrograph));
  }

  /**
   * @param {number} micrograph
   * @returns {Label[] | null} null while they are not loaded
   */
  get(micrograph) {
    const cached = this.#cache.get(micrograph);
    return cached ? [...cached.labels.values()] : null;
  }

  /**
   * Load the labels of a micrograph.
   * @param {number} micrograph
   */
  async open(micrograph) {
    const cached = this.#cache.get(micrograph);
    if (!cached || cached.stale) await this.reload(micrograph);
  }

  /**
   * The server reports that these changed; those not on screen are read when they are opened.
   * @param {number[] | null} micrographs null for all
   * @param {number} onScreen read at once
   */
  invalidate(micrographs, onScreen) {
    for (const micrograph of micrographs ?? this.#cache.keys()) {
      const cached = this.#cache.get(micrograph);
      if (cached) cached.stale = true;
    }
    if (!micrographs || micrographs.includes(onScreen)) void this.reload(onScreen);
  }

  /** @param {number} micrograph */
  reload(micrograph) {
    const running = this.#reading.get(micrograph);
    const reading = (running ?? Promise.resolve()).then(() => this.#fetchLabels(micrograph));
    this.#reading.set(micrograph, reading);
    return reading.finally(() => {
      if (this.#reading.get(micrograph) === reading) this.#reading.delete(micrograph);
    });
  }

  /** @param {number} micrograph */
  async #fetchLabels(micrograph) {
    let read = await get(`/api/micrographs/${micrograph}/labels`);
    // An answer from before the last save would make the label flicker.
    if (read.revision < (this.#savedAt.get(micrograph) ?? 0))
      read = await get(`/api/micrographs/${micrograph}/labels`);
    /** @type {Map<string, Label>} */
    const labels = new Map();
    read.id.forEach((/** @type {string} */ id, /** @type {number} */ i) =>
      labels.set(id, { id, x: read.x[i], y: read.y[i], kind: read.kind[i], by: read.by[i], at: read.at[i] }),
    );
    for (const { add, remove } of this.saveQueue.changesOf(micrograph)) {
      for (const id of remove) labels.delete(id);
      for (const label of add) labels.set(label.id, label);
    }
    this.#cache.delete(micrograph);
    this.#cache.set(micrograph, { revision: read.revision, labels, stale: false });
    for (const old of this.#cache.keys()) {
      if (this.#cache.size <= MAX_CACHED) break;
      this.#cache.delete(old);
    }
    this.changed.emit(micrograph);
  }

  /**
   * Add and remove labels, as one step that can be undone.
   * @param {number} micrograph
   * @param {{x: number, y: number, kind: "particle" | "negative"}[]} add
   * @param {Label[]} [remove]
   * @returns {Step}
   */
  change(micrograph, add, remove = []) {
    const named = add.map((label) => ({ id: createId(), ...label }));
    const step = { micrograph, add: named, remove };
    this.history.add(step);
    this.#apply(micrograph, named, remove);
    return step;
  }

  /**
   * Add and remove labels on several micrographs, as one step that can be undone.
   * @param {{micrograph: number, add: {x: number, y: number, kind: "particle" | "negative"}[], remove: Label[]}[]} changes
   * @param {(isDone: boolean) => void} onChange called when it is done, undone or redone
   */
  changeMany(changes, onChange) {
    const steps = changes.map(({ micrograph, add, remove }) => ({
      micrograph, remove, add: add.map((label) => ({ id: createId(), ...label })),
    }));
    const apply = () => {
      for (const { micrograph, add, remove } of steps) this.#apply(micrograph, add, remove);
      onChange(true);
    };
    const revert = () => {
      for (const { micrograph, add, remove } of steps) this.#apply(micrograph, remove, add);
      onChange(false);
    };
    this.history.add({ undo: revert, redo: apply });
    apply();
  }

  /** Undo and forget a step, if it is the last one. @param {Step} step */
  retract(step) {
    if (this.history.drop(step)) this.#apply(step.micrograph, step.remove, step.add);
  }

  /** @returns {Step | OtherStep | undefined} the step that was undone */
  undo() {
    const step = this.history.undo();
    if (step && "undo" in step) step.undo();
    else if (step) this.#apply(step.micrograph, step.remove, step.add);
    return step;
  }

  /** @returns {Step | OtherStep | undefined} the step that was redone */
  redo() {
    const step = this.history.redo();
    if (step && "redo" in step) step.redo();
    else if (step) this.#apply(step.micrograph, step.add, step.remove);
    return step;
  }

  /**
   * @param {number} micrograph
   * @param {Label[]} add
   * @param {Label[]} remove
   */
  #apply(micrograph, add, remove) {
    const cached = this.#cache.get(micrograph);
    if (cached) {
      for (const label of remove) cached.labels.delete(label.id);
      for (const label of add) cached.labels.set(label.id, label);
    }
    const removedIds = remove.map((label) => label.id);
    const by = readMyName();
    for (const label of add) Object.assign(label, { by: by || null, at: Date.now() / 1000 });
    this.saveQueue.push({ micrograph, name: this.getName(micrograph), add, remove: removedIds, by });
    if (!cached) return;
    let particles = 0;
    for (const label of cached.labels.values()) if (label.kind === "particle") particles += 1;
    this.countsChanged.emit(micrograph, particles, cached.labels.size - particles);
    this.changed.emit(micrograph);
  }
}
