/**
 * The answer to one scan, and what the classifier is, in words, bars and tables.
 */

import { counted, element, joined, number, pValue, percent, probability, range, sentence, visible, withInterval } from "./elements.js";

const RATES = { ppv: "PPV", npv: "NPV", sensitivity: "Sensitivity", specificity: "Specificity" };

/**
 * The class that is shown as the answer: by the calibrated probabilities, where there are any.
 * @param {any} answer As the server gives it.
 * @returns {{name: string, value: number}}
 */
export function mostProbable(answer) {
  const [name, value] = Object.entries(answer.calibrated_probabilities ?? answer.probabilities).reduce((best, one) => (one[1] > best[1] ? one : best));
  return { name, value };
}

/**
 * Whether an answer is a number, and no class.
 * @param {any} answer As the server gives it.
 * @returns {boolean}
 */
export function isNumber(answer) {
  return typeof answer.prediction === "number";
}

/**
 * What the columns of the table of answers show of an answer.
 * @param {any} answer As the server gives it.
 * @returns {string[]} Class and probability, or number and interval; operating point, or corrected number; set.
 */
export function shortTexts(answer) {
  if (isNumber(answer)) return [number(answer.prediction), intervalWords(answer) || "–", answer.corrected_prediction == null ? "–" : number(answer.corrected_prediction), ""];
  const { name, value } = mostProbable(answer);
  return [visible(name), probability(value), decisionWord(answer), setWords(answer)];
}

/**
 * The name of a scan, and the answer in a sentence.
 * @param {any} answer As the server gives it.
 * @param {any} classifier As the server gives it.
 * @returns {any[]}
 */
export function headlineElements(answer, classifier) {
  if (isNumber(answer)) {
    const { name, interval } = classifier.number;
    const words = answer.interval ? `, ${percent(interval.coverage)} prediction interval ${intervalWords(answer)}` : "";
    return [
      nameElement(answer.name),
      element("p.verdict", {}, `Predicted ${visible(name)}: `, element("b", {}, number(answer.prediction)), `${words}.`),
      ...(answer.unlike ? [unlikeWarning(answer)] : []),
    ];
  }
  const kind = answer.calibrated_probabilities ? "calibrated probability" : "probability (not calibrated)";
  const { name, value } = mostProbable(answer);
  return [
    nameElement(answer.name),
    element("p.verdict", {}, "Most probable class: ", element("b", {}, visible(name)), `, ${kind} ${probability(value)}.`),
    ...(answer.unlike ? [unlikeWarning(answer)] : []),
  ];
}

/**
 * All else that is to say about a scan.
 * @param {any} answer As the server gives it.
 * @param {any} classifier As the server gives it.
 * @returns {any[]}
 */
export function answerElements(answer, classifier) {
  if (isNumber(answer)) return numberElements(answer, classifier);
  const probabilities = answer.calibrated_probabilities ?? answer.probabilities;
  return [
    ...pointElements(answer, probabilities, classifier),
    element("h3", {}, "Probability of each class"),
    bars(probabilities, answer, classifier.classes),
    ...setElements(answer, classifier.prediction_sets),
    ...closingElements(answer, classifier),
  ];
}

/**
 * A scan that could not be answered.
 * @param {string} name
 * @param {string} words What was wrong and what to do.
 * @param {(() => void)|null} tryAgain Called by a button; null where the same files would fail again.
 * @returns {any[]}
 */
export function problemElements(name, words, tryAgain) {
  const button = tryAgain && element("button", { type: "button", on: { click: tryAgain } }, "Try again");
  return [nameElement(name), element("div.warning", {}, element("p", {}, element("b", {}, "No answer. "), sentence(words)), button)];
}

/**
 * A scan that has no answer yet.
 * @param {string} name
 * @param {string} words What happens.
 * @returns {any[]}
 */
export function waitingElements(name, words) {
  return [nameElement(name), element("p.verdict", { id: "waiting" }, words)];
}

/**
 * What is said at the operating point, in a word.
 * @param {any} answer
 * @returns {string}
 */
export function decisionWord(answer) {
  return answer.decision ? answer.decision[0].toUpperCase() + answer.decision.slice(1) : "–";
}

/**
 * The classes that cannot be excluded, in words.
 * @param {any} answer
 * @returns {string}
 */
export function setWords(answer) {
  if (!answer.prediction_set) return "–";
  return answer.prediction_set.length ? answer.prediction_set.map(visible).join(", ") : "none fits";
}

/**
 * Whether a scan is like the training data, in a word.
 * @param {any} answer
 * @returns {string}
 */
export function likenessWord(answer) {
  if (answer.unlike == null) return "not compared";
  return answer.unlike ? "unlike" : "like";
}

/**
 * An announcement for screen readers.
 * @param {any} answer
 * @returns {string}
 */
export function summary(answer) {
  const [what, how] = shortTexts(answer);
  const parts = [
    isNumber(answer) ? `${visible(answer.name)}: ${what}${answer.interval ? `, prediction interval ${how}` : ""}.` : `${visible(answer.name)}: ${what}, probability ${how}.`,
    answer.decision ? `${decisionWord(answer)} at the operating point.` : "",
    answer.unlike ? "Warning: this scan is unlike the training data." : "",
  ];
  return parts.filter(Boolean).join(" ");
}

/** What one scan is, in the plural. */
export function inputWords(input) {
  return { volume: "volumes", stack: "scans of several slice images", slice: "slices" }[input];
}

/**
 * What the classifier is.
 * @param {any} classifier As the server gives it.
 * @returns {any[]}
 */
export function classifierElements(classifier) {
  const point = classifier.operating_point;
  return [
    classifier.split_warning ? element("div.warning", {}, classifier.split_warning) : null,
    element(
      "dl.facts",
      {},
      ...fact("Intended use", classifier.intended_use),
      ...fact("Input", inputWords(classifier.input)),
      ...(classifier.number ? fact("Predicts", classifier.number.name) : fact("Classes", joined(classifier.classes, "and"))),
      ...fact("Licence", classifier.licence),
      ...fact("Exported", classifier.version.replace("T", " ").replace("+00:00", " UTC")),
    ),
    element("h3", {}, "Measured performance"),
    ...scoreElements(classifier.scores),
    ...(classifier.number ? intervalElements(classifier.number) : [element("h3", {}, "Operating point")]),
    classifier.number
      ? null
      : point
      ? element(
          "div",
          {},
          element("p", {}, `${point.title}: positive from a ${classifier.calibrated ? "calibrated " : ""}probability of ${joined(point.positive, "or")} of ${number(point.threshold)} on.`),
          rateTable(point, ""),
          element("p.note", {}, measuredOn(point)),
        )
      : element("p", {}, "This bundle has none, so scans are called neither positive nor negative."),
  ].filter((each) => each !== null);
}

function numberElements(answer, classifier) {
  const { name, interval } = classifier.number;
  const rows = [
    [`Predicted ${visible(name)}`, number(answer.prediction)],
    ...(answer.interval ? [[`${percent(interval.coverage)} prediction interval`, intervalWords(answer)]] : []),
    ...Object.entries(answer.quantiles ?? {}).map(([level, value]) => [`Predicted quantile ${level}`, number(value)]),
    ...(answer.corrected_prediction == null ? [] : [["Corrected for the bias towards the mean", number(answer.corrected_prediction)]]),
  ];
  const isOfMany = interval?.unit === "subject" && classifier.input === "slice";
  return [
    element("h3", {}, "Prediction"),
    element(
      "table.rates",
      {},
      element("caption.visually-hidden", {}, `Predicted ${visible(name)}`),
      element("tbody", {}, ...rows.map(([title, text]) => element("tr", {}, element("th", { scope: "row" }, title), element("td", {}, text)))),
    ),
    ...(answer.interval ? [element("p.note", {}, coverageWords(interval))] : [element("p.note", {}, "This bundle has no prediction intervals.")]),
    ...(isOfMany ? [element("p.note", {}, "The interval is that of subjects, each with all its slices. Send the slices of a subject together.")] : []),
    ...closingElements(answer, classifier),
  ];
}

function closingElements(answer, classifier) {
  return [
    element("h3", {}, "Comparison with the training data"),
    ...likenessElements(answer),
    ...(answer.notes.length ? [element("h3", {}, "Notes"), list(answer.notes)] : []),
    element("p.note", {}, visible(classifier.research_only)),
  ];
}

function intervalWords(answer) {
  return answer.interval ? `${number(answer.interval.low)} to ${number(answer.interval.high)}` : "";
}

function coverageWords(interval) {
  return `The interval is to contain the true number of ${percent(interval.coverage)} of subjects like those of the validation set; measured on the test set (${counted(interval.test_count, interval.unit)}): ${withInterval(interval.measured, interval.level)}.`;
}

function intervalElements({ interval }) {
  return [element("h3", {}, "Prediction intervals"), element("p", {}, interval ? coverageWords(interval) : "This bundle has none.")];
}

function nameElement(name) {
  return element("h2", { id: "scan-name" }, visible(name));
}

function unlikeWarning(answer) {
  const where = answer.most_unlike_in ? ` It differs most in: ${visible(answer.most_unlike_in)}.` : "";
  return element(
    "div.warning",
    {},
    element("p", {}, element("b", {}, "This scan is unlike the training data"), ` (${pValue(answer.p_like_training)}).${where}`),
    element("p", {}, `The ${isNumber(answer) ? "interval and scores" : "probabilities and rates"} below were measured on other scans. Do not rely on them for this one.`),
  );
}

function likenessElements(answer) {
  if (answer.unlike == null) return [element("p", {}, "Not compared: this bundle has no reference of its training data.")];
  const words = answer.unlike ? "Unlike the training data" : "Not unlike the training data";
  return [
    element("p", {}, `${words} (${pValue(answer.p_like_training)}).`),
    element("p.note", {}, "p: the fraction of the subjects of the validation set that are at least as unusual as this scan."),
  ];
}

function pointElements(answer, probabilities, { operating_point: point, input }) {
  if (!point || !answer.decision) return [];
  // Rates of subjects with many slices are not those of one slice.
  const isOfMany = point.unit === "subject" && input === "slice";
  const sum = point.positive.reduce((total, name) => total + probabilities[name], 0);
  const isPositive = answer.decision === "positive";
  const name = isPositive ? "ppv" : "npv";
  const rate = point[name];
  const measured =
    rate?.value == null
      ? `${RATES[name]} is undefined on the test set.`
      : `On the test set, ${percent(rate.value)} of the ${answer.decision} calls were correct: ${RATES[name]} ${withInterval(rate, point.level)}.`;
  return [
    element("h3", {}, "Operating point"),
    element(
      "p",
      {},
      element(`b.call.${answer.decision}`, {}, decisionWord(answer)),
      ` for ${joined(point.positive, "or")}: probability ${probability(sum)}, ${isPositive ? "at or above" : "below"} the threshold ${number(point.threshold)}.`,
    ),
    element("p", {}, measured),
    ...(isOfMany ? [element("p.note", {}, "Threshold and rates are of subjects, each with all its slices. Send the slices of a subject together.")] : []),
    element(
      "details",
      {},
      element("summary", {}, "PPV, NPV, sensitivity and specificity"),
      rateTable(point, name),
      element("p.note", {}, `${point.title}. ${measuredOn(point)}`),
    ),
  ];
}

function measuredOn(point) {
  const count = point.test_count ? `, ${counted(point.test_count, point.unit)}` : "";
  return `Measured on the test set${count}. PPV and NPV hold only where as large a fraction is positive as in the test set.`;
}

function rateTable(point, marked) {
  const rows = Object.entries(RATES)
    .filter(([name]) => point[name])
    .map(([name, title]) =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }, name === marked ? element("b", {}, title) : title),
        element("td.line", {}, range(point[name])),
        element("td", {}, withInterval(point[name], point.level)),
      ),
    );
  return element(
    "table.rates",
    {},
    element("caption.visually-hidden", {}, "Rates at the operating point"),
    element("thead.visually-hidden", {}, element("tr", {}, heading("Rate"), element("td"), heading("Test set"))),
    element("tbody", {}, ...rows),
  );
}

function bars(probabilities, answer, classes) {
  const rows = classes.map((name) => {
    const value = probabilities[name];
    const before = answer.calibrated_probabilities ? answer.probabilities[name] : null;
    const isBest = name === mostProbable(answer).name;
    return element(
      isBest ? "tr.best" : "tr",
      {},
      element("th", { scope: "row" }, visible(name)),
      element("td.line", {}, element("div.bar", { "aria-hidden": "true", style: { "--value": String(value) } }, element("i"))),
      element("td.number", {}, probability(value)),
      before === null ? null : element("td.number.before", {}, probability(before)),
    );
  });
  const isCalibrated = answer.calibrated_probabilities !== null;
  return element(
    "table.bars",
    {},
    element("caption.visually-hidden", {}, "Probability of each class"),
    element(
      "thead",
      {},
      element(
        "tr",
        {},
        element("th", { scope: "col" }, element("span.visually-hidden", {}, "Class")),
        element("td"),
        heading(isCalibrated ? "Calibrated" : "Not calibrated"),
        isCalibrated ? heading("Uncalibrated") : null,
      ),
    ),
    element("tbody", {}, ...rows),
  );
}

function setElements(answer, sets) {
  if (!sets || !answer.prediction_set) return [];
  const [names, all] = [answer.prediction_set, Object.keys(answer.probabilities)];
  let words = "";
  if (!names.length) words = "The set is empty: the probabilities fit none of the classes.";
  else if (names.length === all.length) words = "No class can be excluded.";
  const measured = sets.measured?.value != null ? `; measured on the test set: ${withInterval(sets.measured)}` : "";
  return [
    element("h3", {}, "Classes that cannot be excluded"),
    ...(names.length ? [element("ul.chips", {}, ...names.map((name) => element("li", {}, visible(name))))] : []),
    ...(words ? [element("p", {}, words)] : []),
    element("p.note", {}, `Conformal sets that are to contain the true class for ${percent(sets.coverage)} of scans like those of the validation set${measured}.`),
  ];
}

function scoreElements(scores) {
  if (!scores.length) return [element("p", {}, "This bundle states no scores.")];
  const { count, unit, measured_on: where } = scores[0];
  return [
    element("div.tiles", {}, ...scores.map(tile)),
    element("p.note", {}, `Measured on the ${where}, ${counted(count, unit)}.${scores[0].from_0_to_1 ? " Dot: score. Bar: confidence interval." : ""}`),
  ];
}

function tile(score) {
  return element(
    "div.tile",
    {},
    element("span", {}, score.unit ? `${score.title} by ${score.unit}` : score.title),
    element("b", {}, number(score.value)),
    score.from_0_to_1 ? range(score) : "",
    element("span", {}, score.low == null ? "no interval" : `${percent(score.level)} CI ${number(score.low)} to ${number(score.high)}`),
  );
}

function fact(name, value) {
  return value ? [element("dt", {}, name), element("dd", {}, visible(value))] : [];
}

function heading(text) {
  return element("th", { scope: "col" }, text);
}

function list(texts) {
  return element("ul", {}, ...texts.map((text) => element("li", {}, sentence(text))));
}
