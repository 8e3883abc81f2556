import { byId, say } from "./dom.js";
import { Gallery } from "./gallery.js";
import { HistogramChart } from "./histogram.js";
import { timed } from "./timings.js";

/**
 * The value of a column at a threshold, between the two given next to it.
 * @param {number[]} at rising or falling
 * @param {number[]} column
 * @param {number} threshold
 * @returns {number | null}
 */
function between(at, column, threshold) {
  for (let i = 1; i < at.length; i++) {
    const [a, b] = [at[i - 1], at[i]];
    if ((a - threshold) * (b - threshold) > 0) continue;
    const share = a === b ? 0 : (threshold - a) / (b - a);
    return column[i - 1] + share * (column[i] - column[i - 1]);
  }
  return null;
}

/** The threshold and what it does, and the picks by score. */
export class JudgePanel {
  /**
   * @param {import("./room.js").Room} room
   * @param {import("./viewer.js").Viewer} viewer
   */
  constructor(room, viewer) {
    this.room = room;
    this.chart = new HistogramChart(room);
    this.gallery = new Gallery(room, viewer);
    this.number = byId("threshold");
    this.number.addEventListener("change", timed("threshold", () => {
      if (this.number.value !== "") room.setThreshold(Number(this.number.value));
    }));
    byId("threshold-auto").addEventListener("click", timed("automatic", () => room.setThreshold(null)));
    room.thresholdChanged.on(() => this.#show());
    room.histogramChanged.on(() => this.#show());
    this.#show();
  }

  /** Move the threshold a little. @param {number} by */
  step(by) {
    const { threshold } = this.room;
    if (threshold !== null) this.room.setThreshold(Math.round((threshold + by) * 100) / 100);
  }

  /** Draw what could not be drawn while the panel was hidden. */
  redraw() {
    this.chart.redraw();
    this.gallery.redraw();
  }

  #show() {
    const { threshold, histogram, settings } = this.room;
    const automatic = settings.threshold === null;
    byId("threshold-auto").setAttribute("aria-pressed", String(automatic));
    if (document.activeElement !== this.number)
      this.number.value = threshold === null ? "" : threshold.toFixed(2);
    const known = threshold !== null && histogram.edges.length > 1;
    const picks = known ? this.#reaching(threshold) : null;
    say(byId("judge-picks"), picks === null ? "–" : Math.round(picks).toLocaleString("en"));
    const mean = picks === null || !histogram.micrographs ? null : picks / histogram.micrographs;
    say(byId("judge-mean"), mean === null ? "–" : mean.toFixed(mean < 10 ? 1 : 0));
    const given = known ? histogram.estimates : null;
    for (const name of /** @type {("precision" | "recall")[]} */ (["precision", "recall"])) {
      const value = given ? between(given.threshold, given[name], threshold ?? 0) : null;
      const box = byId(`judge-${name}`);
      say(box, value === null ? "–" : `${Math.round(value * 100)} %`);
      box.parentElement.hidden = !histogram.estimates;
    }
  }

  /** Candidates from a threshold on, a bin that it cuts taken in part. @param {number} threshold */
  #reaching(threshold) {
    const { edges, counts } = this.room.histogram;
    return counts.reduce((sum, count, bin) => {
      const share = (edges[bin + 1] - threshold) / (edges[bin + 1] - edges[bin]);
      return sum + count * Math.min(Math.max(share, 0), 1);
    }, 0);
  }
}
