
// The Compare tab around its viewer: the history of this browser's pairs, and what is shown when the server is gone.

const KEPT = "tdm-pairs", MOST = 24, THUMB_PX = 116, SILENCE_MS = 7000, ASK_MS = 3000;
const listeners = [], viewerRoot = element.querySelector(".tdm-viewer"), strip = element.querySelector(".tdm-strip");
const offline = element.querySelector(".tdm-offline"), historyBox = element.querySelector(".tdm-history");
let past = null, revision = 0, heard = performance.now(), gone = false;

const isPending = (item) => item.state === "running" || item.state === "queued";
const redraw = () => listeners.forEach((draw) => draw());

/** A pair of the history, or the newest; a run whose server is gone has failed. */
function shown() {
  const value = past ?? props.value;
  if (!gone || !value?.items?.some(isPending)) return value;
  const message = "The server does not answer.";
  return { ...value, items: value.items.map((item) => (isPending(item) ? { ...item, state: "failed", message } : item)) };
}

watch("value", () => {
  heard = performance.now();
  if (props.value?.rev !== revision) past = null;
  revision = props.value?.rev;
  redraw();
  mark();
});
mount(viewerRoot, {
  locked: false, below: 40, read: shown, listen: (draw) => listeners.push(draw), stop: () => trigger("stop"),
  again: () => trigger("submit", shown().link), // the server deletes pictures after a day, and this browser's pairs are older
});

// ---- history ------------------------------------------------------------------------------------------------------
function pairs() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT) ?? "[]");
    return Array.isArray(kept) ? kept.filter((pair) => pair?.value?.link && pair.thumb) : [];
  } catch {
    return []; // private windows may refuse, and somebody may have written nonsense there
  }
}

function keep(kept) {
  try {
    localStorage.setItem(KEPT, JSON.stringify(kept.slice(0, MOST)));
  } catch {
    if (kept.length > 4) keep(kept.slice(0, kept.length >> 1)); // the browser's room is small
  }
}

const nameOf = (pair) => JSON.stringify(pair.value.link);

/** Teacher and student beside each other, small. */
function thumb() {
  const canvases = ["teacher", "student"].map((id) => viewerRoot.querySelector(`.tdm-layer[data-id=${id}] > canvas`));
  if (canvases.some((canvas) => !canvas)) return "";
  const small = Object.assign(document.createElement("canvas"), { width: THUMB_PX, height: THUMB_PX / 2 });
  canvases.forEach((canvas, i) => small.getContext("2d").drawImage(canvas, (i * THUMB_PX) / 2, 0, THUMB_PX / 2, THUMB_PX / 2));
  return small.toDataURL("image/webp", 0.8);
}

viewerRoot.addEventListener("tdm-painted", () => {
  const value = props.value;
  if (past || !value?.fresh || !value.items.every((item) => item.state === "ready")) return;
  const pair = { value, thumb: thumb() };
  keep([pair, ...pairs().filter((other) => nameOf(other) !== nameOf(pair))]);
  list();
});

function list() {
  const kept = pairs();
  historyBox.hidden = !kept.length;
  strip.replaceChildren(...kept.map((pair) => {
    const entry = Object.assign(document.createElement("button"), { type: "button", title: pair.value.prompt });
    const picture = Object.assign(document.createElement("img"), { alt: "", src: /^data:image\//.test(pair.thumb) ? pair.thumb : "" });
    const words = Object.assign(document.createElement("span"), { textContent: pair.value.prompt, dir: "auto" });
    entry.append(picture, words);
    Object.assign(entry.dataset, { name: nameOf(pair), asIs: "" });
    entry.addEventListener("click", () => open(pair));
    return entry;
  }));
  mark();
}

const mark = () => {
  const now = JSON.stringify(shown()?.link);
  for (const entry of strip.children) entry.setAttribute("aria-pressed", entry.dataset.name === now);
};

function open(pair) {
  past = { ...pair.value, rev: `past ${nameOf(pair)}` };
  redraw();
  mark();
  trigger("select", pair.value.link);
}

element.querySelector("[data-do=forget]").addEventListener("click", () => {
  try { localStorage.removeItem(KEPT); } catch { /* it holds nothing then */ }
  past = null;
  redraw();
  list();
});

// ---- a server that is gone ------------------------------------------------------------------------------------------
async function answers() {
  try {
    return (await fetch(document.baseURI, { method: "HEAD", cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

async function look(now) {
  const silent = props.value?.items?.some(isPending) && performance.now() - heard > SILENCE_MS;
  if (!(now || gone || silent)) return;
  const isGone = !(await answers());
  heard = performance.now();
  if (isGone === gone) return;
  gone = isGone;
  offline.hidden = !gone;
  redraw();
}

setInterval(() => { if (element.isConnected) look(false); }, ASK_MS);
window.addEventListener("offline", () => look(true));
window.addEventListener("online", () => look(true));
list();
