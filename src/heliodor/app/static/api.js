/** Requests to the server: it answers, refuses (with a message) or cannot be reached. */

const MAX_ATTEMPTS = 4;
const RETRY_DELAY_MS = 200;

let session = "";
let isReader = false;

/**
 * Return the whole address of a path of the server: behind a proxy, the page may be below a folder.
 * @param {string} path with a slash at its beginning
 */
export function toAddress(path) {
  return new URL(`.${path}`, document.baseURI).href;
}

/** Refuse from now on, without asking the server, what would change something. */
export function allowReadingOnly() {
  isReader = true;
}

/**
 * Set the session token to send from now on.
 * @param {string} token
 */
export function useSession(token) {
  session = token;
}

/** The server refused a request, and gave a message. */
export class RequestRefused extends Error {
  /**
   * @param {number} status
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** Whether the same request may succeed later. */
  get isTemporary() {
    return this.status === 429 || this.status >= 500;
  }

  /** Whether this browser has no session on the server, or the server was restarted since. */
  get isWithoutAccess() {
    return this.status === 401;
  }
}

/** No answer: the server has stopped, or the tunnel is down. */
export class ServerUnreachable extends Error {
  constructor() {
    super("The server cannot be reached. It may have stopped, or the SSH tunnel is down.");
  }
}

/**
 * Send a request; retry while the server is too busy (503), as it has not started on it.
 * @param {string} path
 * @param {RequestInit} [options]
 * @param {number} [attempt]
 * @returns {Promise<Response>}
 */
async function request(path, options = {}, attempt = 1) {
  let response;
  try {
    const headers = { Authorization: `Bearer ${session}`, ...options.headers };
    response = await fetch(toAddress(path), { ...options, credentials: "omit", headers });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ServerUnreachable();
  }
  if (response.ok) return response;
  if (response.status === 503 && attempt < MAX_ATTEMPTS) {
    await new Promise((done) => setTimeout(done, RETRY_DELAY_MS * 2 ** attempt));
    return request(path, options, attempt + 1);
  }
  let message = "";
  try {
    message = (await response.json()).error;
  } catch {
    message = "";
  }
  throw new RequestRefused(response.status, message || `The server answered with status ${response.status}.`);
}

/**
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function get(path, signal) {
  return (await request(path, { signal })).json();
}

/**
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @param {RequestPriority} [priority]
 * @returns {Promise<Blob>}
 */
export async function getBlob(path, signal, priority) {
  return (await request(path, { signal, priority })).blob();
}

/**
 * @param {string} path
 * @param {unknown} body
 * @returns {Promise<Response>}
 */
function sendJson(path, body) {
  return request(path, {
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
  if (isReader) throw new RequestRefused(403, "This is a read-only link: nothing can be changed with it.");
  const response = await sendJson(path, body);
  return response.status === 204 ? null : response.json();
}

/**
 * @param {string} path
 * @param {unknown} body
 * @returns {Promise<Blob>}
 */
export async function postForBlob(path, body) {
  return (await sendJson(path, body)).blob();
}

/**
 * Exchange the token of the address for the session token.
 * @param {string} token
 * @returns {Promise<{session: string, rights: "all" | "read"}>}
 */
export async function exchangeToken(token) {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}` };
  const response = await request("/api/session", { method: "POST", headers, body: "{}" });
  return response.json();
}
