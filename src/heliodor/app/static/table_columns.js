/** The columns of the table of micrographs. */

/**
 * @typedef {import("./state.js").AppState} AppState
 * @typedef {{pending: number, width: (number | null)[], height: (number | null)[],
 *   pixel_size: (number | null)[],
 *   columns: {key: string, title: string, unit: string, values: (number | null)[]}[]}} TableData
 * @typedef {{key: string, title: string, unit: string, isText: boolean, letters: number,
 *   hint: string, value: (id: number) => number | string | null, text: (id: number) => string}} Column
 *   `value` is what rows are sorted and filtered by; `letters` is the width
 */

/** Widest name that is shown whole. */
const MAX_NAME_LETTERS = 40;
const NUMBER_LETTERS = 7;

/**
 * Return how many digits after the point the numbers of a column need.
 * @param {(number | null)[]} values
 */
function chooseDigits(values) {
  let largest = 0;
  let whole = true;
  for (const value of values) {
    if (value === null) continue;
    largest = Math.max(largest, Math.abs(value));
    whole &&= Number.isInteger(value);
  }
  if (whole || largest >= 1000) return 0;
  if (largest >= 100) return 1;
  return largest >= 1 ? 2 : 3;
}

/**
 * @param {string} key
 * @param {string} title
 * @param {string} unit
 * @param {string} hint
 * @param {(id: number) => number | null} value
 * @param {number} digits
 * @returns {Column}
 */
function createNumberColumn(key, title, unit, hint, value, digits = 0) {
  const letters = Math.max(NUMBER_LETTERS, Math.ceil(1.1 * title.length) + (unit ? unit.length + 3 : 0));
  return {
    key, title, unit, hint, value, letters, isText: false,
    text: (id) => {
      const number = value(id);
      return number === null ? "" : number.toFixed(digits);
    },
  };
}

/**
 * Say what is the matter with a micrograph.
 * @param {AppState} state
 * @param {number} id
 */
function describeStatus(state, id) {
  const { rows } = state;
  if (rows.failed[id]) return "cannot be read";
  if (rows.excluded[id]) return "excluded";
  if (rows.done[id]) return "reviewed";
  return rows.picks[id] === null ? "not picked yet" : "";
}

/**
 * Return the columns of the table, in order.
 * @param {AppState} state
 * @param {TableData} data
 * @param {Map<number, string[]>} outliers reasons by micrograph
 * @returns {Column[]}
 */
export function createColumns(state, data, outliers) {
  const row = (/** @type {string} */ key) => (/** @type {number} */ id) => /** @type {any} */ (state.rows)[key][id];
  const names = state.rows.name.map((_, id) => state.listName(id));
  const longest = Math.max(4, ...names.map((name) => name.length));
  const text = (
    /** @type {string} */ key,
    /** @type {string} */ title,
    /** @type {number} */ letters,
    /** @type {string} */ hint,
    /** @type {(id: number) => string} */ value,
  ) => ({ key, title, unit: "", isText: true, letters, hint, value, text: value });
  const area = (/** @type {number} */ id) => {
    const [width, height] = [data.width[id] ?? null, data.height[id] ?? null];
    return width === null || height === null ? null : width * height;
  };
  return [
    text("name", "Name", Math.min(MAX_NAME_LETTERS, longest + 1), "Without what all names share; hold the pointer over it for the whole name", (id) => names[id]),
    text("status", "Status", 14, "Excluded, reviewed, or not picked yet", (id) => describeStatus(state, id)),
    createNumberColumn("picks", "Picks", "", "Candidates at or above the threshold", row("picks")),
    createNumberColumn("particles", "Particles", "", "Estimated number of particles among all candidates; empty where it cannot be estimated", row("particles")),
    createNumberColumn("labels", "Labels", "", "Particles that you labeled", row("labels")),
    createNumberColumn("contamination", "Contamination", "%", "Share of the area that is contaminated", (id) => {
      const quality = state.rows.quality[id];
      return quality === null ? null : 100 * (1 - quality);
    }, 1),
    ...data.columns.map(({ key, title, unit, values }) =>
      createNumberColumn(key, title, unit, "From the list of micrographs that heliodor app was started with", (id) => values[id] ?? null, chooseDigits(values))),
    {
      ...createNumberColumn("size", "Size", "px", "Width × height", area),
      letters: 13,
      text: (id) => (area(id) === null ? "" : `${data.width[id]} × ${data.height[id]}`),
    },
    createNumberColumn("pixel_size", "Pixel size", "Å", "Å per pixel", (id) => data.pixel_size[id] ?? null, 3),
    text("outlier", "Outlier", 34, "Why the micrograph is unlike the others", (id) => (outliers.get(id) ?? []).join("; ")),
    text("note", "Note", 34, "What you wrote about the micrograph", row("note")),
  ];
}
