/**
 * The filter of the table of micrographs: parts of names, words such as "excluded", and
 * comparisons such as "defocus > 2", joined by commas or "and".
 * @typedef {import("./table_columns.js").Column} Column
 * @typedef {(id: number) => boolean} Test
 */

const NUMBER = String.raw`-?\d+(?:\.\d+)?`;
const COMPARISON = new RegExp(String.raw`^(.*?)\s*(<=|>=|≤|≥|<|>|=|above|over|more than|at least|below|under|less than|at most)\s*(${NUMBER})\s*(%|µm|um|nm|å|a|px)?$`, "i");
const RANGE = new RegExp(String.raw`^(.*?)\s+(?:from\s+)?(${NUMBER})\s*(?:to|–)\s*(${NUMBER})\s*(%|µm|um|nm|å|a|px)?$`, "i");
const BETWEEN = new RegExp(String.raw`\bbetween\s+(${NUMBER})\s+and\s+(${NUMBER})`, "gi");
/** @type {Record<string, (a: number, b: number) => boolean>} */
const OPERATORS = {
  "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "=": (a, b) => a === b,
};
/** @type {Record<string, string>} */
const SAME_OPERATORS = {
  "≤": "<=", "≥": ">=", above: ">", over: ">", "more than": ">", "at least": ">=",
  below: "<", under: "<", "less than": "<", "at most": "<=",
};
/** Å in one of each unit of length. @type {Record<string, number>} */
const LENGTHS = { µm: 1e4, um: 1e4, nm: 10, å: 1, a: 1 };

/** Return a text without what people write in different ways. @param {string} text */
function simplify(text) {
  return text.toLowerCase().replace(/[^a-z0-9]/g, "");
}

/**
 * Return the column that is meant by a name or the beginning or a part of it.
 * @param {string} name
 * @param {Column[]} columns
 */
function findColumn(name, columns) {
  const wanted = simplify(name);
  if (!wanted) return undefined;
  const titles = columns.map((column) => simplify(column.title));
  const place = [
    titles.indexOf(wanted),
    columns.findIndex((column) => simplify(column.key) === wanted),
    titles.findIndex((title) => title.startsWith(wanted)),
    titles.findIndex((title) => title.includes(wanted)),
  ].find((found) => found >= 0);
  return place === undefined ? undefined : columns[place];
}

/**
 * Return a number in the unit of a column.
 * @param {string} number
 * @param {string | undefined} unit as typed, if it was
 * @param {Column} column
 */
function convert(number, unit, column) {
  const from = LENGTHS[(unit ?? "").toLowerCase()];
  const to = LENGTHS[column.unit.toLowerCase()];
  return from && to ? (Number(number) * from) / to : Number(number);
}

/**
 * @param {string} term
 * @param {Column[]} columns
 * @param {Record<string, Test>} words what else can be asked for
 * @returns {Test | string} a sentence if it is not understood
 */
function parseTerm(term, columns, words) {
  const without = /^not\s+(.+)$/i.exec(term);
  if (without) {
    const test = parseTerm(without[1], columns, words);
    return typeof test === "string" ? test : (id) => !test(id);
  }
  const word = words[term.toLowerCase()];
  if (word) return word;
  const numbers = columns.filter((column) => !column.isText);
  const range = RANGE.exec(term);
  const compared = range ? null : COMPARISON.exec(term);
  const found = range ?? compared;
  const column = found && findColumn(found[1], numbers);
  if (found && !column) {
    if (range) return searchNames(term, columns);
    const titles = numbers.map((one) => one.title.toLowerCase()).join(", ");
    return `“${found[1]}” is not a column with numbers; there are: ${titles}`;
  }
  if (range && column) {
    const [low, high] = [convert(range[2], range[4], column), convert(range[3], range[4], column)];
    return (id) => {
      const value = /** @type {number | null} */ (column.value(id));
      return value !== null && value >= low && value <= high;
    };
  }
  if (compared && column) {
    const sign = compared[2].toLowerCase();
    const operator = OPERATORS[SAME_OPERATORS[sign] ?? sign];
    const limit = convert(compared[3], compared[4], column);
    return (id) => {
      const value = /** @type {number | null} */ (column.value(id));
      return value !== null && operator(value, limit);
    };
  }
  return searchNames(term, columns);
}

/**
 * Return a test for micrographs whose name, note or outlier reasons have a text.
 * @param {string} text
 * @param {Column[]} columns
 * @returns {Test}
 */
function searchNames(text, columns) {
  const part = text.toLowerCase();
  const searched = columns.filter((column) => column.isText);
  return (id) => searched.some((column) => String(column.value(id)).toLowerCase().includes(part));
}

/**
 * Read a filter.
 * @param {string} text
 * @param {Column[]} columns text columns are searched for what is not a comparison
 * @param {Record<string, Test>} words
 * @returns {{test: Test, problem: string}} `problem` is a sentence, "" if all is understood
 */
export function parseFilter(text, columns, words) {
  const terms = text.replace(BETWEEN, "$1 to $2").split(/\s*(?:,|;|&|\band\b)\s*/i).filter(Boolean);
  const tests = [];
  for (const term of terms) {
    const test = parseTerm(term.trim(), columns, words);
    if (typeof test === "string") return { test: () => true, problem: test };
    tests.push(test);
  }
  return { test: (id) => tests.every((test) => test(id)), problem: "" };
}
