import { post } from "./api.js";
import { byId, setText, toSentence } from "./dom.js";

/** The dialog with the read-only link for colleagues. */
export class ShareDialog {
  constructor() {
    this.dialog = byId("share");
    this.link = byId("share-link");
    byId("share-button").addEventListener("click", () => {
      this.dialog.showModal();
      void this.#request("show");
    });
    byId("share-close").addEventListener("click", () => this.dialog.close());
    byId("share-copy").addEventListener("click", () => void this.#copy());
    byId("share-renew").addEventListener("click", () => void this.#request("renew", "The links that were given out before no longer work."));
    byId("share-stop").addEventListener("click", () => void this.#request("stop", "Nobody has access through a read-only link now."));
    const isLocal = ["127.0.0.1", "localhost", "[::1]"].includes(window.location.hostname);
    setText(byId("share-how"), isLocal
      ? "The link begins with this computer's own name: on another computer, it works through an SSH tunnel, as yours does (the terminal of heliodor app shows the command)."
      : "");
  }

  /** @param {"show" | "renew" | "stop"} action @param {string} [done] what to say then */
  async #request(action, done = "") {
    try {
      const { token } = await post("/api/share", { action });
      this.link.value = token === null ? "" : new URL(`#token=${token}`, document.baseURI).href;
      byId("share-copy").disabled = token === null;
      setText(byId("share-message"), done);
    } catch (error) {
      setText(byId("share-message"), toSentence(error instanceof Error ? error.message : String(error)));
    }
  }

  async #copy() {
    this.link.select();
    try {
      await navigator.clipboard.writeText(this.link.value);
      setText(byId("share-message"), "Copied.");
    } catch {
      setText(byId("share-message"), "Press Ctrl+C to copy the link.");
    }
  }
}
