import { post } from "./api.js";
import { byId, say } from "./dom.js";
import { timed } from "./timings.js";
import { toast } from "./toast.js";

/**
 * @typedef {import("./room.js").Room} Room
 * @typedef {import("./viewer.js").Viewer} Viewer
 * @typedef {import("./list.js").List} List
 */

const ENGINE = { starting: "Engine starting", training: "Training", scoring: "Looking for particles" };

/** The buttons over the micrograph, the line under it, and the signs at the top. */
export class Bar {
  /**
   * @param {Room} room
   * @param {Viewer} viewer
   * @param {List} list
   */
  constructor(room, viewer, list) {
    this.room = room;
    this.viewer = viewer;
    this.list = list;
    const on = (/** @type {string} */ id, /** @type {() => void} */ act) =>
      byId(id).addEventListener("click", timed(id, (/** @type {MouseEvent} */ event) => {
        act();
        // After a click of the mouse the keys are the micrograph's again.
        if (event.detail) byId("stage").focus({ preventScroll: true });
      }));
    on("go-previous", () => list.go(-1));
    on("go-next", () => list.go(1));
    on("tool-label", () => this.take("label"));
    on("tool-brush", () => this.take("brush"));
    on("undo", () => this.undo());
    on("redo", () => this.redo());
    on("hide", () => this.hide());
    on("fit", () => viewer.fit());
    on("done", () => this.done(false));
    room.opened.on(() => this.#rows());
    room.rowsChanged.on(() => this.#rows());
    room.labels.history.changed.on(() => this.#history());
    viewer.overlay.changed.on(() => this.#counts());
    room.workChanged.on(() => this.#work());
    room.outbox.changed.on(() => this.#saving());
    const parts = room.project.folder.split("/");
    say(byId("folder"), parts.length > 3 ? `…/${parts.slice(-2).join("/")}` : room.project.folder);
    byId("folder").title = room.project.folder;
    this.#history();
    this.#work();
    this.#saving();
  }

  /** @param {"label" | "brush"} tool */
  take(tool) {
    this.viewer.hand.take(tool);
    byId("tool-label").setAttribute("aria-pressed", String(tool === "label"));
    byId("tool-brush").setAttribute("aria-pressed", String(tool === "brush"));
  }

  undo() {
    this.#goTo(this.room.labels.undo());
  }

  redo() {
    this.#goTo(this.room.labels.redo());
  }

  /** What is undone is seen. @param {{micrograph: number} | undefined} step */
  #goTo(step) {
    if (step && step.micrograph !== this.room.current) void this.room.open(step.micrograph);
  }

  hide() {
    const { overlay } = this.viewer;
    overlay.hidden = !overlay.hidden;
    byId("hide").setAttribute("aria-pressed", String(overlay.hidden));
    overlay.redraw();
  }

  /** Mark as done, or not done. @param {boolean} next whether to go on */
  done(next) {
    const { room } = this;
    const id = room.current;
    const done = next || !room.rows.done[id];
    room.rows.done[id] = done;
    const after = next ? this.list.after(id, 1)[0] : undefined;
    room.rowsChanged.emit([id]);
    post(`/api/micrographs/${id}/done`, { done }).catch((error) => {
      room.rows.done[id] = !done;
      room.rowsChanged.emit([id]);
      toast(error.message);
    });
    if (after !== undefined) void room.open(after);
  }

  #rows() {
    const { room } = this;
    if (room.current < 0) return;
    byId("done").setAttribute("aria-pressed", String(room.rows.done[room.current]));
    const title = `${room.shortName(room.current)} – heliodor`;
    if (document.title !== title) document.title = title;
  }

  #history() {
    byId("undo").disabled = !this.room.labels.history.canUndo;
    byId("redo").disabled = !this.room.labels.history.canRedo;
  }

  #counts() {
    const { overlay } = this.viewer;
    const particles = overlay.labels.filter((label) => label.kind === "particle").length;
    say(byId("here-labels"), String(particles));
    say(byId("here-negatives"), String(overlay.labels.length - particles));
    const known = this.room.picks.of(this.room.current);
    say(byId("here-picks"), known ? String(overlay.picks.length) : "–");
  }

  #work() {
    const { engine } = this.room;
    const box = byId("engine");
    const says = ENGINE[/** @type {keyof typeof ENGINE} */ (engine.state)];
    const left = engine.state === "scoring" && engine.queue ? ` · ${engine.queue} to go` : "";
    const model = engine.model ? `Model ${engine.model}` : "General model";
    box.classList.toggle("busy", Boolean(says));
    box.classList.toggle("trouble", engine.state === "failed");
    say(box, says ? says + left : engine.state === "failed" ? engine.says : model);
    box.title = engine.says ?? "";
  }

  #saving() {
    const { outbox } = this.room;
    const box = byId("saving");
    const failing = outbox.size > 0 && outbox.trouble !== "";
    box.classList.toggle("trouble", failing);
    say(box, failing ? `Not saved: ${outbox.size}` : outbox.size ? "Saving" : "Saved");
    box.title = failing ? `${outbox.trouble} It is tried again; nothing is lost.` : "";
  }
}
