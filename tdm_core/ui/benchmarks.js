// Puts a button beside each pair, as the report comes, that shows it large. The report itself is plain markup.

const FPS = 8; // of the minis' clips and CogVideoX's

function show(section) {
  const items = [...section.querySelectorAll("figure")].map((figure) => {
    const media = figure.querySelector("img, video");
    return { id: figure.dataset.role, label: figure.querySelector("figcaption").textContent, src: media.src, frames: framesOf(media, FPS) };
  });
  look({ title: section.querySelector("p").textContent, fps: FPS, items });
}

function dress() {
  for (const section of element.querySelectorAll(".tdm-pairs section:not(:has(.tdm-look))"))
    section.append(lookButton(section.querySelector("p").textContent, () => show(section)));
}
element.addEventListener("click", (event) => {
  const section = event.target.closest("img, video")?.closest(".tdm-pairs section");
  if (section) show(section);
});
watch("value", dress);
