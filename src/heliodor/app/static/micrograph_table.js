import { get, post } from "./api.js";
import { byId, createElement, formatCount, oncePerFrame, setText, toSentence } from "./dom.js";
import { parseFilter } from "./table_filter.js";
import { withTiming } from "./timings.js";
import { showToast } from "./toast.js";

const ROW_HEIGHT_PX = 27;
const RESORT_DELAY_MS = 1000;
/** Time between two requests while the server still reads the headers of the micrographs. */
const PENDING_INTERVAL_MS = 1500;

/**
 * @typedef {import("./emitter.js").Emitter} Emitter
 * @typedef {import("./table_columns.js").Column} Column
 * @typedef {{rows: {name: string[], excluded: boolean[], note: string[]}, current: number,
 *   count: number, excludedCount: number, tableOrder: number[] | null, rowsChanged: Emitter,
 *   opened: Emitter, listName: (id: number) => string, open: (id: number) => Promise<void>}} TableState
 *   the project as the page knows it
 * @typedef {{history: {add: (step: any) => void}, undo: () => void,
 *   words: Record<string, (id: number) => boolean>,
 *   createColumns: (data: import("./table_columns.js").TableData) => Column[],
 *   onOpened: (table: MicrographTable) => void, onSorted: () => void, onExcluded: () => void,
 *   waitFor: (sending: Promise<unknown>) => void}} TableKind
 *   what is shown of this kind of project, particles or filaments
 * @typedef {{row: any, use: HTMLInputElement, cells: HTMLElement[], id: number, place: number}} Line
 */

/**
 * Return a key that sorts numbers in names as numbers.
 * @param {string} text
 */
function createSortKey(text) {
  return text.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(12, "0"));
}

/** The table of micrographs: it has only as many rows as fit on the screen. */
export class MicrographTable {
  isOpen = false;
  /** Micrographs in the order shown. @type {number[]} */ order = [];
  /** @type {Column[]} */ #columns = [];
  /** @type {import("./table_columns.js").TableData} */ #data;
  /** @type {Line[]} */ #lines = [];
  #sortKey = "";
  #descending = false;
  #sortedAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #sortTimer;
  #isReading = false;
  redraw = oncePerFrame(withTiming("draw table", () => this.#draw()));

  /**
   * @param {TableState} state
   * @param {TableKind} kind
   * @param {import("./spectrum_view.js").SpectrumView} spectrum
   */
  constructor(state, kind, spectrum) {
    this.state = state;
    this.kind = kind;
    this.box = byId("table");
    this.scroller = byId("table-rows");
    this.space = byId("table-space");
    this.head = byId("table-head");
    this.filter = byId("table-filter");
    const empty = state.rows.name.map(() => null);
    this.#data = { pending: 0, width: empty, height: empty, pixel_size: empty, columns: [] };
    this.#setColumns();
    byId("table-button").addEventListener("click", withTiming("table", () => this.toggle()));
    byId("table-close").addEventListener("click", () => this.toggle());
    byId("table-exclude").addEventListener("click", withTiming("exclude shown", () => this.#excludeShown(true)));
    byId("table-include").addEventListener("click", withTiming("include shown", () => this.#excludeShown(false)));
    byId("table-spectrum").addEventListener("click", () => void spectrum.show());
    this.filter.addEventListener("input", withTiming("filter table", () => this.sortAndFilter()));
    this.scroller.addEventListener("scroll", () => this.redraw(), { passive: true });
    this.scroller.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => this.#onKeyDown(event));
    this.space.addEventListener("click", withTiming("table row", (/** @type {any} */ event) => this.#onClick(event)));
    this.space.addEventListener("dblclick", (/** @type {any} */ event) => {
      if (event.target.closest("[data-id]") && event.target.tagName !== "INPUT") this.toggle();
    });
    this.note = byId("table-note");
    this.note.addEventListener("change", () => this.#saveNote());
    new ResizeObserver(() => this.redraw()).observe(this.scroller);
    state.rowsChanged.on((ids) => this.#onRowsChanged(ids));
    state.opened.on(() => this.#showCurrent());
  }

  /** Show the table in place of the micrograph, or the micrograph again. */
  toggle() {
    this.isOpen = !this.isOpen;
    this.box.hidden = !this.isOpen;
    byId("table-button").setAttribute("aria-pressed", String(this.isOpen));
    if (!this.isOpen) {
      byId("stage").focus({ preventScroll: true });
      return;
    }
    void this.read();
    this.kind.onOpened(this);
    this.sortAndFilter();
    this.#showCurrent();
    this.scroller.focus({ preventScroll: true });
  }

  /** Read the columns that the server has, until it has read all micrographs. */
  async read() {
    if (this.#isReading) return;
    this.#isReading = true;
    try {
      do {
        this.#data = await get("/api/table");
        this.#setColumns();
        this.sortAndFilter();
        if (this.#data.pending) await new Promise((done) => setTimeout(done, PENDING_INTERVAL_MS));
      } while (this.#data.pending && this.isOpen);
    } finally {
      this.#isReading = false;
    }
  }

  /** Show what the kind of project has found out since. */
  update() {
    this.#setColumns();
    this.#onRowsChanged(null);
  }

  #setColumns() {
    const before = this.#columns.map((column) => column.key + column.title).join();
    this.#columns = this.kind.createColumns(this.#data);
    if (before === this.#columns.map((column) => column.key + column.title).join()) return;
    this.box.style.setProperty("--columns", `38px ${this.#columns.map((one) => `calc(${one.letters}ch + 20px)`).join(" ")}`);
    const use = createElement("div", "cell use", "Use");
    use.setAttribute("role", "columnheader");
    use.title = "Clear the box to exclude a micrograph: it is not exported, picked or used for training";
    this.head.replaceChildren(use, ...this.#columns.map((column) => this.#createHeader(column)));
    this.#lines = [];
    this.space.replaceChildren();
    this.#showOrder();
  }

  /** @param {Column} column */
  #createHeader(column) {
    const cell = createElement("div", `cell ${column.isText ? "" : "figure"} ${column.key}`);
    cell.setAttribute("role", "columnheader");
    cell.dataset.key = column.key;
    const button = createElement("button", "quiet", column.title);
    button.type = "button";
    button.title = `${column.hint}. Click to sort`;
    if (column.unit) button.append(createElement("span", "unit", ` (${column.unit})`));
    button.append(createElement("span", "arrow"));
    button.addEventListener("click", withTiming("sort table", () => this.#sortBy(column)));
    cell.append(button);
    return cell;
  }

  /**
   * Sort by a column: numbers the largest first, texts from A to Z; the other way the second time,
   * and in the original order the third time.
   * @param {Column} column
   */
  #sortBy(column) {
    const first = !column.isText;
    if (this.#sortKey !== column.key) [this.#sortKey, this.#descending] = [column.key, first];
    else if (this.#descending === first) this.#descending = !first;
    else this.#sortKey = "";
    this.sortAndFilter();
    this.scroller.scrollTop = 0;
  }

  #showOrder() {
    for (const cell of this.head.querySelectorAll("[data-key]")) {
      const sorted = cell.dataset.key === this.#sortKey;
      cell.setAttribute("aria-sort", sorted ? (this.#descending ? "descending" : "ascending") : "none");
      setText(cell.querySelector(".arrow"), sorted ? (this.#descending ? " ▼" : " ▲") : "");
    }
  }

  /** What can be asked for beside columns. @returns {Record<string, (id: number) => boolean>} */
  get #words() {
    const { rows } = this.state;
    const hasNote = (/** @type {number} */ id) => rows.note[id] !== "";
    return {
      ...this.kind.words, note: hasNote, notes: hasNote,
      excluded: (id) => rows.excluded[id], included: (id) => !rows.excluded[id],
    };
  }

  /** Sort and filter the rows again. */
  sortAndFilter() {
    this.#sortedAt = performance.now();
    const { test, problem } = parseFilter(this.filter.value, this.#searched, this.#words);
    const order = this.state.rows.name.map((_, id) => id).filter(test);
    const column = this.#columns.find((one) => one.key === this.#sortKey);
    if (column) this.#sort(order, column);
    this.order = order;
    this.state.tableOrder = order;
    this.kind.onSorted();
    this.space.style.height = `${order.length * ROW_HEIGHT_PX}px`;
    this.scroller.setAttribute("aria-rowcount", String(order.length + 1));
    const excluded = this.state.excludedCount;
    const all = formatCount(this.state.count, "micrograph");
    const part = order.length === this.state.count ? all : `${order.length.toLocaleString("en")} of ${all}`;
    setText(byId("table-count"), excluded ? `${part}, ${excluded.toLocaleString("en")} excluded` : part);
    byId("table-problem").hidden = !problem;
    setText(byId("table-problem"), toSentence(problem));
    const shown = order.filter((id) => !this.state.rows.excluded[id]).length;
    // Without a filter, the button would exclude everything.
    byId("table-exclude").disabled = shown === 0 || !this.filter.value.trim();
    byId("table-include").disabled = shown === order.length;
    this.#showOrder();
    this.redraw();
  }

  /** The columns, with the whole names. */
  get #searched() {
    const { name } = this.state.rows;
    return this.#columns.map((one) => (one.key === "name" ? { ...one, value: (/** @type {number} */ id) => name[id] } : one));
  }

  /**
   * @param {number[]} order
   * @param {Column} column
   */
  #sort(order, column) {
    const sign = this.#descending ? -1 : 1;
    const values = this.state.rows.name.map((_, id) => {
      const value = column.value(id);
      return typeof value === "string" ? createSortKey(value) : value;
    });
    // What is not known comes last in both directions.
    const isKnown = values.map((value) => value !== null && value !== "");
    order.sort((a, b) => {
      if (!isKnown[a] || !isKnown[b]) return Number(isKnown[b]) - Number(isKnown[a]) || a - b;
      const [one, other] = [/** @type {number} */ (values[a]), /** @type {number} */ (values[b])];
      return one < other ? -sign : one > other ? sign : a - b;
    });
  }

  /** @param {number[] | null} ids */
  #onRowsChanged(ids) {
    if (!this.isOpen) return;
    this.redraw();
    if (ids !== null && !this.#sortKey && !this.filter.value) return;
    if (this.#sortTimer) return;
    const wait = Math.max(0, this.#sortedAt + RESORT_DELAY_MS - performance.now());
    this.#sortTimer = setTimeout(withTiming("sort table", () => {
      this.#sortTimer = undefined;
      this.sortAndFilter();
    }), wait);
  }

  /** @param {any} event */
  #onClick(event) {
    const row = event.target.closest("[data-id]");
    if (!row) return;
    const id = Number(row.dataset.id);
    if (event.target.tagName === "INPUT") this.exclude([id], !event.target.checked);
    else void this.state.open(id);
  }

  /** @param {KeyboardEvent} event */
  #onKeyDown(event) {
    if (event.target !== this.scroller || event.ctrlKey || event.altKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / ROW_HEIGHT_PX) - 1);
    const place = this.order.indexOf(this.state.current);
    const last = this.order.length - 1;
    const to = {
      ArrowDown: place + 1, ArrowUp: place - 1, PageDown: place + page, PageUp: place - page, Home: 0, End: last,
    }[event.key];
    if (to !== undefined && last >= 0) void this.state.open(this.order[Math.min(last, Math.max(0, to))]);
    else if (event.key === "Enter") this.toggle();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Exclude all micrographs that the filter shows, or include them again. @param {boolean} excluded */
  #excludeShown(excluded) {
    const { rows } = this.state;
    const ids = this.order.filter((id) => rows.excluded[id] !== excluded);
    this.exclude(ids, excluded);
    const what = formatCount(ids.length, "micrograph");
    showToast(`${excluded ? "Excluded" : "Included"} ${what}`, () => this.kind.undo());
  }

  /**
   * Exclude or include micrographs, which can be undone.
   * @param {number[]} ids
   * @param {boolean} excluded
   */
  exclude(ids, excluded) {
    if (!ids.length) return;
    this.#sendExcluded(ids, excluded);
    this.kind.history.add({
      undo: () => this.#sendExcluded(ids, !excluded),
      redo: () => this.#sendExcluded(ids, excluded),
    });
  }

  /**
   * @param {number[]} ids
   * @param {boolean} excluded
   */
  #sendExcluded(ids, excluded) {
    const { state } = this;
    const set = (/** @type {boolean} */ value) => {
      for (const id of ids) state.rows.excluded[id] = value;
      state.rowsChanged.emit(ids);
      this.sortAndFilter();
    };
    set(excluded);
    this.kind.waitFor(post("/api/excluded", { ids, excluded })
      .then(() => this.kind.onExcluded())
      .catch((error) => {
        set(!excluded);
        showToast(error.message);
      }));
  }

  #saveNote() {
    const { state } = this;
    const id = state.current;
    const before = state.rows.note[id];
    const note = this.note.value.trim();
    if (id < 0 || note === before) return;
    state.rows.note[id] = note;
    state.rowsChanged.emit([id]);
    this.kind.waitFor(post(`/api/micrographs/${id}/note`, { note }).catch((error) => {
      state.rows.note[id] = before;
      state.rowsChanged.emit([id]);
      showToast(error.message);
    }));
  }

  /** Show the micrograph on screen: its row and its note. */
  #showCurrent() {
    const { current, rows } = this.state;
    if (!this.isOpen || current < 0) return;
    setText(byId("table-current"), this.state.listName(current));
    byId("table-current").title = rows.name[current];
    if (document.activeElement !== this.note) this.note.value = rows.note[current];
    const place = this.order.indexOf(current);
    if (place >= 0) {
      const top = place * ROW_HEIGHT_PX;
      const { scrollTop, clientHeight } = this.scroller;
      const visible = clientHeight - this.head.clientHeight;
      if (top < scrollTop) this.scroller.scrollTop = top;
      else if (top + ROW_HEIGHT_PX > scrollTop + visible) this.scroller.scrollTop = top + ROW_HEIGHT_PX - visible;
    }
    this.redraw();
  }

  /** @returns {Line} */
  #createLine() {
    const row = createElement("div", "table-row");
    row.setAttribute("role", "row");
    const use = createElement("input");
    use.type = "checkbox";
    use.tabIndex = -1;
    const box = createElement("div", "cell use");
    box.setAttribute("role", "cell");
    box.append(use);
    const cells = this.#columns.map((column) => {
      const cell = createElement("div", `cell ${column.isText ? "" : "figure"} ${column.key}`);
      cell.setAttribute("role", "cell");
      return cell;
    });
    row.append(box, ...cells);
    this.space.append(row);
    return { row, use, cells, id: -1, place: -1 };
  }

  #draw() {
    if (!this.isOpen) return;
    const { scrollTop, clientHeight } = this.scroller;
    const first = Math.max(0, Math.floor(scrollTop / ROW_HEIGHT_PX) - 1);
    const last = Math.min(this.order.length, Math.ceil((scrollTop + clientHeight) / ROW_HEIGHT_PX) + 1);
    const needed = Math.ceil(clientHeight / ROW_HEIGHT_PX) + 3;
    while (this.#lines.length < needed) this.#lines.push(this.#createLine());
    const shown = new Set();
    for (let place = first; place < last; place++) {
      const line = this.#lines[place % this.#lines.length];
      shown.add(line);
      this.#fillLine(line, place);
    }
    for (const line of this.#lines) line.row.hidden = !shown.has(line);
  }

  /** @param {Line} line @param {number} place */
  #fillLine(line, place) {
    const { rows, current } = this.state;
    const id = this.order[place];
    if (line.place !== place) {
      line.place = place;
      line.row.style.transform = `translateY(${place * ROW_HEIGHT_PX}px)`;
      line.row.setAttribute("aria-rowindex", String(place + 2));
    }
    if (line.id !== id) {
      line.id = id;
      line.row.dataset.id = String(id);
      line.cells[0].title = rows.name[id];
      line.use.setAttribute("aria-label", `Use ${rows.name[id]}`);
    }
    line.use.checked = !rows.excluded[id];
    line.row.setAttribute("aria-selected", String(id === current));
    line.row.classList.toggle("excluded", rows.excluded[id]);
    this.#columns.forEach((column, i) => {
      const text = column.text(id);
      setText(line.cells[i], text);
      if (i > 0 && column.isText && line.cells[i].title !== text) line.cells[i].title = text;
    });
  }
}
