// The loupe: the same few pixels of every shown picture, enlarged, with their values.

const LOUPE_PX = 11; // picture pixels across

/** `look({x, y}, panes)` fills the box for the point x, y in 0..1; panes: [{canvas, label}]. */
function makeLoupe(box) {
  const rows = [];

  function row(index) {
    if (!rows[index]) {
      const figure = create("figure", "tdm-lens"), canvas = create("canvas"), words = create("figcaption");
      Object.assign(canvas, { width: LOUPE_PX, height: LOUPE_PX });
      words.append(create("b"), create("span"), create("span"));
      figure.append(canvas, words);
      rows[index] = figure;
    }
    return rows[index];
  }

  return function look({ x, y }, panes) {
    box.replaceChildren(...panes.map(({ canvas, label }, index) => {
      const figure = row(index), [lens, words] = figure.children, half = (LOUPE_PX - 1) / 2;
      const at = (share, length) => clamp(Math.floor(share * length), 0, length - 1);
      const px = at(x, canvas.width), py = at(y, canvas.height), brush = lens.getContext("2d", { willReadFrequently: true });
      brush.clearRect(0, 0, LOUPE_PX, LOUPE_PX);
      brush.imageSmoothingEnabled = false;
      brush.drawImage(canvas, px - half, py - half, LOUPE_PX, LOUPE_PX, 0, 0, LOUPE_PX, LOUPE_PX);
      const [r, g, b] = brush.getImageData(half, half, 1, 1).data;
      words.children[0].textContent = label;
      words.children[1].textContent = `${r} ${g} ${b}`;
      words.children[2].textContent = `at ${px}, ${py}`;
      return figure;
    }));
  };
}
