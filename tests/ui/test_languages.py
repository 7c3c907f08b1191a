"""Every text of the page has a translation with the same places, and the page in Chinese has no English left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tdm_core.ui import languages, texts
from tdm_core.ui.about import _TEMPLATES

FOLDER = Path(languages.__file__).parent
TEMPLATES = sorted(path for path in FOLDER.rglob("*.html") if not path.name.startswith("about"))
AS_IS = {"a cat left of a dog", "✨"}  # what the small world understands is English


def texts_of_python():
    for name, value in vars(texts).items():
        if name.isupper():
            yield from value.values() if isinstance(value, dict) else [value]


def places(text):
    return set(re.findall(r"\{(\w+)", text))


def english():
    found = [*texts_of_python(), *(text for path in TEMPLATES for text in languages.spoken_texts(path.read_text()))]
    return sorted({text for text in found if re.search("[A-Za-z]{2}", text)})


@pytest.mark.parametrize("language", languages.TABLES)
def test_every_text_has_a_translation(language):
    table = languages.table(language)
    assert [text for text in english() if text not in table] == []


@pytest.mark.parametrize("language", languages.TABLES)
def test_a_translation_keeps_the_places_of_its_text(language):
    odd = [text for text, told in languages.table(language).items() if not told or places(told) != places(text)]
    assert odd == []


def test_the_essay_has_the_same_figures_in_each_language():
    figures = [sorted(re.findall(r"\$\w+", template.template)) for template in _TEMPLATES.values()]
    assert all(len(set(found)) == len(set(figures[0])) and set(found) == set(figures[0]) for found in figures)


def test_the_table_cannot_end_its_script():
    assert languages.script().count("</script>") == 1


def test_what_a_template_says_is_read_as_the_page_shows_it():
    html = '<p title="A  b">One\n <b>two</b> <kbd>S</kbd></p><script>var three</script>'
    assert languages.spoken_texts(html) == ["A b", "One", "two"]


LEFT_OVER = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!/[A-Za-z]{3}/.test(text) || !parent.checkVisibility()) continue;
    if (parent.closest("script, style, textarea, code, kbd, [dir=auto], [data-as-is], .tdm-chip")) continue;
    found.push(text);
  }
  return found;
}"""
NAMES = re.compile(r"cookie|SHA-256|[0-9a-f]{8}|Krippendorff|TDM_DATA_DIR|make bench|LoRA")


def test_a_chinese_browser_sees_no_english(studio, open_page):
    page = open_page(studio.url, locale="zh-CN")
    page.get_by_role("tab", name="对比").wait_for()
    assert page.evaluate("document.documentElement.lang").startswith("zh")  # Gradio says which Chinese
    page.wait_for_function("document.querySelector('.tdm-card[data-id=teacher]')?.dataset.state === 'ready'")
    page.locator(".tdm-foot", has_text="三者始于同一噪声").first.wait_for()
    left = [text for text in page.evaluate(LEFT_OVER) if not NAMES.search(text)]
    assert left == []
    page.get_by_role("tab", name="盲评").click()
    page.get_by_text("更贴合").first.wait_for()
    assert [text for text in page.evaluate(LEFT_OVER) if not NAMES.search(text)] == []


def settle(page):
    """A page that is left while it works complains of what was cut off."""
    page.locator("#tdm-compare .tdm-card[data-state=ready]").nth(2).wait_for()
    page.wait_for_timeout(300)


def test_the_button_in_the_header_changes_the_language_and_the_browser_remembers(studio, open_page):
    page = open_page(studio.url)
    settle(page)
    page.get_by_role("button", name="中文").click()
    page.get_by_role("tab", name="盲评").wait_for()
    settle(page)
    page.goto(studio.url)
    page.get_by_role("tab", name="盲评").wait_for()
    settle(page)
    page.get_by_role("button", name="English").click()
    page.get_by_role("tab", name="Blind study").wait_for()
    settle(page)


def test_a_prompt_stays_as_it_was_written(studio, open_page):
    page = open_page(f"{studio.url}/?lang=zh&prompt=Compare&seed=1")
    page.get_by_role("tab", name="对比").wait_for()
    page.wait_for_function("document.querySelector('#tdm-prompt textarea')?.value === 'Compare'")  # not its translation
