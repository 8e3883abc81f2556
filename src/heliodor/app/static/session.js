/**
 * Access to the server: the address that heliodor app prints has a token that works once. It is
 * exchanged for the session token, which all tabs of this browser share. Only pages of the same
 * host and port can read it, and unlike a cookie it is sent to no other server.
 *
 * Each start of the server has another session. A page keeps the one that it was loaded with, so
 * that it never sends something to a server that may have other micrographs.
 */

import { exchangeToken, RequestRefused, useSession } from "./api.js";

/** Behind a proxy, several servers may have the same origin and differ in their paths. */
const KEY = ["heliodor session", window.location.pathname].filter((part) => part !== "/").join(" ");
let used = "";

/** @returns {string | null} the token in the address */
export function readAddressToken() {
  return /^#token=([\w-]+)$/.exec(window.location.hash)?.[1] ?? null;
}

/** Exchange the token in the address, if there is one, and send the session token from now on. */
export async function openSession() {
  const token = readAddressToken();
  if (token !== null) {
    try {
      const { session, rights } = await exchangeToken(token);
      // A read-only link is for one tab: others of this browser may be those of the owner.
      if (rights === "read") sessionStorage.setItem(KEY, session);
      else {
        sessionStorage.removeItem(KEY);
        localStorage.setItem(KEY, session);
      }
    } catch (error) {
      // It was exchanged before: this browser may have the session already.
      if (!(error instanceof RequestRefused && error.isWithoutAccess)) throw error;
    }
    window.history.replaceState(null, "", window.location.pathname);
  }
  used = sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY) ?? "";
  useSession(used);
}

/** @returns {boolean} whether another tab has opened another session */
export function isSessionReplaced() {
  const stored = sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
  return stored !== null && stored !== used;
}
