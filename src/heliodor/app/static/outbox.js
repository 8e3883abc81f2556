import { post, Refused } from "./api.js";
import { Signal } from "./signal.js";

/** Changes of one micrograph that wait go together, up to so many. */
const TOGETHER = 200;
const PAUSES = [300, 600, 1200, 2500, 5000];

/**
 * @typedef {{id: string, x: number, y: number, kind: "particle" | "negative"}} Label
 * @typedef {{micrograph: number, name: string, add: Label[], remove: string[]}} Change
 */

/**
 * Several changes of one micrograph, in order, as one.
 * @param {Change[]} changes
 * @returns {Change}
 */
export function merged(changes) {
  /** @type {Map<string, Label>} */
  const add = new Map();
  /** @type {Set<string>} */
  const remove = new Set();
  for (const change of changes) {
    for (const id of change.remove) {
      add.delete(id);
      remove.add(id);
    }
    for (const label of change.add) {
      remove.delete(label.id);
      add.set(label.id, label);
    }
  }
  return { ...changes[0], add: [...add.values()], remove: [...remove] };
}

/**
 * Changes of labels on their way to the server: one after another, tried again until they are
 * there. They outlive a reload of the page.
 */
export class Outbox {
  /** Told whenever the number of unsaved changes, or whether saving fails, differs. */
  changed = new Signal();
  /** Told (change, revision) of each change that the server has. */
  saved = new Signal();
  /** Told (change, sentence) of each change that the server will never take. */
  refused = new Signal();
  /** What went wrong at the last try, "" when nothing did. */
  trouble = "";
  /** @type {Change[]} the first ones are being sent */
  #queue = [];
  #sending = false;
  #tries = 0;
  #key;

  /** @param {string} folder the project: changes for another one are not sent to it */
  constructor(folder) {
    this.#key = `heliodor outbox ${folder}`;
  }

  /**
   * Take up what an earlier life of this tab left unsent.
   * @param {(name: string) => number} placeOf the micrograph of that name, -1 for none
   */
  recover(placeOf) {
    const left = sessionStorage.getItem(this.#key);
    if (!left) return;
    for (const change of JSON.parse(left)) {
      const micrograph = placeOf(change.name);
      if (micrograph >= 0) this.#queue.push({ ...change, micrograph });
    }
    this.#told();
    void this.#send();
  }

  get size() {
    return this.#queue.length;
  }

  /**
   * The unsaved changes of a micrograph, oldest first.
   * @param {number} micrograph
   */
  of(micrograph) {
    return this.#queue.filter((change) => change.micrograph === micrograph);
  }

  /** @param {Change} change */
  push(change) {
    this.#queue.push(change);
    this.#told();
    void this.#send();
  }

  #told() {
    if (this.#queue.length) sessionStorage.setItem(this.#key, JSON.stringify(this.#queue));
    else sessionStorage.removeItem(this.#key);
    this.changed.emit();
  }

  async #send() {
    if (this.#sending) return;
    this.#sending = true;
    while (this.#queue.length) {
      const { micrograph: first } = this.#queue[0];
      let together = this.#queue.findIndex((change) => change.micrograph !== first);
      if (together < 0) together = this.#queue.length;
      together = Math.min(together, TOGETHER);
      const change = merged(this.#queue.slice(0, together));
      try {
        const { micrograph, add, remove } = change;
        const answer = await post(`/api/micrographs/${micrograph}/labels`, { add, remove });
        this.#done(together);
        this.saved.emit(change, answer.revision);
      } catch (error) {
        if (error instanceof Refused && !error.passing && ![401, 403].includes(error.status)) {
          this.#done(together);
          this.refused.emit(change, error.message);
        } else await this.#pause(error instanceof Error ? error.message : String(error));
      }
    }
    this.#sending = false;
  }

  /** @param {number} n changes are settled */
  #done(n) {
    this.#queue.splice(0, n);
    this.#tries = 0;
    this.trouble = "";
    this.#told();
  }

  /** @param {string} trouble */
  async #pause(trouble) {
    this.trouble = trouble;
    this.changed.emit();
    const pause = PAUSES[Math.min(this.#tries++, PAUSES.length - 1)];
    await new Promise((done) => setTimeout(done, pause));
  }
}
