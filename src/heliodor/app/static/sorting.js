/**
 * Sorting of the list of micrographs.
 * @typedef {import("./state.js").Rows} Rows
 */

/**
 * Return a key that sorts numbers in names as numbers: m_9 comes before m_10. Intl.Collator could
 * do this, but takes ten times as long.
 * @param {string} name
 */
function createSortKey(name) {
  return name.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(12, "0"));
}

/**
 * Return a comparison by a column: highest first, unknown values last.
 * @param {(number | null)[]} column
 * @returns {(a: number, b: number) => number}
 */
function compareDescending(column) {
  return (a, b) => (column[b] ?? -Infinity) - (column[a] ?? -Infinity) || a - b;
}

/**
 * @param {Rows} rows
 * @param {string} sort original, name, picks, labels, quality, unreviewed, or excluded for those alone
 * @param {string} filter part of the names to keep, in upper or lower case
 * @returns {number[]} ids of micrographs
 */
export function sortMicrographs(rows, sort, filter) {
  const part = filter.trim().toLowerCase();
  let order = rows.name.map((_, id) => id);
  if (sort === "excluded") order = order.filter((id) => rows.excluded[id]);
  if (part) order = order.filter((id) => rows.name[id].toLowerCase().includes(part));
  if (sort === "name") {
    const keys = rows.name.map(createSortKey);
    order.sort((a, b) => (keys[a] < keys[b] ? -1 : keys[a] > keys[b] ? 1 : a - b));
  } else if (sort === "picks") order.sort(compareDescending(rows.picks));
  else if (sort === "labels") order.sort(compareDescending(rows.labels));
  else if (sort === "quality") order.sort(compareDescending(rows.quality));
  else if (sort === "unreviewed") order.sort((a, b) => Number(rows.done[a]) - Number(rows.done[b]) || a - b);
  return order;
}

/**
 * Return the ending that all names share, from a dot, dash or underscore on; "" for none.
 * @param {string[]} names
 */
export function findCommonEnding(names) {
  const first = names[0] ?? "";
  let length = names.length > 1 ? first.length : 0;
  for (const name of names) while (!name.endsWith(first.slice(first.length - length))) length -= 1;
  const common = first.slice(first.length - length);
  const start = common.search(/[._-]/);
  return start < 0 ? "" : common.slice(start);
}

/**
 * Return the folders that all names start with; "" for none.
 * @param {string[]} names
 */
export function findCommonFolder(names) {
  const first = names[0] ?? "";
  let common = first.slice(0, first.lastIndexOf("/") + 1);
  while (common && !names.every((name) => name.startsWith(common)))
    common = common.slice(0, common.lastIndexOf("/", common.length - 2) + 1);
  return common;
}
