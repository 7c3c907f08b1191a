// The pairs behind a closed study's result, each one file with the teacher left and the student right.

async function show(section) {
  const media = section.querySelector("img, video"), frames = Number(section.dataset.frames), fps = Number(section.dataset.fps);
  const bitmaps = frames > 1 ? await decodeClip(media.src, { frames, fps }) : [await decode(media.src)], width = bitmaps[0].width / 2;
  const side = (id, label, x) => ({ id, label, frames, picture: { bitmaps, x, width } });
  const note = section.querySelector("small").textContent;
  look({ title: `${section.querySelector("p").textContent}: ${note}`, fps, items: [side("teacher", "Teacher", 0), side("student", "Student", width)] });
}

watch("value", lookable(element, ".tdm-judged section", show));
