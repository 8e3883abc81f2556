/** What the page's actions cost, kept in a small ring that anybody may read in the console. */

const KEPT = 2000;
/** @type {{name: string, ms: number}[]} */
const ring = [];
let next = 0;

Object.defineProperty(window, "heliodorTimings", {
  get: () => [...ring.slice(next), ...ring.slice(0, next)],
});

/**
 * Write down how long something held up the page.
 * @param {string} name
 * @param {number} ms
 */
export function note(name, ms) {
  if (ring.length < KEPT) ring.push({ name, ms });
  else {
    ring[next] = { name, ms };
    next = (next + 1) % KEPT;
  }
}

/**
 * The same function, its time written down at each call (of an asynchronous one: what it does
 * before its first wait, which is what blocks the page).
 * @template {unknown[]} A
 * @template R
 * @param {string} name
 * @param {(...args: A) => R} action
 * @returns {(...args: A) => R}
 */
export function timed(name, action) {
  return (...args) => {
    const start = performance.now();
    try {
      return action(...args);
    } finally {
      note(name, performance.now() - start);
    }
  };
}
