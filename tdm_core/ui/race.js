// The race: each lane as it runs, and then both at once from the recorded times. The server sends seconds and files.

const root = element.querySelector(".tdm-race"), find = (selector) => root.querySelector(selector);
const lane = (name) => find(`[data-lane=${name}]`), tiles = find(".tdm-tiles"), one = find(".tdm-one");
const make = (tag, className = "", text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
let received = 0, replaying = 0, stopped = false;

/** A picture or a looping clip of this server; nothing else is ever shown. */
function media(source, kind) {
  const address = localUrl(source), tag = kind === "video" ? "video" : "img";
  const shown = Object.assign(document.createElement(tag), { src: address ?? "" });
  if (tag === "video") Object.assign(shown, { muted: true, loop: true, autoplay: !matchMedia("(prefers-reduced-motion: reduce)").matches, playsInline: true });
  else shown.alt = "";
  return shown;
}

const seconds = (value) => `${value.toFixed(value < 10 ? 2 : 1)} s`;

function tile({ src, at, seed }, kind) {
  const figure = make("figure");
  const button = Object.assign(make("button"), { type: "button", title: `seed ${seed}` });
  button.setAttribute("aria-label", `Look closer: seed ${seed}`);
  button.append(media(src, kind));
  button.onclick = () => closer(item(button, "student", "Student", seed));
  figure.append(button, make("figcaption", "", seconds(at)));
  return figure;
}

const item = (box, id, label, seed) => {
  const shown = box.querySelector("img, video");
  return { id, label, note: `seed ${seed}`, src: shown.src, frames: framesOf(shown, props.value.fps) };
};

/** One of the student's beside the teacher's, once there is one. */
function closer(...students) {
  const { teacher, prompt, fps } = props.value;
  look({ title: prompt, fps, items: [...(teacher.src ? [item(one, "teacher", "Teacher", teacher.seed)] : []), ...students] });
}

function fillTiles(value) {
  while (tiles.children.length > value.tiles.length) tiles.lastChild.remove();
  for (const each of value.tiles.slice(tiles.children.length)) tiles.append(tile(each, value.kind));
}

function fillTeacher({ teacher, kind }) {
  const source = teacher.src ?? teacher.preview, key = typeof source === "string" ? source : source?.url ?? "";
  if (one.dataset.key !== key) {
    one.dataset.key = key;
    one.replaceChildren(...(source ? [media(source, teacher.src ? kind : "image")] : []));
  }
  lane("teacher").dataset.sharp = Boolean(teacher.src);
  lane("teacher").style.setProperty("--done", teacher.src ? 1 : (teacher.step ?? 0) / (teacher.steps || 1));
}

function fillOutcome(value) {
  find(".tdm-outcome").hidden = !value.ratios;
  if (!value.ratios) return;
  find(".tdm-outcome h3").textContent = value.result;
  find(".tdm-outcome .tdm-small").textContent = value.recorded;
  find(".tdm-outcome dl").replaceChildren(...value.ratios.map(([name, ratio]) => {
    const pair = make("div");
    pair.append(make("dt", "", name), make("dd", "", `${ratio.toFixed(1)}×`));
    return pair;
  }));
}

function show() {
  const value = props.value;
  if (!value) return;
  received = performance.now();
  const running = ["teacher", "student"].includes(value.phase) && !stopped;
  if (running) cancelAnimationFrame(replaying);
  root.dataset.phase = value.phase;
  find(".tdm-lead").textContent = value.lead;
  find(".tdm-rule").textContent = value.rule;
  find(".tdm-prompt").textContent = value.prompt ?? "";
  Object.assign(find("[data-do=start]"), { textContent: value.start, hidden: running });
  Object.assign(find("[data-do=stop]"), { textContent: value.stop, hidden: !running });
  find("[data-do=replay]").hidden = value.phase !== "done";
  Object.assign(find(".tdm-problem"), { textContent: value.message ?? "", hidden: !value.message });
  fillTiles(value);
  fillTeacher(value);
  fillOutcome(value);
  tick();
}

/** The numbers of both lanes; between two messages of the server the browser's clock goes on. */
function tick() {
  const { phase, teacher = {}, tiles: made = [] } = props.value ?? {};
  const gone = teacher.seconds ?? (teacher.elapsed ?? 0) + (phase === "teacher" && !stopped ? (performance.now() - received) / 1000 : 0);
  const last = made.at(-1)?.at ?? 0;
  find("[data-lane=teacher] .tdm-lanecount").textContent = teacher.seconds ? seconds(teacher.seconds)
    : teacher.steps ? `step ${teacher.step} of ${teacher.steps} · ${seconds(gone)}` : "";
  find("[data-lane=student] .tdm-lanecount").textContent = made.length ? `${made.length} made in ${seconds(last)}` : "";
}
setInterval(() => { if (root.isConnected && props.value?.phase === "teacher" && !stopped) tick(); }, 100);

/** Both lanes together, each event at its recorded time. */
function replay() {
  const value = props.value, start = performance.now(), all = value.teacher.seconds;
  cancelAnimationFrame(replaying);
  (function step(now) {
    const gone = Math.max(now - start, 0) / 1000;
    [...tiles.children].forEach((figure, i) => { figure.style.visibility = value.tiles[i].at <= gone ? "" : "hidden"; });
    one.style.visibility = gone >= all ? "" : "hidden";
    lane("teacher").style.setProperty("--done", Math.min(gone / all, 1));
    find(".tdm-racetime").textContent = gone < all ? seconds(gone) : "";
    if (gone < all && root.isConnected) replaying = requestAnimationFrame(step);
  })(start);
}

const actions = {
  look: () => { if (props.value.teacher.src) closer(); },
  start() { stopped = false; trigger("submit"); },
  stop() { stopped = true; trigger("stop"); show(); },
  replay,
};
root.addEventListener("click", (event) => actions[event.target.closest("[data-do]")?.dataset.do]?.());
watch("value", show);
show();
