import { post } from "./api.js";
import { byId } from "./dom.js";
import { withTiming } from "./timings.js";

/**
 * @typedef {import("./state.js").AppState} AppState
 * @typedef {"max_fdr" | "exclusion_radius" | "edge_margin"} Option
 */

/** Fields of settings, and what a number typed there is divided by. @type {Record<Option, [string, number]>} */
const FIELDS = {
  max_fdr: ["max-fdr", 100], exclusion_radius: ["exclusion-radius", 1], edge_margin: ["edge-margin", 1],
};

/** What decides which candidates are picks, beside the threshold. */
export class PickOptions {
  /** @param {AppState} state */
  constructor(state) {
    this.state = state;
    for (const name of /** @type {Option[]} */ (Object.keys(FIELDS)))
      byId(FIELDS[name][0]).addEventListener("change", withTiming(name, () => this.#onTyped(name)));
    byId("threshold-offset").addEventListener("change", withTiming("offset", () => this.#onOffsetTyped()));
    for (const signal of [state.optionsChanged, state.settingsChanged, state.histogramChanged, state.opened, state.rowsChanged])
      signal.on(() => this.#show());
    this.#show();
  }

  #show() {
    const { settings, rows, current, histogram } = this.state;
    for (const name of /** @type {Option[]} */ (Object.keys(FIELDS))) {
      const [id, scale] = FIELDS[name];
      const value = settings[name];
      if (document.activeElement !== byId(id)) byId(id).value = value === null ? "" : String(Math.round(value * scale * 100) / 100);
    }
    byId("exclusion-radius").placeholder = settings.diameter === null ? "default" : String(settings.diameter / 2);
    byId("max-fdr-note").hidden = settings.max_fdr === null || settings.threshold !== null || histogram.estimates !== null;
    const offset = byId("threshold-offset");
    offset.disabled = current < 0;
    if (document.activeElement !== offset) offset.value = current < 0 ? "" : String(rows.offset[current]);
  }

  /** @param {Option} name */
  #onTyped(name) {
    const [id, scale] = FIELDS[name];
    const field = byId(id);
    if (!field.checkValidity()) {
      this.state.messageRaised.emit(`Enter a number from ${field.min} to ${field.max}, or nothing for the default.`);
      this.#show();
      return;
    }
    const before = this.state.settings[name];
    const after = field.value === "" ? null : Number(field.value) / scale;
    if (before === after) return;
    const set = (/** @type {number | null} */ value) => {
      const saving = this.state.saveSettings({ [name]: value });
      this.state.waitFor(saving);
      void saving.then(() => this.#show());
    };
    this.state.labels.history.add({ undo: () => set(before), redo: () => set(after) });
    set(after);
  }

  #onOffsetTyped() {
    const field = byId("threshold-offset");
    const { current, rows } = this.state;
    const after = Number(field.value);
    if (current < 0 || !field.checkValidity()) {
      this.state.messageRaised.emit(`Enter a number from ${field.min} to ${field.max}.`);
      this.#show();
      return;
    }
    this.setOffset(current, rows.offset[current], after);
  }

  /**
   * Set by how much the threshold of a micrograph is higher, as a step that can be undone.
   * @param {number} micrograph
   * @param {number} before
   * @param {number} after
   */
  setOffset(micrograph, before, after) {
    if (before === after) return;
    const set = (/** @type {number} */ offset) => {
      this.state.rows.offset[micrograph] = offset;
      this.state.waitFor(this.#sendOffset(micrograph, offset));
    };
    this.state.labels.history.add({ micrograph, undo: () => set(before), redo: () => set(after) });
    set(after);
  }

  /** @param {number} micrograph @param {number} offset */
  async #sendOffset(micrograph, offset) {
    try {
      await post(`/api/micrographs/${micrograph}/offset`, { offset });
      await this.state.picks.reload(micrograph);
    } catch (error) {
      this.state.messageRaised.emit(`Not saved: ${error instanceof Error ? error.message : error}`);
    }
    this.state.requested.emit();
    void this.state.readHistogram();
    this.#show();
  }
}
