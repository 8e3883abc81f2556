/** The contamination that a project of filaments has: it comes with the filaments. */
export class FilamentContamination {
  words = {
    unknown: "Not known yet: trace first.",
    inDetected: "Filaments there need a much higher score.",
    inEdited: "Nothing is traced there.",
    tooEarly: "Contamination can be edited once this micrograph has been traced.",
  };

  /**
   * @param {import("./filament_state.js").FilamentState} state
   * @param {import("./filament_store.js").FilamentStore} store
   */
  constructor(state, store) {
    this.state = state;
    this.store = store;
    this.history = store.history;
  }

  /** The width of the filaments in Å. @returns {number | null} */
  get scale() {
    return this.state.summary?.width ?? null;
  }

  get scalePx() {
    return this.store.shown?.width_px ?? null;
  }

  /** @param {number} id */
  isKnown(id) {
    return this.state.rows.quality[id] !== null && this.store.micrograph === id && this.store.shown !== null;
  }

  /** @param {number} id */
  getMask(id) {
    return (this.store.micrograph === id && this.store.shown?.contamination) || null;
  }

  /** @param {number} id @param {import("./contamination.js").Mask | null} mask null for what is not known here */
  setMask(id, mask) {
    if (this.store.micrograph === id && this.store.shown && mask) this.store.shown.contamination = mask;
  }

  /** @param {number} id */
  showChanged(id) {
    if (this.store.micrograph === id) this.store.changed.emit();
  }

  /** @param {number} id */
  async reload(id) {
    if (this.store.micrograph === id) await this.store.reload();
  }

  /** Show what the server has. @param {number} id */
  restore(id) {
    this.reload(id).catch(() => {}); // the page says elsewhere that the server is gone
  }

  onSent() {
    void this.state.refresh();
  }
}
