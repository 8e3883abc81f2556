import { RequestRefused, ServerUnreachable } from "./api.js";
import { ChangePoller } from "./change_poller.js";
import { CompareDialog } from "./compare_dialog.js";
import { byId, setText, toSentence } from "./dom.js";
import { Keyboard } from "./keyboard.js";
import { LogDialog } from "./log_dialog.js";
import { MicrographList } from "./micrograph_list.js";
import { MicrographTable } from "./micrograph_table.js";
import { connectMyName } from "./my_name.js";
import { ExportPanel } from "./panel_export.js";
import { InspectPanel } from "./panel_inspect.js";
import { LabelPanel } from "./panel_label.js";
import { ReviewPanel } from "./panel_review.js";
import { TrainPanel } from "./panel_train.js";
import { ThoroughTrainingPanel } from "./thorough_training.js";
import { Panels } from "./panels.js";
import { ParticleTable } from "./particle_table.js";
import { keepReading, makeReadOnly } from "./read_only.js";
import { isSessionReplaced, openSession, readAddressToken } from "./session.js";
import { ShareDialog } from "./share_dialog.js";
import { listShortcuts } from "./shortcuts.js";
import { SpectrumView } from "./spectrum_view.js";
import { AppState } from "./state.js";
import { startTheme } from "./theme.js";
import { TileStore } from "./tile_store.js";
import { showToast } from "./toast.js";
import { Toolbar } from "./toolbar.js";
import { Viewer } from "./viewer.js";

/** Whether the top of the page shows an error all the time. @param {unknown} error */
function isShownAtTop(error) {
  return error instanceof ServerUnreachable || (error instanceof RequestRefused && error.isWithoutAccess);
}

/** Show an error that nothing else handles. @param {unknown} error */
function reportError(error) {
  if (isShownAtTop(error)) return;
  if (!(error instanceof RequestRefused)) console.error(error);
  showToast(error instanceof Error ? error.message : String(error));
}

window.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  reportError(event.reason);
});

let isReloading = false;

/** Load the page again, without a warning: the tab keeps unsaved changes and sends them then. */
function reload() {
  isReloading = true;
  window.location.reload();
}

/**
 * Load the project.
 * @returns {Promise<AppState | null>} null if the server gives no access or cannot be reached
 */
async function load() {
  try {
    await openSession();
    return await AppState.load();
  } catch (error) {
    if (!isShownAtTop(error)) throw error;
    setText(byId("connection"), toSentence(/** @type {Error} */ (error).message));
    return null;
  }
}

/** Build the page. */
async function start() {
  const state = await load();
  if (!state) return;
  const tiles = new TileStore(state.project.boot);
  const viewer = new Viewer(state, tiles);
  const list = new MicrographList(state);
  viewer.findNext = (id, n) => list.findNext(id, n);
  const spectrum = new SpectrumView(state);
  const table = new MicrographTable(state, new ParticleTable(state, list), spectrum);
  const panels = new Panels();
  const toolbar = new Toolbar(state, viewer, list);
  const labelPanel = new LabelPanel(state, viewer);
  const trainPanel = new TrainPanel(state);
  new ThoroughTrainingPanel(state);
  const inspectPanel = new InspectPanel(state, viewer);
  const reviewPanel = new ReviewPanel(state, tiles, panels, () => viewer.image.lowPass);
  new ExportPanel(state);
  connectMyName();
  new ShareDialog();
  new CompareDialog(state, tiles);
  new LogDialog();
  const shortcuts = listShortcuts({
    viewer, list, table, spectrum, panels, toolbar, labelPanel, trainPanel, inspectPanel, reviewPanel,
  });
  new Keyboard(state.isReadOnly ? keepReading(shortcuts) : shortcuts);
  if (state.isReadOnly) makeReadOnly(viewer);
  state.messageRaised.on((message) => showToast(message));
  panels.shown.on((name) => name === "inspect" && inspectPanel.redraw());

  const poller = new ChangePoller(state, () => setText(byId("connection"), poller.problem));
  window.addEventListener("beforeunload", (event) => {
    if (state.saveQueue.size && !isReloading) event.preventDefault();
  });
  window.addEventListener("hashchange", () => {
    if (readAddressToken() === null) void state.open(chooseFirstMicrograph(state));
  });
  state.opened.on((id) => {
    if (state.micrograph?.id === id && readAddressToken() === null) window.history.replaceState(null, "", `#${id + 1}`);
  });
  void state.readHistogram();
  poller.pollNow();
  if (state.count) await state.open(chooseFirstMicrograph(state));
}

/** Return the micrograph in the address, otherwise the first one that is not reviewed. @param {AppState} state */
function chooseFirstMicrograph(state) {
  const named = Number(window.location.hash.slice(1)) - 1;
  if (named >= 0 && named < state.count) return named;
  return Math.max(0, state.rows.done.indexOf(false));
}

// Another tab has opened the address of a restarted server. A frozen tab notices it when shown.
const reloadIfReplaced = () => void (isSessionReplaced() && reload());
window.addEventListener("storage", reloadIfReplaced);
document.addEventListener("visibilitychange", reloadIfReplaced);
// The address that the terminal shows was opened in this tab: it differs only after the #.
window.addEventListener("hashchange", () => {
  if (readAddressToken() !== null) reload();
});
startTheme();
start().catch(reportError);
