import { getBlob, post } from "./api.js";
import { byId, createElement, formatCount, setText, toSentence } from "./dom.js";
import { withTiming } from "./timings.js";

/** How long a downloaded file is kept for the browser to save it. */
const DOWNLOAD_MS = 60000;

/** Export of coordinates, and the run on all micrographs with its report. */
export class ExportPanel {
  /** @param {import("./state.js").AppState} state */
  constructor(state) {
    this.state = state;
    this.format = byId("export-format");
    for (const { name } of state.project.formats) {
      const option = createElement("option", "", name);
      option.value = name;
      this.format.append(option);
    }
    const on = (/** @type {string} */ id, /** @type {string} */ event, /** @type {() => any} */ act) =>
      byId(id).addEventListener(event, withTiming(id, act));
    on("export-format", "change", () => this.#describeFormat());
    on("export", "click", () => void this.export());
    on("run", "click", () => void this.#request("/api/run"));
    on("run-cancel", "click", () => void this.#request("/api/run/cancel"));
    state.activityChanged.on(() => this.#show());
    this.#describeFormat();
    this.#show();
  }

  #describeFormat() {
    const { formats } = this.state.project;
    const chosen = formats.find((/** @type {any} */ one) => one.name === this.format.value);
    setText(byId("export-format-description"), chosen?.says ?? "");
  }

  async export() {
    const button = byId("export");
    const message = byId("export-message");
    button.disabled = true;
    message.classList.remove("trouble");
    setText(message, "Saving…");
    byId("export-files").replaceChildren();
    try {
      const what = byId("export-what").value;
      const { files } = await post("/api/export", { what, format: this.format.value });
      const names = files.map((/** @type {string} */ file) => file.split("/").pop() ?? "");
      const folder = `${this.state.project.folder}/export`;
      setText(message, `Saved ${names.map((/** @type {string} */ name) => `${folder}/${name}`).join(", ")}`);
      byId("export-files").replaceChildren(...names.map((/** @type {string} */ name) => {
        const item = createElement("li");
        const button = createElement("button", "", `Download ${name}`);
        button.type = "button";
        button.addEventListener("click", () => void this.#download(name, button));
        item.append(button);
        return item;
      }));
    } catch (error) {
      message.classList.add("trouble");
      setText(message, toSentence(error instanceof Error ? error.message : String(error)));
    } finally {
      button.disabled = false;
    }
  }

  /**
   * Fetch an exported file and let the browser save it.
   * @param {string} name
   * @param {HTMLButtonElement} button
   */
  async #download(name, button) {
    const message = byId("export-message");
    button.disabled = true;
    try {
      const link = createElement("a");
      link.href = URL.createObjectURL(await getBlob(`/api/exports/${encodeURIComponent(name)}`));
      link.download = name;
      link.click();
      // The browser reads the file some time after the click.
      setTimeout(() => URL.revokeObjectURL(link.href), DOWNLOAD_MS);
    } catch (error) {
      message.classList.add("trouble");
      setText(message, toSentence(error instanceof Error ? error.message : String(error)));
    } finally {
      button.disabled = false;
    }
  }

  /** @param {string} path */
  async #request(path) {
    try {
      await post(path);
      this.state.requested.emit();
    } catch (error) {
      byId("run-message").classList.add("trouble");
      setText(byId("run-message"), toSentence(error instanceof Error ? error.message : String(error)));
    }
  }

  /** @returns {string} what the finished run picked, and where it is */
  #describeResult() {
    const { run, rows, project } = this.state;
    const unusable = rows.failed.filter(Boolean).length;
    const failed = Math.max(run.of - (run.done ?? 0), unusable);
    const all = formatCount(run.of, "micrograph");
    const picked = failed ? `${(run.of - failed).toLocaleString("en")} of ${all} (${failed} skipped)` : all;
    return `Picked ${picked}. Output: ${project.folder}/picks/autopick.star`;
  }

  #show() {
    const { run } = this.state;
    const running = run.state === "running";
    byId("run").disabled = running;
    byId("run-cancel").hidden = !running;
    byId("run-bar").hidden = !running;
    if (run.of) {
      byId("run-bar").max = run.of;
      byId("run-bar").value = run.done ?? 0;
    } else byId("run-bar").removeAttribute("value");
    const message = byId("run-message");
    if (run.state !== "none") {
      message.classList.toggle("trouble", run.state === "failed");
      const texts = {
        running: run.of ? `Picked ${run.done ?? 0} of ${formatCount(run.of, "micrograph")}` : "Starting…",
        done: this.#describeResult(),
        failed: toSentence(run.says || "Picking failed; see run.log in the project folder"),
        cancelled: "Canceled. Finished micrographs are kept: start again to pick the rest.",
      };
      setText(message, texts[/** @type {keyof typeof texts} */ (run.state)] ?? "");
    }
    byId("run-report").hidden = !run.report;
    if (run.report) byId("run-report").href = run.report;
  }
}
