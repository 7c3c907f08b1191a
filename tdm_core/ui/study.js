
// The blind tab: asks our own routes for a trial, shows both sides in one frame, takes the vote.
//
// The browser learns a trial's id, one token for one body with both sides, and the prompt; nothing else exists here
// that could tell them apart. The server checks everything again: what is disabled here is a courtesy.

const ROUTES = new URL("gradio_api/study/", document.baseURI);
const POLL_MS = 1500;
const PATIENCE_S = 60; // a wait up to this long ends by itself
const STOPS = ["draft", "invite", "login", "paused", "withdrawn", "finished"]; // states that are just shown
const LOST = ["unknown", "expired", "duplicate"]; // refusals after which only another trial helps
const root = element.querySelector(".tdm-study");
const find = (selector) => root.querySelector(selector);
const votes = [...root.querySelectorAll("[data-choice]")];
const voteKeys = { ArrowLeft: "left", a: "left", ArrowRight: "right", k: "right", ArrowDown: "tie", n: "both_bad" };

let trial = null, shown = { rev: 0, items: [] }, redraw = () => {}, again = () => {}, unlocked = false, started = false;
let mayClose = false;

const viewer = mount(find(".tdm-viewer"), {
  locked: true, below: window.innerWidth < 600 ? 150 : 90, read: () => shown, listen: (draw) => { redraw = draw; },
});

viewer.view.mode = "side"; // whoever judges sees both pictures whole; narrow windows stack them, and say so

/** A side is called by where it lies; the vote is for left or right all the same. */
function nameSides() {
  const { mode, columns } = find(".tdm-viewer").dataset, stacked = mode === "side" && columns === "1";
  if (root.dataset.stacked === String(stacked)) return;
  root.dataset.stacked = stacked;
  for (const word of root.querySelectorAll("[data-above]")) sideWord(word);
  for (const item of shown.items) item.label = sideNames()[item.id];
  redraw();
}
const sideNames = () => (root.dataset.stacked === "true" ? { left: "Top", right: "Bottom" } : { left: "Left", right: "Right" });
function sideWord(word) {
  word.textContent = root.dataset.stacked === "true" ? word.dataset.above : word.dataset.beside;
}
new MutationObserver(nameSides).observe(find(".tdm-viewer"), { attributeFilter: ["data-mode", "data-columns"] });

async function ask(path, body) {
  const post = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(new URL(path, ROUTES), { cache: "no-store", ...(body === undefined ? {} : post) });
  const answer = await response.json();
  if (response.ok) return answer;
  const wait = Number(response.headers.get("Retry-After")) || Infinity; // seconds
  throw Object.assign(new Error(answer.error ?? `HTTP ${response.status}`), { code: answer.code, wait });
}

function enter(state) {
  const focused = root.contains(document.activeElement);
  root.dataset.state = state;
  find(".tdm-end").hidden = !mayClose || !["trial", "finished"].includes(state);
  find(".tdm-leave").hidden = mayClose || !["trial", "finished"].includes(state);
  sure(false);
  leaving(false);
  if (focused && !document.activeElement?.checkVisibility()) root.focus({ preventScroll: true });
}

/** Run a step; what the study refuses is followed, anything else can be tried again. */
async function attempt(step) {
  try {
    await step();
  } catch (error) {
    if (error.code === "closed" || error.code === "paused") return refresh();
    if (error.code === "early") return tooEarly(error.message);
    if (error.code === "slow_down" && error.wait <= PATIENCE_S) return pause(error.wait, step);
    if (LOST.includes(error.code)) return next("That pair was not counted, here is another.");
    const panel = error.code === "young" ? "young" : "failed";
    find(`[data-for=${panel}] .tdm-problem`).textContent = error.message;
    again = () => attempt(step);
    enter(panel);
  }
}

function tooEarly(message) {
  find(".tdm-hint").textContent = message;
  setTimeout(unlock, 500);
}

/** Try again by itself after some seconds, which are counted down. */
function pause(seconds, step) {
  find("[data-for=waiting] .tdm-problem").textContent = `${seconds} s`;
  enter("waiting");
  setTimeout(() => {
    if (!root.isConnected || root.dataset.state !== "waiting") return;
    if (seconds > 1) pause(seconds - 1, step);
    else attempt(step);
  }, 1000);
}

const refresh = () => attempt(async () => follow(await ask("status")));

function follow(status) {
  mayClose = status.may_close;
  for (const word of root.querySelectorAll("[data-clip]")) if (status.kind === "video") word.textContent = word.dataset.clip;
  if (status.state === "preparing") return prepare(status);
  if (status.state === "closed") {
    find(".tdm-total").textContent = status.votes === 1 ? "One vote was cast." : `${status.votes} votes were cast.`;
    return enter("closed");
  }
  if (status.state === "consent") return askConsent();
  if (STOPS.includes(status.state)) return enter(status.state);
  return started ? next() : enter("intro");
}

const askConsent = () => attempt(async () => {
  find(".tdm-consent").textContent = (await ask("rules")).consent;
  enter("consent");
});

function prepare({ pairs, needed, target }) {
  const goal = pairs < needed ? needed : target; // past the opening: this visitor has seen all pairs that exist
  find(".tdm-needed").textContent = needed;
  find(".tdm-count").textContent = `${pairs} of ${goal}`;
  const bar = find("[data-for=preparing] .tdm-bar-outer");
  bar.style.setProperty("--done", pairs / goal);
  bar.setAttribute("aria-valuemax", goal);
  bar.setAttribute("aria-valuenow", pairs);
  enter("preparing");
  setTimeout(() => root.isConnected && refresh(), POLL_MS);
}

const next = (hint = "") => attempt(async () => {
  lock();
  const answer = await ask("next", {});
  if (answer.state !== "trial") return follow(answer);
  const bitmaps = await fetchBoth(answer);
  trial = answer;
  reveal(bitmaps, hint);
});

async function fetchBoth({ media, kind, frames, fps }) {
  try {
    const address = new URL(`media/${encodeURIComponent(media)}`, ROUTES).href;
    return kind === "video" ? await decodeClip(address, { frames, fps }) : [await decode(address)];
  } catch (error) {
    throw new Error(`Nothing to look at arrived (${error.message}). If cookies are off, allow them for this page.`);
  }
}

/** Both sides are halves of the same decoded frames and are painted in one task, so they appear in one frame. */
function reveal(bitmaps, hint) {
  const width = bitmaps[0].width / 2;
  const side = (id, x) => ({ id, label: sideNames()[id], state: "ready", picture: { bitmaps, x, width } });
  shown = { rev: trial.number, fps: trial.fps, items: [side("left", 0), side("right", width)] };
  viewer.clock.seek(0);
  find(".tdm-number").textContent = trial.practice ? "Practice pair" : `Pair ${trial.number} of ${trial.total}`;
  find(".tdm-question").textContent = trial.question;
  showCriteria(trial.criteria);
  find(".tdm-progress .tdm-bar-outer").style.setProperty("--done", (trial.number - 1) / trial.total);
  find(".tdm-prompt").textContent = trial.prompt;
  const fresh = root.dataset.state !== "trial";
  enter("trial");
  redraw();
  if (fresh && root.contains(document.activeElement)) viewer.focus(); // its keys and the votes' keys work from there
  find(".tdm-hint").textContent = hint;
  const current = trial;
  setTimeout(() => { if (trial === current) unlock(); }, trial.min_view_ms + 50);
}

const ANSWERS = [["left", "left", "top"], ["tie", "the same", "the same"], ["right", "right", "bottom"]];

/** The study's further questions, which nobody has to answer; they go along with the vote. */
function showCriteria(names) {
  find(".tdm-criteria").hidden = !names.length;
  find(".tdm-criteria").replaceChildren(...names.map((name, row) => {
    const set = document.createElement("fieldset"), legend = document.createElement("legend");
    legend.textContent = `Better in ${name}:`;
    set.append(legend, ...ANSWERS.map(([value, beside, above]) => {
      const label = document.createElement("label"), input = document.createElement("input"), word = document.createElement("span");
      Object.assign(input, { type: "radio", name: `tdm-criterion-${row}`, value });
      Object.assign(word.dataset, { beside, above });
      sideWord(word);
      label.append(input, word);
      return label;
    }));
    return set;
  }));
}

function criteria() {
  const given = trial.criteria.map((name, row) => [name, find(`[name=tdm-criterion-${row}]:checked`)?.value]);
  return Object.fromEntries(given.filter(([, value]) => value));
}

function lock() {
  unlocked = false;
  for (const button of votes) button.setAttribute("aria-disabled", true); // `disabled` would throw the focus away
}

function unlock() {
  unlocked = true;
  for (const button of votes) button.removeAttribute("aria-disabled");
}

async function vote(choice) {
  if (!unlocked || root.dataset.state !== "trial") return;
  lock();
  const cast = trial.trial, chosen = votes.find((button) => button.dataset.choice === choice);
  chosen.dataset.chosen = true;
  await attempt(async () => {
    const { right } = await ask("vote", { trial: cast, choice, criteria: criteria() }); // twice counts once
    await next(right === undefined ? "" : right ? "Right: the other one was broken on purpose." : "One of them was broken on purpose; look once more at the next pair.");
  });
  delete chosen.dataset.chosen;
}

async function skip() {
  if (root.dataset.state !== "trial") return;
  const skipped = trial.trial;
  lock();
  await attempt(async () => {
    await ask("skip", { trial: skipped });
    await next("You skipped that pair.");
  });
}

/** Here a refusal is about the code, not about a pair. */
async function redeem() {
  const problem = find("[data-for=invite] .tdm-problem");
  try {
    await ask("invitation", { code: find(".tdm-code").value.trim() });
    problem.textContent = "";
  } catch (error) {
    problem.textContent = error.message;
    return;
  }
  await next();
}

function leaving(asked) {
  find(".tdm-leave .tdm-sure").hidden = !asked;
  find("[data-do=leave]").hidden = asked;
}

function sure(asked) {
  find(".tdm-end .tdm-sure").hidden = !asked;
  find("[data-do=end]").hidden = asked;
}

const actions = {
  start: () => { started = true; next(); },
  retry: () => again(),
  end: () => { sure(true); find("[data-do=keep]").focus(); },
  keep: () => { sure(false); find("[data-do=end]").focus(); },
  really: () => attempt(async () => { await ask("close", {}); await refresh(); trigger("ended"); }),
  results: () => trigger("ended"),
  look: () => refresh(),
  agree: () => { started = true; attempt(async () => { await ask("consent", {}); await next(); }); },
  redeem,
  skip,
  leave: () => { leaving(true); find("[data-do=stay]").focus(); },
  stay: () => { leaving(false); find("[data-do=leave]").focus(); },
  withdraw: () => attempt(async () => { await ask("withdraw", {}); enter("withdrawn"); }),
};

root.addEventListener("click", (event) => {
  const button = event.target.closest("[data-choice], [data-do]");
  if (button?.dataset.choice) vote(button.dataset.choice);
  else if (button) actions[button.dataset.do]();
});
root.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey || event.repeat) return;
  if (event.target.closest("dialog, select, input")) return;
  if (event.key.toLowerCase() === "s" && root.dataset.state === "trial") return skip();
  const choice = voteKeys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!choice || root.dataset.state !== "trial") return;
  event.preventDefault();
  vote(choice);
});

refresh();
