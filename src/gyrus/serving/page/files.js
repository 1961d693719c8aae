/**
 * From what a person drops or chooses to scans: one image, one volume, one zip, or all DICOM files or slices of a folder.
 */

/**
 * A file with its path below the folder it was dropped with.
 * @typedef {{file: File, path: string}} Found
 */

/**
 * What is sent as one request: one scan, or the images of a folder, which then are decided by subject.
 * @typedef {{name: string, files: Found[], areImages: boolean}} Scan
 */

const DICOM_SUFFIX = /\.(dcm|dicom|ima)$/i;
const PAIR_SUFFIX = /\.(hdr|img)$/i;
/** So many images are sent together at most: an answer must not take too long. */
const MOST_IMAGES = 200;
/** Files that operating systems and archives of DICOM put beside scans. */
const NEVER_SCANS = /(^|\/)(\.[^/]*|Thumbs\.db|desktop\.ini|DICOMDIR)$/i;

/**
 * The files of a drop, those in folders included.
 * @param {DataTransfer} transfer
 * @returns {Promise<Found[]>}
 */
export async function dropped(transfer) {
  // The list is empty as soon as this function waits, so that all entries are taken before.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter((entry) => entry != null);
  if (!entries.length) return chosen(transfer.files);
  return inOrder((await Promise.all(entries.map((entry) => filesBelow(entry, "")))).flat());
}

/**
 * The files of a file dialogue.
 * @param {FileList} list
 * @returns {Found[]}
 */
export function chosen(list) {
  return inOrder([...list].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
}

/**
 * Group files into scans.
 * @param {Found[]} found
 * @param {string[]} accepted Suffixes that the server accepts.
 * @param {{bytes: number, stacked: boolean}} options bytes: images of one folder are sent together up to this size, with
 *   0 each is sent by itself; stacked: the images of a folder are the slices of one scan.
 * @returns {Promise<{scans: Scan[], leftOut: string[]}>} The scans, and the paths that no scan holds. A file that was
 *   chosen by itself is always sent, so that the server says what is wrong with it; of a folder only scans are.
 */
export async function groupScans(found, accepted, { bytes, stacked }) {
  /** @type {Map<string, Scan>} */
  const scans = new Map();
  const leftOut = [];
  for (const each of found) {
    const folder = each.path.slice(0, each.path.lastIndexOf("/") + 1);
    if (NEVER_SCANS.test(each.path)) {
      leftOut.push(each.path);
      continue;
    }
    const isAccepted = accepted.some((suffix) => each.path.toLowerCase().endsWith(suffix));
    const isDicom = DICOM_SUFFIX.test(each.path) || (!isAccepted && (await beginsLikeDicom(each.file)));
    if (!isAccepted && !isDicom && folder) {
      leftOut.push(each.path);
      continue;
    }
    let key = `file ${each.path} ${scans.size}`;
    if (isDicom) key = `series ${folder}`;
    else if (PAIR_SUFFIX.test(each.path)) key = `pair ${each.path.replace(PAIR_SUFFIX, "")}`;
    const isImage = isAccepted && !isDicom && !each.path.toLowerCase().endsWith(".zip");
    const areImages = bytes > 0 && isImage && !stacked;
    if (areImages) key = `images ${folder}`;
    if (stacked && isImage) key = `slices ${folder}`;
    const scan = scans.get(key);
    if (scan) scan.files.push(each);
    else scans.set(key, { name: each.path, files: [each], areImages });
  }
  for (const [key, scan] of scans) {
    const kind = { series: "DICOM files", slices: "slices" }[key.split(" ", 1)[0]];
    if (kind && scan.files.length > 1) {
      scan.name = key.slice(key.indexOf(" ") + 1).replace(/\/$/, "") || `${scan.files.length} ${kind}`;
    }
  }
  const all = [...scans.values()].flatMap((scan) => (scan.areImages ? parts(scan, bytes) : [scan]));
  return { scans: all, leftOut };
}

/**
 * Images in parts that are small enough. A part ends where the names change most, which is between two subjects.
 * @param {Scan} scan
 * @param {number} bytes
 * @returns {Scan[]}
 */
function parts(scan, bytes) {
  const { files } = scan;
  let [end, size] = [0, 0];
  while (end < Math.min(files.length, MOST_IMAGES) && (end === 0 || size + files[end].file.size <= bytes)) size += files[end++].file.size;
  if (end === files.length) return [scan];
  let cut = end;
  for (let place = end - 1; place > end / 2; place--) {
    if (sameStart(files, place) < sameStart(files, cut)) cut = place;
  }
  const [first, rest] = [files.slice(0, cut), files.slice(cut)];
  return [{ ...scan, files: first }, ...parts({ ...scan, name: rest[0].path, files: rest }, bytes)];
}

/** How many characters the name of a file shares with the one before. */
function sameStart(files, place) {
  const [before, name] = [files[place - 1].path, files[place].path];
  let count = 0;
  while (count < name.length && name[count] === before[count]) count++;
  return count;
}

/** Files by path; numbers in names count as numbers. */
function inOrder(found) {
  const { compare } = new Intl.Collator("en", { numeric: true });
  return found.sort((one, other) => compare(one.path, other.path));
}

/** @returns {Promise<Found[]>} */
async function filesBelow(entry, folder) {
  const path = folder + entry.name;
  if (entry.isFile) {
    return [{ file: await new Promise((resolve, reject) => entry.file(resolve, reject)), path }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // The reader gives at most 100 entries at a time.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    found.push(...some);
  }
  return (await Promise.all(found.map((each) => filesBelow(each, `${path}/`)))).flat();
}

/** Whether a file has the mark of DICOM after its preamble of 128 bytes. */
async function beginsLikeDicom(file) {
  const mark = new Uint8Array(await file.slice(128, 132).arrayBuffer());
  return String.fromCharCode(...mark) === "DICM";
}
