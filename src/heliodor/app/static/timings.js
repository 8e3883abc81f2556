/** Durations of the page's actions, in a ring buffer to be read in the console. */

const MAX_TIMINGS = 2000;
/** @type {{name: string, ms: number}[]} */
const ring = [];
let next = 0;

Object.defineProperty(window, "heliodorTimings", {
  get: () => [...ring.slice(next), ...ring.slice(0, next)],
});

/**
 * Record how long an action blocked the page.
 * @param {string} name
 * @param {number} ms
 */
export function recordTiming(name, ms) {
  if (ring.length < MAX_TIMINGS) ring.push({ name, ms });
  else {
    ring[next] = { name, ms };
    next = (next + 1) % MAX_TIMINGS;
  }
}

/**
 * Return a function that records the duration of each call (of an asynchronous function: up to its
 * first await, as only that blocks the page).
 * @template {unknown[]} A
 * @template R
 * @param {string} name
 * @param {(...args: A) => R} action
 * @returns {(...args: A) => R}
 */
export function withTiming(name, action) {
  return (...args) => {
    const start = performance.now();
    try {
      return action(...args);
    } finally {
      recordTiming(name, performance.now() - start);
    }
  };
}
