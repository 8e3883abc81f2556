import { byId } from "./dom.js";

/** @typedef {import("./state.js").AppState} AppState */

/** Scoring that takes less is not worth a notification. */
const MIN_SCORING_MS = 20000;
const KEY = "heliodor notifications";

/**
 * Says that long work is done: in the title of the tab until it is looked at, and, if the user
 * asked for it, in a notification of the browser.
 */
export class Notifier {
  /** What was done while nobody looked; "" for nothing. */
  news = "";
  #training = "";
  #thorough = "";
  #run = "";
  #scoringSince = 0;

  /**
   * @param {AppState} state
   * @param {() => void} onNews called when `news` changes
   */
  constructor(state, onNews) {
    this.state = state;
    this.onNews = onNews;
    this.#training = state.training.state;
    this.#thorough = state.thorough.state;
    this.#run = state.run.state;
    for (const button of document.querySelectorAll(".notify"))
      button.addEventListener("click", () => void this.#ask());
    state.activityChanged.on(() => this.#onActivity());
    const seen = () => {
      if (document.hidden || !this.news) return;
      this.news = "";
      onNews();
    };
    document.addEventListener("visibilitychange", seen);
    window.addEventListener("focus", seen);
    this.#showButtons();
  }

  /** Ask the browser for permission, or switch notifications off. */
  async #ask() {
    if (this.isOn) localStorage.removeItem(KEY);
    else if ((await Notification.requestPermission()) === "granted") localStorage.setItem(KEY, "on");
    this.#showButtons();
  }

  get isOn() {
    return "Notification" in window && Notification.permission === "granted" && localStorage.getItem(KEY) === "on";
  }

  #showButtons() {
    const refused = !("Notification" in window) || Notification.permission === "denied";
    for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll(".notify"))) {
      button.disabled = refused;
      button.setAttribute("aria-pressed", String(this.isOn));
      button.title = refused ? "This browser does not allow notifications of this page"
        : "Show a notification of the browser when a training, or picking, is done";
    }
  }

  #onActivity() {
    const { training, thorough, run, engine } = this.state;
    if (this.#training === "running" && training.state === "done") this.#tell(`Model ${training.number} is trained`);
    if (this.#training === "running" && training.state === "refused") this.#tell("The training failed");
    if (this.#thorough === "running" && thorough.state === "done") this.#tell(`Model ${thorough.number} is trained thoroughly`);
    if (this.#thorough === "running" && thorough.state === "failed") this.#tell("The thorough training failed");
    if (this.#run === "running" && run.state === "done") this.#tell("All micrographs are picked");
    if (this.#run === "running" && run.state === "failed") this.#tell("Picking failed");
    this.#training = training.state;
    this.#thorough = thorough.state;
    this.#run = run.state;
    const isScoring = engine.state === "scoring";
    if (isScoring) this.#scoringSince ||= performance.now();
    else {
      if (engine.state === "idle" && this.#scoringSince && performance.now() - this.#scoringSince > MIN_SCORING_MS)
        this.#tell("All micrographs are scored");
      this.#scoringSince = 0;
    }
  }

  /** @param {string} news */
  #tell(news) {
    if (document.hidden || !document.hasFocus()) this.news = news;
    this.onNews();
    if (this.isOn && document.hidden) {
      const shown = new Notification("heliodor", { body: `${news}.`, icon: byId("logo").src, tag: "heliodor" });
      shown.onclick = () => window.focus();
    }
  }
}
