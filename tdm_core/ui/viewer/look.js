// How a script shows pictures in the large viewer of the page (closer.js).

/** detail: {title, locked, fps, items}: items of the viewer; `locked` as long as nobody may know which is whose. */
const look = (detail) => window.dispatchEvent(new CustomEvent("tdm-look", { detail }));

/** A button over a picture or pair; `words` say of what, `onclick` shows it. */
function lookButton(words, onclick) {
  const made = Object.assign(document.createElement("button"), { type: "button", className: "tdm-look", title: "Look closer", onclick });
  made.setAttribute("aria-label", `Look closer: ${words}`);
  made.innerHTML = '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M3 8V3h5M12 3h5v5M17 12v5h-5M8 17H3v-5"/></svg>';
  return made;
}

/** What the viewer has to know of a clip that the page plays already; a picture has one frame. */
const framesOf = (media, fps) => (media.tagName === "VIDEO" ? Math.round(media.duration * fps) || 1 : 1);

/** Sections of plain markup open by `show(section)`, at a click on their media or on a button that each of them gets. What is returned adds the buttons that are missing. */
function lookable(element, sections, show) {
  element.addEventListener("click", (event) => {
    const section = event.target.closest("img, video")?.closest(sections);
    if (section) show(section);
  });
  return () => {
    for (const section of element.querySelectorAll(`${sections}:not(:has(.tdm-look))`))
      section.append(lookButton(section.querySelector("p").textContent, () => show(section)));
  };
}
