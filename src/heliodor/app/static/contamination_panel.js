import { byId, setText } from "./dom.js";
import { withTiming } from "./timings.js";

/** The contamination of the micrograph on screen: its share of the area, and how it is edited. */
export class ContaminationPanel {
  /**
   * @param {import("./contamination_editor.js").EditorState & {opened: import("./emitter.js").Emitter,
   *   rows: {quality: (number | null)[]}}} state
   * @param {import("./contamination_editor.js").ContaminationEditor} editor
   * @param {import("./contamination_editor.js").Subject} subject
   */
  constructor(state, editor, subject) {
    this.state = state;
    this.editor = editor;
    this.subject = subject;
    const on = (/** @type {string} */ id, /** @type {string} */ event, /** @type {() => void} */ act) =>
      byId(id).addEventListener(event, withTiming(`${id} ${event}`, act));
    on("ignore-contamination", "change", () => editor.ignore(byId("ignore-contamination").checked));
    on("use-detected", "click", () => editor.useDetected());
    on("brush-size", "input", () => this.#applyBrush());
    state.opened.on(() => this.show());
    state.rowsChanged.on(() => this.show());
    this.#applyBrush();
  }

  /** Show how much of the micrograph on screen is contaminated, and whether that counts. */
  show() {
    const { rows, current } = this.state;
    if (current < 0) return;
    const free = rows.quality[current];
    const edited = rows.mask[current] !== null;
    const share = free === null ? 0 : Math.max(1, Math.round((1 - free) * 100));
    const { unknown, inDetected, inEdited } = this.subject.words;
    setText(byId("contamination-share"), free === null ? unknown
      : edited && free === 1 ? "You erased all that was found on this micrograph."
      : free === 1 ? "None found on this micrograph."
      : edited ? `${share}% of this micrograph, as you edited it. ${inEdited}`
      : `${share}% of this micrograph, outlined in orange. ${inDetected}`);
    byId("ignore-contamination").checked = rows.ignored[current];
    byId("ignore-contamination").disabled = !rows.ignored[current] && (free === null || free === 1);
    byId("use-detected").hidden = !edited;
  }

  #applyBrush() {
    this.editor.setBrush(Number(byId("brush-size").value) / 100);
    this.showBrush();
  }

  /** Show how wide the brush is. */
  showBrush() {
    const { scale } = this.subject;
    const unit = this.state.micrograph?.pixel_size === null ? "px" : "Å";
    setText(byId("brush-value"), scale === null ? "" : `${Math.round(this.editor.brush * scale)} ${unit}`);
  }
}
