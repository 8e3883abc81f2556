/** The contamination that a project of particles has: it comes with the picks. */
export class ParticleContamination {
  words = {
    unknown: "Not known yet.",
    inDetected: "Picks there need a much higher score.",
    inEdited: "Nothing is picked there.",
    tooEarly: "Contamination can be edited once this micrograph has been picked.",
  };

  /** @param {import("./state.js").AppState} state */
  constructor(state) {
    this.state = state;
    this.history = state.labels.history;
  }

  /** The diameter in Å, or pixels where these are not known; null while it is not set. */
  get scale() {
    return this.state.diameter;
  }

  get scalePx() {
    return this.state.diameterPx;
  }

  /** @param {number} id */
  isKnown(id) {
    return this.state.picks.get(id) !== null;
  }

  /** @param {number} id */
  getMask(id) {
    return this.state.picks.get(id)?.contamination ?? null;
  }

  /** @param {number} id @param {import("./contamination.js").Mask | null} mask null for what is not known here */
  setMask(id, mask) {
    const table = this.state.picks.get(id);
    if (table && mask) table.contamination = mask;
  }

  /** @param {number} id */
  showChanged(id) {
    this.state.picks.changed.emit(id);
  }

  /** @param {number} id */
  reload(id) {
    return this.state.picks.reload(id);
  }

  /** Show what the server has. @param {number} id */
  restore(id) {
    this.state.picks.invalidate([id], this.state.current);
  }

  onSent() {
    this.state.requested.emit();
    void this.state.readHistogram();
  }
}
