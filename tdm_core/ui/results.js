// The pairs behind a closed study's result, each one file with the teacher left and the student right.

function show(section) {
  const { src } = section.querySelector("img, video"), frames = Number(section.dataset.frames), fps = Number(section.dataset.fps);
  const items = ["Teacher", "Student"].map((label, half) => ({ id: label.toLowerCase(), label, src, frames, half }));
  look({ title: `${section.querySelector("p").textContent}: ${section.querySelector("small").textContent}`, fps, items });
}

watch("value", lookable(element, ".tdm-judged section", show));
