// The comparison viewer: one to four pictures or clips of one request, side by side, under a slider, blinking in place
// or as their difference, with one zoom, one pan and one clock for all of them.
//
//   mount(root, source)   root: the element of viewer.html; all state lives in the closure of this call
//   source.read()         the value: {rev, prompt, link, settings, files, fps, items: [item]}
//   source.listen(draw)   calls `draw` whenever the value has changed
//   source.stop()         ends the run that is shown
//   source.again()        if there is such: draws what is shown once more, which is offered where its files are gone
//   source.locked         true on the blind page: no cards, links, downloads, swapping, difference or loupe; arrows
//                         belong to the votes
//   source.linkless       true where the address belongs to another viewer
//   source.below          pixels below the pictures that should stay in sight
//   source.floats         true in a dialog, beneath which the page may have been scrolled
//   item                  {id, label, note, state: idle|queued|running|ready|failed, step, steps, elapsed, seconds,
//                          badge, message, src, frames, preview, half}; frames > 1: src is a clip of so many, or a
//                          list of so many pictures; half: 0 shows the left half of src alone, 1 the right one
//                         or, already decoded, {id, label, state, picture: {bitmap, x, width}}, for a clip
//                         {bitmaps, x, width}: the side begins at x of each bitmap (see `decode` and `decodeClip`)
//   foot                  [sentence]: below the pictures
//   files                 [{label, src, name}]: more that can be downloaded
//   ticks                 [words]: what each frame is, in the place of its number
//
// Frames are drawn unscaled on one canvas per pane, which one CSS transform scales, so that every pane has the same
// box model and pixels stay as the server sent them. Visitors' words enter through textContent alone.

const ZOOM_MAX = 32;
const MODES = ["side", "slider", "blink", "diff"];
const GAP_PX = 12;
const STAGE_SHARES = { side: [0.46, 0.7], over: [0.62, 0.7], locked: [0.46, 0.7] }; // of the window's height
const SLOW_SECONDS = 0.8; // a run of this length can be stopped
const GAINS = [1, 2, 4, 8, 16, 32, 64];
const KEYS = [
  ["1 2 3", "side by side, slider, blink"], ["B", "hold: show the other one"],
  ["+ −", "zoom"], ["0", "fit"], ["Z", "one picture pixel per screen pixel; again: two"], ["Arrows", "move; in the slider: wipe"],
  ["Shift + arrows", "larger steps"], ["S", "smooth or nearest pixels"], ["F", "full screen"],
  ["Space", "play or pause"], [", .", "previous, next frame"], ["Home End", "first, last frame"],
  ["[ ] \\", "loop: start, end, all"], ["< >", "slower, faster"],
];
const OPEN_KEYS = [["4", "difference"], ["G, Shift + G", "stronger, weaker difference"], ["H", "difference as a heat map"],
  ["N P", "the places that differ most"], ["L", "loupe with values"], ["I", "hide or show the clocks"],
  ["X", "swap the sides"], ["D", "download"], ["C", "copy a link to this view"]];

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const create = (tag, className, textContent = "") =>
  Object.assign(document.createElement(tag), { className, textContent });
const button = (name, text, onclick) => Object.assign(create("button", name, text), { type: "button", onclick });

/** The grid that shows `count` pictures of one aspect largest inside width x height. */
function bestGrid(count, aspect, width, height) {
  let best = null;
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const cell = { w: (width - GAP_PX * (columns - 1)) / columns, h: (height - GAP_PX * (rows - 1)) / rows };
    const w = Math.min(cell.w, cell.h * aspect);
    const left = (width - w * columns - GAP_PX * (columns - 1)) / 2;
    if (!best || w > best.w) best = { columns, rows, left, w, h: w / aspect };
  }
  return best;
}

export function mount(root, source) {
  const $ = (selector) => root.querySelector(selector);
  const stage = $(".tdm-stage"), layers = $(".tdm-layers"), handle = $(".tdm-handle"), cards = $(".tdm-cards");
  const scrubber = $(".tdm-scrub input"), lensBox = $(".tdm-loupe"), look = makeLoupe(lensBox);
  const panes = new Map(); // id -> {id, item, layer, canvas, card, frames, shown, wanted, at}
  const view = { mode: window.innerWidth < 600 ? "slider" : "side", z: 1, cx: 0.5, cy: 0.5, wipe: 0.5,
                 flipped: false, swapped: false, smooth: true, pair: null, gain: 4, heat: false, loupe: false, bare: false };
  let peek = false, size = { w: 1, h: 1 }, received = 0, pointed = null, peak = -1, marked = null;
  let plays = !matchMedia("(prefers-reduced-motion: reduce)").matches; // whether a clip starts by itself
  const filled = {}; // what a list or menu was filled from, so that ticks leave an open one alone

  // ---- which panes are shown, and where -----------------------------------------------------------------------
  const items = () => source.read()?.items ?? [];
  const ids = () => { const all = items().map((item) => item.id); return view.swapped ? all.reverse() : all; };

  function pair() {
    const all = ids();
    const chosen = view.pair?.every((id) => all.includes(id)) ? all.filter((id) => view.pair.includes(id)) : [];
    return chosen.length === 2 ? chosen : [all[0], all.at(-1)];
  }
  /** The panes that are looked at, in their order on the screen. */
  const seen = () => (view.mode === "side" ? ids() : [...new Set(pair())]).map((id) => panes.get(id)).filter(Boolean);

  /** How tall the stage may be, so that what stands below it stays in sight where that is possible. */
  function room() {
    const [least, most] = STAGE_SHARES[source.locked ? "locked" : view.mode === "side" ? "side" : "over"];
    const top = stage.getBoundingClientRect().top + (source.floats ? 0 : window.scrollY);
    return clamp(window.innerHeight - top - source.below, least * window.innerHeight, most * window.innerHeight);
  }

  function boxes() {
    const width = stage.clientWidth, all = ids();
    const height = document.fullscreenElement === root ? stage.clientHeight : room();
    const aspect = size.w / size.h;
    if (view.mode === "side") {
      const grid = bestGrid(all.length || 1, aspect, width, height);
      const at = (i) => ({ left: grid.left + (i % grid.columns) * (grid.w + GAP_PX), w: grid.w,
                           top: Math.floor(i / grid.columns) * (grid.h + GAP_PX), h: grid.h });
      const turn = peek ? 1 : 0; // holding B: every pane shows its neighbour's picture
      return { columns: grid.columns, left: grid.left, height: grid.rows * (grid.h + GAP_PX) - GAP_PX,
               of: new Map(all.map((id, i) => [id, at((i + turn) % all.length)])) };
    }
    const [w, h] = [Math.min(width, height * aspect), Math.min(height, width / aspect)];
    const box = { left: (width - w) / 2, top: 0, w, h };
    return { columns: 1, left: 0, height: h, of: new Map(pair().map((id) => [id, box])) };
  }

  function place() {
    const grid = boxes(), [first, second] = pair();
    stage.style.height = document.fullscreenElement === root ? "" : `${grid.height}px`;
    cards.style.setProperty("--columns", view.mode === "side" && grid.columns > 1 ? grid.columns : items().length || 1);
    cards.style.paddingInline = grid.columns > 1 ? `${grid.left}px` : "";
    for (const pane of panes.values()) placePane(pane, grid.of.get(pane.id), pane.id === first, pane.id === second);
    placeDifference(grid.of.get(first));
    placeHandle(grid.of.get(first));
    placeLoupe();
    Object.assign(root.dataset, { mode: view.mode, columns: grid.columns });
    $(".tdm-zoom").textContent = view.z === 1 ? "Fit" : `${Math.round(view.z * 100)} %`;
  }

  function placePane(pane, box, isFirst, isSecond) {
    pane.layer.hidden = !box || !visible(isFirst);
    if (!box) return;
    const { layer, canvas } = pane;
    pane.at = transform(canvas, box);
    layer.querySelector(".tdm-mark").hidden = !marked;
    if (marked) placeMark(pane, marked);
    // In the slider only the upper picture is cut: two cut edges beside each other would show a seam.
    const cut = view.mode === "slider" && isFirst ? `inset(0 ${(1 - wipe()) * 100}% 0 0)` : "";
    Object.assign(layer.style, { left: `${box.left}px`, top: `${box.top}px`, width: `${box.w}px`, height: `${box.h}px`,
                                 clipPath: cut, zIndex: isFirst ? 1 : 0 });
    layer.dataset.corner = view.mode === "slider" && isSecond ? "right" : "left";
  }

  /** Scale and move a canvas inside its box; the same for every pane, whatever the size of its pixels. */
  function transform(canvas, box) {
    const scale = Math.min(box.w / canvas.width, box.h / canvas.height) * view.z;
    const offset = (centre, length, room) =>
      length <= room ? (room - length) / 2 : clamp(room / 2 - centre * length, room - length, 0);
    const x = offset(view.cx, canvas.width * scale, box.w), y = offset(view.cy, canvas.height * scale, box.h);
    canvas.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    return { x, y, w: canvas.width * scale, h: canvas.height * scale };
  }

  function placeMark({ layer, at }, { x, y }) {
    Object.assign(layer.querySelector(".tdm-mark").style, { left: `${at.x + x * at.w}px`, top: `${at.y + y * at.h}px` });
  }

  const visible = (isFirst) => {
    if (view.mode === "diff") return peek && isFirst; // holding B: what the difference was made from
    return view.mode !== "blink" || isFirst !== (view.flipped !== peek);
  };
  const wipe = () => (peek ? (view.wipe > 0.5 ? 0 : 1) : view.wipe);

  function placeHandle(box) {
    const off = view.mode !== "slider" || items().length < 2;
    if (off && document.activeElement === handle) stage.focus(); // a hidden focus would fall to the body
    handle.hidden = off;
    if (!off) Object.assign(handle.style, { left: `${box.left + wipe() * box.w}px`, height: `${box.h}px` });
    handle.setAttribute("aria-valuenow", Math.round(view.wipe * 100));
  }

  // ---- difference and loupe -----------------------------------------------------------------------------------
  const differing = create("div", "tdm-layer tdm-difference"), differingCanvas = create("canvas", "tdm-canvas");
  Object.assign(differing.dataset, { id: "difference" });
  differingCanvas.setAttribute("role", "img");
  differing.append(differingCanvas, create("i", "tdm-mark"), create("span", "tdm-label"));
  const compared = { key: "", result: null };

  /** The difference of the chosen pair as it is painted now; made anew only when something has changed. */
  function compare() {
    const both = pair().map((id) => panes.get(id));
    if (both.some((pane) => !pane?.frames) || both[0] === both[1]) return null;
    const key = [...both.flatMap((pane) => [pane.id, pane.painted]), view.gain, view.heat].join();
    if (key !== compared.key)
      Object.assign(compared, { key, result: difference(both[0].canvas, both[1].canvas, view) });
    return compared.result;
  }

  function placeDifference(box) {
    const result = view.mode === "diff" && box ? compare() : null;
    if (!result || peek) return differing.remove();
    if (!differing.isConnected) layers.append(differing);
    if (differing.dataset.key !== compared.key) {
      const { width, height } = result.image;
      Object.assign(differingCanvas, { width, height });
      differingCanvas.getContext("2d").putImageData(result.image, 0, 0);
      differing.dataset.key = compared.key;
    }
    Object.assign(differing.style, { left: `${box.left}px`, top: `${box.top}px`, width: `${box.w}px`, height: `${box.h}px` });
    const at = transform(differingCanvas, box), mark = differing.querySelector(".tdm-mark");
    mark.hidden = !marked;
    if (marked) placeMark({ layer: differing, at }, marked);
    const [one, other] = pair().map((id) => panes.get(id).item.label);
    const numbers = result.max
      ? `mean ${result.mean.toFixed(2)} · largest ${result.max} of 255 · ${result.psnr.toFixed(1)} dB` : "no difference at all";
    differing.querySelector(".tdm-label").textContent = numbers;
    differingCanvas.setAttribute("aria-label", `Difference of ${one} and ${other}: ${numbers}`);
  }

  function jump(by) {
    const result = compare();
    if (!result?.peaks.length) return toast(result ? "No difference at all" : "There is nothing to compare yet");
    peak = (Math.min(peak, result.peaks.length - 1) + by + result.peaks.length) % result.peaks.length;
    const { x, y, most } = result.peaks[peak];
    Object.assign(view, { z: Math.max(view.z, 4), cx: x, cy: y });
    marked = { x, y };
    settle();
    toast(`${peak + 1} of ${result.peaks.length}: differs by up to ${most} of 255`);
  }

  /** Where a pointer is, in 0..1 of the picture under it. */
  function pointAt(event) {
    const layer = event.target.closest?.(".tdm-layer"), pane = layer && panes.get(layer.dataset.id);
    const box = stage.getBoundingClientRect(), place = { left: event.clientX - box.left, top: event.clientY - box.top };
    if (!pane?.at) return { ...place, x: view.cx, y: view.cy };
    const inside = layer.getBoundingClientRect();
    return { ...place, x: (event.clientX - inside.left - pane.at.x) / pane.at.w, y: (event.clientY - inside.top - pane.at.y) / pane.at.h };
  }

  function placeLoupe() {
    lensBox.hidden = !view.loupe || !panes.size;
    if (lensBox.hidden) return;
    const box = shownBox(), at = pointed ?? { left: box.left + box.w / 2, top: box.top + box.h / 2, x: view.cx, y: view.cy };
    look(at, seen().map(({ canvas, item }) => ({ canvas, label: item.label })));
    const beside = (start, length, room) => clamp(start + 20 + length > room ? start - length - 20 : start + 20, 0, Math.max(room - length, 0));
    lensBox.style.left = `${beside(at.left, lensBox.offsetWidth, stage.clientWidth)}px`;
    lensBox.style.top = `${beside(at.top, lensBox.offsetHeight, stage.clientHeight)}px`;
  }

  // ---- panes, cards and pictures ------------------------------------------------------------------------------
  function newPane(id) {
    const layer = create("div", "tdm-layer"), canvas = create("canvas", "tdm-canvas"), card = create("div", "tdm-card");
    Object.assign(canvas, { width: size.w, height: size.h });
    canvas.setAttribute("role", "img");
    layer.append(canvas, create("i", "tdm-mark"), create("span", "tdm-label"), create("div", "tdm-message"));
    card.append(create("b", "tdm-name"), create("span", "tdm-clock"), create("span", "tdm-note"),
                create("span", "tdm-badge"), create("i", "tdm-track"));
    if (!source.locked) layer.append(button("tdm-stop", "Stop", () => source.stop()));
    layers.append(layer);
    cards.append(card);
    return { id, layer, canvas, card, shown: null, wanted: null, frames: null, painted: null };
  }

  function draw() {
    received = performance.now();
    for (const id of [...panes.keys()].filter((id) => !ids().includes(id))) {
      panes.get(id).layer.remove();
      panes.get(id).card.remove();
      panes.delete(id);
    }
    for (const item of items()) {
      if (!panes.has(item.id)) panes.set(item.id, newPane(item.id));
      dress(Object.assign(panes.get(item.id), { item }));
    }
    panes.forEach(load);
    if (isNew("order", ids().join())) for (const id of ids()) cards.append(panes.get(id).card);
    tell($(".tdm-foot"), [source.read()?.foot ?? []].flat());
    fillPairs();
    fillDownloads();
    if (source.read()?.fresh) remember();
    tick();
    place();
    announce();
  }

  function dress({ item, layer, canvas, card }) {
    for (const element of [layer, card]) Object.assign(element.dataset, { id: item.id, state: item.state });
    canvas.setAttribute("aria-label", item.alt ?? item.label);
    card.querySelector(".tdm-name").textContent = item.label;
    card.querySelector(".tdm-note").textContent = item.note ?? "";
    card.querySelector(".tdm-badge").textContent = item.badge ?? "";
    const done = item.state === "ready" ? 1 : (item.step ?? 0) / (item.steps || 1);
    card.querySelector(".tdm-track").style.setProperty("--done", done);
  }

  const addressOf = (src) => (Array.isArray(src) ? src.map(addressOf).join("\n") : src?.url ?? src);
  const single = (item) => item.src && item.half === undefined && !Array.isArray(item.src) && localUrl(item.src);

  async function load(pane) {
    const { item } = pane, wanted = item.picture ?? addressOf(item.src) ?? item.preview;
    if (pane.lost && pane.lost === wanted) return; // what is said of it stays
    message(pane, item.state === "failed" ? item.message : "");
    pane.layer.dataset.stale = !wanted && item.state !== "idle" && item.state !== "ready";
    if (!wanted || wanted === pane.wanted) return;
    Object.assign(pane, { wanted, lost: null });
    if (item.picture) return take(pane, wanted, item.picture);
    try {
      const isPreview = wanted === item.preview, isList = !isPreview && Array.isArray(item.src);
      const isClip = item.frames > 1 && !isPreview && !isList, { fps } = clipClock();
      const onFrame = (count) => { if (pane.wanted === wanted) pane.layer.dataset.loading = `${count} of ${item.frames} frames`; };
      const bitmaps = isClip ? await decodeClip(wanted, { frames: item.frames, fps, onFrame })
        : await Promise.all((isList ? item.src.map(addressOf) : [wanted]).map(decode));
      const width = bitmaps[0].width / (item.half === undefined ? 1 : 2);
      if (pane.wanted === wanted) take(pane, wanted, { bitmaps, x: width * (item.half ?? 0), width });
    } catch (error) {
      if (pane.wanted === wanted) lose(pane, wanted, error);
    }
    delete pane.layer.dataset.loading;
  }

  /** Says why nothing came, and what can be done about it. */
  function lose(pane, wanted, error) {
    pane.lost = wanted;
    pane.layer.dataset.stale = true; // what stands there is another's
    if (error.isGone && source.again) return message(pane, "It is no longer kept here.", source.again, "Draw it again");
    const retry = () => { Object.assign(pane, { wanted: null, lost: null }); load(pane); };
    message(pane, `It did not arrive (${error.message}).`, retry);
  }

  /** New frames for a pane: they stay until the next ones are decoded, so that nothing blinks. */
  function take(pane, key, { bitmap, bitmaps = [bitmap], x, width }) {
    const height = bitmaps[0].height;
    Object.assign(pane, { frames: { bitmaps, x, width, height }, shown: key, painted: null });
    pane.layer.dataset.preview = key === pane.item.preview;
    const aspectChanged = root.dataset.painted && size.w * height !== size.h * width;
    size = { w: width, h: height };
    if (aspectChanged) Object.assign(view, { z: 1, cx: 0.5, cy: 0.5 });
    const { frames, fps } = clipClock();
    clock.reset(frames, fps);
    if (recalled !== null && frames > 1) { clock.seek(recalled); recalled = null; }
    paint(pane);
    place();
    if (frames > 1 && plays && !clock.playing) clock.play();
    if (items().every((item) => item.state !== "ready" || panes.get(item.id).shown === panes.get(item.id).wanted)) {
      root.dataset.painted = source.read().rev;
      root.dispatchEvent(new CustomEvent("tdm-painted"));
    }
  }

  function paint(pane) {
    const { bitmaps, x, width, height } = pane.frames, index = Math.min(clock.frame, bitmaps.length - 1);
    const painted = `${pane.shown}#${index}`;
    if (pane.painted === painted) return;
    if (pane.canvas.width !== width || pane.canvas.height !== height) Object.assign(pane.canvas, { width, height });
    pane.canvas.getContext("2d").drawImage(bitmaps[index], x, 0, width, height, 0, 0, width, height);
    pane.painted = painted;
  }

  const clipClock = () => ({
    frames: Math.max(1, ...[...panes.values()].map((pane) => pane.frames?.bitmaps.length ?? 1)), fps: source.read()?.fps || 8,
  });

  const clock = makeClock({
    paint() {
      for (const pane of panes.values()) if (pane.frames) paint(pane);
      if (view.mode === "diff" || view.loupe) place();
      showFrame();
    },
    changed() { showClock(); remember(); },
    alive: () => root.isConnected,
  });

  function showFrame() {
    scrubber.value = clock.frame;
    $(".tdm-frame").textContent = source.read()?.ticks?.[clock.frame] ?? `${clock.frame + 1} / ${clock.frames}`;
    if (!clock.playing) remember();
  }

  function showClock() {
    const [first, last] = clock.span, share = (frame) => `${(100 * frame) / Math.max(clock.frames - 1, 1)}%`;
    $(".tdm-transport").hidden = clock.frames < 2;
    scrubber.max = clock.frames - 1;
    root.dataset.playing = clock.playing;
    $("[data-act=play]").setAttribute("aria-label", clock.playing ? "Pause" : "Play");
    $("[data-act=rate]").textContent = `${{ 0.25: "¼", 0.5: "½" }[clock.rate] ?? clock.rate}×`;
    Object.assign($(".tdm-scrub i").style, { left: share(first), right: `${100 - (100 * last) / Math.max(clock.frames - 1, 1)}%` });
    $("[data-act=unmark]").disabled = !clock.loop;
    showFrame();
  }

  function message(pane, text, act, label = "Try again") {
    const box = pane.layer.querySelector(".tdm-message");
    box.replaceChildren();
    if (!text) return;
    box.append(create("p", "", text));
    if (act) box.append(button("tdm-tool", label, act));
  }

  // ---- clocks: the server sends seconds, the browser only fills the time between two ticks --------------------
  const elapsed = (item) => (item.elapsed ?? 0) + (performance.now() - received) / 1000;
  const clockText = (item) => {
    if (item.state === "ready" && item.seconds != null) return seconds(item.seconds);
    if (item.state === "running") return seconds(elapsed(item));
    return { queued: item.message, failed: "failed" }[item.state] ?? "";
  };
  const seconds = (value) => `${value.toFixed(value < 10 ? 2 : 1)} s`;
  function tick() {
    for (const { item, card, layer } of panes.values()) {
      card.querySelector(".tdm-clock").textContent = clockText(item);
      layer.dataset.slow = item.state === "running" && elapsed(item) > SLOW_SECONDS;
      layer.querySelector(".tdm-label").textContent = [item.label, clockText(item)].filter(Boolean).join(" · ");
    }
  }
  setInterval(() => { if (items().some((item) => item.state === "running") && root.isConnected) tick(); }, 100);

  function announce() {
    const ready = items().filter((item) => item.state === "ready" && item.seconds != null);
    tell($(".tdm-status"), ready.map((item) => `${item.label}: ready after ${seconds(item.seconds)}.`));
  }

  /** Each sentence by itself, as they are translated; an equal text is left alone. */
  function tell(box, sentences) {
    if (isNew(box.className, sentences.join("\n"))) box.replaceChildren(...sentences.map((text) => create("span", "", `${text} `)));
  }

  function isNew(name, content) {
    const changed = filled[name] !== content;
    filled[name] = content;
    return changed;
  }

  // ---- the toolbar --------------------------------------------------------------------------------------------
  function fillPairs() {
    const select = $("[data-act=pair]"), all = items(), label = (id) => panes.get(id).item.label;
    const pairs = all.flatMap((a, i) => all.slice(i + 1).map((b) => [a.id, b.id]));
    const options = pairs.map((ends) => [ends.map(label).join(" ↔ "), ends.join(" ")]);
    if (isNew("pairs", options.join())) select.replaceChildren(...options.map((option) => new Option(...option)));
    select.value = all.map((item) => item.id).filter((id) => pair().includes(id)).join(" ");
    $(".tdm-pair").hidden = view.mode === "side" || all.length < 3;
    $(".tdm-flip").hidden = view.mode !== "blink" || all.length < 2;
    for (const name of [".tdm-gain", ".tdm-next"]) $(name).hidden = view.mode !== "diff";
    $(".tdm-times").textContent = `× ${view.gain}`;
    for (const name of ["heat", "loupe"]) $(`[data-act=${name}]`).setAttribute("aria-pressed", view[name]);
    root.dataset.bare = view.bare;
    for (const mode of MODES) $(`[data-act=${mode}]`).setAttribute("aria-pressed", view.mode === mode);
    $("[data-act=smooth]").setAttribute("aria-pressed", view.smooth);
    $("[data-act=smooth]").textContent = view.smooth ? "Smooth" : "Nearest";
    root.dataset.smooth = view.smooth;
  }

  function fillDownloads() {
    const value = source.read(), sheet = $(".tdm-sheet"), ready = items().filter(single);
    const ending = (item) => (item.frames > 1 ? "mp4" : "png"), entries = [];
    for (const item of ready) entries.push([item.label, localUrl(item.src), `${item.id}.${ending(item)}`]);
    for (const file of value?.files ?? []) if (localUrl(file.src)) entries.push([file.label, localUrl(file.src), file.name]);
    if (value?.settings) {
      const json = JSON.stringify(value.settings, null, 2);
      entries.push(["Settings and clocks", `data:application/json,${encodeURIComponent(json)}`, "settings.json"]);
    }
    if (!isNew("downloads", entries.join())) return;
    const link = ([label, href, download]) => Object.assign(create("a", "", label), { href, download });
    sheet.replaceChildren(...entries.map(link));
    if (ready.length > 1) sheet.append(
      button("", "The pair beside each other", () => saveCanvas(contactSheet(pair().map(sheetEntry)), "pair.png")),
      button("", "All of them, with labels", () => saveCanvas(contactSheet(ids().map((id) => ({ ...sheetEntry(id), words: caption(id) }))), "grid.png")));
    if (!entries.length) sheet.append(create("p", "", "Nothing to download yet."));
  }
  const sheetEntry = (id) => ({ canvas: panes.get(id).canvas });
  const caption = (id) => [panes.get(id).item.label, panes.get(id).item.note, clockText(panes.get(id).item)].filter(Boolean).join(" · ");

  let toastTimer;
  function toast(text) {
    const box = $(".tdm-toast");
    Object.assign(box, { textContent: text, hidden: false });
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => { box.hidden = true; }, 2200);
  }

  async function copyLink() {
    try {
      await navigator.clipboard.writeText(address(true));
      toast("Link copied");
    } catch {
      prompt("Link to this view", address(true)); // pages without https may not write to the clipboard
    }
  }

  // ---- zoom and pan, in shares of the picture, so that panes of any size stay linked --------------------------
  const shownBox = () => boxes().of.values().next().value ?? { w: 1, h: 1 };
  const fitScale = (box = shownBox()) => Math.min(box.w / size.w, box.h / size.h);
  const oneToOne = () => 1 / (fitScale() * window.devicePixelRatio);

  /** Zoom so that the point at (px, py) of a pane, measured from its centre, stays under the pointer. */
  function zoomTo(z, px = 0, py = 0) {
    const before = fitScale() * view.z, after = clamp(z, Math.min(1, oneToOne()), ZOOM_MAX);
    const shift = 1 / before - 1 / (fitScale() * after);
    marked = null;
    Object.assign(view, { z: after, cx: view.cx + (px * shift) / size.w, cy: view.cy + (py * shift) / size.h });
    settle();
  }

  function panBy(dx, dy) {
    marked = null;
    const scale = fitScale() * view.z;
    Object.assign(view, { cx: view.cx - dx / (size.w * scale), cy: view.cy - dy / (size.h * scale) });
    settle();
  }

  function settle() {
    pointed = null;
    const box = shownBox(), scale = fitScale(box) * view.z;
    const bound = (centre, share) => (share >= 1 ? 0.5 : clamp(centre, share / 2, 1 - share / 2)); // share: in sight
    view.cx = bound(view.cx, box.w / (size.w * scale));
    view.cy = bound(view.cy, box.h / (size.h * scale));
    stage.style.touchAction = view.z > 1 ? "none" : "pan-y";
    place();
    remember();
  }

  const fromCentre = (event) => {
    const pane = event.target.closest?.(".tdm-layer") ?? stage, box = pane.getBoundingClientRect();
    return [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
  };

  const pointers = new Map();
  let drag = null, hold = 0;
  stage.addEventListener("pointerdown", (event) => {
    if (event.button || event.target.closest("button")) return;
    pointers.set(event.pointerId, event);
    stage.setPointerCapture(event.pointerId);
    drag = { moved: 0, wiping: view.mode === "slider" && (view.z <= 1 || handle.contains(event.target)) };
    if (event.pointerType === "touch" && pointers.size === 1) hold = setTimeout(() => { setPeek(true); }, 350);
    if (drag.wiping && event.pointerType !== "touch") wipeTo(event);
  });
  stage.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last && view.loupe) { pointed = pointAt(event); placeLoupe(); }
    if (!last) return;
    pointers.set(event.pointerId, event);
    const [dx, dy] = [event.clientX - last.clientX, event.clientY - last.clientY];
    drag.moved += Math.abs(dx) + Math.abs(dy);
    if (drag.moved > 6) clearTimeout(hold);
    if (pointers.size === 2) pinch(event, last);
    else if (drag.wiping) wipeTo(event);
    else panBy(dx, dy);
  });
  function lift(event) {
    if (!pointers.delete(event.pointerId)) return;
    clearTimeout(hold);
    if (!peek && view.mode === "blink" && drag.moved < 6 && event.type === "pointerup") act.flip();
    setPeek(false);
  }
  stage.addEventListener("pointerup", lift);
  stage.addEventListener("pointercancel", lift);
  stage.addEventListener("dblclick", (event) => zoomTo(view.z > 1 ? 1 : Math.max(oneToOne(), 3), ...fromCentre(event)));
  stage.addEventListener("wheel", (event) => {
    if (!(event.ctrlKey || event.metaKey || root.contains(document.activeElement))) return; // else the page scrolls
    event.preventDefault();
    zoomTo(Math.max(view.z * Math.exp(-event.deltaY / 400), 1), ...fromCentre(event));
  }, { passive: false });

  function pinch(event, last) {
    const other = [...pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
    const reach = (pointer) => Math.hypot(pointer.clientX - other.clientX, pointer.clientY - other.clientY) || 1;
    panBy((event.clientX - last.clientX) / 2, (event.clientY - last.clientY) / 2);
    zoomTo(Math.max(view.z * (reach(event) / reach(last)), 1), ...fromCentre(event));
  }

  function wipeTo(event) {
    const box = shownBox();
    view.wipe = clamp((event.clientX - stage.getBoundingClientRect().left - box.left) / box.w, 0, 1);
    settle();
  }

  function setPeek(on) {
    if (peek === on) return;
    peek = on;
    place();
  }

  // ---- actions: every key has a button ------------------------------------------------------------------------
  const redraw = (change) => { Object.assign(view, change); settle(); fillPairs(); };
  const louder = (by) => redraw({ gain: GAINS[clamp(GAINS.indexOf(view.gain) + by, 0, GAINS.length - 1)] });
  const turnTo = (mode) => { redraw({ mode, flipped: false }); stage.scrollIntoView({ block: "nearest" }); };
  const act = {
    side: () => turnTo("side"),
    slider: () => turnTo("slider"),
    blink: () => turnTo("blink"),
    diff: () => turnTo("diff"),
    more: () => louder(1),
    less: () => louder(-1),
    heat: () => redraw({ heat: !view.heat }),
    next: () => jump(1),
    previous: () => jump(-1),
    loupe: () => redraw({ loupe: !view.loupe }),
    bare: () => redraw({ bare: !view.bare }),
    play: () => { plays = !clock.playing; clock.playing ? clock.pause() : clock.play(); },
    back: () => clock.step(-1),
    forward: () => clock.step(1),
    first: () => { clock.pause(); clock.seek(0); },
    last: () => { clock.pause(); clock.seek(clock.frames - 1); },
    rate: () => clock.nextRate(),
    slower: () => clock.faster(-1),
    faster: () => clock.faster(1),
    markIn: () => clock.mark("in"),
    markOut: () => clock.mark("out"),
    unmark: () => clock.mark(),
    flip: () => redraw({ flipped: !view.flipped }),
    swap: () => { view.swapped = !view.swapped; draw(); remember(); },
    smooth: () => redraw({ smooth: !view.smooth }),
    fit: () => zoomTo(1),
    in: () => zoomTo(view.z * 1.5),
    out: () => zoomTo(Math.max(view.z / 1.5, 1)),
    one: () => zoomTo(Math.abs(view.z - oneToOne()) < 1e-6 ? 2 * oneToOne() : oneToOne()),
    link: copyLink,
    download: () => { const menu = $(".tdm-menu"); menu.open = !menu.open; },
    full: () => (document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen()),
    help: () => $(".tdm-help").showModal(),
  };
  const keys = { 1: "side", 2: "slider", 3: "blink", s: "smooth", 0: "fit", z: "one", f: "full", "?": "help",
                 "+": "in", "=": "in", "-": "out", "−": "out" };
  if (!source.locked) Object.assign(keys, { 4: "diff", ...(source.linkless ? {} : { c: "link" }), d: "download", x: "swap", g: "more", h: "heat", n: "next",
                                            p: "previous", l: "loupe", i: "bare" });
  const clipKeys = { " ": "play", ",": "back", ".": "forward", Home: "first", End: "last", "[": "markIn", "]": "markOut",
                     "\\": "unmark", "<": "slower", ">": "faster" };

  function closeMenu() {
    const menu = $(".tdm-menu");
    if (menu.open && menu.contains(document.activeElement)) menu.querySelector("summary").focus();
    menu.open = false;
  }
  root.addEventListener("click", (event) => {
    const name = event.target.closest("[data-act]")?.dataset.act;
    if (name && name !== "pair" && name !== "download") act[name]();
    if (!event.target.closest(".tdm-menu") || event.target.closest(".tdm-sheet :is(a, button)")) closeMenu();
  });
  $("[data-act=pair]").addEventListener("change", (event) => { peak = -1; redraw({ pair: event.target.value.split(" ") }); });
  scrubber.addEventListener("input", () => { plays = false; clock.pause(); clock.seek(Number(scrubber.value)); });

  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target.closest("input:not([type=range]), textarea, select, .tdm-help")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.target === scrubber && /^(Arrow|Home|End)/.test(key)) return; // its own
    if (key === " " && event.target.closest("button, summary, a")) return; // presses it
    if (key === "b") setPeek(true);
    else if (key.startsWith("Arrow")) { if (!arrow(key, event.shiftKey)) return; }
    else if (key === "Escape" && $(".tdm-menu").open) closeMenu();
    else if (key === "g" && event.shiftKey && keys.g) act.less();
    else if (keys[key]) act[keys[key]]();
    else if (clipKeys[key] && clock.frames > 1) act[clipKeys[key]]();
    else return;
    event.preventDefault();
  });
  root.addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "b") setPeek(false); });
  root.addEventListener("focusout", (event) => { if (!root.contains(event.relatedTarget)) setPeek(false); });

  function arrow(key, shift) {
    if (source.locked && !shift) return false;
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    if (view.mode === "slider" && (view.z <= 1 || document.activeElement === handle))
      redraw({ wipe: clamp(view.wipe + dx * (shift ? 0.1 : 0.02), 0, 1) });
    else panBy(-dx * (shift ? 120 : 40), -dy * (shift ? 120 : 40));
    return true;
  }

  // ---- the view in the address, never sent to the server ------------------------------------------------------
  const hash = () => new URLSearchParams({
    v: view.mode, z: view.z.toFixed(2), x: view.cx.toFixed(3), y: view.cy.toFixed(3), w: view.wipe.toFixed(2),
    p: pair().join("-"), s: view.smooth ? "1" : "0", o: view.swapped ? "1" : "0", g: view.gain, h: view.heat ? "1" : "0",
    ...(clock.frames > 1 && !clock.playing ? { f: clock.frame } : {}),
  }).toString();

  function address(withRequest) {
    const url = new URL(location.href);
    const tab = url.searchParams.get("tab");
    if (withRequest) url.search = new URLSearchParams({ ...source.read()?.link, ...(tab && { tab }) });
    url.hash = hash();
    return url.href;
  }

  let rememberTimer;
  function remember() {
    if (source.locked || source.linkless) return;
    clearTimeout(rememberTimer);
    rememberTimer = setTimeout(() => history.replaceState(history.state, "", address(source.read()?.fresh)), 300);
  }

  let recalled = null;
  function recall() {
    const saved = new URLSearchParams(source.locked || source.linkless ? "" : location.hash.slice(1));
    if (!MODES.includes(saved.get("v"))) return;
    const number = (name, low, high, usual) => {
      const value = parseFloat(saved.get(name));
      return Number.isFinite(value) ? clamp(value, low, high) : usual;
    };
    Object.assign(view, {
      mode: saved.get("v"), z: number("z", 0.05, ZOOM_MAX, 1), cx: number("x", 0, 1, 0.5), cy: number("y", 0, 1, 0.5),
      wipe: number("w", 0, 1, 0.5), pair: saved.get("p")?.split("-"), smooth: saved.get("s") !== "0",
      swapped: saved.get("o") === "1", heat: saved.get("h") === "1",
      gain: GAINS.includes(number("g", 1, 64, 4)) ? number("g", 1, 64, 4) : 4,
    });
    if (saved.has("f")) { // a link to one frame shows that frame, and waits
      plays = false;
      recalled = Math.round(number("f", 0, 1e4, 0));
    }
  }

  root.classList.toggle("tdm-locked", Boolean(source.locked));
  $("[data-act=link]").hidden = Boolean(source.linkless);
  $(".tdm-keys").replaceChildren(...[...KEYS, ...(source.locked ? [] : OPEN_KEYS)]
    .flatMap(([key, text]) => [create("dt", "", key), create("dd", "", text)]));
  recall();
  new ResizeObserver(place).observe(root);
  document.addEventListener("fullscreenchange", place);
  source.listen(draw);
  draw();
  return { focus: () => stage.focus(), view, clock };
}
