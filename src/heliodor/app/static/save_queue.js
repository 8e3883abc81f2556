import { post, RequestRefused } from "./api.js";
import { Emitter } from "./emitter.js";

/** Waiting changes of one micrograph are sent together, up to this many. */
const MAX_BATCH = 200;
const RETRY_DELAYS_MS = [300, 600, 1200, 2500, 5000];

/**
 * @typedef {{id: string, x: number, y: number, kind: "particle" | "negative", by?: string | null, at?: number | null}} Label
 * @typedef {{micrograph: number, name: string, add: Label[], remove: string[], by?: string}} Change
 */

/**
 * Merge several changes of one micrograph, oldest first, into one.
 * @param {Change[]} changes
 * @returns {Change}
 */
export function mergeChanges(changes) {
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
 * Changes of labels that are not saved yet: sent one after another, and retried until the server
 * has them. They survive a reload of the page.
 */
export class SaveQueue {
  /** Emitted when the number of unsaved changes changed, or saving starts or stops to fail. */
  changed = new Emitter();
  /** Emitted with (change, revision) for each change the server saved. */
  saved = new Emitter();
  /** Emitted with (change, message) for each change the server refused for good. */
  refused = new Emitter();
  /** Why the last attempt failed; "" if it did not. */
  problem = "";
  /** @type {Change[]} those at the front are being sent */
  #queue = [];
  #sending = false;
  #failedAttempts = 0;
  #key;

  /** @param {string} folder of the project: changes of another project are not sent to it */
  constructor(folder) {
    this.#key = `heliodor outbox ${folder}`;
  }

  /**
   * Restore the changes that were unsaved when this tab was reloaded.
   * @param {(name: string) => number} findMicrograph returns the micrograph of that name, -1 for none
   */
  restore(findMicrograph) {
    const stored = sessionStorage.getItem(this.#key);
    if (!stored) return;
    for (const change of JSON.parse(stored)) {
      const micrograph = findMicrograph(change.name);
      if (micrograph >= 0) this.#queue.push({ ...change, micrograph });
    }
    this.#onQueueChanged();
    void this.#send();
  }

  get size() {
    return this.#queue.length;
  }

  /**
   * The unsaved changes of a micrograph, oldest first.
   * @param {number} micrograph
   */
  changesOf(micrograph) {
    return this.#queue.filter((change) => change.micrograph === micrograph);
  }

  /** @param {Change} change */
  push(change) {
    this.#queue.push(change);
    this.#onQueueChanged();
    void this.#send();
  }

  #onQueueChanged() {
    if (this.#queue.length) sessionStorage.setItem(this.#key, JSON.stringify(this.#queue));
    else sessionStorage.removeItem(this.#key);
    this.changed.emit();
  }

  async #send() {
    if (this.#sending) return;
    this.#sending = true;
    while (this.#queue.length) {
      const { micrograph: first, by: author } = this.#queue[0];
      let batch = this.#queue.findIndex((change) => change.micrograph !== first || change.by !== author);
      if (batch < 0) batch = this.#queue.length;
      batch = Math.min(batch, MAX_BATCH);
      const change = mergeChanges(this.#queue.slice(0, batch));
      try {
        const { micrograph, remove, by = "" } = change;
        const add = change.add.map(({ id, x, y, kind }) => ({ id, x, y, kind }));
        const answer = await post(`/api/micrographs/${micrograph}/labels`, { add, remove, by });
        this.#removeSent(batch);
        this.saved.emit(change, answer.revision);
      } catch (error) {
        if (error instanceof RequestRefused && !error.isTemporary && ![401, 403].includes(error.status)) {
          this.#removeSent(batch);
          this.refused.emit(change, error.message);
        } else await this.#waitToRetry(error instanceof Error ? error.message : String(error));
      }
    }
    this.#sending = false;
  }

  /** @param {number} n number of changes that the server has answered */
  #removeSent(n) {
    this.#queue.splice(0, n);
    this.#failedAttempts = 0;
    this.problem = "";
    this.#onQueueChanged();
  }

  /** @param {string} problem */
  async #waitToRetry(problem) {
    this.problem = problem;
    this.changed.emit();
    const pause = RETRY_DELAYS_MS[Math.min(this.#failedAttempts++, RETRY_DELAYS_MS.length - 1)];
    await new Promise((done) => setTimeout(done, pause));
  }
}
