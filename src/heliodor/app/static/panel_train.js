import { get, post } from "./api.js";
import { chooseTicks, createScale, drawLine, drawText } from "./chart.js";
import { byId, createElement, fitCanvas, formatCount, oncePerFrame, setText, toSentence } from "./dom.js";
import { formatDuration, formatRemaining } from "./durations.js";
import { readColor, themeChanged } from "./theme.js";
import { withTiming } from "./timings.js";
import { useModel } from "./use_model.js";

/** @typedef {import("./state.js").AppState} AppState */

/** Weight of the newest loss in the running mean of a long curve. */
const SMOOTHING = 0.12;
/** Room for the axes around the curve, in pixels. */
const MARGIN = { left: 36, right: 20, top: 20, bottom: 32 };

/** @param {number | null | undefined} value @returns {string} to be appended; "" for none */
function formatValidation(value) {
  return value == null ? "" : `; right on ${Math.round(value * 100)}% of the labels kept apart`;
}

/**
 * Say when and on what a model was trained.
 * @param {any} model
 * @param {number | null} diameter the one in use
 */
function describeModel(model, diameter) {
  if (!model.number) return "Pretrained; has seen none of your labels";
  const parts = [];
  if (model.date)
    parts.push(new Date(model.date).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }));
  if (model.labels !== null) {
    const negatives = model.negatives ? ` and ${model.negatives.toLocaleString("en")} marked as not a particle` : "";
    parts.push(`${formatCount(model.labels, "label")}${negatives} on ${formatCount(model.micrographs_labeled ?? 0, "micrograph")}`);
  }
  if (model.trained === "thorough") parts.push("trained thoroughly");
  if (model.from) parts.push(`from model ${model.from}`);
  if (model.validation !== null) parts.push(`right on ${Math.round(model.validation * 100)}% of the labels kept apart`);
  if (model.diameter !== null && model.diameter !== diameter) parts.push(`diameter ${model.diameter} Å`);
  return parts.join("; ");
}

/** The train button, the progress of the training and its curve. */
export class TrainPanel {
  redraw = oncePerFrame(withTiming("draw curve", () => this.#draw()));
  /** The curve of the running training as received so far. @type {[number, number, number | null][]} */
  #receivedCurve = [];
  #modelNumber = -1;
  /** Why the last request was refused. */
  #refusal = "";
  /** Whether a training starts as soon as the engine has started. */
  #waiting = false;

  /** @param {AppState} state */
  constructor(state) {
    this.state = state;
    byId("train").addEventListener("click", withTiming("train", () => this.train()));
    byId("train-cancel").addEventListener("click", withTiming("cancel", () => this.cancel()));
    state.activityChanged.on(() => this.#show());
    state.rowsChanged.on(() => this.#showLabelCounts());
    state.modelsChanged.on(() => void this.#showModels());
    themeChanged.on(() => this.redraw());
    void this.#showModels();
    new ResizeObserver(() => this.redraw()).observe(byId("curve"));
    this.#showLabelCounts();
    this.#show();
  }

  /** List the models, with a button to use each that is not in use. */
  async #showModels() {
    const { models } = await get("/api/models");
    byId("compare-button").hidden = models.length < 2;
    byId("models").replaceChildren(...models.map((/** @type {any} */ model) => this.#createModel(model)));
  }

  /** @param {any} model */
  #createModel(model) {
    const { engine, settings } = this.state;
    const item = createElement("li");
    const words = createElement("div");
    words.append(createElement("b", "", model.number ? `Model ${model.number}` : "General model"));
    words.append(createElement("div", "dim", describeModel(model, settings.diameter)));
    item.append(words);
    if (model.number === engine.model) item.append(createElement("span", "state", "in use"));
    else {
      const button = createElement("button", "", "Use");
      button.type = "button";
      button.title = "Pick with this model. The next training starts from it";
      button.addEventListener("click", withTiming("use model", () => void this.#useModel(model)));
      item.append(button);
    }
    return item;
  }

  /** @param {any} model */
  async #useModel(model) {
    const problem = await useModel(this.state, model);
    if (problem) this.#showMessage(problem, true);
  }

  get isRunning() {
    return this.state.training.state === "running";
  }

  train() {
    if (this.isRunning) return;
    this.#refusal = "";
    this.#waiting = false;
    this.#showMessage("Starting…", false);
    byId("train").disabled = true;
    // The training is to use all labels on the screen.
    this.#request(this.state.settle().then(() => post("/api/train")));
  }

  /** Request the training again if it was refused because the engine was still starting. */
  #retryWhenReady() {
    const starting = this.state.engine.state === "starting";
    if (this.#refusal && starting) {
      this.#refusal = "";
      this.#waiting = true;
    }
    if (this.#waiting && starting)
      this.#showMessage("The engine is starting. Training begins as soon as it is ready.", false);
    else if (this.#waiting) this.train();
    else if (this.#refusal) this.#showMessage(toSentence(this.#refusal), true);
  }

  cancel() {
    this.#request(post("/api/train/cancel"));
  }

  /** @param {Promise<any>} answer of the server */
  #request(answer) {
    answer
      .then(() => this.state.requested.emit())
      .catch((error) => {
        this.#refusal = error.message;
        this.state.requested.emit();
      });
  }

  /** @param {string} message @param {boolean} trouble */
  #showMessage(message, trouble) {
    const box = byId("train-message");
    box.classList.toggle("trouble", trouble);
    setText(box, message);
  }

  #showLabelCounts() {
    const { labels, negatives, excluded } = this.state.rows;
    const sum = (/** @type {number[]} */ column) => column.reduce((a, b, id) => (excluded[id] ? a : a + b), 0);
    const labeled = labels.filter((n, id) => n > 0 && !excluded[id]).length;
    const rejected = sum(negatives);
    const also = rejected ? `, ${formatCount(rejected, "position")} marked as not a particle` : "";
    setText(byId("train-labels"), labeled
      ? `${formatCount(sum(labels), "particle")} labeled on ${formatCount(labeled, "micrograph")}${also}.`
      : "No labels yet. Click a few particles on two or three micrographs, then train.");
  }

  #show() {
    const { training, engine } = this.state;
    const running = this.isRunning;
    byId("train").disabled = running || this.state.settings.diameter === null;
    byId("train-cancel").hidden = !running;
    byId("train-progress").hidden = !running;
    setText(byId("train"), running ? "Training" : engine.model ? "Train again" : "Train");
    setText(byId("train-model"), engine.model ? `Model ${engine.model}, fine-tuned on your labels` : "General (pretrained) model, not fine-tuned yet");
    setText(byId("train-queue"), engine.queue
      ? `Scoring with this model: ${formatCount(engine.queue, "micrograph")} to go${formatRemaining(engine.seconds_left)}`
      : "");
    if (running) this.#showProgress(training);
    else if (training.state === "done") {
      const validation = formatValidation(training.validation);
      this.#showMessage(
        `Model ${training.number} trained in ${formatDuration(training.seconds ?? 0)}${validation}`, false);
    } else if (training.state === "cancelled") {
      const model = engine.model ? `model ${engine.model}` : "the general model";
      this.#showMessage(`Training canceled; still using ${model}.`, false);
    } else if (training.state === "refused")
      this.#showMessage(toSentence(training.says ?? "The training failed"), true);
    const curve = training.curve?.length ? training.curve : this.#receivedCurve;
    byId("train-curve").hidden = curve.length < 2;
    if (!running) this.#retryWhenReady();
    this.redraw();
  }

  /** @param {any} training */
  #showProgress(training) {
    if (training.number !== this.#modelNumber) {
      this.#modelNumber = training.number;
      this.#receivedCurve = [];
    }
    const { update, of, loss, validation, seconds, says } = training;
    const bar = byId("train-bar");
    if (update == null || !of) {
      bar.removeAttribute("value");
      this.#showMessage(says ? toSentence(says) : "Starting…", false);
      return;
    }
    bar.max = of;
    bar.value = update;
    const last = this.#receivedCurve.at(-1);
    if (loss != null && (!last || update > last[0])) this.#receivedCurve.push([update, loss, validation ?? null]);
    this.#showMessage(
      `Update ${update} of ${of}, ${formatDuration(seconds ?? 0)}${update < of && update > 4 ? formatRemaining(seconds * (of - update) / update) : ""}${formatValidation(validation)}`, false);
  }

  #draw() {
    const { curve: finished } = this.state.training;
    /** @type {[number, number, number | null][]} */
    const curve = finished?.length ? finished : this.#receivedCurve;
    const canvas = byId("curve");
    if (!canvas.clientWidth || curve.length < 2) return;
    const { width, height, ratio } = fitCanvas(canvas);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const [first, last] = [curve[0][0], curve[curve.length - 1][0]];
    const x = createScale(first, last, MARGIN.left, width - MARGIN.right);
    const losses = curve.map((point) => point[1]);
    const [low, high] = [Math.min(...losses), Math.max(...losses)];
    const y = createScale(low, high, height - MARGIN.bottom, MARGIN.top);
    for (const tick of chooseTicks(first, last, 5))
      drawText(context, String(tick), x.toPixel(tick), height - MARGIN.bottom + 14);
    for (const tick of chooseTicks(low, high, 4))
      drawText(context, String(tick), MARGIN.left - 5, y.toPixel(tick) + 3, "right");
    drawText(context, "Update", (MARGIN.left + width - MARGIN.right) / 2, height - 4);
    drawText(context, "Loss", 5, 12, "left");
    // The loss of single minibatches is noisy: it is drawn faint, with its running mean on top.
    drawLine(context, curve.map(([at, loss]) => [x.toPixel(at), y.toPixel(loss)]), readColor("--curve-faint"));
    let mean = losses[0];
    const smooth = curve.map(([at, loss]) => {
      mean += (loss - mean) * Math.min(1, Math.max(SMOOTHING, 5 / losses.length));
      return /** @type {[number, number]} */ ([x.toPixel(at), y.toPixel(mean)]);
    });
    drawLine(context, smooth, readColor("--curve"));
    const validated = curve.filter((point) => point[2] != null);
    const unit = createScale(0, 1, height - MARGIN.bottom, MARGIN.top);
    drawLine(context, validated.map(([at, , value]) => [x.toPixel(at), unit.toPixel(value ?? 0)]), readColor("--pick"), [5, 4]);
    byId("curve-validation").hidden = validated.length < 2;
    if (validated.length < 2) return;
    for (const value of [0, 1]) drawText(context, String(value), width - 8, unit.toPixel(value) + 3);
  }
}
