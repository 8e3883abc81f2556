import { get, postForBlob } from "./api.js";
import { byId, createElement, createIcon, formatCount, setText, toSentence } from "./dom.js";
import { withTiming } from "./timings.js";
import { showToast } from "./toast.js";

const CROP_PX = 96;
const CROPS_PER_ROW = 10;
/** Most crops of a group that are shown. */
const MAX_SHOWN = 30;

/**
 * @typedef {import("./state.js").AppState} AppState
 * @typedef {{micrograph: number, x: number, y: number, score: number,
 *   kind: "particle" | "negative" | null}} Member
 * @typedef {{score: number, gray: string, members: Member[], tile?: any}} Group
 * @typedef {{what: "all" | "band" | "below", count: number, low: number, high: number, gray: string}} Average
 * @typedef {{side: number, total: number, drawn: number, micrographs: number,
 *   averages: Average[], groups: Group[]}} Inspection
 */

/** Averages of the picks, and quick groups of picks that look alike. */
export class GroupView {
  /** @type {Inspection | null} */ #found = null;
  /** @type {Set<Group>} */ #selected = new Set();
  /** Differs for each draw. */ #seed = 0;
  /** The request for crops that is the newest. */ #request = 0;

  /**
   * @param {AppState} state
   * @param {import("./viewer.js").Viewer} viewer
   */
  constructor(state, viewer) {
    this.state = state;
    this.viewer = viewer;
    const on = (/** @type {string} */ id, /** @type {() => any} */ act) =>
      byId(id).addEventListener("click", withTiming(id, act));
    on("groups-make", () => void this.#make());
    on("groups-reject", () => this.#label("negative"));
    on("groups-confirm", () => this.#label("particle"));
    this.#showSelection();
  }

  async #make() {
    const [button, message] = [byId("groups-make"), byId("groups-message")];
    button.disabled = true;
    message.classList.remove("trouble");
    setText(message, "Reading and grouping crops…");
    try {
      await this.state.settle();
      this.#found = await get(`/api/inspection?seed=${this.#seed++}`);
      this.#selected.clear();
      this.#show();
    } catch (error) {
      message.classList.add("trouble");
      setText(message, toSentence(error instanceof Error ? error.message : String(error)));
    } finally {
      button.disabled = false;
    }
  }

  #show() {
    const found = this.#found;
    if (!found) return;
    const all = formatCount(found.total, "pick");
    const drawn = found.drawn < found.total
      ? `${found.drawn.toLocaleString("en")} of ${all}, drawn from ${formatCount(found.micrographs, "micrograph")}.`
      : `All ${all}.`;
    setText(byId("groups-message"), drawn);
    setText(byId("groups-make"), found.drawn < found.total ? "Draw and group others" : "Group again");
    byId("groups-result").hidden = false;
    byId("averages").replaceChildren(...found.averages.map((one) => this.#createAverage(one, found.side)));
    const largest = Math.max(...found.groups.map((group) => group.members.length), 1);
    byId("groups").replaceChildren(...found.groups.map((group, i) => this.#createGroup(group, i, found.side, largest)));
    this.#showSelection();
  }

  /** @param {Average} one @param {number} side */
  #createAverage({ what, count, low, high, gray }, side) {
    const tile = createElement("figure", "average");
    const title = { all: "All", band: `${low.toFixed(1)}–${high.toFixed(1)}`, below: "Below" }[what];
    tile.append(drawGray(gray, side), createElement("figcaption", "", title));
    tile.title = `Average of ${formatCount(count, what === "below" ? "candidate" : "pick")} with scores from ` +
      `${low.toFixed(2)} to ${high.toFixed(2)}${what === "below" ? ", just below the threshold" : ""}`;
    return tile;
  }

  /**
   * @param {Group} group
   * @param {number} index
   * @param {number} side
   * @param {number} largest number of picks of the largest group
   */
  #createGroup(group, index, side, largest) {
    const tile = createElement("button", "group");
    tile.type = "button";
    const count = formatCount(group.members.length, "pick");
    const bar = createElement("i", "share");
    bar.style.width = `${Math.round((100 * group.members.length) / largest)}%`;
    tile.append(drawGray(group.gray, side), createElement("span", "score", String(group.members.length)), bar);
    tile.title = `Group ${index + 1}: ${count}, mean score ${group.score.toFixed(2)}; click to select`;
    tile.setAttribute("aria-label", `Group ${index + 1}, ${count}, mean score ${group.score.toFixed(2)}`);
    tile.setAttribute("aria-pressed", "false");
    tile.addEventListener("click", withTiming("select group", () => this.#select(group)));
    group.tile = tile;
    return tile;
  }

  /** Select a group or not; show crops of the one that was selected last. @param {Group} group */
  #select(group) {
    if (!this.#selected.delete(group)) this.#selected.add(group);
    group.tile.setAttribute("aria-pressed", String(this.#selected.has(group)));
    this.#showSelection();
  }

  #showSelection() {
    const count = this.#listUnlabeled().length;
    const groups = formatCount(this.#selected.size, "group");
    byId("groups-actions").hidden = !this.#selected.size;
    setText(byId("groups-selected"), this.#selected.size ? `${groups} selected: ${formatCount(count, "pick")} without labels` : "");
    byId("groups-reject").disabled = byId("groups-confirm").disabled = !count;
    void this.#showCrops([...this.#selected].at(-1) ?? null);
    for (const group of this.#found?.groups ?? []) {
      const kinds = group.members.map((one) => one.kind);
      const mark = kinds.every((kind) => kind === "negative") ? "negative"
        : kinds.every((kind) => kind === "particle") ? "particle" : null;
      group.tile.querySelector(".icon")?.remove();
      if (mark) group.tile.append(createIcon(mark));
    }
  }

  /** @param {Group | null} group */
  async #showCrops(group) {
    const request = ++this.#request;
    const box = byId("group-crops");
    box.replaceChildren();
    if (!group) return;
    const members = group.members.slice(0, MAX_SHOWN);
    const at = members.map((one) => [one.micrograph, one.x, one.y]);
    const sprite = await createImageBitmap(await postForBlob("/api/crops", { at }));
    if (request !== this.#request) return;
    box.replaceChildren(...members.map((one, i) => {
      const canvas = createElement("canvas");
      canvas.width = canvas.height = CROP_PX;
      const [sx, sy] = [(i % CROPS_PER_ROW) * CROP_PX, Math.floor(i / CROPS_PER_ROW) * CROP_PX];
      canvas.getContext("2d").drawImage(sprite, sx, sy, CROP_PX, CROP_PX, 0, 0, CROP_PX, CROP_PX);
      const button = createElement("button", "member");
      button.type = "button";
      button.title = `Score ${one.score.toFixed(2)}: click to show on its micrograph`;
      button.append(canvas);
      button.addEventListener("click", withTiming("show member", () => void this.viewer.show(one.micrograph, one.x, one.y)));
      return button;
    }));
    sprite.close();
  }

  /** @returns {Member[]} those of the selected groups that have no label yet */
  #listUnlabeled() {
    return [...this.#selected].flatMap((group) => group.members.filter((one) => one.kind === null));
  }

  /** Label the picks of the selected groups that have no label yet. @param {"particle" | "negative"} kind */
  #label(kind) {
    const members = this.#listUnlabeled();
    if (!members.length) return;
    /** @type {Map<number, {x: number, y: number, kind: "particle" | "negative"}[]>} */
    const added = new Map();
    for (const { micrograph, x, y } of members)
      added.set(micrograph, [...(added.get(micrograph) ?? []), { x, y, kind }]);
    const changes = [...added].map(([micrograph, add]) => ({ micrograph, add, remove: [] }));
    this.state.labels.changeMany(changes, (isDone) => {
      for (const one of members) one.kind = isDone ? kind : null;
      this.#showSelection();
    });
    const what = kind === "negative" ? "rejected" : "labeled as particles";
    showToast(`${formatCount(members.length, "pick")} ${what}.`);
    for (const group of this.#selected) group.tile.setAttribute("aria-pressed", "false");
    this.#selected.clear();
    this.#showSelection();
  }
}

/**
 * Return a canvas with an image of bytes.
 * @param {string} gray base64
 * @param {number} side in pixels
 */
function drawGray(gray, side) {
  const canvas = createElement("canvas");
  canvas.width = canvas.height = side;
  const image = new ImageData(side, side);
  [...atob(gray)].forEach((letter, i) => {
    image.data.fill(letter.charCodeAt(0), 4 * i, 4 * i + 3);
    image.data[4 * i + 3] = 255;
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
