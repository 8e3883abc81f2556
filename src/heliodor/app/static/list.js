import { byId, counted, icon, make, onceAFrame, say } from "./dom.js";
import { orderOf } from "./order.js";
import { timed } from "./timings.js";

const ROW = 66;
const RESORT = 1000;
/** The end of a long name is what tells it from its neighbours: so much of it is always seen. */
const TAIL = 12;
/** Thumbnails are fetched when the list has rested so long. */
const REST = 90;

/**
 * @typedef {import("./room.js").Room} Room
 * @typedef {{row: any, image: any, name: any, labels: any, negatives: any, picks: any,
 *   quality: any, sign: any, id: number, place: number}} Line
 */

/**
 * Set an attribute only where it differs.
 * @param {Element} element
 * @param {string} name
 * @param {string} value
 */
function attribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** The micrographs down the left: as many elements as fit, however many micrographs there are. */
export class List {
  /** @type {Line[]} */ #lines = [];
  /** Micrographs in the order shown. @type {number[]} */ #order = [];
  /** @type {Map<number, number>} */ #places = new Map();
  #sortedAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #resorting;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #resting;
  redraw = onceAFrame(timed("draw list", () => this.#draw()));

  /** @param {Room} room */
  constructor(room) {
    this.room = room;
    this.box = byId("list");
    this.space = byId("list-space");
    this.filter = byId("list-filter");
    this.sort = byId("list-sort");
    this.box.addEventListener("scroll", () => this.redraw(), { passive: true });
    new ResizeObserver(() => this.redraw()).observe(this.box);
    const anew = timed("sort list", () => this.arrange());
    this.filter.addEventListener("input", anew);
    this.sort.addEventListener("change", anew);
    room.rowsChanged.on((ids) => this.#changed(ids));
    room.opened.on(() => this.reveal());
    this.box.addEventListener("click", timed("choose micrograph", (/** @type {any} */ event) => {
      const row = event.target.closest("[data-id]");
      if (row) void this.room.open(Number(row.dataset.id));
    }));
    this.arrange();
  }

  /** Sort and filter anew. */
  arrange() {
    this.#order = orderOf(this.room.rows, this.sort.value, this.filter.value);
    this.#places = new Map(this.#order.map((id, place) => [id, place]));
    this.#sortedAt = performance.now();
    this.space.style.height = `${this.#order.length * ROW}px`;
    const all = this.room.count;
    const shown = this.#order.length;
    const some = shown === all ? "" : `${shown.toLocaleString("en")} of `;
    say(byId("list-count"), some + counted(all, "micrograph"));
    this.redraw();
  }

  /** @param {number[] | null} ids */
  #changed(ids) {
    this.redraw();
    const moves = ids === null || !["order", "name"].includes(this.sort.value);
    if (!moves || this.#resorting) return;
    const wait = Math.max(0, this.#sortedAt + RESORT - performance.now());
    this.#resorting = setTimeout(timed("sort list", () => {
      this.#resorting = undefined;
      this.arrange();
    }), wait);
  }

  /**
   * The micrographs that come after one.
   * @param {number} id
   * @param {number} n
   */
  after(id, n) {
    const place = this.#places.get(id) ?? -1;
    return this.#order.slice(place + 1, place + 1 + n);
  }

  /** Go on to the next micrograph (1) or back (-1). @param {number} step */
  go(step) {
    const place = this.#places.get(this.room.current);
    const next = this.#order[place === undefined ? 0 : place + step];
    if (next !== undefined) void this.room.open(next);
  }

  /** Scroll so that the micrograph on screen is in the list. */
  reveal() {
    const place = this.#places.get(this.room.current);
    if (place !== undefined) {
      const top = place * ROW;
      const { scrollTop, clientHeight } = this.box;
      if (top < scrollTop) this.box.scrollTop = top;
      else if (top + ROW > scrollTop + clientHeight) this.box.scrollTop = top + ROW - clientHeight;
    }
    this.redraw();
  }

  /** @returns {Line} */
  #line() {
    const row = make("div", "row");
    row.setAttribute("role", "option");
    const image = make("img", "thumbnail");
    image.alt = "";
    image.draggable = false;
    const words = make("div", "words");
    const name = make("div", "name");
    name.append(make("span", "head"), make("span", "tail"));
    const counts = make("div", "counts");
    const [labels, picks, negatives] = ["labels", "picks", "negatives"].map((one) => make("span", one));
    const signs = [icon("particle"), icon("pick"), icon("negative")];
    counts.append(signs[0], labels, signs[1], picks, signs[2], negatives);
    const track = make("div", "quality");
    const quality = make("i");
    track.append(quality);
    words.append(name, counts, track);
    const sign = make("span", "sign");
    row.append(image, words, sign);
    this.space.append(row);
    return { row, image, name, labels, negatives, picks, quality, sign, id: -1, place: -1 };
  }

  #draw() {
    const { scrollTop, clientHeight } = this.box;
    const first = Math.max(0, Math.floor(scrollTop / ROW) - 1);
    const last = Math.min(this.#order.length, Math.ceil((scrollTop + clientHeight) / ROW) + 1);
    const needed = Math.ceil(clientHeight / ROW) + 3;
    while (this.#lines.length < needed) this.#lines.push(this.#line());
    const shown = new Set();
    let resting = true;
    for (let place = first; place < last; place++) {
      const line = this.#lines[place % this.#lines.length];
      shown.add(line);
      this.#fill(line, place);
      if (line.image.dataset.of !== String(line.id)) resting = false;
    }
    for (const line of this.#lines) if (!shown.has(line)) line.row.hidden = true;
    clearTimeout(this.#resting);
    if (!resting) this.#resting = setTimeout(() => this.#showThumbnails(), REST);
  }

  /** @param {Line} line @param {number} place */
  #fill(line, place) {
    const { rows, current } = this.room;
    const id = this.#order[place];
    const { row } = line;
    row.hidden = false;
    if (line.place !== place) {
      line.place = place;
      row.style.transform = `translateY(${place * ROW}px)`;
      row.setAttribute("aria-posinset", String(place + 1));
    }
    attribute(row, "aria-selected", String(id === current));
    if (id === current) attribute(this.box, "aria-activedescendant", `row-${id}`);
    if (line.id !== id) {
      line.id = id;
      row.id = `row-${id}`;
      row.dataset.id = String(id);
      const shown = this.room.shortName(id);
      say(line.name.children[0], shown.slice(0, -TAIL));
      say(line.name.children[1], shown.slice(-TAIL));
      row.title = rows.name[id];
      line.image.style.visibility = "hidden";
      line.image.dataset.of = "";
    }
    attribute(row, "aria-setsize", String(this.#order.length));
    say(line.labels, String(rows.labels[id]));
    say(line.negatives, String(rows.negatives[id]));
    const picks = rows.picks[id];
    say(line.picks, picks === null ? "–" : String(picks));
    const quality = rows.quality[id];
    line.quality.style.width = `${Math.round((quality ?? 0) * 100)}%`;
    line.quality.parentElement.title = quality === null ? "" : `Quality ${quality.toFixed(2)}`;
    const failed = rows.failed[id];
    row.classList.toggle("failed", Boolean(failed));
    row.classList.toggle("done", rows.done[id]);
    say(line.sign, failed ? "!" : rows.done[id] ? "✓" : "");
    line.sign.title = failed ?? (rows.done[id] ? "Done" : "");
  }

  #showThumbnails() {
    const version = encodeURIComponent(this.room.project.boot);
    for (const { row, image, id } of this.#lines) {
      if (row.hidden || image.dataset.of === String(id)) continue;
      image.dataset.of = String(id);
      image.onload = () => (image.style.visibility = "visible");
      image.src = `/api/micrographs/${id}/thumbnail.jpg?v=${version}`;
    }
  }
}
