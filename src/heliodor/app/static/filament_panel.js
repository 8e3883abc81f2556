import { post } from "./api.js";
import { ClusterPanel } from "./cluster_panel.js";
import { byId, createElement, formatCount, setText, toSentence } from "./dom.js";
import { showToast } from "./toast.js";

/** What is running, in words. @type {Record<string, string>} */
const RUNNING = { train: "Training", trace: "Tracing" };

/** @param {string} id @returns {number | null} the number that a field has; null if it is empty */
function readNumber(id) {
  const { value } = byId(id);
  return value === "" ? null : Number(value);
}

/** The panel on the right: train, trace and export. */
export class FilamentPanel {
  /**
   * @param {import("./filament_state.js").FilamentState} state
   * @param {import("./filament_store.js").FilamentStore} store
   * @param {() => Promise<void>} refresh reads what the server says of the project
   */
  constructor(state, store, refresh) {
    this.state = state;
    this.store = store;
    this.refresh = refresh;
    const on = (/** @type {string} */ id, /** @type {() => Promise<unknown>} */ act) =>
      byId(id).addEventListener("click", () => {
        act().then(() => this.refresh()).catch((error) => showToast(error.message));
      });
    on("train", async () => {
      await this.#settle();
      await post("/api/filaments/train");
    });
    on("trace", async () => post("/api/filaments/trace", await this.#settle()));
    on("cancel", () => post("/api/filaments/cancel"));
    on("export", () => this.#export());
    byId("export-format").addEventListener("change", () => this.#showSegments());
    new ClusterPanel(state, "/api/filaments", () => this.#settle());
  }

  /** Wait until the server has all that the page shows. @returns {Promise<any>} how to trace */
  async #settle() {
    await this.store.settle();
    await this.state.settle();
    return { threshold: readNumber("threshold"), min_length: readNumber("min-length") };
  }

  /** Show what the server says of the project. */
  show() {
    const { summary } = this.state;
    if (!summary) return;
    const { job, model, width } = summary;
    const select = byId("export-format");
    if (!select.options.length) {
      for (const { name, says } of summary.formats) {
        const option = createElement("option", "", says);
        option.value = name;
        select.append(option);
      }
      this.#showSegments();
    }
    const isRunning = job.state === "running";
    byId("train").disabled = byId("trace").disabled = isRunning;
    byId("cancel").hidden = !isRunning;
    byId("min-length").placeholder = String(3 * width);
    setText(byId("model"), model ? `Model ${model} is in use` : `General filament model, ${width} Å`);
    const bar = byId("progress");
    bar.hidden = !isRunning;
    if (job.of) {
      bar.max = job.of;
      bar.value = job.done;
    } else bar.removeAttribute("value");
    byId("job").classList.toggle("trouble", job.state === "failed");
    setText(byId("job"), this.#describe(summary));
  }

  /** @param {any} summary */
  #describe({ job, traced, model }) {
    if (job.state === "running") {
      const done = job.of ? ` ${job.done} of ${job.of}` : "";
      return `${RUNNING[job.job]}${done}…`;
    }
    if (job.state === "failed") return toSentence(`${RUNNING[job.job]} failed: ${job.says}`);
    if (job.state === "cancelled") return `${RUNNING[job.job]} was stopped.`;
    if (job.state === "done" && job.job === "train") return `Model ${model} is trained. Trace again to use it.`;
    if (!traced) return "";
    const { state } = this;
    const excluded = state.excludedCount;
    const without = excluded ? `, without ${excluded.toLocaleString("en")} excluded` : "";
    const length = state.sumIncluded(state.rows.length) / 1e4;
    return `${formatCount(state.sumIncluded(state.rows.traced), "filament")} traced on ` +
      `${formatCount(state.count - excluded, "micrograph")}${without}: ${length.toFixed(1)} µm.`;
  }

  #showSegments() {
    byId("segments-field").hidden = byId("export-format").value !== "star";
  }

  async #export() {
    const format = byId("export-format").value;
    const segments = format === "star" ? readNumber("segments") : null;
    setText(byId("exported"), "");
    await this.#settle();
    const made = await post("/api/filaments/export", { format, segments });
    const what = made.segments === null
      ? formatCount(made.filaments, "filament")
      : `${formatCount(made.segments, "segment")} of ${formatCount(made.filaments, "filament")}`;
    setText(byId("exported"), `${what} on ${formatCount(made.micrographs, "micrograph")}: ${made.path}`);
  }
}
