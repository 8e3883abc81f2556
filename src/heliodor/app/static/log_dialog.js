import { get } from "./api.js";
import { byId, setText } from "./dom.js";
import { describeTime } from "./my_name.js";

/**
 * @param {{by: string, micrograph: string, at: number, labeled: number, rejected: number, removed: number}} entry
 */
function describeEntry({ by, micrograph, at, labeled, rejected, removed }) {
  const counts = [];
  if (labeled) counts.push(`${labeled} labeled`);
  if (rejected) counts.push(`${rejected} rejected`);
  if (removed) counts.push(`${removed} removed`);
  return `${describeTime(at)}  ${by || "(no name)"}: ${counts.join(", ")} on ${micrograph}`;
}

/** The dialog with the log of the project. */
export class LogDialog {
  constructor() {
    const dialog = byId("log");
    byId("log-button").addEventListener("click", async () => {
      const [{ lines }, { entries }] = await Promise.all([get("/api/log"), get("/api/history")]);
      const box = byId("log-lines");
      setText(box, lines.length ? lines.join("\n") : "Nothing yet.");
      byId("history").hidden = !entries.length;
      setText(byId("history-lines"), entries.map(describeEntry).reverse().join("\n"));
      dialog.showModal();
      box.scrollTop = box.scrollHeight;
    });
    byId("log-close").addEventListener("click", () => dialog.close());
  }
}
