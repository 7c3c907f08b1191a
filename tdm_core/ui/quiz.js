// The quiz: one pair after the other, then where the student lay. Nothing is stored, here or on the server.

const ROUTES = new URL("gradio_api/quiz", document.baseURI).href;
const POLL_MS = 3000;
const root = element.querySelector(".tdm-quiz");
const find = (selector) => root.querySelector(selector);
const canvases = [...root.querySelectorAll(".tdm-quiz-stack canvas")];
const PLACES = ["top", "bottom"];
let quiz = null, shown = [], choices = [], again = () => {};

async function ask(path = "", body) {
  const post = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(ROUTES + path, { cache: "no-store", ...(body === undefined ? {} : post) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? `HTTP ${response.status}`);
  return answer;
}

async function picture(number) {
  const response = await fetch(`${ROUTES}/media/${number}`, { cache: "no-store" });
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  return createImageBitmap(await response.blob(), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

function enter(state) {
  const focused = root.contains(document.activeElement);
  root.dataset.state = state;
  if (focused) root.focus({ preventScroll: true });
}

async function attempt(step) {
  try {
    await step();
  } catch (error) {
    find(".tdm-problem").textContent = error.message;
    again = () => attempt(step);
    enter("failed");
  }
}

const refresh = () => attempt(async () => {
  quiz = await ask();
  if (quiz.pairs >= quiz.total) {
    find(".tdm-quiz-total").textContent = quiz.total;
    return enter("intro");
  }
  find(".tdm-quiz-count").textContent = `${quiz.pairs} of ${quiz.total}`;
  enter("preparing");
  setTimeout(() => root.isConnected && refresh(), POLL_MS);
});

function paint(canvas, bitmap, place) {
  const width = bitmap.width / 2, height = bitmap.height;
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").drawImage(bitmap, place * width, 0, width, height, 0, 0, width, height);
}

const next = () => attempt(async () => {
  const number = choices.length + 1;
  if (number > quiz.total) return reveal();
  const bitmap = await picture(number);
  shown[number - 1] = bitmap;
  canvases.forEach((canvas, place) => paint(canvas, bitmap, place));
  find(".tdm-quiz-number").textContent = `Pair ${number} of ${quiz.total}`;
  find(".tdm-quiz-question .tdm-bar-outer").style.setProperty("--done", (number - 1) / quiz.total);
  find(".tdm-quiz-ask").textContent = quiz.question;
  find(".tdm-prompt").textContent = quiz.prompts[number - 1];
  enter("question");
});

async function reveal() {
  const { answers } = await ask("/answers", { choices });
  const students = answers.filter(({ student, chosen }) => student === chosen).length;
  find(".tdm-quiz-score").textContent = `You picked the student in ${students} of ${answers.length}`;
  const apart = Math.abs(2 * students - answers.length) === answers.length;
  find(".tdm-quiz-verdict").textContent = apart
    ? `All the same way. So few pairs can still fall so by luck, once in ${2 ** (answers.length - 1)} times.`
    : "With so few pairs that is what guessing looks like. The blind study asks more people, more often.";
  find(".tdm-quiz-answers").replaceChildren(...answers.map(answerRow));
  enter("end");
}

function answerRow({ prompt, student, chosen }, index) {
  const row = document.createElement("li"), words = document.createElement("p"), pictures = document.createElement("div");
  words.textContent = prompt;
  words.dir = "auto";
  for (const [place, name] of PLACES.entries()) {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas"), caption = document.createElement("figcaption");
    const whose = name === student ? "Student" : "Teacher";
    paint(canvas, shown[index], place);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${whose}, ${name}: ${prompt}`);
    caption.textContent = `${whose}${name === chosen ? " · your pick" : ""}`;
    figure.dataset.chosen = name === chosen;
    figure.append(canvas, caption);
    pictures.append(figure);
  }
  const other = student === "top" ? "bottom" : "top";
  const names = { [student]: { id: "student", label: "Student" }, [other]: { id: "teacher", label: "Teacher" } };
  const head = document.createElement("header");
  head.append(words, lookButton(prompt, () => closer(index, names, false)));
  row.append(head, pictures);
  return row;
}

/** Both pictures of a pair in the large viewer, each with its name. */
function closer(index, names, locked) {
  const bitmap = shown[index], width = bitmap.width / 2;
  const items = PLACES.map((place, at) => ({ ...names[place], picture: { bitmap, x: at * width, width } }));
  look({ title: quiz.prompts[index], locked, items });
}

function choose(place) {
  if (root.dataset.state !== "question") return;
  choices.push(place);
  next();
}

const actions = { closer: () => closer(choices.length, { top: { id: "top", label: "Top" }, bottom: { id: "bottom", label: "Bottom" } }, true), start: () => { choices = []; shown = []; next(); }, retry: () => again() };
root.addEventListener("click", (event) => {
  const button = event.target.closest("[data-place], [data-do]");
  if (button?.dataset.place) choose(button.dataset.place);
  else if (button) actions[button.dataset.do]();
});
root.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey || event.repeat) return;
  const place = { ArrowUp: "top", ArrowDown: "bottom" }[event.key];
  if (!place || root.dataset.state !== "question") return;
  event.preventDefault();
  choose(place);
});

refresh();
