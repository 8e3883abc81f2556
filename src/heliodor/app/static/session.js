/**
 * Access to the server: the address that heliodor app prints has a token that works once. It is
 * exchanged for the session token, which all tabs of this browser share. Only pages of the same
 * host and port can read it, and unlike a cookie it is sent to no other server.
 */

import { exchangeToken, RequestRefused, SESSION_KEY } from "./api.js";

/** @returns {string | null} the token in the address */
export function readAddressToken() {
  return /^#token=([\w-]+)$/.exec(window.location.hash)?.[1] ?? null;
}

/** Exchange the token in the address, if there is one, and remove it from there. */
export async function openSession() {
  const token = readAddressToken();
  if (token === null) return;
  try {
    localStorage.setItem(SESSION_KEY, await exchangeToken(token));
  } catch (error) {
    // It was exchanged before: this browser may have the session already.
    if (!(error instanceof RequestRefused && error.isWithoutAccess)) throw error;
  }
  window.history.replaceState(null, "", window.location.pathname);
}

/**
 * Call a function when another tab opens a session.
 * @param {() => void} act
 */
export function onSessionOpened(act) {
  window.addEventListener("storage", ({ key, newValue }) => {
    if (key === SESSION_KEY && newValue) act();
  });
}
