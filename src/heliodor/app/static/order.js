/**
 * The order in which micrographs are listed.
 * @typedef {import("./room.js").Rows} Rows
 */

/**
 * Numbers in names count as numbers: m_9 comes before m_10. A collator of the browser's could do
 * this, but takes ten times as long.
 * @param {string} name
 */
function sortKey(name) {
  return name.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(12, "0"));
}

/**
 * By a column, the highest first, unknown ones last.
 * @param {(number | null)[]} column
 * @returns {(a: number, b: number) => number}
 */
function falling(column) {
  return (a, b) => (column[b] ?? -Infinity) - (column[a] ?? -Infinity) || a - b;
}

/**
 * @param {Rows} rows
 * @param {string} sort order, name, picks, labels, quality or todo
 * @param {string} filter shown are those whose name has it, in any case
 * @returns {number[]} places of micrographs
 */
export function orderOf(rows, sort, filter) {
  const part = filter.trim().toLowerCase();
  let order = rows.name.map((_, id) => id);
  if (part) order = order.filter((id) => rows.name[id].toLowerCase().includes(part));
  if (sort === "name") {
    const keys = rows.name.map(sortKey);
    order.sort((a, b) => (keys[a] < keys[b] ? -1 : keys[a] > keys[b] ? 1 : a - b));
  } else if (sort === "picks") order.sort(falling(rows.picks));
  else if (sort === "labels") order.sort(falling(rows.labels));
  else if (sort === "quality") order.sort(falling(rows.quality));
  else if (sort === "todo") order.sort((a, b) => Number(rows.done[a]) - Number(rows.done[b]) || a - b);
  return order;
}

/**
 * The folders with which all names begin, "" where there are none.
 * @param {string[]} names
 */
export function commonFolder(names) {
  const first = names[0] ?? "";
  let common = first.slice(0, first.lastIndexOf("/") + 1);
  while (common && !names.every((name) => name.startsWith(common)))
    common = common.slice(0, common.lastIndexOf("/", common.length - 2) + 1);
  return common;
}
