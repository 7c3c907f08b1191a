"""Every text of the page has a translation with the same places, and the page in Chinese has no English left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tdm_core.ui import languages, texts
from tdm_core.ui.about import _TEMPLATES
from tests.walk import TABS, open_tab

FOLDER = Path(languages.__file__).parent
TEMPLATES = sorted(path for path in FOLDER.rglob("*.html") if not path.name.startswith("about"))
SCRIPTS = sorted(path for path in FOLDER.rglob("*.js") if path.name != "admin.js")  # the operator's page is English
AS_IS = {"a cat left of a dog", "✨"}  # what the small world understands is English
UNSPOKEN = {"past {}", "Retry-After", "English", "Escape", "Arrow", "{}px system-ui, sans-serif"}
UNSPOKEN |= {"script, style", "img, video", "dialog, select, input", "button, summary, a"}

COMMENT = re.compile(r"/\*.*?\*/|(?<![:\"'`])//[^\n]*", re.DOTALL)
LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`')
PLACE = re.compile(r"\$?\{(?:[^{}]|\{[^{}]*\})*\}")
SIGNS = re.compile(r"tdm-|data-|^[(.:]|[=<>\[\]#/]|\w\(")  # selectors, addresses, code
WORDS = re.compile(r"^[A-Z][a-z]*(?:[^A-Za-z]|$)|[a-z]{2,}[,;:]? [a-z{]|\} [a-z]{2}")


def texts_of_python():
    for name, value in vars(texts).items():
        if name.isupper():
            yield from value.values() if isinstance(value, dict) else [value]


def places(text):
    return set(re.findall(r"\{(\w+)", text))


def english():
    found = [*texts_of_python(), *(text for path in TEMPLATES for text in languages.spoken_texts(path.read_text()))]
    return sorted({text for text in found if re.search("[A-Za-z]{2}", text)})


def bare(text):
    """Whatever its places are called."""
    return PLACE.sub("{}", text)


def spoken_by(script):
    """The literals that look like words: they begin with a capital, or are some words in a row; around " · " apart."""
    for quoted, template in LITERAL.findall(COMMENT.sub("", script)):
        for part in bare(quoted or template).split(" · "):
            if re.search("[a-z]{2}", part) and WORDS.search(part) and not SIGNS.search(part):
                yield part.strip()


def test_words_of_a_script_are_told_from_its_code():
    script = """
      // "Not this": a comment
      const a = find(".tdm-one"), b = "Try again", c = `${n} of ${of({ n })} frames · ${x}`, d = "pointerdown";
      fetch("https://localhost/Words", { method: "POST" }); say(ok ? "no words" : "image/webp");
    """
    assert list(spoken_by(script)) == ["Try again", "{} of {} frames", "no words"]


@pytest.mark.parametrize("language", languages.TABLES)
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_what_a_script_says_has_a_translation(path, language):
    known = {bare(text) for text in languages.table(language)} | UNSPOKEN
    assert [text for text in spoken_by(path.read_text()) if text not in known] == []


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
    if (parent.closest(".tdm-system h3, .tdm-reasons, .tdm-scene figcaption")) continue; // names, prompts, a cure
    found.push(text);
  }
  return found;
}"""
NAMES = re.compile(
    r"cookie|SHA-256|[0-9a-f]{8}|Krippendorff|Wilson|TDM_DATA_DIR|make bench|LoRA|python -m|Apache|a fake of"
    r"|Shift|Home End"
)


def test_a_chinese_browser_sees_no_english(studio, open_page):
    page = open_page(studio.url, locale="zh-CN")
    page.get_by_role("tab", name="对比").wait_for()
    assert page.evaluate("document.documentElement.lang").startswith("zh")  # Gradio says which Chinese
    page.wait_for_function("document.querySelector('.tdm-card[data-id=teacher]')?.dataset.state === 'ready'")
    page.locator(".tdm-foot", has_text="全部始于同一噪声").first.wait_for()
    assert left_over(page) == []
    page.locator("#tdm-compare [data-act=diff]").click()
    page.locator("#tdm-compare [data-act=next]").click()
    page.locator("#tdm-compare .tdm-menu summary").click()
    page.locator("#tdm-fine > button").click()
    assert left_over(page) == []
    page.locator("#tdm-compare [data-act=help]").click()
    assert left_over(page) == []


def left_over(page):
    page.evaluate("() => new Promise((done) => setTimeout(done, 300))")
    return [text for text in page.evaluate(LEFT_OVER) if not NAMES.search(text)]


RACE, STEPS, QUIZ, LESSON = "#tdm-race", "#tdm-steps", "#tdm-quiz", ".tdm-distil"
BUSY = {  # what a tab shows once it is used: what to press, in turn, and what then comes
    "盲评": [("#tdm-study [data-do]:visible", "#tdm-study [data-choice=left]:not([aria-disabled])")],
    "赛跑": [(f"{RACE} [data-do=start]", f"{RACE} .tdm-lanecount >> text=·"), ("", f"{RACE} .tdm-outcome h3")],
    "步骤": [(f"{STEPS} .tdm-go", f"{STEPS} .tdm-column >> nth=4")],
    "蒸馏": [(f"{LESSON} [data-do=begin]", f"{LESSON} circle"), ("", f"{LESSON}[data-state=ended]")],
    "测验": [(f"{QUIZ} [data-do=start]:visible", f"{QUIZ} .tdm-quiz-number >> text={n}") for n in "1"]
    + [(f"{QUIZ} [data-place=top]", f"{QUIZ} .tdm-quiz-number >> text={n}") for n in "23"]
    + [(f"{QUIZ} [data-place=top]", f"{QUIZ} .tdm-quiz[data-state=end]")],
}


def test_a_chinese_browser_sees_no_english_on_any_tab(studio, open_page):
    studio.control(pairs=3, quiz_pairs=3)
    page = open_page(studio.url, locale="zh-CN")
    page.locator(".tdm-card[data-id=teacher][data-state=ready]").wait_for()
    page.wait_for_function(f"({TABS})().length === 10")
    names = page.evaluate(TABS)
    assert BUSY.keys() < set(names)
    for name in names:
        open_tab(page, name)
        assert left_over(page) == [], name
        for press, comes in BUSY.get(name, []):
            if press:
                page.locator(press).first.click()
            page.locator(comes).first.wait_for()
            assert left_over(page) == [], (name, comes)


def test_a_chinese_browser_reads_the_results_of_a_closed_study(studio, open_page):
    studio.control(pairs=3)
    page = open_page(studio.url, locale="zh-CN")
    page.wait_for_function(f"({TABS})().length === 10")
    open_tab(page, "盲评")
    page.locator("#tdm-study [data-do]:visible").first.click()
    for number in (1, 2):
        page.locator("#tdm-study .tdm-number", has_text=str(number)).wait_for()
        page.locator("#tdm-study [data-choice=left]:not([aria-disabled])").click()
    page.locator("#tdm-study .tdm-number", has_text="3").wait_for()
    studio.control("/close")
    open_tab(page, "结果")
    page.locator(".tdm-results h2").wait_for()
    assert left_over(page) == []


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
