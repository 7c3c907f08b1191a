// The cards of the systems. Everything is text: a preset may be anybody's file.

const make = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });

function card(system, value) {
  const box = make("article", "tdm-system"), head = make("header", "");
  box.dataset.runs = !system.why_not.length;
  head.append(make("h3", "", system.title), make("span", "tdm-media", system.media));
  const facts = make("dl", "");
  for (const [name, words] of system.facts) facts.append(make("dt", "", name), make("dd", "", words));
  box.append(head, facts);
  if (system.why_not.length) {
    const reasons = make("ul", "tdm-reasons");
    reasons.append(...system.why_not.map((reason) => make("li", "", reason)));
    box.append(reasons);
  } else {
    const choose = Object.assign(make("button", "tdm-choose", value.choose), { type: "button" });
    choose.addEventListener("click", () => trigger("select", system.name));
    box.append(make("p", "tdm-runs", `✓ ${value.runs}`), choose);
  }
  return box;
}

function show() {
  const value = props.value;
  if (!value?.cards) return;
  element.querySelector(".tdm-lead").textContent = value.lead;
  element.querySelector(".tdm-system-cards").replaceChildren(...value.cards.map((system) => card(system, value)));
}
watch("value", show);
show();
