/**
 * The viewer: a slice on a canvas, a volume in three planes by NiiVue, or by canvases where there is no WebGL 2.
 */

import { HEAT_COLOURS, heatLevel } from "./colours.js";
import { element, visible } from "./elements.js";
import { asColours, decompressed, readVolume } from "./nifti.js";

/**
 * A picture of the server: what it holds, and its file.
 * @typedef {{format: "png"|"nifti", blob: Blob}} Picture
 */

/**
 * The planes of a volume in RAS+: the axis that its slider moves along, and the axes of its columns and rows.
 * As radiologists do, the right side of the subject is shown on the left.
 */
const PLANES = [
  { name: "Axial", axis: 2, columns: 0, rows: 1, reversed: true, ends: "bottom to top" },
  { name: "Coronal", axis: 1, columns: 0, rows: 2, reversed: true, ends: "back to front" },
  { name: "Sagittal", axis: 0, columns: 1, rows: 2, reversed: false, ends: "left to right" },
];

const MOUSE_WORDS =
  "Click or drag to move, scroll to step. Drag with the right button to set the window, double-click to reset it.";

/** Shows one scan at a time, and a heat map over it. */
export class Viewer {
  /** @param {HTMLElement} place Where it is shown. */
  constructor(place) {
    this.place = place;
    /** @type {SliceView|NiivueView|PlanesView|null} */
    this.view = null;
    /** @type {NiivueView|null} Kept, because a page may have few WebGL contexts. */
    this.niivue = null;
    /** Counts what is to be shown: a scan that is read slowly must not replace one that was chosen later. */
    this.turn = 0;
    this.drawing = Promise.resolve();
  }

  /**
   * Show a scan.
   * @param {string} name
   * @param {Picture} picture
   */
  async show(name, picture) {
    const turn = ++this.turn;
    this.drawing = this.drawing.catch(() => {}).then(() => (turn === this.turn ? this.draw(name, picture) : undefined));
    await this.drawing;
  }

  async draw(name, picture) {
    const label = `Scan ${visible(name)}`;
    if (picture.format === "png") this.view = await SliceView.of(picture.blob, label);
    else this.view = await this.volumeView(await decompressed(picture.blob), label);
    this.place.replaceChildren(this.view.place);
  }

  /**
   * Show words instead of a scan.
   * @param {string} words
   */
  showWords(words) {
    this.turn++;
    this.view = null;
    this.place.replaceChildren(element("div.frame.empty", {}, element("p", {}, words)));
  }

  /**
   * Show a heat map over the scan, or none.
   * @param {Picture|null} picture
   * @param {number} opacity 0 to 1.
   */
  async showHeatMap(picture, opacity) {
    await this.view?.showHeatMap(picture, opacity);
  }

  /** @param {number} opacity 0 to 1. */
  setOpacity(opacity) {
    this.view?.setOpacity(opacity);
  }

  async volumeView(buffer, label) {
    const volume = readVolume(buffer);
    if (hasWebGl2()) {
      try {
        this.niivue ??= await NiivueView.open(this.place);
        await this.niivue.show(buffer, volume, label);
        return this.niivue;
      } catch (error) {
        console.warn("NiiVue cannot show this volume:", error);
        this.niivue = null;
      }
    }
    return new PlanesView(volume, label);
  }
}

/** One slice, with a second canvas for the heat map. */
class SliceView {
  static async of(blob, label) {
    const bitmap = await createImageBitmap(blob);
    const view = new SliceView();
    const { width, height } = bitmap;
    view.size = { width, height };
    view.scan = element("canvas", { ...view.size, role: "img", "aria-label": `${label}, ${width} x ${height} pixels` });
    view.scan.getContext("2d").drawImage(bitmap, 0, 0);
    view.heat = element("canvas", { ...view.size, class: "heat", "aria-hidden": "true" });
    const layers = element("div.layers", { style: { "aspect-ratio": `${width} / ${height}` } }, view.scan, view.heat);
    view.place = element("div.frame", {}, layers);
    return view;
  }

  async showHeatMap(picture, opacity) {
    const context = this.heat.getContext("2d", { willReadFrequently: true });
    const { width, height } = this.size;
    context.clearRect(0, 0, width, height);
    if (!picture) return;
    context.drawImage(await createImageBitmap(picture.blob), 0, 0, width, height);
    const image = context.getImageData(0, 0, width, height);
    for (let place = 0; place < image.data.length; place += 4) {
      const heat = image.data[place];
      image.data.set(HEAT_COLOURS.subarray(4 * heat, 4 * heat + 4), place);
    }
    context.putImageData(image, 0, 0);
    this.setOpacity(opacity);
  }

  setOpacity(opacity) {
    this.heat.style.opacity = String(opacity);
  }
}

/** Sliders that move the planes: for the keyboard and for screen readers. */
class PlaneSliders {
  /** @param {(position: number[]) => void} onMove Called with the voxel that the planes meet in. */
  constructor(onMove) {
    this.position = [0, 0, 0];
    this.inputs = PLANES.map(({ name, axis, ends }) => {
      const input = element("input", { type: "range", min: 0, "aria-label": `${name} slice, ${ends}` });
      input.addEventListener("input", () => {
        this.position[axis] = Number(input.value);
        this.write();
        onMove(this.position);
      });
      return input;
    });
    this.texts = PLANES.map(() => element("span.number"));
    this.place = element(
      "div.sliders",
      {},
      ...PLANES.map(({ name }, number) => element("label", {}, element("span", {}, name), this.inputs[number], this.texts[number])),
    );
  }

  /** @param {number[]} size Voxels along each axis. */
  reset(size) {
    this.size = size;
    this.inputs.forEach((input, number) => (input.max = String(size[PLANES[number].axis] - 1)));
    this.moveTo(size.map((count) => Math.floor(count / 2)));
  }

  /** @param {number[]} position */
  moveTo(position) {
    this.position = position.map((place, axis) => Math.min(this.size[axis] - 1, Math.max(0, Math.round(place))));
    this.write();
  }

  write() {
    PLANES.forEach(({ axis }, number) => {
      this.inputs[number].value = String(this.position[axis]);
      const words = `${this.position[axis] + 1} of ${this.size[axis]}`;
      this.inputs[number].setAttribute("aria-valuetext", words);
      this.texts[number].textContent = words;
    });
  }
}

/** A volume by NiiVue. */
class NiivueView {
  /**
   * @param {HTMLElement} place Where it is to be shown: NiiVue measures its canvas, which therefore has to be in the page.
   * @returns {Promise<NiivueView>}
   */
  static async open(place) {
    await import("./niivue/niivue.umd.js");
    const view = new NiivueView();
    const library = (view.library = globalThis.niivue);
    view.canvas = element("canvas", { role: "img" });
    view.sliders = new PlaneSliders((position) => {
      view.niivue.scene.crosshairPos = view.niivue.vox2frac(position);
      view.niivue.drawScene();
    });
    view.frame = element("div.frame.volume", {}, view.canvas);
    view.place = element("div", {}, view.frame, view.sliders.place, element("p.note.by-mouse", {}, MOUSE_WORDS));
    view.niivue = new library.Niivue({
      logLevel: "silent",
      loadingText: "",
      dragAndDropEnabled: false,
      isRadiologicalConvention: true,
      isColorbar: false,
      crosshairColor: [0.34, 0.71, 0.91, 0.7],
      fontColor: [0.85, 0.87, 0.9, 1],
      clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "",
      viewModeHotKey: "",
    });
    view.niivue.onLocationChange = ({ vox }) => vox && view.sliders.moveTo([...vox].slice(0, 3));
    place.replaceChildren(view.place);
    await view.niivue.attachToCanvas(view.canvas);
    new ResizeObserver(() => view.arrange()).observe(view.frame);
    return view;
  }

  /** One large axial plane, the others beside it; below it in a narrow frame. */
  arrange() {
    const { clientWidth: width, clientHeight: height } = this.frame;
    if (!width || !height) return;
    const { AXIAL, CORONAL, SAGITTAL } = this.library.SLICE_TYPE;
    const [large, small, gap] = [0.62, 0.375, 0.005];
    const tiles =
      width > 1.2 * height
        ? [[0, 0, large, 1], [large + gap, 0, small, 0.495], [large + gap, 0.505, small, 0.495]]
        : [[0, 0, 1, large], [0, large + gap, 0.495, small], [0.505, large + gap, 0.495, small]];
    this.niivue.setCustomLayout([AXIAL, CORONAL, SAGITTAL].map((sliceType, number) => ({ sliceType, position: tiles[number] })));
  }

  async show(buffer, volume, label) {
    this.canvas.setAttribute("aria-label", `${label}, three planes of ${volume.size.join(" x ")} voxels`);
    for (const old of [...this.niivue.volumes].reverse()) this.niivue.removeVolume(old);
    this.niivue.addVolume(await this.image(buffer, { colormap: "gray" }));
    this.sliders.reset(volume.size);
    this.niivue.scene.crosshairPos = this.niivue.vox2frac(this.sliders.position);
    this.arrange();
  }

  async showHeatMap(picture, opacity) {
    for (const old of this.niivue.volumes.slice(1)) this.niivue.removeVolume(old);
    if (picture) this.niivue.addVolume(await this.image(colouredHeat(await decompressed(picture.blob)), {}));
    this.setOpacity(opacity);
  }

  setOpacity(opacity) {
    this.niivue.overlayAlphaShader = opacity;
    this.niivue.drawScene();
  }

  image(buffer, settings) {
    return this.library.NVImage.loadFromFile({ file: new File([buffer], "scan.nii"), name: "scan.nii", ...settings });
  }
}

/** A volume by three canvases, for browsers without WebGL 2. */
class PlanesView {
  /**
   * @param {import("./nifti.js").Volume} volume
   * @param {string} label
   */
  constructor(volume, label) {
    this.volume = volume;
    /** @type {import("./nifti.js").Volume|null} */
    this.heat = null;
    this.opacity = 1;
    this.window = windowOf(volume.values);
    this.sliders = new PlaneSliders(() => this.draw());
    this.sliders.reset(volume.size);
    this.canvases = PLANES.map(({ name, columns, rows }) => {
      const [width, height] = [volume.size[columns], volume.size[rows]];
      const shape = `${width * volume.spacing[columns]} / ${height * volume.spacing[rows]}`;
      return element("canvas", { width, height, role: "img", "aria-label": `${label}, ${name.toLowerCase()} plane`, style: { "aspect-ratio": shape } });
    });
    const why = "Without WebGL 2, which this browser lacks or has switched off, the planes are shown without zoom and window.";
    this.place = element("div", {}, element("div.frame.planes", {}, ...this.canvases), this.sliders.place, element("p.note", {}, why));
    this.draw();
  }

  async showHeatMap(picture, opacity) {
    this.heat = picture ? readVolume(await decompressed(picture.blob)) : null;
    this.setOpacity(opacity);
  }

  setOpacity(opacity) {
    this.opacity = opacity;
    this.draw();
  }

  draw() {
    PLANES.forEach((plane, number) => this.drawPlane(plane, this.canvases[number].getContext("2d")));
  }

  drawPlane({ axis, columns, rows, reversed }, context) {
    const { size, values } = this.volume;
    const steps = [1, size[0], size[0] * size[1]];
    const [width, height] = [size[columns], size[rows]];
    const image = context.createImageData(width, height);
    const [low, high] = this.window;
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const voxel =
          this.sliders.position[axis] * steps[axis] +
          (reversed ? width - 1 - column : column) * steps[columns] +
          (height - 1 - row) * steps[rows];
        const gray = (255 * (values[voxel] - low)) / (high - low);
        const place = 4 * (row * width + column);
        const heat = this.heat ? heatLevel(this.heat, voxel) : 0;
        const alpha = this.heat ? (this.opacity * HEAT_COLOURS[4 * heat + 3]) / 255 : 0;
        for (let channel = 0; channel < 3; channel++) {
          image.data[place + channel] = Math.min(255, Math.max(0, gray)) * (1 - alpha) + HEAT_COLOURS[4 * heat + channel] * alpha;
        }
        image.data[place + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
  }
}

/** The file of a heat map as a file of its colours: of other overlays NiiVue takes the opacity as all or nothing. */
function colouredHeat(buffer) {
  const heat = readVolume(buffer);
  const colours = new Uint8Array(4 * heat.values.length);
  for (let voxel = 0; voxel < heat.values.length; voxel++) {
    const level = heatLevel(heat, voxel);
    colours.set(HEAT_COLOURS.subarray(4 * level, 4 * level + 4), 4 * voxel);
  }
  return asColours(buffer, colours);
}

/** The values that are shown black and white: all but the lowest and highest 0.5 %, of a sample. */
function windowOf(values) {
  const step = Math.max(1, Math.floor(values.length / 100_000));
  const some = values.filter((_, place) => place % step === 0).sort();
  const low = some[Math.floor(0.005 * some.length)];
  const high = some[Math.ceil(0.995 * some.length) - 1];
  return high > low ? [low, high] : [some[0], some[some.length - 1] + 1e-6];
}

function hasWebGl2() {
  const context = document.createElement("canvas").getContext("webgl2");
  context?.getExtension("WEBGL_lose_context")?.loseContext();
  return context !== null;
}
