import { get } from "./api.js";
import { CandidateView } from "./candidate_view.js";
import { byId, createElement, formatCount, setText, toSentence } from "./dom.js";
import { withTiming } from "./timings.js";

const QUESTION_COUNT = 10;

/**
 * @typedef {import("./state.js").AppState} AppState
 * @typedef {{micrograph: number, x: number, y: number, score: number, why: string}} Question
 * @typedef {"particle" | "negative" | "skipped"} Answer
 */

/** Ten picks chosen by the server, shown one after another and answered with two keys. */
export class ReviewPanel {
  /** @type {Question[]} */ #questions = [];
  /** @type {(Answer | null)[]} */ #answers = [];
  #index = 0;
  #loading = false;

  /**
   * @param {AppState} state
   * @param {import("./tile_store.js").TileStore} tiles
   * @param {import("./panels.js").Panels} panels
   * @param {() => number} lowPass returns the filter in use
   */
  constructor(state, tiles, panels, lowPass) {
    this.state = state;
    this.panels = panels;
    this.candidateView = new CandidateView(state, tiles, lowPass);
    const on = (/** @type {string} */ id, /** @type {() => any} */ act) =>
      byId(id).addEventListener("click", withTiming(id, act));
    on("review-start", () => void this.start());
    on("review-yes", () => this.answer("particle"));
    on("review-no", () => this.answer("negative"));
    on("review-skip", () => this.answer("skipped"));
    on("review-back", () => this.back());
    on("review-stop", () => this.stop());
    panels.shown.on(() => this.#show());
    this.#show();
  }

  /** Whether a question is on screen. */
  get isOpen() {
    return this.#index < this.#questions.length && this.panels.current === "review";
  }

  async start() {
    if (this.#loading) return;
    this.#loading = true;
    byId("review-start").disabled = true;
    setText(byId("review-message"), "Selecting picks…");
    try {
      const { items } = await get(`/api/questions?count=${QUESTION_COUNT}`);
      this.#questions = items;
      this.#answers = items.map(() => null);
      this.#index = 0;
      setText(byId("review-message"), items.length ? "" : "No picks yet: wait until a micrograph has been scored.");
      for (const id of new Set(items.map((/** @type {Question} */ one) => one.micrograph)))
        void this.state.labels.open(/** @type {number} */ (id));
    } catch (error) {
      setText(byId("review-message"), toSentence(error instanceof Error ? error.message : String(error)));
    } finally {
      this.#loading = false;
      byId("review-start").disabled = false;
    }
    this.#show();
  }

  /** @param {Answer} answer */
  answer(answer) {
    const question = this.#questions[this.#index];
    if (!question || !this.isOpen) return;
    this.#answers[this.#index] = answer;
    if (answer !== "skipped") {
      const { micrograph, x, y } = question;
      this.state.labels.change(micrograph, [{ x, y, kind: answer }]);
    }
    this.#index += 1;
    if (this.#index === this.#questions.length) this.#summarize();
    this.#show();
  }

  /** Go back one question and undo its answer. */
  back() {
    if (!this.isOpen || this.#index === 0) return;
    this.#index -= 1;
    if (this.#answers[this.#index] !== "skipped") this.state.labels.undo();
    this.#answers[this.#index] = null;
    this.#show();
  }

  stop() {
    if (!this.isOpen) return false;
    this.#summarize();
    this.#questions = [];
    this.#show();
    return true;
  }

  #summarize() {
    const count = (/** @type {Answer} */ answer) => this.#answers.filter((one) => one === answer).length;
    const [particles, negatives] = [count("particle"), count("negative")];
    if (!particles && !negatives) return;
    const answers = formatCount(particles + negatives, "answer");
    setText(byId("review-message"),
      `${answers} saved: ${formatCount(particles, "particle")}, ${negatives} not particles. Train (T) to use them.`);
  }

  #show() {
    const { isOpen: open } = this;
    byId("review-question").hidden = !open;
    byId("review-start").hidden = open;
    if (!open) {
      this.candidateView.close();
      return;
    }
    const question = this.#questions[this.#index];
    // The list, the tools and the counts are those of the micrograph that is asked about.
    void this.state.open(question.micrograph);
    const dots = byId("review-dots");
    dots.replaceChildren(...this.#questions.map((_, i) =>
      createElement("i", i === this.#index ? "now" : this.#answers[i] ?? "")));
    dots.setAttribute("aria-label", `Question ${this.#index + 1} of ${this.#questions.length}`);
    byId("review-back").disabled = this.#index === 0;
    setText(byId("review-why"), `${toSentence(question.why)} Score ${question.score.toFixed(2)}.`);
    void this.candidateView.show(question, this.#questions[this.#index + 1] ?? null);
  }
}
