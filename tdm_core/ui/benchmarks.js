// Puts a button beside each pair, as the report comes, that shows it large. The report itself is plain markup.

const FPS = 8; // of the minis' clips and CogVideoX's

function show(section) {
  const items = [...section.querySelectorAll("figure")].map((figure) => {
    const media = figure.querySelector("img, video");
    return { id: figure.dataset.role, label: figure.querySelector("figcaption").textContent, src: media.src, frames: framesOf(media, FPS) };
  });
  look({ title: section.querySelector("p").textContent, fps: FPS, items });
}

watch("value", lookable(element, ".tdm-pairs section", show));
