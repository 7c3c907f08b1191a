// The exact difference of two canvases at source resolution. CSS blending is not exact: two identical pictures gave up
// to 3/255 at some scales.

const PEAKS = 9;
const HEAT = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]]; // dark to bright, after "inferno"

/** Colours of a heat map for 0..255, three bytes each. */
function heatTable() {
  const table = new Uint8Array(256 * 3);
  for (let value = 0; value < 256; value++) {
    const at = (value / 255) * (HEAT.length - 1), low = Math.min(Math.floor(at), HEAT.length - 2);
    for (let c = 0; c < 3; c++) table[3 * value + c] = HEAT[low][c] + (at - low) * (HEAT[low + 1][c] - HEAT[low][c]);
  }
  return table;
}
let heatColours = null;

/** Pixels of a canvas, enlarged without smoothing where the other one is larger. */
function pixelsAt(canvas, width, height) {
  const copy = Object.assign(document.createElement("canvas"), { width, height });
  const brush = copy.getContext("2d", { willReadFrequently: true });
  brush.imageSmoothingEnabled = false;
  brush.drawImage(canvas, 0, 0, width, height);
  return brush.getImageData(0, 0, width, height).data;
}

/**
 * |first - second| of each pixel, times `gain`, as {image, mean, max, psnr, peaks}.
 *
 * image: ImageData, the channels themselves or, with `heat`, the colour of the largest of the three;
 * mean, max: of 0..255, before the gain; psnr in dB, Infinity for equal pictures;
 * peaks: [{x, y, most}] in 0..1, the places that differ most, none close to another.
 */
export function difference(first, second, { gain = 1, heat = false } = {}) {
  const width = Math.max(first.width, second.width), height = Math.max(first.height, second.height);
  const a = pixelsAt(first, width, height), b = pixelsAt(second, width, height);
  const image = new ImageData(width, height), out = image.data, colours = (heatColours ??= heatTable());
  const block = Math.max(1, Math.ceil(Math.max(width, height) / 64)), columns = Math.ceil(width / block);
  const sums = new Float64Array(columns * Math.ceil(height / block)), most = new Uint8Array(sums.length);
  let sum = 0, squares = 0, max = 0;
  for (let y = 0, i = 0; y < height; y++) {
    const row = Math.floor(y / block) * columns;
    for (let x = 0; x < width; x++, i += 4) {
      const r = Math.abs(a[i] - b[i]), g = Math.abs(a[i + 1] - b[i + 1]), v = Math.abs(a[i + 2] - b[i + 2]);
      const top = r > g ? (r > v ? r : v) : (g > v ? g : v), cell = row + ((x / block) | 0);
      sum += r + g + v;
      squares += r * r + g * g + v * v;
      if (top > max) max = top;
      if (top > most[cell]) most[cell] = top;
      sums[cell] += r + g + v;
      if (heat) {
        const at = 3 * Math.min(255, top * gain);
        out[i] = colours[at]; out[i + 1] = colours[at + 1]; out[i + 2] = colours[at + 2];
      } else {
        out[i] = r * gain; out[i + 1] = g * gain; out[i + 2] = v * gain; // a clamped array: no overflow
      }
      out[i + 3] = 255;
    }
  }
  const count = width * height * 3;
  const peaks = max ? findPeaks(sums, most, columns, { block, width, height }) : [];
  return { image, mean: sum / count, max, psnr: 10 * Math.log10((255 * 255 * count) / squares), peaks };
}

function findPeaks(sums, most, columns, { block, width, height }) {
  const order = [...sums.keys()].filter((cell) => sums[cell] > 0).sort((p, q) => sums[q] - sums[p]), kept = [];
  for (const cell of order) {
    const x = cell % columns, y = Math.floor(cell / columns);
    if (kept.every((other) => Math.hypot(other.x - x, other.y - y) > 5)) kept.push({ x, y, most: most[cell] });
    if (kept.length === PEAKS) break;
  }
  const middle = (index, length) => Math.min((index + 0.5) * block, length - 0.5) / length;
  return kept.map(({ x, y, most }) => ({ x: middle(x, width), y: middle(y, height), most }));
}
