// The pairs behind a closed study's result, each one file with the teacher left and the student right.

async function show(section) {
  const media = section.querySelector("img, video"), frames = Number(section.dataset.frames), fps = Number(section.dataset.fps);
  const bitmaps = frames > 1 ? await decodeClip(media.src, { frames, fps }) : [await decode(media.src)], width = bitmaps[0].width / 2;
  const side = (id, label, x) => ({ id, label, frames, picture: { bitmaps, x, width } });
  const note = section.querySelector("small").textContent;
  look({ title: `${section.querySelector("p").textContent}: ${note}`, fps, items: [side("teacher", "Teacher", 0), side("student", "Student", width)] });
}

function dress() {
  for (const section of element.querySelectorAll(".tdm-judged section:not(:has(.tdm-look))"))
    section.append(lookButton(section.querySelector("p").textContent, () => show(section)));
}
element.addEventListener("click", (event) => {
  const section = event.target.closest("img, video")?.closest(".tdm-judged section");
  if (section) show(section);
});
watch("value", dress);
