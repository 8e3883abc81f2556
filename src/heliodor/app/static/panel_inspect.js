import { byId, setText } from "./dom.js";
import { Gallery } from "./gallery.js";
import { GroupView } from "./group_view.js";
import { HistogramChart } from "./histogram.js";
import { PickOptions } from "./pick_options.js";
import { withTiming } from "./timings.js";

/**
 * Return the value of a column at a threshold, by linear interpolation.
 * @param {number[]} at thresholds, rising or falling
 * @param {(number | null)[]} column
 * @param {number} threshold
 * @returns {number | null}
 */
function interpolate(at, column, threshold) {
  for (let i = 1; i < at.length; i++) {
    const [a, b] = [at[i - 1], at[i]];
    if ((a - threshold) * (b - threshold) > 0) continue;
    const [before, after] = [column[i - 1], column[i]];
    if (before === null || after === null) return null;
    const share = a === b ? 0 : (threshold - a) / (b - a);
    return before + share * (after - before);
  }
  return null;
}

/** The threshold, what it keeps, and the candidates by score. */
export class InspectPanel {
  /**
   * @param {import("./state.js").AppState} state
   * @param {import("./viewer.js").Viewer} viewer
   */
  constructor(state, viewer) {
    this.state = state;
    this.chart = new HistogramChart(state);
    this.gallery = new Gallery(state, viewer);
    this.groups = new GroupView(state, viewer);
    this.options = new PickOptions(state);
    const views = byId("inspect-view");
    views.addEventListener("click", (/** @type {any} */ event) => event.target.value && this.showView(event.target.value));
    this.number = byId("threshold");
    this.number.addEventListener("change", withTiming("threshold", () => {
      if (this.number.value !== "") state.setThreshold(Number(this.number.value));
    }));
    byId("threshold-auto").addEventListener("click", withTiming("automatic", () => state.setThreshold(null)));
    state.thresholdChanged.on(() => this.#show());
    state.histogramChanged.on(() => this.#show());
    state.activityChanged.on(() => this.#show());
    this.#show();
  }

  /** Show the candidates by score, or averages and groups. @param {"candidates" | "groups"} view */
  showView(view) {
    for (const one of byId("inspect-view").children) one.setAttribute("aria-pressed", String(one.value === view));
    byId("candidates-view").hidden = view !== "candidates";
    byId("groups-view").hidden = view !== "groups";
    this.gallery.redraw();
  }

  /** Move the threshold a little. @param {number} by */
  stepThreshold(by) {
    const { threshold } = this.state;
    if (threshold !== null) this.state.setThreshold(Math.round((threshold + by) * 100) / 100);
  }

  /** Draw what was not drawn while the panel was hidden. */
  redraw() {
    this.chart.redraw();
    this.gallery.redraw();
  }

  #show() {
    const { threshold, histogram, settings } = this.state;
    const automatic = settings.threshold === null;
    byId("threshold-auto").setAttribute("aria-pressed", String(automatic && histogram.settled));
    setText(byId("threshold-auto"), automatic && !histogram.settled ? "Estimating…" : "Automatic");
    byId("threshold-note").hidden = !automatic || histogram.settled || threshold === null;
    if (document.activeElement !== this.number)
      this.number.value = threshold === null ? "" : threshold.toFixed(2);
    const known = threshold !== null && histogram.edges.length > 1;
    // Exact, unless the threshold has just been moved.
    const picks = known ? this.state.pickCount ?? this.#countPicks(threshold) : null;
    setText(byId("inspect-picks"), picks === null ? "–" : Math.round(picks).toLocaleString("en"));
    const mean = picks === null || !histogram.micrographs ? null : picks / histogram.micrographs;
    setText(byId("inspect-mean"), mean === null ? "–" : mean.toFixed(mean < 10 ? 1 : 0));
    for (const name of ["precision", "recall"]) this.#showEstimate(name, known ? histogram.estimates : null);
  }

  /**
   * Show an estimate, and only together with its range.
   * @param {string} name
   * @param {import("./state.js").Estimates | null} estimates
   */
  #showEstimate(name, estimates) {
    const at = (/** @type {string} */ column) =>
      estimates ? interpolate(estimates.threshold, estimates[column], this.state.threshold ?? 0) : null;
    const [value, low, high] = [at(name), at(`${name}_low`), at(`${name}_high`)];
    const isKnown = value !== null && low !== null && high !== null;
    const percent = (/** @type {number} */ share) => Math.round(share * 100);
    setText(byId(`inspect-${name}`), isKnown ? `${percent(value)}%` : "unknown");
    setText(byId(`inspect-${name}-range`), isKnown ? `${percent(low)} to ${percent(high)}%` : "");
  }

  /** Count the candidates at or above a threshold; of the bin it cuts, a share. @param {number} threshold */
  #countPicks(threshold) {
    const { edges, counts } = this.state.histogram;
    return counts.reduce((sum, count, bin) => {
      const share = (edges[bin + 1] - threshold) / (edges[bin + 1] - edges[bin]);
      return sum + count * Math.min(Math.max(share, 0), 1);
    }, 0);
  }
}
