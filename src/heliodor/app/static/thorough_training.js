import { get, post } from "./api.js";
import { byId, formatCount, setText, toSentence } from "./dom.js";
import { formatRemaining } from "./durations.js";
import { withTiming } from "./timings.js";
import { useModel } from "./use_model.js";

/** @typedef {import("./state.js").AppState} AppState */

/** The button of the thorough training, its progress, and the offer to use its model. */
export class ThoroughTrainingPanel {
  /** Why the last request was refused. */
  #refusal = "";

  /** @param {AppState} state */
  constructor(state) {
    this.state = state;
    const on = (/** @type {string} */ id, /** @type {() => any} */ act) =>
      byId(id).addEventListener("click", withTiming(id, act));
    // The training is to use all labels on the screen.
    on("thorough", () => void this.#request(state.settle().then(() => post("/api/train/thorough"))));
    on("thorough-cancel", () => void this.#request(post("/api/train/thorough/cancel")));
    on("thorough-use", () => void this.#use());
    state.activityChanged.on(() => this.#show());
    state.settingsChanged.on(() => this.#show());
    state.rowsChanged.on(() => this.#show());
    this.#show();
  }

  /** @param {Promise<any>} answer of the server */
  async #request(answer) {
    this.#refusal = "";
    byId("thorough").disabled = true;
    try {
      await answer;
    } catch (error) {
      this.#refusal = toSentence(error instanceof Error ? error.message : String(error));
    }
    this.state.requested.emit();
  }

  /** Use the model that was trained. */
  async #use() {
    const { models } = await get("/api/models");
    const model = models.find((/** @type {any} */ one) => one.number === this.state.thorough.number);
    this.#refusal = model ? await useModel(this.state, model) : "The model is no longer there.";
    this.#show();
  }

  /** @returns {string} why no training can be started; "" if one can */
  get #obstacle() {
    const { rows, settings, thorough } = this.state;
    if (thorough.state === "running") return "A thorough training is running; you can go on working.";
    if (settings.diameter === null) return "Set the particle's diameter first.";
    const labels = rows.labels.reduce((sum, one, id) => (rows.excluded[id] ? sum : sum + one), 0);
    return labels < thorough.fewest_labels ? `Needs at least ${formatCount(thorough.fewest_labels, "labeled particle")}.` : "";
  }

  #show() {
    const { thorough, engine } = this.state;
    const running = thorough.state === "running";
    const obstacle = this.#obstacle;
    const button = byId("thorough");
    button.disabled = obstacle !== "";
    button.title = obstacle || "Train four models on the same labels, and one that learns from all of them";
    setText(byId("thorough-hint"), obstacle || "More accurate, and takes minutes, in the background. Starts from the general model.");
    byId("thorough-cancel").hidden = !running;
    const bar = byId("thorough-bar");
    bar.hidden = !running;
    if (thorough.share) bar.value = thorough.share;
    else bar.removeAttribute("value");
    const labels = formatCount(thorough.labels ?? 0, "label");
    const texts = {
      none: "",
      running: thorough.stage
        ? `${toSentence(thorough.stage).replace(/\.$/, "")}${formatRemaining(thorough.seconds_left)}` : "Starting…",
      done: `Model ${thorough.number} is trained thoroughly on ${labels}${engine.model === thorough.number ? "." : ", and is not in use yet."}`,
      failed: toSentence(thorough.says ?? "The thorough training failed"),
      cancelled: "Thorough training canceled. Started again with the same labels, it goes on where it was.",
      stopped: `A thorough training on ${labels} was stopped before its end. Started again with the same labels, it goes on where it was.`,
    };
    const message = byId("thorough-message");
    const refusal = running ? "" : this.#refusal;
    message.classList.toggle("trouble", refusal !== "" || thorough.state === "failed");
    setText(message, refusal || texts[/** @type {keyof typeof texts} */ (thorough.state)]);
    byId("thorough-offer").hidden = thorough.state !== "done" || engine.model === thorough.number;
    setText(byId("thorough-use"), `Use model ${thorough.number}`);
  }
}
