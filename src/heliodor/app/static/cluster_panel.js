import { get, post } from "./api.js";
import { byId, setText, toSentence } from "./dom.js";
import { withTiming } from "./timings.js";

/** Time between two looks at the jobs on the cluster. */
const INTERVAL_MS = 15000;

/** The command that works on all micrographs on a cluster, and the jobs that were submitted. */
export class ClusterPanel {
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;

  /**
   * @param {{project: any, isReadOnly: boolean}} state
   * @param {string} address of the requests, before /command and /submit
   * @param {() => Promise<unknown>} settle waits until the server has all that the page shows, and
   *   returns what else is sent
   */
  constructor(state, address, settle) {
    this.address = address;
    this.settle = settle;
    const on = (/** @type {string} */ id, /** @type {() => any} */ act) =>
      byId(id).addEventListener("click", withTiming(id, act));
    on("cluster-command", () => void this.#copyCommand());
    on("cluster-submit", () => void this.#submit());
    byId("cluster-submit").hidden = !state.project.can_submit || state.isReadOnly;
    if (state.project.can_submit) void this.#follow();
  }

  /** Show the command, and copy it if the browser allows that. */
  async #copyCommand() {
    const text = byId("cluster-text");
    text.classList.remove("trouble");
    try {
      const { command } = await post(`${this.address}/command`, await this.settle());
      setText(text, command);
      await navigator.clipboard?.writeText(command).catch(() => undefined); // it can still be selected
    } catch (error) {
      text.classList.add("trouble");
      setText(text, toSentence(error instanceof Error ? error.message : String(error)));
    }
  }

  /** Submit the command, and show the jobs. */
  async #submit() {
    const [button, text] = [byId("cluster-submit"), byId("cluster-text")];
    button.disabled = true;
    text.classList.remove("trouble");
    setText(text, "Submitting…");
    try {
      const status = await post(`${this.address}/submit`, await this.settle());
      setText(text, "Submitted.");
      this.#show(status);
    } catch (error) {
      text.classList.add("trouble");
      setText(text, toSentence(error instanceof Error ? error.message : String(error)));
    } finally {
      button.disabled = false;
    }
  }

  /** Show how far the jobs are, again and again until they have ended. */
  async #follow() {
    try {
      this.#show(await get("/api/run/cluster"));
    } catch {
      this.#askLater(); // the server is busy, or gone: the page says so elsewhere
    }
  }

  #askLater() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#follow(), INTERVAL_MS);
  }

  /** @param {{state: string | null, text: string, active: boolean}} status */
  #show({ state, text, active }) {
    const shown = byId("cluster-status");
    shown.hidden = state === null;
    setText(shown, text);
    clearTimeout(this.#timer);
    if (active || state === "unknown") this.#askLater();
  }
}
