/**
 * Colours of heat maps, those of `gyrus explain`: inferno, and transparent where the heat is low.
 */

/** The colour map inferno of matplotlib at equal steps from 0 to 1. */
const INFERNO = [
  [0, 0, 4], [17, 10, 48], [50, 10, 94], [87, 16, 110], [120, 28, 109], [154, 40, 101], [188, 55, 84],
  [216, 76, 62], [237, 105, 37], [249, 142, 9], [251, 182, 26], [244, 223, 83], [252, 255, 164],
];

/** Opacity is heat to this power, so that warm pixels stay visible. */
const FADE = 0.6;

/**
 * Red, green, blue and opacity, 0 to 255, of the heats 0 to 255.
 * @type {Uint8ClampedArray}
 */
export const HEAT_COLOURS = new Uint8ClampedArray(4 * 256);
for (let heat = 0; heat < 256; heat++) {
  const place = (heat / 255) * (INFERNO.length - 1);
  const low = Math.min(INFERNO.length - 2, Math.floor(place));
  for (let channel = 0; channel < 3; channel++) {
    const step = INFERNO[low + 1][channel] - INFERNO[low][channel];
    HEAT_COLOURS[4 * heat + channel] = INFERNO[low][channel] + (place - low) * step;
  }
  HEAT_COLOURS[4 * heat + 3] = 255 * (heat / 255) ** FADE;
}

/**
 * The heat of a voxel from 0 to 255.
 * @param {import("./nifti.js").Volume} volume A heat map from 0 to 1.
 * @param {number} voxel
 * @returns {number}
 */
export function heatLevel({ values, slope, offset }, voxel) {
  return Math.round(255 * Math.min(1, Math.max(0, slope * values[voxel] + offset))) || 0;
}
