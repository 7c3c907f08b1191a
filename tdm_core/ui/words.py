"""The words that a small model knows, as buttons that put them into the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from tdm_core.ui import texts
from tdm_core.ui.viewer import static_html

_TEMPLATE = '<details class="tdm-words" hidden><summary></summary><div></div></details>'
_SCRIPT = """
const box = element.querySelector(".tdm-words");
const make = (tag, text, more = {}) => Object.assign(document.createElement(tag), { textContent: text, ...more });
function show() {
  const { title = "", groups = [] } = props.value ?? {};
  box.hidden = !groups.length;
  box.querySelector("summary").textContent = title;
  box.querySelector("div").replaceChildren(...groups.map(({ heading, words }) => {
    const row = make("p", "");
    const button = (word) => {
      const made = make("button", word, { type: "button", onclick: () => trigger("select", word) });
      made.dataset.asIs = ""; // the model knows the English word
      return made;
    };
    row.append(make("b", heading), ...words.map(button));
    return row;
  }));
}
watch("value", show);
show();
"""


def word_buttons(vocabulary: Mapping[str, Sequence[str]], **options: Any) -> gr.HTML:
    """Its event ``select`` brings the word."""
    return static_html(_TEMPLATE, "", _SCRIPT, value=words_value(vocabulary), **options)


def words_value(vocabulary: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    groups = [{"heading": heading, "words": list(words)} for heading, words in vocabulary.items()]
    return {"title": texts.WORDS, "groups": groups}


def with_word(prompt: str, word: object) -> str:
    """The prompt with a word at its end; anything but a short text is left out."""
    if not isinstance(word, str) or not 0 < len(word) < 40:
        return prompt
    return f"{prompt.rstrip()} {word}".lstrip()
