import { byId } from "./dom.js";

const KEY = "heliodor my name";

/** The name that the user of this browser gave, to be shown with their labels; "" for none. */
export function readMyName() {
  return localStorage.getItem(KEY) ?? "";
}

/** Let the user give a name. */
export function connectMyName() {
  const field = byId("my-name");
  field.value = readMyName();
  field.addEventListener("change", () => {
    field.value = field.value.trim().replace(/\s+/g, " ");
    if (field.value) localStorage.setItem(KEY, field.value);
    else localStorage.removeItem(KEY);
  });
}

/**
 * Who made a label and when, as a text; "" if that is not known.
 * @param {{kind: string, by?: string | null, at?: number | null}} label
 */
export function describeAuthor({ kind, by, at }) {
  if (!by || !at) return "";
  const what = kind === "particle" ? "labeled" : "rejected";
  return `${what} by ${by}, ${describeTime(at)}`;
}

/** @param {number} seconds since 1970 */
export function describeTime(seconds) {
  const when = new Date(seconds * 1000);
  const time = when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const isToday = when.toDateString() === new Date().toDateString();
  return isToday ? time : `${when.toLocaleDateString()} ${time}`;
}
