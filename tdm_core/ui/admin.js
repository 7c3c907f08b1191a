
// What the server sends enters through textContent alone. The token lives in this closure and nowhere else.
"use strict";
(() => {
  const BASE = location.pathname.replace(/\/$/, "");
  const REFRESH_MS = 15000;
  const find = (selector) => document.querySelector(selector);
  let token = "";

  async function ask(path, body) {
    const post = { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } };
    const options = body === undefined ? { headers: {} } : post;
    options.headers.authorization = `Bearer ${token}`;
    const response = await fetch(`${BASE}/${path}`, { cache: "no-store", ...options });
    const answer = await response.json();
    if (!response.ok) throw Object.assign(new Error(answer.error ?? `HTTP ${response.status}`), { code: answer.code });
    return answer;
  }

  const make = (tag, text = "") => Object.assign(document.createElement(tag), { textContent: text });
  const time = (ms) => new Date(ms).toISOString().replace("T", " ").slice(0, 16) + " UTC";
  const plain = (value) => value.replaceAll("_", " ");

  function rows(table, entries) {
    table.replaceChildren(...entries.map(([name, value]) => {
      const row = make("tr"), head = make("th", name);
      head.scope = "row";
      row.append(head, make("td", value));
      return row;
    }));
  }

  function grid(table, heads, lines, empty) {
    const head = make("thead"), top = make("tr"), body = make("tbody");
    top.append(...heads.map((text) => Object.assign(make("th", text), { scope: "col" })));
    head.append(top);
    body.append(...lines.map((cells) => { const row = make("tr"); row.append(...cells.map((cell) => make("td", cell))); return row; }));
    if (!lines.length) { const row = make("tr"), cell = make("td", empty); cell.colSpan = heads.length; row.append(cell); body.append(row); }
    table.replaceChildren(head, body);
  }

  function show(now) {
    find("#login").hidden = true;
    find("#study").hidden = false;
    find(".state").textContent = `The study is ${now.state}.`;
    find(".question").textContent = now.question;
    const tile = ([value, name]) => { const box = make("div"); box.className = "tile"; box.append(make("b", value), make("span", name)); return box; };
    const seconds = now.seconds.median === undefined ? "–" : `${now.seconds.median.toFixed(1)} s`;
    find(".tiles").replaceChildren(...[
      [now.votes, "votes, all kinds"], [`${now.raters.finished} of ${now.target_raters}`, "raters finished"],
      [`${now.pairs} of ${now.target_pairs}`, "pairs made"], [seconds, "median per vote"],
      [now.golds_right[1] ? `${now.golds_right[0]} of ${now.golds_right[1]}` : "–", "broken pictures found"],
    ].map(tile));
    drawHours(now.votes_per_hour);
    const p = now.sides_p_value === null ? "" : ` (p = ${now.sides_p_value.toFixed(2)})`;
    rows(find(".balance"), [
      ["Votes for left, right", `${now.choices.left}, ${now.choices.right}${p}`],
      ["About the same, both bad", `${now.choices.tie}, ${now.choices.both_bad}`],
      ["Votes per pair, least and most", now.votes_per_pair.join(" to ")],
      ["One way round more often, at most", String(now.side_gap)],
      ["Seconds per vote, the middle 80 %", now.seconds.p10 === undefined ? "–" : `${now.seconds.p10.toFixed(1)} to ${now.seconds.p90.toFixed(1)}`],
    ]);
    rows(find(".counts"), [
      ["Raters begun, withdrawn", `${now.raters.begun}, ${now.raters.withdrawn}`],
      ...["issued", "voted", "skipped", "expired", "waiting"].map((name) => [`Trials ${name}`, String(now.trials[name])]),
      ...Object.entries(now.excluded).map(([rule, count]) => [`Excluded: ${plain(rule)}`, String(count)]),
    ]);
    grid(find(".flags"), ["Rater", "Votes", "Median seconds", "Why"], now.flagged.map((each) =>
      [each.rater, each.votes, each.median_seconds?.toFixed(1) ?? "–", each.rules.map(plain).join(", ")]), "Nobody so far.");
    grid(find(".events"), ["When", "What", "Reason"], [...now.events].reverse().map((each) => [time(each.at_ms), plain(each.kind), each.detail]), "Nothing yet.");
    find(".rules").textContent = now.rules_sha256;
    find("[data-do=pause]").disabled = now.state === "paused" || now.state === "closed";
    find("[data-do=resume]").disabled = now.state !== "paused";
  }

  function drawHours(hours) {
    const most = Math.max(1, ...hours), svg = find(".hours");
    svg.setAttribute("aria-label", `Votes per hour, the newest last: ${hours.join(", ")}`);
    svg.replaceChildren(...hours.map((count, hour) => {
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect"), height = (count / most) * 92;
      for (const [name, value] of Object.entries({ x: hour * 20 + 2, y: 96 - height, width: 16, height })) bar.setAttribute(name, value);
      return bar;
    }));
  }

  function showReport(report) {
    const [first, second] = report.arms, percent = (share) => `${(100 * share).toFixed(1)} %`;
    const table = make("table");
    const share = report.share ? `${percent(report.share.value)} [${percent(report.share.low)}, ${percent(report.share.high)}]` : "no votes";
    rows(table, [[`${first} better`, String(report.wins[first])], [`${second} better`, String(report.wins[second])],
      ["About the same, both bad", `${report.ties}, ${report.both_bad}`], [`Share of ${first}`, share]]);
    find(".unblinded").replaceChildren(table);
  }

  async function attempt(step) {
    try {
      await step();
    } catch (error) {
      if (error.code === "token") { token = ""; find("#login").hidden = false; find("#study").hidden = true; }
      find(find("#login").hidden ? ".state" : ".problem").textContent = error.message;
    }
  }

  const sure = (asked) => { find(".sure").hidden = !asked; find("[data-do=unblind]").hidden = asked; find(asked ? "[data-do=keep]" : "[data-do=unblind]").focus(); };
  const acts = {
    pause: async () => show(await ask("pause", { reason: find("#reason").value })),
    resume: async () => show(await ask("resume", { reason: find("#reason").value })),
    unblind: async () => sure(true),
    keep: async () => sure(false),
    really: async () => { showReport(await ask("unblind", {})); sure(false); show(await ask("overview")); },
  };

  find("#login").addEventListener("submit", (event) => {
    event.preventDefault();
    token = find("#token").value;
    find("#token").value = "";
    attempt(async () => { show(await ask("overview")); find(".problem").textContent = ""; });
  });
  document.addEventListener("click", (event) => {
    const name = event.target.closest("[data-do]")?.dataset.do;
    if (name) attempt(acts[name]);
  });
  setInterval(() => token && attempt(async () => show(await ask("overview"))), REFRESH_MS);
  find("#token").focus();
})();
