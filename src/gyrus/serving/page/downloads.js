/**
 * The answers as files.
 */

/** What spreadsheets take as the start of a formula, also after apostrophes; as `gyrus.text.for_spreadsheets`. */
const FORMULA = /^'*[=+@\t\r-]/;

/**
 * A table with a row per scan. Its columns have the names of `gyrus predict`.
 * @param {any[]} answers Answers of the server.
 * @param {{name: string, error: string}[]} problems
 * @param {any} classifier As the server gives it.
 * @returns {string}
 */
export function asCsv(answers, problems, classifier) {
  const columns = {
    sample: (answer) => answer.name,
    ...(classifier.number ? columnsOfNumbers(answers) : columnsOfClasses(classifier.classes)),
    notes: (answer) => answer.notes.join(" "),
    problem: () => "",
  };
  const header = Object.keys(columns);
  const rows = answers.map((answer) => Object.values(columns).map((value) => value(answer)));
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

/** @param {string[]} classes */
function columnsOfClasses(classes) {
  const byClass = (title, values) => Object.fromEntries(classes.map((name) => [`${title}:${name}`, (answer) => values(answer)?.[name]]));
  return {
    predicted: (answer) => answer.prediction,
    ...byClass("probability", (answer) => answer.probabilities),
    p_like_training: (answer) => answer.p_like_training,
    most_unlike_in: (answer) => answer.most_unlike_in,
    ...byClass("calibrated_probability", (answer) => answer.calibrated_probabilities),
    decision: (answer) => answer.decision,
    prediction_set: (answer) => answer.prediction_set?.join("; "),
  };
}

/** @param {any[]} answers */
function columnsOfNumbers(answers) {
  const levels = Object.keys(answers[0]?.quantiles ?? {});
  return {
    prediction: (answer) => answer.prediction,
    ...Object.fromEntries(levels.map((level) => [`quantile:${level}`, (answer) => answer.quantiles[level]])),
    p_like_training: (answer) => answer.p_like_training,
    most_unlike_in: (answer) => answer.most_unlike_in,
    interval_low: (answer) => answer.interval?.low,
    interval_high: (answer) => answer.interval?.high,
    corrected_prediction: (answer) => answer.corrected_prediction,
  };
}

/** A cell of CSV; a text that spreadsheets would run as a formula gets an apostrophe. */
function cell(value) {
  if (value == null) return "";
  if (typeof value === "number") return String(value);
  const text = FORMULA.test(value) && Number.isNaN(Number(value)) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
