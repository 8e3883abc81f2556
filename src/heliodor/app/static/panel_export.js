import { get, getBlob, post, toAddress } from "./api.js";
import { ClusterPanel } from "./cluster_panel.js";
import { byId, createElement, formatCount, setText, toSentence } from "./dom.js";
import { formatRemaining } from "./durations.js";
import { withTiming } from "./timings.js";

/** What the formats are called. @type {Record<string, string>} */
const FORMAT_TITLES = {
  autopick: "RELION (autopick.star)", star: "One STAR file", cs: "cryoSPARC", cbox: "crYOLO",
  eman2: "EMAN2", box: "EMAN boxes", topaz: "Topaz", csv: "Table (CSV)", tsv: "Table (TSV)",
};
/** How long a downloaded file is kept for the browser to save it. */
const DOWNLOAD_MS = 60000;
/** Most failed micrographs that are listed. */
const MAX_REASONS = 5;

/** @param {number} number */
function nameModel(number) {
  return number ? `model ${number}` : "the general model";
}

/**
 * Say what an export has, and what it lacks.
 * @param {any} made
 * @param {string} what picks or labels
 */
function describeMaking(made, what) {
  const count = formatCount(made[what], what === "picks" ? "pick" : "label");
  const on = `${count} on ${formatCount(made.micrographs, "micrograph")}`;
  if (what === "labels") return `${on}.`;
  const lacks = [
    [made.excluded.length, "excluded"],
    [made.failed.length, "failed"],
    [made.not_scored_yet.length, "not picked yet"],
    [made.of_earlier_models.length, "still with picks of an earlier model"],
  ].filter(([number]) => number).map(([number, words]) => `${number.toLocaleString("en")} ${words}`);
  const rest = lacks.length ? ` Micrographs: ${lacks.join(", ")}.` : "";
  return `${on}, ${nameModel(made.model)}, threshold ${made.threshold.toFixed(2)}.${rest}`;
}

/** Export of coordinates, and the run on all micrographs with its report. */
export class ExportPanel {
  /** @param {import("./state.js").AppState} state */
  constructor(state) {
    this.state = state;
    this.format = byId("export-format");
    for (const { name } of state.project.formats) {
      const option = createElement("option", "", FORMAT_TITLES[name] ?? name);
      option.value = name;
      this.format.append(option);
    }
    const on = (/** @type {string} */ id, /** @type {string} */ event, /** @type {() => any} */ act) =>
      byId(id).addEventListener(event, withTiming(id, act));
    on("export-format", "change", () => this.#describeFormat());
    on("relion-project", "change", () => void this.#chooseRelionProject());
    on("export", "click", () => void this.export());
    on("run", "click", () => void this.#request("/api/run"));
    on("run-cancel", "click", () => void this.#request("/api/run/cancel"));
    state.activityChanged.on(() => this.#show());
    new ClusterPanel(state, "/api/run", async () => {
      await state.settle();
      return {};
    });
    byId("relion-project").value = state.project.relion_project ?? "";
    this.#describeFormat();
    this.#show();
  }

  /** Set the RELION project that paths start from; an empty name stands for the one that is found. */
  async #chooseRelionProject() {
    const typed = byId("relion-project").value.trim();
    await this.state.saveSettings({ relion_project: typed || null });
    const { relion_project: found } = await get("/api/project");
    byId("relion-project").value = found ?? "";
  }

  #describeFormat() {
    const { formats } = this.state.project;
    const chosen = formats.find((/** @type {any} */ one) => one.name === this.format.value);
    setText(byId("export-format-description"), chosen?.says ?? "");
    byId("relion").hidden = chosen?.name !== "autopick";
  }

  async export() {
    const button = byId("export");
    const message = byId("export-message");
    button.disabled = true;
    message.classList.remove("trouble");
    setText(message, "Saving…");
    byId("export-files").replaceChildren();
    try {
      await this.state.settle();
      const what = byId("export-what").value;
      const { file, path, made } = await post("/api/export", { what, format: this.format.value });
      setText(message, `Saved ${path}: ${describeMaking(made, what)}`);
      const item = createElement("li");
      const download = createElement("button", "", `Download ${file}`);
      download.type = "button";
      download.addEventListener("click", () => void this.#download(file, download));
      item.append(download);
      byId("export-files").replaceChildren(item);
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
      await this.state.settle();
      await post(path);
      this.state.requested.emit();
    } catch (error) {
      byId("run-message").classList.add("trouble");
      setText(byId("run-message"), toSentence(error instanceof Error ? error.message : String(error)));
    }
  }

  /** @returns {string} what the finished run picked, with what, and where it is */
  #describeResult() {
    const { result } = this.state.run;
    if (!result) return "The last run left no results; see run.log in the project folder.";
    const { picked, micrographs, failed, picks, file } = result;
    const all = formatCount(micrographs, "micrograph");
    const which = failed.length
      ? `${picked.toLocaleString("en")} of ${all}, ${failed.length.toLocaleString("en")} failed` : all;
    const excluded = result.excluded.length ? ` Excluded: ${result.excluded.length.toLocaleString("en")}.` : "";
    const when = new Date(result.date).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
    return `Picked ${which}: ${formatCount(picks, "pick")} with ${nameModel(result.model)}, ` +
      `threshold ${result.threshold.toFixed(2)} (${when}).${excluded} Output: ${file}`;
  }

  /** Show the reasons of what failed, and whether the result is still what the page shows. */
  #showDoubts() {
    const { run } = this.state;
    const done = run.state === "done" && run.result;
    const changes = done ? run.changes : [];
    byId("run-changes").hidden = !changes.length;
    setText(byId("run-changes"),
      `These picks are older than the page: ${changes.join(", ")}. Pick all micrographs again to update them.`);
    const failed = done ? run.result.failed : [];
    const list = byId("run-failed");
    list.hidden = !failed.length;
    const lines = failed.slice(0, MAX_REASONS).map((/** @type {{name: string, why: string}} */ one) =>
      one.why.includes(one.name) ? toSentence(one.why) : `${one.name}: ${toSentence(one.why)}`);
    if (failed.length > MAX_REASONS) lines.push(`… and ${failed.length - MAX_REASONS} more, in picks/failed.tsv`);
    const text = lines.join("\n");
    if (list.dataset.text === text) return;
    list.dataset.text = text;
    list.replaceChildren(...lines.map((/** @type {string} */ line) => createElement("li", "", line)));
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
        running: run.of ? `Picked ${run.done ?? 0} of ${formatCount(run.of, "micrograph")}${formatRemaining(run.seconds_left)}` : "Starting…",
        done: this.#describeResult(),
        failed: toSentence(run.says || "Picking failed; see run.log in the project folder"),
        cancelled: "Canceled. Finished micrographs are kept: start again to pick the rest.",
      };
      setText(message, texts[/** @type {keyof typeof texts} */ (run.state)] ?? "");
    }
    this.#showDoubts();
    byId("run-report").hidden = !run.report;
    if (run.report) byId("run-report").href = toAddress(run.report);
  }
}
