/**
 * Which part of an image is shown, and at what zoom.
 *
 * Positions are as in the labels: x to the right and y down, in pixels of the original file,
 * the center of its first pixel at (0, 0). `zoom` is screen pixels per image pixel.
 */
export class Camera {
  /** Size of the window on the screen. */
  width = 1;
  height = 1;
  /** Size of the image; 0 while there is none. */
  imageWidth = 0;
  imageHeight = 0;
  zoom = 1;
  /** The image point in the center of the window. */
  x = 0;
  y = 0;
  /** Whether the whole image is shown, and stays so when the window changes. */
  fitted = true;

  /**
   * @param {number} width
   * @param {number} height
   */
  resize(width, height) {
    this.width = Math.max(1, width);
    this.height = Math.max(1, height);
    if (this.fitted) this.fit();
  }

  /**
   * Show another image: at the same place and zoom if it has the same size, otherwise all of it.
   * @param {number} width
   * @param {number} height
   */
  setImage(width, height) {
    const same = width === this.imageWidth && height === this.imageHeight;
    this.imageWidth = width;
    this.imageHeight = height;
    if (!same || this.fitted) this.fit();
  }

  /** Zoom at which the whole image is in the window. */
  get fitZoom() {
    if (!this.imageWidth) return 1;
    return Math.min(this.width / this.imageWidth, this.height / this.imageHeight);
  }

  fit() {
    this.zoom = this.fitZoom;
    this.x = this.imageWidth / 2 - 0.5;
    this.y = this.imageHeight / 2 - 0.5;
    this.fitted = true;
  }

  /**
   * @param {number} x
   * @param {number} y
   * @returns {[number, number]} on the screen
   */
  toScreen(x, y) {
    return [
      (x - this.x) * this.zoom + this.width / 2,
      (y - this.y) * this.zoom + this.height / 2,
    ];
  }

  /**
   * @param {number} sx
   * @param {number} sy
   * @returns {[number, number]} in the image
   */
  toImage(sx, sy) {
    return [
      (sx - this.width / 2) / this.zoom + this.x,
      (sy - this.height / 2) / this.zoom + this.y,
    ];
  }

  /** @param {number} x @param {number} y */
  contains(x, y) {
    return x >= -0.5 && y >= -0.5 && x < this.imageWidth - 0.5 && y < this.imageHeight - 0.5;
  }

  /**
   * Zoom, keeping the point under the pointer in place.
   * @param {number} factor
   * @param {number} [sx]
   * @param {number} [sy]
   */
  zoomBy(factor, sx = this.width / 2, sy = this.height / 2) {
    const [x, y] = this.toImage(sx, sy);
    const least = Math.min(this.fitZoom * 0.5, 1);
    this.zoom = Math.min(Math.max(this.zoom * factor, least), 16);
    this.x = x - (sx - this.width / 2) / this.zoom;
    this.y = y - (sy - this.height / 2) / this.zoom;
    this.fitted = false;
    this.#keepInView();
  }

  /** @param {number} dx @param {number} dy on the screen */
  panBy(dx, dy) {
    this.x -= dx / this.zoom;
    this.y -= dy / this.zoom;
    this.fitted = false;
    this.#keepInView();
  }

  /**
   * @param {number} x
   * @param {number} y
   * @param {number} [zoom]
   */
  centerOn(x, y, zoom = this.zoom) {
    this.zoom = zoom;
    this.x = x;
    this.y = y;
    this.fitted = false;
  }

  /** Keep some of the image in the window. */
  #keepInView() {
    this.x = Math.min(Math.max(this.x, -0.5), this.imageWidth - 0.5);
    this.y = Math.min(Math.max(this.y, -0.5), this.imageHeight - 0.5);
  }
}
