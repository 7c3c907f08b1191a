// What a pane shows: a list of decoded frames (a picture has one), kept in memory at source resolution.
//
// Clips are decoded in full before they play. So every pane is painted from one clock in one task: no two panes can
// drift apart, any frame is there at once, and the pixels that are compared are those of the frame that is named.

const MAX_CLIP_BYTES = 800e6; // decoded; a clip of 49 frames at 720 x 480 takes 68e6
const SEEK_ATTEMPTS = 200, SEEK_WAIT_MS = 10;

/** The address of a picture or clip on this server or in this page; null for any other, which is never fetched. */
function localUrl(source) {
  const url = new URL(typeof source === "string" ? source : source.url, location.href);
  const isLocal = url.origin === location.origin || url.protocol === "blob:" || /^data:(image|video)\//.test(url.href);
  return isLocal ? url.href : null;
}

async function fetchBlob(source) {
  const url = localUrl(source);
  if (!url) throw new Error("it lies on another host");
  const response = await fetch(url);
  // Gradio forbids a file that is not there.
  if (!response.ok) throw Object.assign(new Error(`HTTP ${response.status}`), { isGone: [403, 404].includes(response.status) });
  return response.blob();
}

/** Decoded pixels as they are in the file: no colour conversion, no premultiplication. */
export async function decode(source) {
  return createImageBitmap(await fetchBlob(source), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

/**
 * The frames of a clip as bitmaps, in order; `onFrame(count)` is told after each.
 *
 * Seeks go to the middle of a frame: at its border a decoder may show the neighbour.
 */
export async function decodeClip(source, { frames, fps, onFrame = () => {} }) {
  const address = URL.createObjectURL(await fetchBlob(source));
  const video = Object.assign(document.createElement("video"), { muted: true, preload: "auto", playsInline: true });
  try {
    await happens(video, "loadeddata", () => { video.src = address; });
    const bytes = frames * video.videoWidth * video.videoHeight * 4;
    if (bytes > MAX_CLIP_BYTES) throw new Error(`${Math.round(bytes / 1e6)} MB decoded, too much for a page: download it`);
    if (Math.round(video.duration * fps) !== frames) throw new Error(`it does not hold ${frames} frames at ${fps} a second`);
    const bitmaps = [];
    for (let frame = 0; frame < frames; frame++) {
      await happens(video, "seeked", () => { video.currentTime = (frame + 0.5) / fps; });
      bitmaps.push(await bitmapOf(video, frame, fps));
      onFrame(bitmaps.length);
    }
    return bitmaps;
  } finally {
    video.removeAttribute("src");
    video.load();
    URL.revokeObjectURL(address);
  }
}

/** The video's present picture, which must be this frame: on a busy machine the one before may still stand there. */
async function bitmapOf(video, frame, fps) {
  if (!window.VideoFrame) return createImageBitmap(video); // an older browser cannot be asked which frame it shows
  for (let attempt = 0; attempt < SEEK_ATTEMPTS; attempt++) {
    const shown = new VideoFrame(video);
    try {
      if (Math.round((shown.timestamp / 1e6) * fps) === frame) return await createImageBitmap(shown);
    } finally {
      shown.close();
    }
    await new Promise((resolve) => setTimeout(resolve, SEEK_WAIT_MS));
  }
  throw new Error(`frame ${frame + 1} cannot be reached`);
}

/** Resolves at the video's next event of that name; rejects at an error of the video. */
function happens(video, event, cause) {
  return new Promise((resolve, reject) => {
    const done = new AbortController(), options = { once: true, signal: done.signal };
    video.addEventListener(event, () => { done.abort(); resolve(); }, options);
    video.addEventListener("error", () => { done.abort(); reject(new Error("this browser cannot play it")); }, options);
    cause();
  });
}

/** Hands a canvas to the visitor as a PNG file. */
function saveCanvas(canvas, name) {
  canvas.toBlob((blob) => {
    const href = URL.createObjectURL(blob);
    Object.assign(document.createElement("a"), { href, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10_000);
  }, "image/png");
}

/** Canvases beside each other at source resolution, each with a line of words below it if there are any. */
function contactSheet(entries, gap = 8) {
  const height = Math.max(...entries.map(({ canvas }) => canvas.height));
  const labelled = entries.some(({ words }) => words), strip = labelled ? Math.max(20, Math.round(height / 18)) : 0;
  const width = entries.reduce((sum, { canvas }) => sum + canvas.width + gap, -gap);
  const sheet = Object.assign(document.createElement("canvas"), { width, height: height + strip });
  const brush = sheet.getContext("2d");
  brush.fillStyle = "#fff";
  brush.fillRect(0, 0, sheet.width, sheet.height);
  Object.assign(brush, { fillStyle: "#18181b", font: `${Math.round(strip * 0.62)}px system-ui, sans-serif`, textBaseline: "middle" });
  let x = 0;
  for (const { canvas, words } of entries) {
    brush.drawImage(canvas, x, 0);
    if (words) brush.fillText(words, x + 2, height + strip / 2, canvas.width - 4);
    x += canvas.width + gap;
  }
  return sheet;
}
