import { byId } from "./dom.js";

/**
 * What the keys do. The first that has a key is asked first.
 * @param {any} parts of the page
 * @returns {import("./keys.js").Shortcut[]}
 */
export function shortcuts({ viewer, list, panels, bar, label, train, judge, ask }) {
  const key = (
    /** @type {string[]} */ keys,
    /** @type {string} */ says,
    /** @type {() => void | boolean} */ act,
    shown = keys,
  ) => ({ keys, shown, says, act });
  const asked = (/** @type {() => void} */ act) => () => {
    if (!ask.open) return false;
    act();
    return true;
  };
  hold(viewer);
  return [
    key(["j", "ArrowLeft"], "Ask: a particle", asked(() => ask.answer("particle")), ["J", "←"]),
    key(["k", "ArrowRight"], "Ask: not a particle", asked(() => ask.answer("negative")), ["K", "→"]),
    key(["s"], "Ask: skip", asked(() => ask.answer("skipped")), ["S"]),
    key(["u"], "Ask: one back", asked(() => ask.back()), ["U"]),
    key(["n", "ArrowRight", "ArrowDown"], "Next micrograph", () => list.go(1), ["N", "→", "↓"]),
    key(["p", "ArrowLeft", "ArrowUp"], "Previous micrograph", () => list.go(-1), ["P", "←", "↑"]),
    key(["d"], "Done, and next", () => bar.done(true), ["D"]),
    key(["Ctrl+z"], "Undo", () => bar.undo(), ["Ctrl", "Z"]),
    key(["Ctrl+Shift+z", "Ctrl+y"], "Redo", () => bar.redo(), ["Ctrl", "Shift", "Z"]),
    key(["l"], "Label: click adds, removes", () => bar.take("label"), ["L"]),
    key(["b"], "Brush that erases, and back", () =>
      bar.take(viewer.hand.tool === "brush" ? "label" : "brush"), ["B"]),
    key(["x"], "Reject what is under the pointer", () => {
      if (viewer.pointer) viewer.labelling.reject(...viewer.pointer);
    }, ["X"]),
    key([], "Reject", () => false, ["Alt", "click"]),
    key([], "Pan", () => false, ["Space", "drag"]),
    key(["f"], "Whole micrograph", () => viewer.fit(), ["F"]),
    key(["+", "="], "Zoom in", () => viewer.zoomBy(1.4), ["+"]),
    key(["-", "_"], "Zoom out", () => viewer.zoomBy(1 / 1.4), ["−"]),
    key(["h"], "Hide the marks, and show", () => bar.hide(), ["H"]),
    key(["t"], "Train", () => {
      panels.show("train");
      train.train();
    }, ["T"]),
    key(["["], "Lower threshold, more picks", () => judge.step(-0.1), ["["]),
    key(["]"], "Higher threshold, fewer picks", () => judge.step(0.1), ["]"]),
    ...[0, 1, 2, 3, 4].map((place) =>
      key([String(place + 1)], place ? "" : "Panels", () => panels.show(place), ["1", "…", "5"])),
    key(["?"], "This sheet", () => byId("help").showModal(), ["?"]),
    key(["Escape"], "Close, or leave what one is in", () => {
      if (ask.stop() || label.stopMeasuring()) return;
      if (viewer.hand.tool === "brush") bar.take("label");
      byId("toast").hidden = true;
    }, ["Esc"]),
  ];
}

/** Space is held while the pointer pans. @param {any} viewer */
function hold(viewer) {
  const set = (/** @type {boolean} */ held) => (/** @type {KeyboardEvent} */ event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.key !== " " || target.matches?.("input, select, button, a")) return;
    if (held) event.preventDefault();
    viewer.hand.spaceHeld = held;
  };
  document.addEventListener("keydown", set(true));
  document.addEventListener("keyup", set(false));
}
