/** Talking to the server: it answered, it refused (with a sentence), or it is not there. */

const TRIES = 4;
const PAUSE = 200;

/** The server's "no", with its sentence. */
export class Refused extends Error {
  /**
   * @param {number} status
   * @param {string} says
   */
  constructor(status, says) {
    super(says);
    this.status = status;
  }

  /** Whether the same request may succeed later. */
  get passing() {
    return this.status === 429 || this.status >= 500;
  }
}

/** No answer at all: the server has ended, or the tunnel is down. */
export class Unreachable extends Error {
  constructor() {
    super("The server cannot be reached. It may have been stopped, or the tunnel is down.");
  }
}

/**
 * A server that has too much to do (503) is asked again: it has not begun what it refused.
 * @param {string} path
 * @param {RequestInit} [options]
 * @param {number} [tries]
 * @returns {Promise<Response>}
 */
async function ask(path, options = {}, tries = 1) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Unreachable();
  }
  if (response.ok) return response;
  if (response.status === 503 && tries < TRIES) {
    await new Promise((done) => setTimeout(done, PAUSE * 2 ** tries));
    return ask(path, options, tries + 1);
  }
  let says = "";
  try {
    says = (await response.json()).error;
  } catch {
    says = "";
  }
  throw new Refused(response.status, says || `The server answered ${response.status}.`);
}

/**
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function get(path, signal) {
  return (await ask(path, { signal })).json();
}

/**
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<Blob>}
 */
export async function getBlob(path, signal) {
  return (await ask(path, { signal })).blob();
}

/**
 * @param {string} path
 * @param {unknown} body
 * @returns {Promise<Response>}
 */
function send(path, body) {
  return ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
}

/**
 * @param {string} path
 * @param {unknown} [body]
 * @returns {Promise<any>}
 */
export async function post(path, body = {}) {
  const response = await send(path, body);
  return response.status === 204 ? null : response.json();
}

/**
 * @param {string} path
 * @param {unknown} body
 * @returns {Promise<Blob>}
 */
export async function postForBlob(path, body) {
  return (await send(path, body)).blob();
}
