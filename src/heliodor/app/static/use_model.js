import { post } from "./api.js";
import { toSentence } from "./dom.js";
import { confirmAction } from "./toast.js";

/**
 * Use another model, after a question if it is for another diameter.
 * @param {import("./state.js").AppState} state
 * @param {any} model one of /api/models
 * @returns {Promise<string>} why that was refused; "" if it was not
 */
export async function useModel(state, model) {
  const { settings } = state;
  const other = model.number && model.diameter !== null && model.diameter !== settings.diameter;
  const warning = `Model ${model.number} is for a diameter of ${model.diameter} Å. Use it, and change the diameter from ${settings.diameter} Å?`;
  if (other && !(await confirmAction(warning, "Use the model"))) return "";
  try {
    state.applySettings(await post("/api/model", { number: model.number }));
    return "";
  } catch (error) {
    return toSentence(error instanceof Error ? error.message : String(error));
  } finally {
    state.requested.emit();
  }
}
