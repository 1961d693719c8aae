/**
 * Elements of the page, and numbers and names as it shows them.
 * Text is set as text, never as HTML: names of files, classes and errors come from others.
 */

/** Control characters, and marks that turn the direction of text; as `gyrus.text.visible`. */
const INVISIBLE = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/**
 * A new element.
 * @param {string} tag Its name, with classes after dots: "p.note".
 * @param {Object<string, any>} [attributes] Attributes; `on` holds listeners, `style` CSS properties; false or null leaves one out.
 * @param {...(Node|string|null|undefined|false)} children What it holds, in order.
 * @returns {any} The element.
 */
export function element(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name);
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") Object.entries(value).forEach(([event, listener]) => made.addEventListener(event, listener));
    else if (key === "style") Object.entries(value).forEach(([property, one]) => made.style.setProperty(property, one));
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child));
  return made;
}

/**
 * An element of index.html.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  return document.getElementById(id);
}

/**
 * A name in which control characters are shown as escapes.
 * @param {string} text
 * @returns {string}
 */
export function visible(text) {
  return text.replace(INVISIBLE, (found) => {
    const code = found.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

/**
 * A score or threshold with two decimals.
 * @param {number|null|undefined} value
 * @returns {string}
 */
export function number(value) {
  return value == null ? "undefined" : value.toFixed(2).replace("-", "−");
}

/**
 * A probability with two decimals, never rounded to 0 or 1.
 * @param {number} value
 * @returns {string}
 */
export function probability(value) {
  if (value < 0.005) return "< 0.01";
  return value > 0.995 ? "> 0.99" : number(value);
}

/**
 * A p-value with its relation, as `gyrus.text.p_value_text`.
 * @param {number} value
 * @returns {string}
 */
export function pValue(value) {
  if (value < 0.001) return "p < 0.001";
  if (value > 0.99) return "p > 0.99";
  return `p = ${value.toFixed(value >= 0.1 ? 2 : 3)}`;
}

/**
 * An estimate and its confidence interval in words.
 * @param {{value: number|null, low: number|null, high: number|null}} estimate
 * @param {number} [level] Confidence level.
 * @returns {string}
 */
export function withInterval(estimate, level = 0.95) {
  if (estimate.value == null) return "undefined";
  if (estimate.low == null || estimate.high == null) return `${number(estimate.value)} (no interval)`;
  return `${number(estimate.value)} (${percent(level)} CI ${number(estimate.low)} to ${number(estimate.high)})`;
}

/**
 * A fraction as a percentage without decimals.
 * @param {number} fraction
 * @returns {string}
 */
export function percent(fraction) {
  return `${Math.round(100 * fraction)} %`;
}

/**
 * Names in a sentence.
 * @param {string[]} names
 * @param {string} word Between the last two: "and" or "or".
 * @returns {string}
 */
export function joined(names, word) {
  const shown = names.map(visible);
  return shown.length < 2 ? shown.join("") : `${shown.slice(0, -1).join(", ")} ${word} ${shown[shown.length - 1]}`;
}

/**
 * Words of the server as a sentence, with a capital letter and a full stop.
 * @param {string} words
 * @returns {string}
 */
export function sentence(words) {
  const shown = visible(words.trim());
  return shown.charAt(0).toUpperCase() + shown.slice(1) + (/[.!?]$/.test(shown) ? "" : ".");
}

/**
 * A number with its noun.
 * @param {number} count
 * @param {string} one
 * @returns {string}
 */
export function counted(count, one) {
  return `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
}

/**
 * A size of files.
 * @param {number} bytes
 * @returns {string}
 */
export function megabytes(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

/**
 * The line from 0 to 1 of the reports, with a dot for a value and a bar for its interval.
 * @param {{value: number|null, low: number|null, high: number|null}} estimate
 * @returns {any} Hidden from screen readers: the numbers stand beside it.
 */
export function range(estimate) {
  if (estimate.value == null) return "";
  const line = element("div.range", { "aria-hidden": "true", style: { "--value": String(estimate.value) } });
  if (estimate.low != null && estimate.high != null) {
    line.style.setProperty("--low", String(estimate.low));
    line.style.setProperty("--high", String(estimate.high));
    line.append(element("i"));
  }
  line.append(element("b"));
  return line;
}
