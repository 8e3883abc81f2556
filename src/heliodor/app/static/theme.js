import { byId } from "./dom.js";
import { Emitter } from "./emitter.js";

const KEY = "heliodor theme";
/** @type {Record<string, string>} */
const NEXT = { auto: "light", light: "dark", dark: "auto" };
/** @type {Record<string, string>} */
const WORDS = { auto: "as the system", light: "light", dark: "dark" };

/** Emitted when other colors are in use. */
export const themeChanged = new Emitter();
const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);

/**
 * Return a color of theme.css as it is now, for drawing on a canvas.
 * @param {string} name such as --axis
 */
export function readColor(name) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

/** @param {string} theme auto, light or dark */
function apply(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme-button").title = `Colors: ${WORDS[theme]}. Click for ${WORDS[NEXT[theme]]}`;
  themeChanged.emit();
}

/** Use the theme that was chosen in this browser, and let the button change it. */
export function startTheme() {
  let theme = localStorage.getItem(KEY) ?? "auto";
  if (!(theme in NEXT)) theme = "auto";
  apply(theme);
  byId("theme-button").addEventListener("click", () => {
    theme = NEXT[theme];
    localStorage.setItem(KEY, theme);
    apply(theme);
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => themeChanged.emit());
}
