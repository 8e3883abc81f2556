import { get } from "./api.js";
import { History } from "./history.js";
import { Signal } from "./signal.js";

/** Micrographs whose labels are kept at hand. */
const KEPT = 30;

/**
 * @typedef {import("./outbox.js").Label} Label
 * @typedef {import("./outbox.js").Outbox} Outbox
 * @typedef {{micrograph: number, add: Label[], remove: Label[]}} Step
 * @typedef {{revision: number, labels: Map<string, Label>, stale: boolean}} Sheet
 */

/** @param {number} size */
function randomName(size = 12) {
  const bytes = crypto.getRandomValues(new Uint8Array(size));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * The labels of the micrographs: shown at once, saved in order, undone and done again. What the
 * server has is read anew whenever it says that it changed; what is unsaved stays on top.
 */
export class Labels {
  /** Told the micrograph whose labels differ now. */
  changed = new Signal();
  /** Told (micrograph, particles, negatives) after each change made here. */
  counted = new Signal();
  /** @type {History<Step>} */
  history = new History();
  /** @type {Map<number, Sheet>} */
  #sheets = new Map();
  /** @type {Map<number, number>} the newest revision that holds what was saved from here */
  #savedAt = new Map();
  /** @type {Map<number, Promise<void>>} */
  #reading = new Map();

  /**
   * @param {Outbox} outbox
   * @param {(micrograph: number) => string} nameOf
   */
  constructor(outbox, nameOf) {
    this.outbox = outbox;
    this.nameOf = nameOf;
    outbox.saved.on((change, revision) => this.#savedAt.set(change.micrograph, revision));
    outbox.refused.on((change) => void this.reread(change.micrograph));
  }

  /**
   * @param {number} micrograph
   * @returns {Label[] | null} null while they are not known
   */
  of(micrograph) {
    const sheet = this.#sheets.get(micrograph);
    return sheet ? [...sheet.labels.values()] : null;
  }

  /**
   * Have the labels of a micrograph at hand.
   * @param {number} micrograph
   */
  async open(micrograph) {
    const sheet = this.#sheets.get(micrograph);
    if (!sheet || sheet.stale) await this.reread(micrograph);
  }

  /**
   * The server says that these changed; those not at hand are read when they are opened.
   * @param {number[] | null} micrographs null for all
   * @param {number} onScreen read at once
   */
  outdated(micrographs, onScreen) {
    for (const micrograph of micrographs ?? this.#sheets.keys()) {
      const sheet = this.#sheets.get(micrograph);
      if (sheet) sheet.stale = true;
    }
    if (!micrographs || micrographs.includes(onScreen)) void this.reread(onScreen);
  }

  /** @param {number} micrograph */
  reread(micrograph) {
    const running = this.#reading.get(micrograph);
    const reading = (running ?? Promise.resolve()).then(() => this.#read(micrograph));
    this.#reading.set(micrograph, reading);
    return reading.finally(() => {
      if (this.#reading.get(micrograph) === reading) this.#reading.delete(micrograph);
    });
  }

  /** @param {number} micrograph */
  async #read(micrograph) {
    let read = await get(`/api/micrographs/${micrograph}/labels`);
    // An answer from before something was saved from here would make it blink.
    if (read.revision < (this.#savedAt.get(micrograph) ?? 0))
      read = await get(`/api/micrographs/${micrograph}/labels`);
    /** @type {Map<string, Label>} */
    const labels = new Map();
    read.id.forEach((/** @type {string} */ id, /** @type {number} */ i) =>
      labels.set(id, { id, x: read.x[i], y: read.y[i], kind: read.kind[i] }),
    );
    for (const { add, remove } of this.outbox.of(micrograph)) {
      for (const id of remove) labels.delete(id);
      for (const label of add) labels.set(label.id, label);
    }
    this.#sheets.delete(micrograph);
    this.#sheets.set(micrograph, { revision: read.revision, labels, stale: false });
    for (const old of this.#sheets.keys()) {
      if (this.#sheets.size <= KEPT) break;
      this.#sheets.delete(old);
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
    const named = add.map((label) => ({ id: randomName(), ...label }));
    const step = { micrograph, add: named, remove };
    this.history.add(step);
    this.#apply(micrograph, named, remove);
    return step;
  }

  /** Take back the last step for good; of any other step: nothing. @param {Step} step */
  retract(step) {
    if (this.history.drop(step)) this.#apply(step.micrograph, step.remove, step.add);
  }

  /** @returns {Step | undefined} the step taken back */
  undo() {
    const step = this.history.back();
    if (step) this.#apply(step.micrograph, step.remove, step.add);
    return step;
  }

  /** @returns {Step | undefined} the step taken again */
  redo() {
    const step = this.history.again();
    if (step) this.#apply(step.micrograph, step.add, step.remove);
    return step;
  }

  /**
   * @param {number} micrograph
   * @param {Label[]} add
   * @param {Label[]} remove
   */
  #apply(micrograph, add, remove) {
    const sheet = this.#sheets.get(micrograph);
    if (sheet) {
      for (const label of remove) sheet.labels.delete(label.id);
      for (const label of add) sheet.labels.set(label.id, label);
    }
    const gone = remove.map((label) => label.id);
    this.outbox.push({ micrograph, name: this.nameOf(micrograph), add, remove: gone });
    if (!sheet) return;
    let particles = 0;
    for (const label of sheet.labels.values()) if (label.kind === "particle") particles += 1;
    this.counted.emit(micrograph, particles, sheet.labels.size - particles);
    this.changed.emit(micrograph);
  }
}
