/**
 * Return a duration as text.
 * @param {number} seconds
 */
export function formatDuration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/**
 * Return roughly how long something still takes, as in ", about 3 min left"; "" if not known.
 * @param {number | null | undefined} seconds
 */
export function formatRemaining(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 10) return ", a few seconds left";
  if (seconds < 55) return `, about ${Math.ceil(seconds / 10) * 10} s left`;
  const minutes = Math.max(1, Math.round(seconds / 60));
  if (minutes < 60) return `, about ${minutes} min left`;
  return `, about ${Math.floor(minutes / 60)} h ${minutes % 60} min left`;
}
