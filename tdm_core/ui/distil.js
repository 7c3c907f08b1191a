// Draws a live distillation from the component's value (see `Lesson` in distil.py); words enter through textContent.

const root = element.querySelector(".tdm-distil");
const find = (selector) => root.querySelector(selector);
const SHOWN = { // state -> its buttons
  idle: ["begin"], waiting: ["quit"], loading: ["quit"], running: ["hold", "quit"], paused: ["proceed", "quit"],
  ended: ["compare", "download", "begin"], stopped: ["begin"], failed: ["begin"],
};
const NAMES = { teacher: "Teacher", student: "Student", equal: "Teacher" };
const ORDER = ["teacher", "student", "equal"];
const IDS = { teacher: "teacher", equal: "teacher_few", student: "student" }; // the viewer's, in its order
const TOP_PX = 12, BOTTOM_PX = 226, LEFT_PX = 36;

const make = (tag, className = "", textContent = "") => Object.assign(document.createElement(tag), { className, textContent });
function draw_svg(parent, tag, attributes, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  parent.append(node);
}
const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
const percent = (share) => `${Math.round(share * 100)} %`;
const evaluations = (value) => ({ teacher: value.begin.teacher_nfe, student: value.begin.steps, equal: value.begin.steps });

function show() {
  const value = props.value ?? { state: "idle" };
  const wished = { hold: "paused", proceed: "running" }[asked];
  if (value.state !== "running" && value.state !== "paused" || value.state === wished) asked = "";
  root.dataset.state = value.state;
  for (const button of root.querySelectorAll("[data-do]")) {
    button.hidden = !SHOWN[value.state].includes(button.dataset.do);
    if ("disabled" in button) button.disabled = asked !== "";
  }
  find("[data-do=begin]").textContent = value.state === "idle" ? "Start learning" : "Start anew";
  find("[data-do=begin]").className = value.state === "ended" ? "" : "tdm-primary";
  const message = find(".tdm-message");
  message.hidden = !value.message;
  message.textContent = value.message ?? "";
  find(".tdm-body").hidden = !value.begin;
  if (value.file) Object.assign(find("[data-do=download]"), { href: value.file.url, download: value.file.orig_name });
  if (!value.begin) return;
  const last = value.scores.at(-1);
  figure("step", `${value.spent.step} of ${value.begin.iterations}`);
  figure("time", clock(value.spent.seconds));
  figure("forwards", value.spent.forwards.toLocaleString("en"));
  figure("score", last ? percent(last.value) : "…");
  figure("questions", value.begin.questions);
  const meter = find(".tdm-meter");
  meter.style.setProperty("--done", value.spent.step / value.begin.iterations);
  meter.setAttribute("aria-valuemax", value.begin.iterations);
  meter.setAttribute("aria-valuenow", value.spent.step);
  chart(value);
  scenes(value);
}

function figure(name, text) {
  find(`[data-figure=${name}]`).textContent = text;
}

let width = 0; // of the chart, told when it changes: asking at every event would lay the page out each time
function chart({ begin, scores, lines }) {
  const svg = find("svg"), right = width - 14; // its own pixels: words keep their size
  const known = JSON.stringify([begin.iterations, scores, lines, width]);
  if (!width || svg.dataset.known === known) return;
  svg.dataset.known = known;
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${BOTTOM_PX + 30}`);
  const x = (step) => LEFT_PX + (right - LEFT_PX) * step / begin.iterations;
  const y = (share) => BOTTOM_PX - (BOTTOM_PX - TOP_PX) * share;
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    draw_svg(svg, "line", { class: "tdm-rule", x1: LEFT_PX, x2: right, y1: y(share), y2: y(share) });
    draw_svg(svg, "text", { x: LEFT_PX - 8, y: y(share) + 5, "text-anchor": "end" }, `${share * 100}`);
  }
  for (const share of width < 560 ? [0, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1]) {
    draw_svg(svg, "text", { x: x(share * begin.iterations), y: BOTTOM_PX + 24, "text-anchor": "middle" }, Math.round(share * begin.iterations));
  }
  for (const [role, line] of Object.entries(lines)) {
    draw_svg(svg, "line", { class: "tdm-dashed", "data-role": role, x1: LEFT_PX, x2: right, y1: y(line.value), y2: y(line.value) });
    const above = role === "teacher" || line.value < 0.1; // never both on one side of two close lines
    const beside = y(line.value) + (above ? -8 : 18);
    draw_svg(svg, "text", { class: "tdm-line-label", "data-role": role, x: right, y: beside, "text-anchor": "end" },
      `Teacher, ${line.nfe} evaluations`);
  }
  if (!scores.length) return;
  const edge = (key) => scores.map((score) => `${x(score.step).toFixed(1)},${y(score[key]).toFixed(1)}`);
  draw_svg(svg, "polygon", { class: "tdm-band", points: [...edge("high"), ...edge("low").reverse()].join(" ") });
  draw_svg(svg, "polyline", { class: "tdm-curve", points: edge("value").join(" ") });
  for (const score of scores) draw_svg(svg, "circle", { cx: x(score.step), cy: y(score.value), r: 4.5 });
}

function scenes(value) {
  const box = find(".tdm-scenes"), prompts = value.begin.prompts, nfe = evaluations(value);
  if (box.dataset.prompts !== JSON.stringify(prompts)) {
    box.dataset.prompts = JSON.stringify(prompts);
    box.replaceChildren(...prompts.map((prompt) => {
      const scene = make("figure", "tdm-scene"), trio = make("div", "tdm-trio");
      for (const role of ORDER) {
        const one = make("div");
        one.dataset.role = role;
        one.append(make("i", "tdm-blank"), make("span"));
        trio.append(one);
      }
      const caption = make("figcaption", "", prompt), button = lookButton(prompt, () => closer(trio, prompt));
      caption.dir = "auto";
      button.hidden = true; // until there is something to look at
      scene.append(caption, button, trio);
      trio.onclick = (event) => { if (event.target.tagName === "IMG") closer(trio, prompt); };
      return scene;
    }));
  }
  for (const role of ORDER) {
    const made = value.pictures[role];
    [...box.children].forEach((scene, index) => {
      const one = scene.querySelector(`[data-role=${role}]`);
      one.querySelector("span").textContent = `${NAMES[role]} · ${nfe[role]}`;
      one.title = `${NAMES[role]}, ${nfe[role]} network evaluations`;
      if (!made) {
        one.firstChild.replaceWith(make("i", "tdm-blank"));
        return;
      }
      const source = `data:image/png;base64,${made.pictures[index]}`;
      if (one.firstChild.src === source) return;
      if (one.firstChild.tagName !== "IMG") one.firstChild.replaceWith(make("img"));
      Object.assign(one.firstChild, { src: source, alt: `${NAMES[role]}: ${prompts[index]}` });
      scene.querySelector(".tdm-look").hidden = false;
    });
  }
}

/** The pictures of one prompt as they are now, large. */
function closer(trio, title) {
  const shown = Object.keys(IDS).map((role) => trio.querySelector(`[data-role=${role}]`)).filter((one) => one.firstChild.tagName === "IMG");
  look({ title, items: shown.map((one) => ({ id: IDS[one.dataset.role], label: one.lastChild.textContent, src: one.firstChild.src })) });
}

let asked = ""; // what was clicked and is not yet true
for (const button of root.querySelectorAll("button[data-do]")) {
  button.onclick = () => {
    asked = ["hold", "proceed", "quit"].includes(button.dataset.do) ? button.dataset.do : "";
    for (const each of root.querySelectorAll("button[data-do]")) each.disabled = true;
    ({ begin: () => trigger("begin"), hold: () => trigger("hold"), proceed: () => trigger("proceed"),
       quit: () => trigger("quit"), compare: () => trigger("compare") })[button.dataset.do]();
    if (button.dataset.do === "compare") show();
  };
}
watch("value", show);
new ResizeObserver(([{ contentRect }]) => { width = Math.round(contentRect.width); show(); }).observe(find("svg"));
show();
