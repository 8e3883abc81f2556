import { get } from "./api.js";
import { byId, counted, make, say, sentence } from "./dom.js";
import { QuestionStage } from "./question_stage.js";
import { timed } from "./timings.js";

const TEN = 10;

/**
 * @typedef {import("./room.js").Room} Room
 * @typedef {{micrograph: number, x: number, y: number, score: number, why: string}} Question
 * @typedef {"particle" | "negative" | "skipped"} Answer
 */

/** Ten candidates from which most is learnt, one after another, answered with two keys. */
export class AskPanel {
  /** @type {Question[]} */ #questions = [];
  /** @type {(Answer | null)[]} */ #answers = [];
  #at = 0;
  #asking = false;

  /**
   * @param {Room} room
   * @param {import("./tiles.js").TileStore} tiles
   * @param {import("./panels.js").Panels} panels
   * @param {() => number} lowPass the filter in use
   */
  constructor(room, tiles, panels, lowPass) {
    this.room = room;
    this.panels = panels;
    this.stage = new QuestionStage(room, tiles, lowPass);
    const on = (/** @type {string} */ id, /** @type {() => any} */ act) =>
      byId(id).addEventListener("click", timed(id, act));
    on("ask-start", () => void this.start());
    on("ask-yes", () => this.answer("particle"));
    on("ask-no", () => this.answer("negative"));
    on("ask-skip", () => this.answer("skipped"));
    on("ask-back", () => this.back());
    on("ask-stop", () => this.stop());
    panels.shown.on(() => this.#show());
    this.#show();
  }

  /** Whether a question is on the screen. */
  get open() {
    return this.#at < this.#questions.length && this.panels.current === "ask";
  }

  async start() {
    if (this.#asking) return;
    this.#asking = true;
    byId("ask-start").disabled = true;
    say(byId("ask-says"), "Choosing");
    try {
      const { items } = await get(`/api/questions?count=${TEN}`);
      this.#questions = items;
      this.#answers = items.map(() => null);
      this.#at = 0;
      say(byId("ask-says"), items.length ? "" : "There is nothing to ask yet: micrographs have to be looked at first.");
      for (const id of new Set(items.map((/** @type {Question} */ one) => one.micrograph)))
        void this.room.labels.open(/** @type {number} */ (id));
    } catch (error) {
      say(byId("ask-says"), sentence(error instanceof Error ? error.message : String(error)));
    } finally {
      this.#asking = false;
      byId("ask-start").disabled = false;
    }
    this.#show();
  }

  /** @param {Answer} answer */
  answer(answer) {
    const question = this.#questions[this.#at];
    if (!question || !this.open) return;
    this.#answers[this.#at] = answer;
    if (answer !== "skipped") {
      const { micrograph, x, y } = question;
      this.room.labels.change(micrograph, [{ x, y, kind: answer }]);
    }
    this.#at += 1;
    if (this.#at === this.#questions.length) this.#finish();
    this.#show();
  }

  /** One question back: its answer is taken back too. */
  back() {
    if (!this.open || this.#at === 0) return;
    this.#at -= 1;
    if (this.#answers[this.#at] !== "skipped") this.room.labels.undo();
    this.#answers[this.#at] = null;
    this.#show();
  }

  stop() {
    if (!this.open) return false;
    this.#finish();
    this.#questions = [];
    this.#show();
    return true;
  }

  #finish() {
    const of = (/** @type {Answer} */ answer) => this.#answers.filter((one) => one === answer).length;
    const given = of("particle") + of("negative");
    if (given) say(byId("ask-says"),
      `${counted(given, "answer")}: ${counted(of("particle"), "particle")}, ${of("negative")} not. Train again (T) to learn from them.`);
  }

  #show() {
    const { open } = this;
    byId("ask-question").hidden = !open;
    byId("ask-start").hidden = open;
    if (!open) {
      this.stage.close();
      return;
    }
    const question = this.#questions[this.#at];
    const dots = byId("ask-dots");
    dots.replaceChildren(...this.#questions.map((_, i) =>
      make("i", i === this.#at ? "now" : this.#answers[i] ?? "")));
    dots.setAttribute("aria-label", `Question ${this.#at + 1} of ${this.#questions.length}`);
    byId("ask-back").disabled = this.#at === 0;
    say(byId("ask-why"), `${sentence(question.why)} Score ${question.score.toFixed(2)}, on ${this.room.shortName(question.micrograph)}.`);
    void this.stage.show(question, this.#questions[this.#at + 1] ?? null);
  }
}
