import { post } from "./api.js";
import { byId, counted, make, say, sentence } from "./dom.js";
import { timed } from "./timings.js";

/** Coordinates for other programs, the run over all, and its report. */
export class OutPanel {
  /** @param {import("./room.js").Room} room */
  constructor(room) {
    this.room = room;
    this.format = byId("export-format");
    for (const { name } of room.project.formats) {
      const option = make("option", "", name);
      option.value = name;
      this.format.append(option);
    }
    const on = (/** @type {string} */ id, /** @type {string} */ event, /** @type {() => any} */ act) =>
      byId(id).addEventListener(event, timed(id, act));
    on("export-format", "change", () => this.#describe());
    on("export", "click", () => void this.export());
    on("run", "click", () => void this.#ask("/api/run"));
    on("run-cancel", "click", () => void this.#ask("/api/run/cancel"));
    room.workChanged.on(() => this.#show());
    this.#describe();
    this.#show();
  }

  #describe() {
    const { formats } = this.room.project;
    const chosen = formats.find((/** @type {any} */ one) => one.name === this.format.value);
    say(byId("export-format-says"), chosen?.says ?? "");
  }

  async export() {
    const button = byId("export");
    const says = byId("export-says");
    button.disabled = true;
    says.classList.remove("trouble");
    say(says, "Writing");
    byId("export-files").replaceChildren();
    try {
      const what = byId("export-what").value;
      const { files } = await post("/api/export", { what, format: this.format.value });
      say(says, `${counted(files.length, "file")} written into the project.`);
      byId("export-files").replaceChildren(...files.map((/** @type {string} */ file) => {
        const item = make("li");
        const link = make("a", "", file.split("/").pop());
        link.href = `/api/exports/${encodeURIComponent(file.split("/").pop() ?? "")}`;
        link.download = "";
        item.append(link);
        return item;
      }));
    } catch (error) {
      says.classList.add("trouble");
      say(says, sentence(error instanceof Error ? error.message : String(error)));
    } finally {
      button.disabled = false;
    }
  }

  /** @param {string} path */
  async #ask(path) {
    try {
      await post(path);
      this.room.asked.emit();
    } catch (error) {
      byId("run-says").classList.add("trouble");
      say(byId("run-says"), sentence(error instanceof Error ? error.message : String(error)));
    }
  }

  #show() {
    const { run } = this.room;
    const running = run.state === "running";
    byId("run").disabled = running;
    byId("run-cancel").hidden = !running;
    byId("run-bar").hidden = !running;
    if (run.of) {
      byId("run-bar").max = run.of;
      byId("run-bar").value = run.done ?? 0;
    } else byId("run-bar").removeAttribute("value");
    const says = byId("run-says");
    if (run.state !== "none") {
      says.classList.toggle("trouble", run.state === "failed");
      const plain = {
        running: run.of ? `${run.done} of ${run.of} micrographs` : "Starting",
        done: `All micrographs are picked: ${this.room.project.folder}/picks`,
        failed: sentence(run.says || "The run failed"),
        cancelled: "Cancelled.",
      };
      say(says, plain[/** @type {keyof typeof plain} */ (run.state)] ?? "");
    }
    byId("run-report").hidden = !run.report;
    if (run.report) byId("run-report").href = run.report;
  }
}
