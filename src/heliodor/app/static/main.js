import { Refused, Unreachable } from "./api.js";
import { Bar } from "./bar.js";
import { Changes } from "./changes.js";
import { byId, say } from "./dom.js";
import { Keys } from "./keys.js";
import { List } from "./list.js";
import { AskPanel } from "./panel_ask.js";
import { JudgePanel } from "./panel_judge.js";
import { LabelPanel } from "./panel_label.js";
import { OutPanel } from "./panel_out.js";
import { TrainPanel } from "./panel_train.js";
import { Panels } from "./panels.js";
import { Room } from "./room.js";
import { shortcuts } from "./shortcuts.js";
import { TileStore } from "./tiles.js";
import { toast } from "./toast.js";
import { Viewer } from "./viewer.js";

/** Say what went wrong where nothing else does. @param {unknown} error */
function complain(error) {
  if (error instanceof Unreachable) return; // the strip at the top says so
  if (!(error instanceof Refused)) console.error(error);
  toast(error instanceof Error ? error.message : String(error));
}

window.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  complain(event.reason);
});

/** Put the page together. */
async function start() {
  const room = await Room.load();
  const tiles = new TileStore(room.project.boot);
  const viewer = new Viewer(room, tiles);
  const list = new List(room);
  viewer.after = (id, n) => list.after(id, n);
  const panels = new Panels();
  const bar = new Bar(room, viewer, list);
  const label = new LabelPanel(room, viewer);
  const train = new TrainPanel(room);
  const judge = new JudgePanel(room, viewer);
  const ask = new AskPanel(room, tiles, panels, () => viewer.picture.lowPass);
  new OutPanel(room);
  new Keys(shortcuts({ viewer, list, panels, bar, label, train, judge, ask }));
  room.said.on((says) => toast(says));
  panels.shown.on((name) => name === "judge" && judge.redraw());

  const changes = new Changes(room, () => say(byId("connection"), changes.trouble));
  window.addEventListener("beforeunload", (event) => {
    if (room.outbox.size) event.preventDefault();
  });
  window.addEventListener("hashchange", () => void room.open(wanted(room)));
  room.opened.on((id) => {
    if (room.micrograph?.id === id) window.history.replaceState(null, "", `#${id + 1}`);
  });
  void room.readHistogram();
  changes.now();
  if (room.count) await room.open(wanted(room));
}

/** The micrograph that the address names, the first that is not done else. @param {Room} room */
function wanted(room) {
  const named = Number(window.location.hash.slice(1)) - 1;
  if (named >= 0 && named < room.count) return named;
  return Math.max(0, room.rows.done.indexOf(false));
}

start().catch(complain);
