/**
 * The page of `gyrus serve`: scans in, answers out. Nothing is stored, neither here nor by the server.
 */

import {
  answerElements,
  classifierElements,
  headlineElements,
  inputWords,
  likenessWord,
  problemElements,
  shortTexts,
  summary,
  waitingElements,
} from "./answer.js";
import { asCsv, asJson, download } from "./downloads.js";
import { byId, counted, element, megabytes, sentence, visible } from "./elements.js";
import { chosen, dropped, groupScans } from "./files.js";
import { HeatMapPanel } from "./heat_map.js";
import { request } from "./requests.js";
import { Viewer } from "./viewer.js";

/**
 * A row of the table: a scan, or one of several scans of one upload.
 * @typedef {Object} Row
 * @property {import("./files.js").Scan} scan
 * @property {string} name
 * @property {import("./files.js").Found[]} files What is sent for this row alone.
 * @property {"waiting"|"sending"|"answered"|"problem"|"stopped"} status
 * @property {string} words What happens, or what was wrong.
 * @property {boolean} canTryAgain
 * @property {any} answer As the server gives it, with the name of the row.
 * @property {string} [nameOnServer]
 * @property {import("./viewer.js").Picture|null} picture
 * @property {number} [pictureTime] When it came.
 * @property {Map<string, any>|null} [heatMaps] By class.
 * @property {HTMLTableRowElement} line
 * @property {HTMLButtonElement} button
 * @property {HTMLTableCellElement[]} cells
 */

/** Requests at once: enough for the server to form batches. */
const AT_ONCE = 4;
/** Up to so many scans their pictures come with the answers; of more, each when it is looked at. */
const PICTURES_WITH_ANSWERS = 6;
/** So many pictures are kept in memory. */
const PICTURES_KEPT = 12;
const WAITING = "Waiting …";
/** Of all suffixes that a server accepts, those that the page names. */
const WELL_KNOWN = [".png", ".jpg", ".jpeg", ".tif", ".nii", ".nii.gz", ".mgz", ".nrrd", ".dcm", ".zip"];

/** @type {Row[]} */
const rows = [];
/** @type {Row|null} */
let shown = null;
let classifier = null;
let viewer = null;
let heatMap = null;
let stopping = new AbortController();
let working = 0;

start();

async function start() {
  listen();
  try {
    classifier = await request("/v1/classifier", { askToken });
  } catch (error) {
    byId("subtitle").textContent = "";
    const again = element("button", { type: "button", on: { click: () => location.reload() } }, "Load again");
    byId("page-problem").replaceChildren(element("div.warning", {}, element("p", {}, visible(error.message)), again));
    return;
  }
  document.title = `${visible(classifier.title)} · Gyrus`;
  byId("title").textContent = visible(classifier.title);
  const kind = inputWords(classifier.input);
  byId("subtitle").textContent = classifier.number
    ? `Predicts ${visible(classifier.number.name)} from brain-MRI ${kind}.`
    : `Brain-MRI classifier of ${kind}, ${classifier.classes.length} classes.`;
  if (classifier.number) {
    byId("head-answer").textContent = visible(classifier.number.name);
    byId("head-probability").textContent = "Prediction interval";
    byId("head-point").textContent = "Corrected";
    byId("head-set").hidden = true;
  }
  byId("research-only").textContent = classifier.research_only;
  byId("accepted").textContent = acceptedWords();
  byId("about-content").replaceChildren(...classifierElements(classifier));
  byId("about").hidden = false;
  viewer = new Viewer(byId("viewer"));
  if (!classifier.heat_map) byId("no-heat-map").hidden = false;
  heatMap = new HeatMapPanel(byId("heat-map"), viewer, classifier.classes, explain, announce);
}

/** What may be dropped, in words. */
function acceptedWords() {
  const { accepts, limits } = classifier;
  const known = WELL_KNOWN.filter((suffix) => accepts.includes(suffix));
  const others = known.length < accepts.length ? " and others" : "";
  const folderWords = {
    volume: "The DICOM files of one series are one scan.",
    stack: "The slices of one scan are sent together, as a folder or zip.",
    slice: "A zip or folder may hold many images.",
  };
  const ofFolder = folderWords[classifier.input];
  return `${known.join(", ")}${others}. ${ofFolder} Up to ${megabytes(limits.bytes)} and ${counted(limits.files, "file")} per scan.`;
}

function listen() {
  for (const kind of ["files", "folder"]) {
    const input = byId(kind);
    byId(`choose-${kind}`).addEventListener("click", () => input.click());
    input.addEventListener("change", async () => {
      const found = chosen(input.files);
      input.value = "";
      await add(found);
    });
  }
  // The whole page takes drops, before the viewer sees them: beside the target a drop would open the file instead.
  const over = (isOver) => byId("drop").classList.toggle("over", isOver);
  addEventListener("dragover", (event) => (event.preventDefault(), over(true)), true);
  addEventListener("dragleave", (event) => event.relatedTarget ?? over(false), true);
  addEventListener("drop", async (event) => {
    event.preventDefault();
    event.stopPropagation();
    over(false);
    if (event.dataTransfer) await add(await dropped(event.dataTransfer));
  }, true);
  byId("stop").addEventListener("click", () => stopping.abort());
  byId("try-again").addEventListener("click", () => work(rows.filter((row) => row.canTryAgain)));
  byId("clear").addEventListener("click", clear);
  byId("download-csv").addEventListener("click", () => {
    download(asCsv(...results(), classifier), "gyrus-answers.csv", "text/csv;charset=utf-8");
  });
  byId("download-json").addEventListener("click", () => {
    download(asJson(classifier, ...results()), "gyrus-answers.json", "application/json");
  });
}

/** @param {import("./files.js").Found[]} found */
async function add(found) {
  if (!classifier || !found.length) return;
  // What was chosen for subjects with many slices is applied to all slices of a subject together.
  const unit = (classifier.operating_point ?? classifier.number?.interval)?.unit;
  const bySubject = classifier.input === "slice" && unit === "subject";
  const options = { bytes: bySubject ? classifier.limits.bytes : 0, stacked: classifier.input === "stack" };
  const { scans, leftOut } = await groupScans(found, classifier.accepts, options);
  const words = leftOut.length ? `Left out: ${counted(leftOut.length, "file")} that hold no scan (${leftOut.slice(0, 3).map(visible).join(", ")}${leftOut.length > 3 ? ", …" : ""}).` : "";
  byId("left-out").textContent = words;
  byId("left-out").hidden = !words;
  const added = scans.flatMap((scan) =>
    scan.areImages ? scan.files.map((file) => newRow(scan, file.path, [file])) : [newRow(scan, scan.name, scan.files)],
  );
  if (added.length) await work(added);
  else announce(words);
}

/**
 * Have rows answered, a few at once.
 * @param {Row[]} some
 */
async function work(some) {
  if (!working) stopping = new AbortController();
  const { signal } = stopping;
  for (const row of some) update(row, { status: "waiting", words: "", canTryAgain: false });
  if (some.length === 1 || !shown?.answer) await show(some[0]);
  const queue = [...new Set(some.map((row) => row.scan))].map((scan) => some.filter((row) => row.scan === scan));
  const withPicture = some.length <= PICTURES_WITH_ANSWERS;
  announce(`${counted(some.length, "scan")} added.`);
  working += 1;
  showProgress();
  const next = async () => {
    for (let group = queue.shift(); group; group = queue.shift()) {
      await answer(group, withPicture, signal);
      showProgress();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, next));
  working -= 1;
  showProgress();
  const answered = some.filter((row) => row.answer);
  if (some.length > 1 && answered.length && shown && !shown.answer) await show(answered[0]);
  if (some.length === 1 && some[0].answer) announce(summary(some[0].answer));
  else if (some.length === 1) announce(`${visible(some[0].name)}: ${sentence(some[0].words)}`);
  else announce(`${answered.length} of ${counted(some.length, "scan")} answered.`);
}

/**
 * Have the rows of one request answered; further scans of the same upload get rows of their own.
 * @param {Row[]} group
 * @param {boolean} withPicture
 * @param {AbortSignal} signal
 */
async function answer(group, withPicture, signal) {
  const [{ scan }] = group;
  const all = (changes) => group.forEach((row) => update(row, changes));
  const tooLarge = limitWords(scan);
  if (tooLarge) return all({ status: "problem", words: tooLarge });
  if (signal.aborted) return all({ status: "stopped", words: "Stopped.", canTryAgain: true });
  const words = (text) => all({ status: "sending", words: text });
  words("Sending …");
  try {
    const content = await request(`/v1/predict?view=${withPicture}`, {
      body: () => form(group.flatMap((row) => row.files)),
      signal,
      askToken,
      onUpload: (fraction) => words(fraction < 1 ? `Sending ${Math.round(100 * fraction)} %` : "Computing …"),
      onBusy: (seconds) => words(`The server is busy; next try in ${seconds} s`),
    });
    distribute(content, group);
  } catch (error) {
    all({ status: signal.aborted ? "stopped" : "problem", words: error.message, canTryAgain: error.canTryAgain ?? false });
  }
  if (shown?.scan === scan) await show(shown);
}

/** Give the answers and problems of a request to its rows. */
function distribute({ answers, problems }, group) {
  const parts = [...answers, ...problems];
  const open = new Set(group);
  let last = group[group.length - 1];
  for (const part of parts) {
    const [first] = open;
    const named = [...open].find((row) => visible(row.name).trim() === part.name);
    const own = named ?? (group.length === 1 ? first : null) ?? newRow(last.scan, part.name, last.files, last);
    if (!open.delete(own)) last = own;
    else if (group.length === 1 && parts.length > 1) own.name = part.name;
    if (part.error) update(own, { status: "problem", words: part.error });
    else settle(own, part);
  }
  for (const row of open) update(row, { status: "problem", words: "The server found no scan in this file." });
}

/** @param {Row} row */
function settle(row, given) {
  const { view, ...rest } = given;
  row.picture = picture(view);
  // The name that the server uses for a scan of an upload stays with the answer; the page shows the one that was dropped.
  update(row, { status: "answered", words: "", answer: { ...rest, name: row.name }, nameOnServer: given.name });
  forgetPictures(row);
}

/** @returns {Promise<any>} The heat map of a row. */
async function explain(row, target, signal) {
  row.heatMaps ??= new Map();
  if (!row.heatMaps.has(target)) {
    const query = new URLSearchParams({ target, name: row.nameOnServer });
    const content = await request(`/v1/explain?${query}`, { body: () => form(row.files), signal, askToken });
    row.heatMaps.set(target, { ...content, picture: picture(content.heat_map) });
  }
  return row.heatMaps.get(target);
}

/**
 * Show a row.
 * @param {Row} row
 */
async function show(row) {
  const isOther = shown !== row;
  shown = row;
  byId("results").hidden = false;
  for (const each of rows) each.line.removeAttribute("aria-current");
  row.line.setAttribute("aria-current", "true");
  const [headline, place] = [byId("headline"), byId("answer")];
  byId("scan").classList.toggle("without-viewer", !row.answer);
  if (!row.answer) {
    const hasFailed = row.status === "problem" || row.status === "stopped";
    const tryAgain = row.canTryAgain ? () => work([row]) : null;
    const elements = hasFailed ? problemElements(row.name, row.words, tryAgain) : waitingElements(row.name, row.words || WAITING);
    headline.replaceChildren(...elements);
    place.replaceChildren();
    await heatMap.showFor(null);
    return;
  }
  headline.replaceChildren(...headlineElements(row.answer, classifier));
  place.replaceChildren(...answerElements(row.answer, classifier));
  try {
    if (!row.picture) {
      viewer.showWords("Reading the scan …");
      await fetchPicture(row);
    }
    if (shown === row) await viewer.show(row.name, row.picture);
  } catch (error) {
    if (shown === row) viewer.showWords(`The scan cannot be shown: ${visible(error.message)}`);
    row.picture = null;
  }
  if (shown !== row) return;
  if (isOther || !heatMap.row) await heatMap.showFor(classifier.heat_map && row.picture ? row : null);
}

/** @param {Row} row */
async function fetchPicture(row) {
  const content = await request("/v1/predict?view=true", { body: () => form(row.files), askToken });
  const found = content.answers.find((each) => each.name === row.nameOnServer) ?? content.answers[0];
  row.picture = picture(found?.view);
  if (!row.picture) throw new Error("the server sent no picture.");
  forgetPictures(row);
}

/** Keep the pictures of a few rows only: volumes are large. */
function forgetPictures(latest) {
  latest.pictureTime = performance.now();
  const kept = rows.filter((row) => row.picture && row !== shown).sort((one, other) => other.pictureTime - one.pictureTime);
  for (const row of kept.slice(PICTURES_KEPT)) row.picture = row.heatMaps = null;
}

/** @returns {Row} */
function newRow(scan, name, files, after = null) {
  const button = element("button.link", { type: "button" });
  const cells = [element("td.status"), element("td"), element("td.number"), ...[0, 0, 0].map(() => element("td.wide-only"))];
  const line = element("tr", { on: { click: () => choose(row) } }, element("th", { scope: "row" }, button), ...cells);
  /** @type {any} */
  const row = { scan, name, files, status: "waiting", words: "", canTryAgain: false, answer: null, picture: null, line, button, cells };
  rows.splice(after ? rows.indexOf(after) + 1 : rows.length, 0, row);
  if (after) after.line.after(line);
  else byId("rows").append(line);
  update(row, {});
  return row;
}

async function choose(row) {
  if (row !== shown) await show(row);
  byId("scan").scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

/** Change a row, and what the table shows of it. */
function update(row, changes) {
  Object.assign(row, changes);
  const { answer: given, status } = row;
  const titles = { waiting: "Waiting", sending: row.words, answered: "Answered", problem: "No answer", stopped: "Stopped" };
  const texts = given ? [...shortTexts(given), likenessWord(given)] : ["", "", "", "", ""];
  row.button.textContent = visible(row.name);
  [titles[status], ...texts].forEach((text, column) => (row.cells[column].textContent = text));
  const hasWords = status === "problem";
  if (hasWords) row.cells[0].append(element("small", {}, sentence(row.words)));
  // The reason takes the place of class and probability, which there are none of.
  row.cells[0].colSpan = hasWords ? 3 : 1;
  for (const cell of row.cells.slice(1, 3)) cell.hidden = hasWords;
  row.cells[4].hidden = Boolean(classifier.number);
  row.cells[0].className = `status ${status}`;
  row.line.classList.toggle("unlike", Boolean(given?.unlike));
  byId("table").hidden = rows.length < 2;
  byId("try-again").hidden = !rows.some((each) => each.canTryAgain);
  if (row === shown && (status === "waiting" || status === "sending") && byId("waiting")) byId("waiting").textContent = row.words || WAITING;
}

function showProgress() {
  const open = rows.filter((row) => row.status === "waiting" || row.status === "sending");
  byId("progress").hidden = !open.length;
  const done = rows.length - open.length;
  const bar = byId("progress-bar");
  if (rows.length > 1) [bar.max, bar.value] = [rows.length, done];
  else bar.removeAttribute("value");
  byId("progress-text").textContent = rows.length > 1 ? `${done} of ${counted(rows.length, "scan")} answered` : "Waiting for the answer";
}

function clear() {
  stopping.abort();
  rows.splice(0);
  shown = null;
  byId("rows").replaceChildren();
  byId("results").hidden = true;
  byId("left-out").hidden = true;
  heatMap.showFor(null);
  viewer.showWords("");
  showProgress();
  announce("All scans removed.");
  byId("choose-files").focus();
}

/** @returns {[any[], {name: string, error: string}[]]} Answers and problems of all rows that are done. */
function results() {
  const problems = rows.filter((row) => row.status === "problem" || row.status === "stopped");
  return [rows.filter((row) => row.answer).map((row) => row.answer), problems.map((row) => ({ name: row.name, error: row.words }))];
}

function form(files) {
  const data = new FormData();
  for (const { file, path } of files) data.append("files", file, path);
  return data;
}

/** Why a scan is not even sent; empty where it is. */
function limitWords(scan) {
  const { bytes, files } = classifier.limits;
  const size = scan.files.reduce((sum, { file }) => sum + file.size, 0);
  if (size > bytes) return `It has ${megabytes(size)}; this server accepts at most ${megabytes(bytes)} per scan.`;
  if (scan.files.length > files) return `It has ${counted(scan.files.length, "file")}; this server accepts at most ${files} per scan.`;
  return "";
}

/** @returns {import("./viewer.js").Picture|null} */
function picture(view) {
  if (!view) return null;
  const bytes = Uint8Array.from(atob(view.data), (letter) => letter.charCodeAt(0));
  return { format: view.format, blob: new Blob([bytes], { type: view.format === "png" ? "image/png" : "application/octet-stream" }) };
}

/** Say something to screen readers. */
function announce(words) {
  byId("announcement").textContent = words;
}

/**
 * Ask for the token.
 * @param {boolean} wasWrong Whether one was given before.
 * @returns {Promise<string>} Empty if the user cancels.
 */
function askToken(wasWrong) {
  const [dialog, input, words] = [byId("token-dialog"), byId("token"), byId("token-words")];
  if (wasWrong) words.textContent = "The server does not accept this token. Check it and try again.";
  return new Promise((resolve) => {
    const finish = (given) => {
      input.value = "";
      dialog.close();
      resolve(given);
    };
    byId("token-form").onsubmit = (event) => (event.preventDefault(), finish(input.value.trim()));
    byId("token-cancel").onclick = () => finish("");
    dialog.oncancel = () => finish("");
    dialog.showModal();
  });
}
