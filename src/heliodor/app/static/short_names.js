/** Short names of micrographs, which usually differ in a few parts only. */

/** Names that fit in the list. */
const MAX_LETTERS = 24;

/**
 * Shorten names in the middle, so that different ones stay different: parts that all names share
 * become "…". Names of another form than the others stay as they are.
 * @param {string[]} names without the folders and the ending that all share
 * @returns {string[]}
 */
export function shortenNames(names) {
  if (Math.max(0, ...names.map((name) => name.length)) <= MAX_LETTERS) return names;
  const split = names.map((name) => name.split(/([._\-/ ]+)/));
  const length = split[0].length;
  if (names.length < 2 || split.some((parts) => parts.length !== length)) return names;
  const columns = [...split[0].keys()];
  const differing = columns.filter((i) => i % 2 === 0 && split.some((parts) => parts[i] !== split[0][i]));
  const kept = chooseColumns(split, differing);
  return split.map((parts) => joinParts(parts, kept));
}

/**
 * Return the columns to show: those that differ, without the first ones while names are too long
 * and can be told apart without them.
 * @param {string[][]} split
 * @param {number[]} differing
 */
function chooseColumns(split, differing) {
  const kept = new Set(differing);
  const count = new Set(split.map((parts) => parts.join(""))).size;
  for (const column of differing) {
    if (Math.max(...split.map((parts) => joinParts(parts, kept).length)) <= MAX_LETTERS) break;
    kept.delete(column);
    if (new Set(split.map((parts) => joinParts(parts, kept))).size < count) kept.add(column);
  }
  return kept;
}

/**
 * Join some parts of a name: neighbors with what is between them, others with "…".
 * @param {string[]} parts
 * @param {Set<number>} kept
 */
function joinParts(parts, kept) {
  let text = "";
  let last = -2;
  for (const column of [...kept].sort((a, b) => a - b)) {
    text += column === last + 2 && last >= 0 ? parts[column - 1] : column > 0 ? "…" : "";
    text += parts[column];
    last = column;
  }
  return last < parts.length - 1 ? `${text}…` : text;
}
