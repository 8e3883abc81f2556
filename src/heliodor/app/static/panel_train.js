import { post } from "./api.js";
import { drawLine, scale } from "./chart.js";
import { byId, counted, onceAFrame, say, sentence, sized } from "./dom.js";
import { timed } from "./timings.js";

/** @typedef {import("./room.js").Room} Room */

/** Share of the newest loss in the running mean of a long curve. */
const SMOOTH = 0.12;

/** Seconds in words. @param {number} seconds */
function took(seconds) {
  return seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

/** The button that trains, and how it goes. */
export class TrainPanel {
  redraw = onceAFrame(timed("draw curve", () => this.#draw()));
  /** The curve of the running training as heard so far. @type {[number, number, number | null][]} */
  #heard = [];
  #number = -1;
  /** Why the last training was refused. */
  #refusal = "";
  /** Whether a training is to begin once the engine has started. */
  #waiting = false;

  /** @param {Room} room */
  constructor(room) {
    this.room = room;
    byId("train").addEventListener("click", timed("train", () => this.train()));
    byId("train-cancel").addEventListener("click", timed("cancel", () => this.cancel()));
    room.workChanged.on(() => this.#show());
    room.rowsChanged.on(() => this.#labels());
    new ResizeObserver(() => this.redraw()).observe(byId("curve"));
    this.#labels();
    this.#show();
  }

  get running() {
    return this.room.training.state === "running";
  }

  train() {
    if (this.running) return;
    this.#refusal = "";
    this.#waiting = false;
    this.#say("Starting", false);
    byId("train").disabled = true;
    this.#ask("/api/train");
  }

  /** What was refused because the engine is still starting is asked for again. */
  #settle() {
    const starting = this.room.engine.state === "starting";
    if (this.#refusal && starting) {
      this.#refusal = "";
      this.#waiting = true;
    }
    if (this.#waiting && starting)
      this.#say("The engine is starting: the training begins as soon as it is ready.", false);
    else if (this.#waiting) this.train();
    else if (this.#refusal) this.#say(sentence(this.#refusal), true);
  }

  cancel() {
    this.#ask("/api/train/cancel");
  }

  /** @param {string} path */
  #ask(path) {
    post(path)
      .then(() => this.room.asked.emit())
      .catch((error) => {
        this.#refusal = error.message;
        this.room.asked.emit();
      });
  }

  /** @param {string} says @param {boolean} trouble */
  #say(says, trouble) {
    const box = byId("train-says");
    box.classList.toggle("trouble", trouble);
    say(box, says);
  }

  #labels() {
    const { labels, negatives } = this.room.rows;
    const sum = (/** @type {number[]} */ column) => column.reduce((a, b) => a + b, 0);
    const on = labels.filter((n) => n > 0).length;
    const rejected = sum(negatives);
    const also = rejected ? `, ${counted(rejected, "rejected one")}` : "";
    say(byId("train-labels"), on
      ? `${counted(sum(labels), "label")} on ${counted(on, "micrograph")}${also}.`
      : "No labels yet: click a few particles first, on two or three micrographs.");
  }

  #show() {
    const { training, engine } = this.room;
    const running = this.running;
    byId("train").disabled = running || this.room.settings.diameter === null;
    byId("train-cancel").hidden = !running;
    byId("train-progress").hidden = !running;
    say(byId("train"), running ? "Training" : engine.model ? "Train again" : "Train");
    say(byId("train-model"), engine.model ? `Model ${engine.model}, trained here.` : "The general model: it has seen none of your labels.");
    const queue = engine.queue ? `${counted(engine.queue, "micrograph")} still to be looked at with it.` : "";
    say(byId("train-queue"), queue);
    if (running) this.#progress(training);
    else if (training.state === "done") {
      const figure = training.validation == null ? "" : `, validation ${training.validation.toFixed(3)}`;
      this.#say(`Model ${training.number} is ready after ${took(training.seconds ?? 0)}${figure}.`, false);
    } else if (training.state === "cancelled") this.#say("Cancelled. The model from before is in use.", false);
    else if (training.state === "refused") this.#say(sentence(training.says ?? "The training was refused"), true);
    const curve = training.curve?.length ? training.curve : this.#heard;
    byId("train-curve").hidden = curve.length < 2;
    if (!running) this.#settle();
    this.redraw();
  }

  /** @param {any} training */
  #progress(training) {
    if (training.number !== this.#number) {
      this.#number = training.number;
      this.#heard = [];
    }
    const { update, of, loss, validation, seconds, says } = training;
    const bar = byId("train-bar");
    if (update == null || !of) {
      bar.removeAttribute("value");
      this.#say(sentence(says || "Starting"), false);
      return;
    }
    bar.max = of;
    bar.value = update;
    const last = this.#heard.at(-1);
    if (loss != null && (!last || update > last[0])) this.#heard.push([update, loss, validation ?? null]);
    const figure = validation == null ? "" : `, validation ${validation.toFixed(3)}`;
    this.#say(`Update ${update} of ${of}, ${took(seconds ?? 0)}${figure}`, false);
  }

  #draw() {
    const { curve: given } = this.room.training;
    /** @type {[number, number, number | null][]} */
    const curve = given?.length ? given : this.#heard;
    const canvas = byId("curve");
    if (!canvas.clientWidth || curve.length < 2) return;
    const { width, height, ratio } = sized(canvas);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const x = scale(curve[0][0], curve[curve.length - 1][0], 8, width - 8);
    const losses = curve.map((point) => point[1]);
    const y = scale(Math.min(...losses), Math.max(...losses), height - 10, 10);
    // The loss of single minibatches jumps about: it is drawn faint, its running mean over it.
    drawLine(context, curve.map(([at, loss]) => [x.at(at), y.at(loss)]), "#6b5117");
    let mean = losses[0];
    const smooth = curve.map(([at, loss]) => {
      mean += (loss - mean) * Math.min(1, Math.max(SMOOTH, 5 / losses.length));
      return /** @type {[number, number]} */ ([x.at(at), y.at(mean)]);
    });
    drawLine(context, smooth, "#ffb000");
    const judged = curve.filter((point) => point[2] != null);
    const unit = scale(0, 1, height - 10, 10);
    drawLine(context, judged.map(([at, , value]) => [x.at(at), unit.at(value ?? 0)]), "#5cd3ff", [5, 4]);
    const end = curve[curve.length - 1];
    say(byId("curve-end"), `${end[1].toFixed(3)} after ${end[0]}`);
  }
}
