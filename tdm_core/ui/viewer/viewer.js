// The comparison viewer: one to four pictures of one request, side by side, under a slider or blinking in
// place, with one zoom and one pan for all of them.
//
//   mount(root, source)   root: the element of viewer.html; all state lives in the closure of this call
//   source.read()         the value: {rev, prompt, link, settings, items: [item]}
//   source.listen(draw)   calls `draw` whenever the value has changed
//   source.stop()         ends the run that is shown
//   source.locked         true on the blind page: no cards, links, downloads or swapping; arrows belong to the votes
//   source.below          pixels below the pictures that should stay in sight
//   item                  {id, label, note, state: idle|queued|running|ready|failed, step, steps, elapsed, seconds,
//                          badge, message, src, preview}
//                        or, already decoded, {id, label, state, picture: {bitmap, x, width}}
//
// Pictures are drawn once, unscaled, on one canvas per pane and scaled by one CSS transform, so that every pane has
// the same box model and pixels stay as the server sent them. Visitors' words enter through textContent alone.

const ZOOM_MAX = 32;
const MODES = ["side", "slider", "blink"];
const GAP_PX = 12;
const STAGE_SHARES = { side: [0.46, 0.7], over: [0.62, 0.7], locked: [0.46, 0.7] }; // of the window's height
const SLOW_SECONDS = 0.8; // a run of this length can be stopped
const KEYS = [
  ["1 2 3", "side by side, slider, blink"], ["B", "hold: show the other picture"],
  ["+ −", "zoom"], ["0", "fit"], ["Z", "one picture pixel per screen pixel"], ["Arrows", "move; in the slider: wipe"],
  ["Shift + arrows", "larger steps"], ["S", "smooth or nearest pixels"], ["F", "full screen"],
];
const OPEN_KEYS = [["X", "swap the sides"], ["D", "download"], ["C", "copy a link to this view"]];

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const create = (tag, className, textContent = "") =>
  Object.assign(document.createElement(tag), { className, textContent });
const button = (name, text, onclick) => Object.assign(create("button", name, text), { type: "button", onclick });

/** The address of a picture on this server or in this page; null for any other, which is never fetched. */
function localUrl(source) {
  const url = new URL(typeof source === "string" ? source : source.url, location.href);
  const isLocal = url.origin === location.origin || url.protocol === "blob:" || url.href.startsWith("data:image/");
  return isLocal ? url.href : null;
}

/** Decoded pixels as they are in the file: no colour conversion, no premultiplication. */
export async function decode(source) {
  const url = localUrl(source);
  if (!url) throw new Error("it lies on another host");
  const response = await fetch(url);
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  return createImageBitmap(await response.blob(), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

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
  const panes = new Map(); // id -> {id, item, layer, canvas, card, shown, wanted}
  const view = { mode: window.innerWidth < 600 ? "slider" : "side", z: 1, cx: 0.5, cy: 0.5, wipe: 0.5,
                 flipped: false, swapped: false, smooth: true, pair: null };
  let peek = false, size = { w: 1, h: 1 }, received = 0;
  const filled = {}; // what a list or menu was filled from, so that ticks leave an open one alone

  // ---- which panes are shown, and where -----------------------------------------------------------------------
  const items = () => source.read()?.items ?? [];
  const ids = () => { const all = items().map((item) => item.id); return view.swapped ? all.reverse() : all; };

  function pair() {
    const all = ids();
    const chosen = view.pair?.every((id) => all.includes(id)) ? all.filter((id) => view.pair.includes(id)) : [];
    return chosen.length === 2 ? chosen : [all[0], all.at(-1)];
  }

  /** How tall the stage may be, so that what stands below it stays in sight where that is possible. */
  function room() {
    const [least, most] = STAGE_SHARES[source.locked ? "locked" : view.mode === "side" ? "side" : "over"];
    const top = stage.getBoundingClientRect().top + window.scrollY;
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
    placeHandle(grid.of.get(first));
    Object.assign(root.dataset, { mode: view.mode, columns: grid.columns });
    $(".tdm-zoom").textContent = view.z === 1 ? "Fit" : `${Math.round(view.z * 100)} %`;
  }

  function placePane(pane, box, isFirst, isSecond) {
    pane.layer.hidden = !box || !visible(isFirst);
    if (!box) return;
    const { layer, canvas } = pane, fit = Math.min(box.w / canvas.width, box.h / canvas.height), scale = fit * view.z;
    const offset = (centre, length, room) =>
      length <= room ? (room - length) / 2 : clamp(room / 2 - centre * length, room - length, 0);
    const x = offset(view.cx, canvas.width * scale, box.w), y = offset(view.cy, canvas.height * scale, box.h);
    // In the slider only the upper picture is cut: two cut edges beside each other would show a seam.
    const cut = view.mode === "slider" && isFirst ? `inset(0 ${(1 - wipe()) * 100}% 0 0)` : "";
    Object.assign(layer.style, { left: `${box.left}px`, top: `${box.top}px`, width: `${box.w}px`, height: `${box.h}px`,
                                 clipPath: cut, zIndex: isFirst ? 1 : 0 });
    canvas.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    layer.dataset.corner = view.mode === "slider" && isSecond ? "right" : "left";
  }

  const visible = (isFirst) => view.mode !== "blink" || isFirst !== (view.flipped !== peek);
  const wipe = () => (peek ? (view.wipe > 0.5 ? 0 : 1) : view.wipe);

  function placeHandle(box) {
    const off = view.mode !== "slider" || items().length < 2;
    if (off && document.activeElement === handle) stage.focus(); // a hidden focus would fall to the body
    handle.hidden = off;
    if (!off) Object.assign(handle.style, { left: `${box.left + wipe() * box.w}px`, height: `${box.h}px` });
    handle.setAttribute("aria-valuenow", Math.round(view.wipe * 100));
  }

  // ---- panes, cards and pictures ------------------------------------------------------------------------------
  function newPane(id) {
    const layer = create("div", "tdm-layer"), canvas = create("canvas", "tdm-canvas"), card = create("div", "tdm-card");
    Object.assign(canvas, { width: size.w, height: size.h });
    canvas.setAttribute("role", "img");
    layer.append(canvas, create("span", "tdm-label"), create("div", "tdm-message"));
    card.append(create("b", "tdm-name"), create("span", "tdm-clock"), create("span", "tdm-note"),
                create("span", "tdm-badge"), create("i", "tdm-track"));
    if (!source.locked) layer.append(button("tdm-stop", "Stop", () => source.stop()));
    layers.append(layer);
    cards.append(card);
    return { id, layer, canvas, card, shown: null, wanted: null };
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
    $(".tdm-foot").textContent = source.read()?.foot ?? "";
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

  async function load(pane) {
    const { item } = pane, wanted = item.picture ?? item.src?.url ?? item.src ?? item.preview;
    message(pane, item.state === "failed" ? item.message : "");
    pane.layer.dataset.stale = !wanted && item.state !== "idle" && item.state !== "ready";
    if (!wanted || wanted === pane.wanted) return;
    pane.wanted = wanted;
    if (item.picture) return paint(pane, wanted, item.picture);
    try {
      const bitmap = await decode(wanted);
      if (pane.wanted === wanted) paint(pane, wanted, { bitmap, x: 0, width: bitmap.width });
    } catch (error) {
      const retry = () => { pane.wanted = null; load(pane); };
      if (pane.wanted === wanted) message(pane, `The picture did not arrive (${error.message}).`, retry);
    }
  }

  function paint(pane, key, { bitmap, x, width }) {
    const { canvas } = pane, height = bitmap.height;
    Object.assign(canvas, { width, height });
    canvas.getContext("2d", { colorSpace: "srgb" }).drawImage(bitmap, x, 0, width, height, 0, 0, width, height);
    pane.shown = key;
    pane.layer.dataset.preview = key === pane.item.preview;
    const aspectChanged = root.dataset.painted && size.w * height !== size.h * width;
    size = { w: width, h: height };
    if (aspectChanged) Object.assign(view, { z: 1, cx: 0.5, cy: 0.5 });
    place();
    if (items().every((item) => item.state !== "ready" || panes.get(item.id).shown === panes.get(item.id).wanted))
      root.dataset.painted = source.read().rev;
  }

  function message(pane, text, retry) {
    const box = pane.layer.querySelector(".tdm-message");
    box.replaceChildren();
    if (!text) return;
    box.append(create("p", "", text));
    if (retry) box.append(button("tdm-tool", "Try again", retry));
  }

  // ---- clocks: the server sends seconds, the browser only fills the time between two ticks --------------------
  const elapsed = (item) => (item.elapsed ?? 0) + (performance.now() - received) / 1000;
  const clock = (item) => {
    if (item.state === "ready" && item.seconds != null) return seconds(item.seconds);
    if (item.state === "running") return seconds(elapsed(item));
    return { queued: item.message, failed: "failed" }[item.state] ?? "";
  };
  const seconds = (value) => `${value.toFixed(value < 10 ? 2 : 1)} s`;
  function tick() {
    for (const { item, card, layer } of panes.values()) {
      card.querySelector(".tdm-clock").textContent = clock(item);
      layer.dataset.slow = item.state === "running" && elapsed(item) > SLOW_SECONDS;
      layer.querySelector(".tdm-label").textContent = [item.label, clock(item)].filter(Boolean).join(" · ");
    }
  }
  setInterval(() => { if (items().some((item) => item.state === "running") && root.isConnected) tick(); }, 100);

  let announced = "";
  function announce() {
    const news = items().filter((item) => item.state === "ready" && item.seconds != null)
      .map((item) => `${item.label}: ready after ${seconds(item.seconds)}.`).join(" ");
    if (news !== announced) $(".tdm-status").textContent = announced = news;
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
    $(".tdm-flip").hidden = view.mode !== "blink";
    for (const mode of MODES) $(`[data-act=${mode}]`).setAttribute("aria-pressed", view.mode === mode);
    $("[data-act=smooth]").setAttribute("aria-pressed", view.smooth);
    $("[data-act=smooth]").textContent = view.smooth ? "Smooth" : "Nearest";
    root.dataset.smooth = view.smooth;
  }

  function fillDownloads() {
    const value = source.read(), sheet = $(".tdm-sheet");
    const entries = items().filter((item) => item.src && localUrl(item.src))
      .map((item) => [item.label, localUrl(item.src), `${item.id}.png`]);
    if (value?.settings) {
      const json = JSON.stringify(value.settings, null, 2);
      entries.push(["Settings and clocks", `data:application/json,${encodeURIComponent(json)}`, "settings.json"]);
    }
    if (!isNew("downloads", entries.join())) return;
    const link = ([label, href, download]) => Object.assign(create("a", "", label), { href, download });
    sheet.replaceChildren(...entries.map(link));
    if (!entries.length) sheet.append(create("p", "", "Nothing to download yet."));
  }

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
    Object.assign(view, { z: after, cx: view.cx + (px * shift) / size.w, cy: view.cy + (py * shift) / size.h });
    settle();
  }

  function panBy(dx, dy) {
    const scale = fitScale() * view.z;
    Object.assign(view, { cx: view.cx - dx / (size.w * scale), cy: view.cy - dy / (size.h * scale) });
    settle();
  }

  function settle() {
    const box = shownBox(), scale = fitScale(box) * view.z;
    const bound = (centre, share) => (share >= 1 ? 0.5 : clamp(centre, share / 2, 1 - share / 2)); // share: in sight
    view.cx = bound(view.cx, box.w / (size.w * scale));
    view.cy = bound(view.cy, box.h / (size.h * scale));
    stage.style.touchAction = view.z > 1 ? "none" : "pan-y pinch-zoom";
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
  const turnTo = (mode) => { redraw({ mode, flipped: false }); stage.scrollIntoView({ block: "nearest" }); };
  const act = {
    side: () => turnTo("side"),
    slider: () => turnTo("slider"),
    blink: () => turnTo("blink"),
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
  if (!source.locked) Object.assign(keys, { c: "link", d: "download", x: "swap" });

  root.addEventListener("click", (event) => {
    const name = event.target.closest("[data-act]")?.dataset.act;
    if (name && name !== "pair" && name !== "download") act[name]();
    if (!event.target.closest(".tdm-menu")) $(".tdm-menu").open = false;
  });
  $("[data-act=pair]").addEventListener("change", (event) => redraw({ pair: event.target.value.split(" ") }));

  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target.closest("input, textarea, select, dialog")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key === "b") setPeek(true);
    else if (key.startsWith("Arrow")) { if (!arrow(key, event.shiftKey)) return; }
    else if (key === "Escape") $(".tdm-menu").open = false;
    else if (keys[key]) act[keys[key]]();
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
    p: pair().join("-"), s: view.smooth ? "1" : "0", o: view.swapped ? "1" : "0",
  }).toString();

  function address(withRequest) {
    const url = new URL(location.href);
    if (withRequest) url.search = new URLSearchParams(source.read()?.link ?? {});
    url.hash = hash();
    return url.href;
  }

  let rememberTimer;
  function remember() {
    if (source.locked) return;
    clearTimeout(rememberTimer);
    rememberTimer = setTimeout(() => history.replaceState(history.state, "", address(source.read()?.fresh)), 300);
  }

  function recall() {
    const saved = new URLSearchParams(source.locked ? "" : location.hash.slice(1));
    if (!MODES.includes(saved.get("v"))) return;
    const number = (name, low, high, usual) => {
      const value = parseFloat(saved.get(name));
      return Number.isFinite(value) ? clamp(value, low, high) : usual;
    };
    Object.assign(view, {
      mode: saved.get("v"), z: number("z", 0.05, ZOOM_MAX, 1), cx: number("x", 0, 1, 0.5), cy: number("y", 0, 1, 0.5),
      wipe: number("w", 0, 1, 0.5), pair: saved.get("p")?.split("-"), smooth: saved.get("s") !== "0",
      swapped: saved.get("o") === "1",
    });
  }

  root.classList.toggle("tdm-locked", Boolean(source.locked));
  $(".tdm-keys").replaceChildren(...[...KEYS, ...(source.locked ? [] : OPEN_KEYS)]
    .flatMap(([key, text]) => [create("dt", "", key), create("dd", "", text)]));
  recall();
  new ResizeObserver(place).observe(root);
  document.addEventListener("fullscreenchange", place);
  source.listen(draw);
  draw();
  return { focus: () => stage.focus(), view };
}
