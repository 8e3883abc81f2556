import { shortenNames } from "./short_names.js";
import { findCommonEnding, findCommonFolder } from "./sorting.js";

/** The names of the micrographs without what all of them share. */
export class MicrographNames {
  #folderLength;
  /** Short names for the list. @type {string[]} */ #listNames;

  /** @param {string[]} names */
  constructor(names) {
    this.names = names;
    this.#folderLength = findCommonFolder(names).length;
    const ending = findCommonEnding(names).length;
    this.#listNames = shortenNames(names.map((name) => name.slice(this.#folderLength, name.length - ending)));
  }

  /** Return a name without the folders that all names start with. @param {number} id */
  withoutFolder(id) {
    return this.names[id].slice(this.#folderLength);
  }

  /** Return a name without most of what all names share. @param {number} id */
  short(id) {
    return this.#listNames[id];
  }
}
