import { byId, setText, toSentence } from "./dom.js";

const SHOWN_MS = 6000;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

/**
 * Show a message at the bottom of the page for some seconds, with an undo button if possible.
 * @param {string} message
 * @param {(() => void) | null} [undo]
 */
export function showToast(message, undo = null) {
  const box = byId("toast");
  const [text, button] = box.children;
  setText(text, toSentence(message));
  button.hidden = !undo;
  button.onclick = () => {
    box.hidden = true;
    undo?.();
  };
  box.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(() => (box.hidden = true), SHOWN_MS);
}

/**
 * Ask for confirmation before something that cannot be undone.
 * @param {string} message
 * @param {string} yes label of the button that confirms
 * @returns {Promise<boolean>}
 */
export function confirmAction(message, yes) {
  const dialog = byId("confirm");
  setText(dialog.querySelector("p"), message);
  setText(dialog.querySelector("[value=yes]"), yes);
  return new Promise((resolve) => {
    for (const button of dialog.querySelectorAll("button"))
      button.onclick = () => dialog.close(button.value);
    dialog.returnValue = "no";
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
    dialog.showModal();
  });
}
