/**
 * The controls of the heat map, and whether it can be trusted.
 */

import { mostProbable } from "./answer.js";
import { element, sentence, visible } from "./elements.js";

const TRUST = {
  true: ["trusted", "Passed its checks."],
  false: ["untrusted", "Do not rely on this heat map."],
  null: ["unchecked", "Not checked."],
};

/** Switches the heat map of the shown scan on and off. */
export class HeatMapPanel {
  /**
   * @param {HTMLElement} place
   * @param {import("./viewer.js").Viewer} viewer
   * @param {string[]} classes
   * @param {(row: any, target: string, signal: AbortSignal) => Promise<any>} explain Asks the server.
   * @param {(words: string) => void} announce Says words to screen readers.
   */
  constructor(place, viewer, classes, explain, announce) {
    this.place = place;
    this.viewer = viewer;
    this.explain = explain;
    this.announce = announce;
    this.row = null;
    this.button = element("button", { type: "button", "aria-pressed": "false", on: { click: () => this.toggle() } }, "Heat map");
    this.target = element(
      "select",
      { on: { change: () => this.update() } },
      ...classes.map((name) => element("option", { value: name }, visible(name))),
    );
    this.opacity = element("input", { type: "range", min: 0, max: 100, step: 5, value: 80, on: { input: () => this.fade() } });
    this.percent = element("span.number", {}, "80 %");
    this.words = element("div.verdict-words");
    this.controls = element(
      "div.heat-controls",
      { hidden: true },
      element("div.sliders", {}, element("label", {}, element("span", {}, "Opacity"), this.opacity, this.percent)),
      element("div.colours", {}, element("span", {}, "low"), element("i", { "aria-hidden": "true" }), element("span", {}, "high influence on the answer")),
    );
    const target = element("label.target", {}, "for ", this.target);
    this.place.append(element("div.heat-switch", {}, this.button, target), this.controls, this.words);
  }

  get isOn() {
    return this.button.getAttribute("aria-pressed") === "true";
  }

  /**
   * Belong to another scan; the heat map is switched off.
   * @param {any} row Its row; null for none.
   */
  async showFor(row) {
    this.stop?.abort();
    this.row = row;
    this.place.hidden = !row;
    this.button.setAttribute("aria-pressed", "false");
    this.button.disabled = false;
    this.controls.hidden = true;
    this.words.replaceChildren();
    if (row) this.target.value = mostProbable(row.answer).name;
  }

  async toggle() {
    this.button.setAttribute("aria-pressed", String(!this.isOn));
    await this.update();
  }

  fade() {
    this.percent.textContent = `${this.opacity.value} %`;
    this.opacity.setAttribute("aria-valuetext", this.percent.textContent);
    this.viewer.setOpacity(Number(this.opacity.value) / 100);
  }

  async update() {
    this.stop?.abort();
    const stop = (this.stop = new AbortController());
    const { row } = this;
    this.controls.hidden = true;
    this.words.replaceChildren();
    if (!this.isOn) return this.viewer.showHeatMap(null, 0);
    this.words.append(element("p.note.waiting", {}, element("progress", { "aria-label": "Heat map" }), " Computing the heat map …"));
    this.announce("Computing the heat map.");
    try {
      const found = await this.explain(row, this.target.value, stop.signal);
      if (stop.signal.aborted) return;
      await this.viewer.showHeatMap(found.picture, Number(this.opacity.value) / 100);
      this.fade();
      this.controls.hidden = false;
      const [kind, start] = TRUST[String(found.verdict.trusted)];
      const words = sentence(found.verdict.words);
      this.words.replaceChildren(
        element(`div.verdict-box.${kind}`, {}, element("p", {}, element("b", {}, start), ` ${words}`)),
        element("p.note", {}, `${sentence(found.method)} A heat map shows what influenced the answer, not where a disease is.`),
      );
      this.announce(`Heat map shown. ${start} ${words}`);
    } catch (error) {
      if (stop.signal.aborted) return;
      this.button.setAttribute("aria-pressed", "false");
      await this.viewer.showHeatMap(null, 0);
      this.words.replaceChildren(element("div.warning", {}, element("p", {}, element("b", {}, "No heat map. "), sentence(error.message))));
      this.announce(`No heat map. ${sentence(error.message)}`);
    }
  }
}
