import { byId, say, sentence } from "./dom.js";

const SHOWN = 6000;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

/**
 * A sentence at the foot of the page, for a while; with a way back where there is one.
 * @param {string} says
 * @param {(() => void) | null} [undo]
 */
export function toast(says, undo = null) {
  const box = byId("toast");
  const [text, button] = box.children;
  say(text, sentence(says));
  button.hidden = !undo;
  button.onclick = () => {
    box.hidden = true;
    undo?.();
  };
  box.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(() => (box.hidden = true), SHOWN);
}

/**
 * Ask before something that cannot be undone.
 * @param {string} says
 * @param {string} yes what going on is called
 * @returns {Promise<boolean>}
 */
export function askFirst(says, yes) {
  const dialog = byId("ask-first");
  say(dialog.querySelector("p"), says);
  say(dialog.querySelector("[value=yes]"), yes);
  return new Promise((resolve) => {
    for (const button of dialog.querySelectorAll("button"))
      button.onclick = () => dialog.close(button.value);
    dialog.returnValue = "no";
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
    dialog.showModal();
  });
}
