// The dialog of `look` (viewer/look.js). It keeps two viewers, one of them locked, since a viewer is open or blind for good.

const dialog = element.querySelector(".tdm-closer"), pristine = dialog.querySelector(".tdm-viewer"), seats = new Map();
const FRESH = { z: 1, cx: 0.5, cy: 0.5, wipe: 0.5, flipped: false, swapped: false, pair: null };
pristine.remove();

function seat(locked) {
  let value = { rev: 0, items: [] }, redraw = () => {};
  const box = pristine.cloneNode(true);
  dialog.append(box);
  const viewer = mount(box, {
    locked, linkless: true, floats: true, below: 56, read: () => value, listen: (draw) => { redraw = draw; }, stop: () => {},
  });
  return { box, viewer, show: (next) => { value = next; redraw(); } };
}

let rev = 0;
function open({ title = "", locked = false, items, fps }) {
  if (!seats.has(locked)) seats.set(locked, seat(locked));
  dialog.querySelector(".tdm-prompt").textContent = title;
  for (const [each, { box }] of seats) box.hidden = each !== locked;
  if (!dialog.open) dialog.showModal();
  const { viewer, show } = seats.get(locked);
  Object.assign(viewer.view, FRESH);
  show({ rev: ++rev, fps, items: items.map((item) => ({ state: "ready", ...item })) });
  viewer.focus();
}

window.addEventListener("tdm-look", ({ detail }) => open(detail));
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); }); // beside it
dialog.addEventListener("close", () => {
  for (const { viewer, show } of seats.values()) {
    viewer.clock.pause();
    show({ rev: 0, items: [] }); // decoded clips are large
  }
});
