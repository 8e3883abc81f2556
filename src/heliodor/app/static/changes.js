import { get, Refused, Unreachable } from "./api.js";
import { note } from "./timings.js";

const BUSY = 400;
const QUIET = 1500;
const HIDDEN = 6000;
const COLUMNS = ["labels", "negatives", "picks", "done", "quality", "scored", "failed"];

/** @typedef {import("./room.js").Room} Room */

/** Follows what the server says has changed: by the engine, by another tab, by this one. */
export class Changes {
  /** What keeps the page from hearing, "" when nothing does. */
  trouble = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #asking = false;
  #again = false;
  #revision = 0;
  #boot = "";

  /**
   * @param {Room} room
   * @param {() => void} connection told when `trouble` differs
   */
  constructor(room, connection) {
    this.room = room;
    this.connection = connection;
    this.#revision = room.rows.revision;
    this.#boot = room.project.boot;
    room.asked.on(() => this.now());
    document.addEventListener("visibilitychange", () => this.now());
  }

  /** Ask at once rather than in a while. */
  now() {
    clearTimeout(this.#timer);
    if (this.#asking) this.#again = true;
    else void this.#ask();
  }

  get #pause() {
    const { engine, training, run } = this.room;
    if (document.hidden) return HIDDEN;
    const busy = ["starting", "training", "scoring"].includes(engine.state);
    return busy || training.state === "running" || run.state === "running" ? BUSY : QUIET;
  }

  async #ask() {
    this.#asking = true;
    try {
      const news = await get(`/api/changes?since=${this.#revision}`);
      if (news.boot !== this.#boot) {
        // Another life of the server: what this page knows may be wrong. Unsaved changes are kept
        // by the tab and sent after the reload.
        window.location.reload();
        return;
      }
      if (news.all) this.room.rows = await get("/api/micrographs");
      const start = performance.now();
      this.#take(news);
      note("take changes", performance.now() - start);
      this.#hear("");
    } catch (error) {
      const locked = error instanceof Refused && [401, 403].includes(error.status);
      if (locked) this.#hear("This page's key is no longer valid: open the address again.");
      else if (error instanceof Unreachable || error instanceof Refused) this.#hear(error.message);
      else throw error;
    } finally {
      this.#asking = false;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.now(), this.#again ? 0 : this.#pause);
      this.#again = false;
    }
  }

  /** @param {string} trouble */
  #hear(trouble) {
    if (trouble === this.trouble) return;
    this.trouble = trouble;
    this.connection();
  }

  /** @param {any} news */
  #take(news) {
    const { room } = this;
    this.#revision = news.revision;
    const rescored = this.#takeRows(news);
    const model = room.engine.model;
    room.engine = news.engine;
    room.training = news.training;
    room.run = news.run;
    room.take(news.settings);
    room.workChanged.emit();
    if (news.all || news.labels.length) {
      room.labels.outdated(news.all ? null : news.labels, room.current);
    }
    if (news.all || news.engine.model !== model) room.picks.outdated(null, room.current);
    else if (rescored.length) room.picks.outdated(rescored, room.current);
    if (news.all || rescored.length || news.engine.model !== model) void room.readHistogram();
  }

  /**
   * @param {any} news
   * @returns {number[]} micrographs whose picks are new
   */
  #takeRows(news) {
    const rows = /** @type {any} */ (this.room.rows);
    const rescored = [];
    for (const row of news.rows) {
      // Scored again by the same model, and the time between went unseen.
      const missed = row.id === this.room.current && !this.room.picks.of(row.id);
      if (rows.scored[row.id] !== row.scored || (missed && row.scored !== null))
        rescored.push(row.id);
      for (const column of COLUMNS) rows[column][row.id] = row[column];
    }
    // Counts of what is on its way from here are newer than the server's.
    for (const row of news.rows) {
      const labels = this.room.outbox.of(row.id).length ? this.room.labels.of(row.id) : null;
      if (!labels) continue;
      const particles = labels.filter((label) => label.kind === "particle").length;
      rows.labels[row.id] = particles;
      rows.negatives[row.id] = labels.length - particles;
    }
    if (news.all) this.room.rowsChanged.emit(null);
    else if (news.rows.length) this.room.rowsChanged.emit(news.rows.map((/** @type {any} */ r) => r.id));
    return rescored;
  }
}
