import { get } from "./api.js";
import { byId, setText } from "./dom.js";

/** The dialog with the log of the project. */
export class LogDialog {
  constructor() {
    const dialog = byId("log");
    byId("log-button").addEventListener("click", async () => {
      const { lines } = await get("/api/log");
      const box = byId("log-lines");
      setText(box, lines.length ? lines.join("\n") : "Nothing yet.");
      dialog.showModal();
      box.scrollTop = box.scrollHeight;
    });
    byId("log-close").addEventListener("click", () => dialog.close());
  }
}
