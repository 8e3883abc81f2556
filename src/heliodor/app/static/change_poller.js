import { get, RequestRefused, ServerUnreachable } from "./api.js";
import { recordTiming } from "./timings.js";

const BUSY_INTERVAL_MS = 400;
const IDLE_INTERVAL_MS = 1500;
const HIDDEN_INTERVAL_MS = 6000;
const COLUMNS = ["labels", "negatives", "picks", "done", "excluded", "ignored", "mask", "offset", "quality", "particles", "note", "scored", "failed", "version"];

/** @typedef {import("./state.js").AppState} AppState */

/** Asks the server again and again what has changed: by the engine, another tab or this one. */
export class ChangePoller {
  /** Why the server does not answer; "" when it does. */
  problem = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #polling = false;
  #pollAgain = false;
  #revision = 0;

  /**
   * @param {AppState} state
   * @param {() => void} onProblemChange called when `problem` changes
   */
  constructor(state, onProblemChange) {
    this.state = state;
    this.onProblemChange = onProblemChange;
    this.#revision = state.rows.revision;
    state.requested.on(() => this.pollNow());
    document.addEventListener("visibilitychange", () => this.pollNow());
  }

  /** Poll now instead of after the usual pause. */
  pollNow() {
    clearTimeout(this.#timer);
    if (this.#polling) this.#pollAgain = true;
    else void this.#poll();
  }

  get #interval() {
    const { engine, training, run } = this.state;
    if (document.hidden) return HIDDEN_INTERVAL_MS;
    const busy = ["starting", "training", "scoring"].includes(engine.state);
    return busy || training.state === "running" || run.state === "running" ? BUSY_INTERVAL_MS : IDLE_INTERVAL_MS;
  }

  async #poll() {
    this.#polling = true;
    try {
      const news = await get(`/api/changes?since=${this.#revision}`);
      if (news.all) {
        const { version: known } = this.state.rows;
        this.state.setRows(await get("/api/micrographs"));
        this.state.rows.version.forEach((version, id) => {
          if (version !== known[id]) void this.state.reopen(id);
        });
      }
      const start = performance.now();
      this.#apply(news);
      recordTiming("take changes", performance.now() - start);
      this.#setProblem("");
    } catch (error) {
      const isWithoutAccess = error instanceof RequestRefused && error.isWithoutAccess;
      if (isWithoutAccess) this.#setProblem("The server was restarted. Open the new address printed in the terminal.");
      else if (error instanceof ServerUnreachable || error instanceof RequestRefused) this.#setProblem(error.message);
      else throw error;
    } finally {
      this.#polling = false;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.pollNow(), this.#pollAgain ? 0 : this.#interval);
      this.#pollAgain = false;
    }
  }

  /** @param {string} problem */
  #setProblem(problem) {
    if (problem === this.problem) return;
    this.problem = problem;
    this.onProblemChange();
  }

  /** @param {any} news */
  #apply(news) {
    const { state } = this;
    this.#revision = news.revision;
    const rescored = this.#applyRows(news);
    const model = state.engine.model;
    const training = state.training.state;
    const thorough = state.thorough.state;
    state.engine = news.engine;
    state.training = news.training;
    state.thorough = news.thorough;
    state.run = news.run;
    state.applySettings(news.settings);
    if (news.settings.threshold !== null) state.countedAt = news.settings.threshold;
    else if (state.histogram.model === news.engine.model) state.countedAt = state.histogram.automatic;
    state.activityChanged.emit();
    if (news.all || news.labels.length) {
      state.labels.invalidate(news.all ? null : news.labels, state.current);
    }
    if (news.all || news.engine.model !== model) state.picks.invalidate(null, state.current);
    else if (rescored.length) state.picks.invalidate(rescored, state.current);
    if (news.all || rescored.length || news.engine.model !== model) void state.readHistogram();
    if (news.engine.model !== model || news.training.state !== training || news.thorough.state !== thorough)
      state.modelsChanged.emit();
  }

  /**
   * @param {any} news
   * @returns {number[]} micrographs with new picks
   */
  #applyRows(news) {
    const rows = /** @type {any} */ (this.state.rows);
    const rescored = [];
    const replaced = [];
    for (const row of news.rows) {
      // Scored again by the same model between two polls.
      const missed = row.id === this.state.current && !this.state.picks.get(row.id);
      const counted = rows.excluded[row.id] !== row.excluded || rows.ignored[row.id] !== row.ignored
        || rows.mask[row.id] !== row.mask || rows.offset[row.id] !== row.offset;
      if (rows.scored[row.id] !== row.scored || counted || (missed && row.scored !== null))
        rescored.push(row.id);
      if (rows.version[row.id] !== row.version) replaced.push(row.id);
      for (const column of COLUMNS) rows[column][row.id] = row[column];
    }
    // Where changes made here are still unsaved, this page's counts are newer than the server's.
    for (const row of news.rows) {
      const labels = this.state.saveQueue.changesOf(row.id).length ? this.state.labels.get(row.id) : null;
      if (!labels) continue;
      const particles = labels.filter((label) => label.kind === "particle").length;
      rows.labels[row.id] = particles;
      rows.negatives[row.id] = labels.length - particles;
    }
    if (news.all) this.state.rowsChanged.emit(null);
    else if (news.rows.length) this.state.rowsChanged.emit(news.rows.map((/** @type {any} */ r) => r.id));
    for (const id of replaced) void this.state.reopen(id);
    return rescored;
  }
}
