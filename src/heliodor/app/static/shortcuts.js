import { byId } from "./dom.js";

/**
 * @typedef {import("./keyboard.js").Shortcut} Shortcut
 * @typedef {{
 *   viewer: import("./viewer.js").Viewer,
 *   list: import("./micrograph_list.js").MicrographList,
 *   table: import("./micrograph_table.js").MicrographTable,
 *   spectrum: import("./spectrum_view.js").SpectrumView,
 *   panels: import("./panels.js").Panels,
 *   toolbar: import("./toolbar.js").Toolbar,
 *   labelPanel: import("./panel_label.js").LabelPanel,
 *   trainPanel: import("./panel_train.js").TrainPanel,
 *   inspectPanel: import("./panel_inspect.js").InspectPanel,
 *   reviewPanel: import("./panel_review.js").ReviewPanel,
 * }} Parts
 */

/**
 * Return what each key does. Of several shortcuts with the same key, the first is tried first.
 * @param {Parts} parts of the page
 * @returns {Shortcut[]}
 */
export function listShortcuts(parts) {
  const { viewer, list, table, spectrum, panels, toolbar, labelPanel, trainPanel, inspectPanel, reviewPanel } = parts;
  const key = (
    /** @type {string[]} */ keys,
    /** @type {string} */ description,
    /** @type {() => void | boolean} */ run,
    keycaps = keys,
  ) => ({ keys, keycaps, description, run });
  const review = (
    /** @type {string[]} */ keys,
    /** @type {string} */ description,
    /** @type {() => void} */ run,
    /** @type {string[]} */ keycaps,
  ) => key(keys, `Review: ${description}`, () => {
    if (!reviewPanel.isOpen) return false;
    run();
    return true;
  }, keycaps);
  const selected = (
    /** @type {string[]} */ keys,
    /** @type {string} */ description,
    /** @type {() => void} */ run,
    /** @type {string[]} */ keycaps,
  ) => key(keys, description, () => {
    if (viewer.selectionTool.isEmpty) return false;
    run();
    return true;
  }, keycaps);
  trackSpaceKey(viewer);
  return [
    review(["y", "j"], "particle", () => reviewPanel.answer("particle"), ["Y"]),
    review(["n", "x", "k"], "not a particle", () => reviewPanel.answer("negative"), ["N"]),
    review(["s", "ArrowRight"], "skip", () => reviewPanel.answer("skipped"), ["S", "→"]),
    review(["u", "ArrowLeft", "Ctrl+z"], "previous question", () => reviewPanel.back(), ["U", "←"]),
    key(["n", "ArrowRight", "ArrowDown"], "Next micrograph", () => list.step(1), ["N", "→", "↓"]),
    key(["p", "ArrowLeft", "ArrowUp"], "Previous micrograph", () => list.step(-1), ["P", "←", "↑"]),
    key(["d"], "Mark as reviewed, go to next", () => toolbar.markReviewed(), ["D"]),
    key(["e"], "Exclude the micrograph, or include it", () => toolbar.toggleExcluded(), ["E"]),
    key(["m"], "Table of micrographs", () => table.toggle(), ["M"]),
    key(["w"], "Power spectrum of the micrograph", () => void spectrum.show(), ["W"]),
    key(["l"], "Label tool", () => toolbar.selectTool("label"), ["L"]),
    key(["b"], "Toggle eraser", () =>
      toolbar.selectTool(viewer.pointerTools.tool === "eraser" ? "label" : "eraser"), ["B"]),
    key(["a"], "Select with a rectangle or a lasso", () => toolbar.toggleSelection(), ["A"]),
    selected(["x"], "Selection: not particles", () => viewer.selectionTool.label("negative"), ["X"]),
    selected(["y"], "Selection: particles", () => viewer.selectionTool.label("particle"), ["Y"]),
    selected(["Delete", "Backspace"], "Selection: remove labels", () => viewer.selectionTool.removeLabels(), ["Del"]),
    key(["g"], "Paint contamination", () => toolbar.toggleBrush("paint"), ["G"]),
    key(["v"], "Erase contamination", () => toolbar.toggleBrush("erase"), ["V"]),
    key(["x"], "Not a particle (under the pointer)", () => {
      if (viewer.pointer) viewer.labelEditor.reject(...viewer.pointer);
    }, ["X"]),
    key([], "Not a particle", () => false, ["Alt", "click"]),
    key(["Ctrl+z"], "Undo", () => toolbar.undo(), ["Ctrl", "Z"]),
    key(["Ctrl+Shift+z", "Ctrl+y"], "Redo", () => toolbar.redo(), ["Ctrl", "Shift", "Z"]),
    key([], "Pan", () => false, ["Space", "drag"]),
    key(["f"], "Show the whole micrograph", () => viewer.fit(), ["F"]),
    key(["+", "="], "Zoom in", () => viewer.zoomBy(1.4), ["+"]),
    key(["-", "_"], "Zoom out", () => viewer.zoomBy(1 / 1.4), ["−"]),
    key(["h"], "Show or hide markers", () => toolbar.toggleMarkers(), ["H"]),
    key(["c"], "Show or hide contamination", () => toolbar.toggleContamination(), ["C"]),
    key(["t"], "Train", () => {
      panels.show("train");
      trainPanel.train();
    }, ["T"]),
    key(["["], "Lower threshold (more picks)", () => inspectPanel.stepThreshold(-0.1), ["["]),
    key(["]"], "Higher threshold (fewer picks)", () => inspectPanel.stepThreshold(0.1), ["]"]),
    ...[0, 1, 2, 3, 4].map((place) =>
      key([String(place + 1)], place ? "" : "Open a panel", () => panels.show(place), ["1", "…", "5"])),
    key(["?"], "Show this help", () => byId("help").showModal(), ["?"]),
    key(["Escape"], "Cancel or close", () => {
      if (table.isOpen) return table.toggle();
      if (reviewPanel.stop() || labelPanel.stopMeasuring()) return;
      if (viewer.pointerTools.tool !== "label") toolbar.selectTool("label");
      byId("toast").hidden = true;
    }, ["Esc"]),
  ];
}

/** Let the pointer pan while the space key is down. @param {import("./viewer.js").Viewer} viewer */
function trackSpaceKey(viewer) {
  const set = (/** @type {boolean} */ held) => (/** @type {KeyboardEvent} */ event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.key !== " " || target.matches?.("input, select, button, a")) return;
    if (held) event.preventDefault();
    viewer.pointerTools.spaceHeld = held;
  };
  document.addEventListener("keydown", set(true));
  document.addEventListener("keyup", set(false));
}
