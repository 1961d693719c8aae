/**
 * NIfTI-1 files as the server sends them: one file, one image per file.
 */

/**
 * A volume.
 * @typedef {{size: number[], spacing: number[], values: any, slope: number, offset: number}} Volume
 *   size: voxels along x, y, z; spacing: their size in mm; values: stored values, x fastest; shown value = slope * stored + offset.
 */

/** Stored types by their code in the header. */
const TYPES = { 2: Uint8Array, 4: Int16Array, 8: Int32Array, 16: Float32Array, 64: Float64Array, 256: Int8Array, 512: Uint16Array };

/** The code of four bytes of colour per voxel. */
const RGBA = 2304;
/** Bytes before the voxels of a file without extensions. */
const HEADER = 352;

/**
 * The bytes of a file, decompressed if it is a gzip file.
 * @param {Blob} blob
 * @returns {Promise<ArrayBuffer>}
 */
export async function decompressed(blob) {
  const mark = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
  if (mark[0] !== 0x1f || mark[1] !== 0x8b) return blob.arrayBuffer();
  return new Response(blob.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/**
 * Read a volume.
 * @param {ArrayBuffer} buffer A decompressed file.
 * @returns {Volume}
 */
export function readVolume(buffer) {
  const header = new DataView(buffer);
  const isLittle = header.getInt32(0, true) === 348;
  const Values = TYPES[header.getInt16(70, isLittle)];
  if (!Values || (!isLittle && header.getInt32(0, false) !== 348)) throw new Error("The volume is in no format that this page can show.");
  const axes = [1, 2, 3];
  const size = axes.map((axis) => Math.max(1, header.getInt16(40 + 2 * axis, isLittle)));
  const spacing = axes.map((axis) => Math.abs(header.getFloat32(76 + 4 * axis, isLittle)) || 1);
  const start = header.getFloat32(108, isLittle);
  const count = size[0] * size[1] * size[2];
  const bytes = buffer.slice(start, start + count * Values.BYTES_PER_ELEMENT);
  if (!isLittle) reverseBytes(bytes, Values.BYTES_PER_ELEMENT);
  const slope = header.getFloat32(112, isLittle);
  return { size, spacing, values: new Values(bytes), slope: slope || 1, offset: slope ? header.getFloat32(116, isLittle) : 0 };
}

/**
 * A volume of colours on the grid of another.
 * @param {ArrayBuffer} buffer The decompressed file of the other.
 * @param {Uint8Array} colours Red, green, blue and opacity of each voxel.
 * @returns {Blob}
 */
export function asColours(buffer, colours) {
  const header = new DataView(buffer.slice(0, HEADER));
  const isLittle = header.getInt32(0, true) === 348;
  header.setInt16(70, RGBA, isLittle);
  header.setInt16(72, 32, isLittle);
  header.setFloat32(108, HEADER, isLittle);
  header.setFloat32(112, 1, isLittle);
  header.setFloat32(116, 0, isLittle);
  header.setUint32(348, 0); // no extensions
  return new Blob([header, colours]);
}

function reverseBytes(buffer, width) {
  const bytes = new Uint8Array(buffer);
  for (let start = 0; start < bytes.length; start += width) bytes.subarray(start, start + width).reverse();
}
