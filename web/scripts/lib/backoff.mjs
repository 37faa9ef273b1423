// How long to wait before the next try: doubling from half a second to fifteen, spread by thirty percent.

/** @param {number} failures  @param {number} random between 0 and 1  @returns {number} milliseconds */
export const delay = (failures, random) => Math.round(Math.min(500 * 2 ** failures, 15000) * (0.7 + 0.6 * random));
