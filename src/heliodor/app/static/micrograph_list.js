import { getBlob, post, RequestRefused } from "./api.js";
import { byId, createElement, createIcon, formatCount, oncePerFrame, setText, toSentence } from "./dom.js";
import { sortMicrographs } from "./sorting.js";
import { withTiming } from "./timings.js";
import { showToast } from "./toast.js";

const ROW_HEIGHT_PX = 66;
const RESORT_DELAY_MS = 1000;
/** Letters at the end of a long name that are always shown, as names often differ only there. */
const TAIL_LETTERS = 12;
/** Thumbnails are fetched once the list has not moved for this time. */
const THUMBNAIL_DELAY_MS = 90;

/**
 * @typedef {import("./state.js").AppState} AppState
 * @typedef {{row: any, image: any, name: any, labels: any, negatives: any, picks: any,
 *   quality: any, status: any, id: number, place: number, loading: AbortController | null}} Line
 */

/**
 * Set an attribute only if it changed.
 * @param {Element} element
 * @param {string} name
 * @param {string} value
 */
function updateAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** The list of micrographs on the left; it has only as many elements as fit on the screen. */
export class MicrographList {
  /** @type {Line[]} */ #elements = [];
  /** Micrographs in the order shown. @type {number[]} */ #order = [];
  /** @type {Map<number, number>} */ #places = new Map();
  #sortedAt = 0;
  #excludedCount = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #sortTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #thumbnailTimer;
  redraw = oncePerFrame(withTiming("draw list", () => this.#draw()));

  /** @param {AppState} state */
  constructor(state) {
    this.state = state;
    this.box = byId("list");
    this.space = byId("list-space");
    this.filter = byId("list-filter");
    this.sort = byId("list-sort");
    this.box.addEventListener("scroll", () => this.redraw(), { passive: true });
    new ResizeObserver(() => this.redraw()).observe(this.box);
    const rearrange = withTiming("sort list", () => this.sortAndFilter());
    this.filter.addEventListener("input", rearrange);
    this.sort.addEventListener("change", rearrange);
    state.rowsChanged.on((ids) => this.#onRowsChanged(ids));
    state.opened.on(() => this.scrollToCurrent());
    this.box.addEventListener("click", withTiming("choose micrograph", (/** @type {any} */ event) => {
      const row = event.target.closest("[data-id]");
      if (row) void this.state.open(Number(row.dataset.id));
    }));
    state.micrographsAdded.on((added) => {
      this.sortAndFilter();
      showToast(formatCount(added, "new micrograph"));
    });
    byId("look-button").addEventListener("click", withTiming("look", () => void this.#lookForMore()));
    this.sortAndFilter();
  }

  /** Ask the server to look for micrographs that have arrived. */
  async #lookForMore() {
    const button = byId("look-button");
    button.disabled = true;
    try {
      const { added } = await post("/api/look");
      if (added) this.state.requested.emit();
      else showToast("No new micrographs");
    } catch (error) {
      showToast(error instanceof Error ? error.message : String(error));
    } finally {
      button.disabled = false;
    }
  }

  /** Sort and filter the list again. */
  sortAndFilter() {
    this.#order = sortMicrographs(this.state.rows, this.sort.value, this.filter.value);
    if (this.followsTable) this.#order = this.#likeTable(this.#order);
    this.#places = new Map(this.#order.map((id, place) => [id, place]));
    this.#sortedAt = performance.now();
    this.space.style.height = `${this.#order.length * ROW_HEIGHT_PX}px`;
    const all = this.state.count;
    const shown = this.#order.length;
    const part = shown === all ? "" : `${shown.toLocaleString("en")} of `;
    const excluded = this.state.excludedCount;
    const without = excluded ? `, ${excluded.toLocaleString("en")} excluded` : "";
    setText(byId("list-count"), part + formatCount(all, "micrograph") + without);
    this.redraw();
  }

  /** Whether the list has the order and the filter of the table. */
  get followsTable() {
    return this.sort.value === "table" && this.state.tableOrder !== null;
  }

  /** @param {number[]} order */
  #likeTable(order) {
    const kept = new Set(order);
    return (this.state.tableOrder ?? order).filter((id) => kept.has(id));
  }

  /** @param {number[] | null} ids */
  #onRowsChanged(ids) {
    this.redraw();
    if (this.state.excludedCount !== this.#excludedCount) {
      this.#excludedCount = this.state.excludedCount;
      this.sortAndFilter();
    }
    const moves = ids === null || !["original", "name", "table"].includes(this.sort.value);
    if (!moves || this.#sortTimer) return;
    const wait = Math.max(0, this.#sortedAt + RESORT_DELAY_MS - performance.now());
    this.#sortTimer = setTimeout(withTiming("sort list", () => {
      this.#sortTimer = undefined;
      this.sortAndFilter();
    }), wait);
  }

  /**
   * Return the micrographs that come after one in the list.
   * @param {number} id
   * @param {number} n
   */
  findNext(id, n) {
    const place = this.#places.get(id) ?? -1;
    return this.#order.slice(place + 1, place + 1 + n);
  }

  /** Go to the next micrograph (1) or the previous one (-1). @param {number} step */
  step(step) {
    const place = this.#places.get(this.state.current);
    const next = this.#order[place === undefined ? 0 : place + step];
    if (next !== undefined) void this.state.open(next);
  }

  /** Scroll the list to the micrograph on screen. */
  scrollToCurrent() {
    const place = this.#places.get(this.state.current);
    if (place !== undefined) {
      const top = place * ROW_HEIGHT_PX;
      const { scrollTop, clientHeight } = this.box;
      if (top < scrollTop) this.box.scrollTop = top;
      else if (top + ROW_HEIGHT_PX > scrollTop + clientHeight) this.box.scrollTop = top + ROW_HEIGHT_PX - clientHeight;
    }
    this.redraw();
  }

  /** @returns {Line} */
  #createRow() {
    const row = createElement("div", "row");
    row.setAttribute("role", "option");
    const image = createElement("img", "thumbnail");
    image.alt = "";
    image.draggable = false;
    const words = createElement("div", "words");
    const name = createElement("div", "name");
    name.append(createElement("span", "head"), createElement("span", "tail"));
    const counts = createElement("div", "counts");
    const [labels, picks, negatives] = ["labels", "picks", "negatives"].map((one) => createElement("span", one));
    const icons = [createIcon("particle"), createIcon("pick"), createIcon("negative")];
    labels.title = "Particles labeled";
    picks.title = "Picks";
    negatives.title = "Marked as not a particle";
    counts.append(icons[0], labels, icons[1], picks, icons[2], negatives);
    const track = createElement("div", "quality");
    const quality = createElement("i");
    track.append(quality);
    words.append(name, counts, track);
    const status = createElement("span", "status");
    row.append(image, words, status);
    this.space.append(row);
    return { row, image, name, labels, negatives, picks, quality, status, id: -1, place: -1, loading: null };
  }

  #draw() {
    const { scrollTop, clientHeight } = this.box;
    const first = Math.max(0, Math.floor(scrollTop / ROW_HEIGHT_PX) - 1);
    const last = Math.min(this.#order.length, Math.ceil((scrollTop + clientHeight) / ROW_HEIGHT_PX) + 1);
    const needed = Math.ceil(clientHeight / ROW_HEIGHT_PX) + 3;
    while (this.#elements.length < needed) this.#elements.push(this.#createRow());
    const shown = new Set();
    let resting = true;
    for (let place = first; place < last; place++) {
      const line = this.#elements[place % this.#elements.length];
      shown.add(line);
      this.#fillRow(line, place);
      if (line.image.dataset.of !== this.#thumbnailOf(line.id)) resting = false;
    }
    for (const line of this.#elements) if (!shown.has(line)) line.row.hidden = true;
    clearTimeout(this.#thumbnailTimer);
    if (!resting) this.#thumbnailTimer = setTimeout(() => this.#showThumbnails(), THUMBNAIL_DELAY_MS);
  }

  /** @param {Line} line @param {number} place */
  #fillRow(line, place) {
    const { rows, current } = this.state;
    const id = this.#order[place];
    const { row } = line;
    row.hidden = false;
    if (line.place !== place) {
      line.place = place;
      row.style.transform = `translateY(${place * ROW_HEIGHT_PX}px)`;
      row.setAttribute("aria-posinset", String(place + 1));
    }
    updateAttribute(row, "aria-selected", String(id === current));
    if (id === current) updateAttribute(this.box, "aria-activedescendant", `row-${id}`);
    if (line.id !== id) {
      line.id = id;
      row.id = `row-${id}`;
      row.dataset.id = String(id);
      const shown = this.state.listName(id);
      setText(line.name.children[0], shown.slice(0, -TAIL_LETTERS));
      setText(line.name.children[1], shown.slice(-TAIL_LETTERS));
      row.title = rows.name[id];
      line.loading?.abort();
      line.image.style.visibility = "hidden";
      line.image.dataset.of = "";
    }
    updateAttribute(row, "aria-setsize", String(this.#order.length));
    setText(line.labels, String(rows.labels[id]));
    setText(line.negatives, String(rows.negatives[id]));
    const picks = rows.picks[id];
    setText(line.picks, picks === null ? "–" : String(picks));
    const quality = rows.quality[id];
    line.quality.style.width = `${Math.round((quality ?? 0) * 100)}%`;
    line.quality.parentElement.title = quality === null ? "" : `${Math.round(quality * 100)}% of the area is free of contamination${rows.ignored[id] ? ", which is ignored here" : ""}`;
    const failed = rows.failed[id];
    row.classList.toggle("failed", Boolean(failed));
    const excluded = rows.excluded[id];
    row.classList.toggle("done", rows.done[id]);
    row.classList.toggle("excluded", excluded);
    setText(line.status, failed ? "!" : excluded ? "✕" : rows.done[id] ? "✓" : "");
    line.status.title = failed ? toSentence(failed)
      : excluded ? "Excluded: not exported, not used for training"
      : rows.done[id] ? "Reviewed" : "";
  }

  /** Return a name for the thumbnail of a micrograph's present file. @param {number} id */
  #thumbnailOf(id) {
    return `${id}/${this.state.rows.version[id]}`;
  }

  #showThumbnails() {
    for (const line of this.#elements) {
      const wanted = this.#thumbnailOf(line.id);
      if (line.row.hidden || line.image.dataset.of === wanted) continue;
      line.image.dataset.of = wanted;
      void this.#loadThumbnail(line);
    }
  }

  /**
   * Fetch a thumbnail: the browser cannot send the session token for the address of an image.
   * @param {Line} line
   */
  async #loadThumbnail(line) {
    const { image, id } = line;
    const version = encodeURIComponent(`${this.state.project.boot}-${this.state.rows.version[id]}`);
    const loading = new AbortController();
    line.loading?.abort();
    line.loading = loading;
    try {
      const path = `/api/micrographs/${id}/thumbnail.jpg?v=${version}`;
      const url = URL.createObjectURL(await getBlob(path, loading.signal, "low"));
      try {
        image.src = url;
        await image.decode();
        if (!loading.signal.aborted) image.style.visibility = "visible";
      } finally {
        URL.revokeObjectURL(url);
      }
    } catch (error) {
      if (loading.signal.aborted) return;
      const isForGood = error instanceof RequestRefused && !error.isTemporary && !error.isWithoutAccess;
      if (!isForGood) image.dataset.of = ""; // the next drawing tries again
    }
  }
}
