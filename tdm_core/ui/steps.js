
// The Steps tab around its viewer: a start button, and a film of all steps whose columns are the viewer's frames.

const listeners = [], film = element.querySelector(".tdm-film"), go = element.querySelector(".tdm-go");
const stepsViewer = mount(element.querySelector(".tdm-viewer"), {
  locked: false, linkless: true, below: 40, read: () => props.value, listen: (draw) => listeners.push(draw), stop: () => trigger("stop"),
});

function column(index, words, items) {
  const box = Object.assign(create("button", "tdm-column"), { type: "button" });
  box.append(create("span", "", words), ...items.map((item) => {
    const picture = Object.assign(create("img"), { src: localUrl(item.src[index]) ?? "", alt: `${item.label}, ${words}` });
    return picture;
  }));
  box.addEventListener("click", () => { stepsViewer.clock.pause(); stepsViewer.clock.seek(index); });
  return box;
}

let filled = "";
function show() {
  const { lead = "", start = "", prompt = "", ticks = [], items = [] } = props.value ?? {};
  element.querySelector(".tdm-lead").textContent = lead;
  element.querySelector(".tdm-prompt").textContent = prompt;
  go.textContent = start;
  element.querySelector(".tdm-viewer").hidden = !items.length;
  const ready = items.length && items.every((item) => Array.isArray(item.src)), key = ready ? JSON.stringify(items.map((item) => item.src)) : "";
  if (key !== filled) {
    const rows = create("div", "tdm-rows");
    rows.append(...items.map((item) => create("span", "", item.label)));
    film.replaceChildren(...(ready ? [rows, ...ticks.map((words, index) => column(index, words, items))] : []));
  }
  filled = key;
  film.hidden = !ready;
  listeners.forEach((draw) => draw());
}
go.addEventListener("click", () => trigger("submit"));
watch("value", show);
show();
