/**
 * The answers as files.
 */

/** What spreadsheets take as the start of a formula, also after apostrophes; as `gyrus.text.for_spreadsheets`. */
const FORMULA = /^'*[=+@\t\r-]/;

/**
 * A table with a row per scan. Its columns have the names of `gyrus predict`.
 * @param {any[]} answers Answers of the server.
 * @param {{name: string, error: string}[]} problems
 * @param {string[]} classes
 * @returns {string}
 */
export function asCsv(answers, problems, classes) {
  const header = [
    "sample",
    "predicted",
    ...classes.map((name) => `probability:${name}`),
    "p_like_training",
    "most_unlike_in",
    ...classes.map((name) => `calibrated_probability:${name}`),
    "decision",
    "prediction_set",
    "notes",
    "problem",
  ];
  const rows = answers.map((answer) => [
    answer.name,
    answer.prediction,
    ...classes.map((name) => answer.probabilities[name]),
    answer.p_like_training,
    answer.most_unlike_in,
    ...classes.map((name) => answer.calibrated_probabilities?.[name]),
    answer.decision,
    answer.prediction_set?.join("; "),
    answer.notes.join(" "),
    "",
  ]);
  const failed = problems.map(({ name, error }) => header.map((_, column) => (column === 0 ? name : column === header.length - 1 ? error : "")));
  return [header, ...rows, ...failed].map((row) => row.map(cell).join(",") + "\n").join("");
}

/**
 * All that the server answered, without the pictures.
 * @param {any} classifier
 * @param {any[]} answers
 * @param {{name: string, error: string}[]} problems
 * @returns {string}
 */
export function asJson(classifier, answers, problems) {
  const plain = answers.map(({ view, ...rest }) => rest);
  return JSON.stringify({ classifier, answers: plain, problems }, null, 2) + "\n";
}

/**
 * Offer a text as a download.
 * @param {string} text
 * @param {string} name
 * @param {string} type
 */
export function download(text, name, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** A cell of CSV; a text that spreadsheets would run as a formula gets an apostrophe. */
function cell(value) {
  if (value == null) return "";
  if (typeof value === "number") return String(value);
  const text = FORMULA.test(value) && Number.isNaN(Number(value)) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
