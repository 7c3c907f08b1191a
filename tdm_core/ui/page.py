"""The page, put together from its tabs."""

from __future__ import annotations

from typing import Any

import gradio as gr

from tdm_core.ui import texts, theme
from tdm_core.ui.about import about_tab
from tdm_core.ui.api import results_endpoint
from tdm_core.ui.benchmarks import benchmarks_tab
from tdm_core.ui.closer import look_closer
from tdm_core.ui.compare import compare_tab
from tdm_core.ui.desk import Desk, Handlers
from tdm_core.ui.distil import distil_tab
from tdm_core.ui.inputs import PageInputs
from tdm_core.ui.quiz import quiz_tab
from tdm_core.ui.race import race_tab
from tdm_core.ui.results import results_tab
from tdm_core.ui.steps import steps_tab
from tdm_core.ui.study import blind_study
from tdm_core.ui.systems import systems_tab

_HEADER = '<header class="tdm-header"><h1>{title}</h1><p>{tagline}</p></header>'


_REMEMBER_TAB = """() => {
  if (!window.tdmOpened) return;  // Gradio selects the first tab before it asks which one a link wants
  const url = new URL(location.href);
  if ("NAME" === "compare") url.searchParams.delete("tab");
  else url.searchParams.set("tab", "NAME");
  history.replaceState(history.state, "", url);
}"""


def build(inputs: PageInputs) -> gr.Blocks:
    """All tabs; launch it with `launch_options` and the routes of ``routes.py``."""
    named: dict[str, gr.Tab] = {}

    def tab(name: str, label: str) -> gr.Tab:
        return named.setdefault(name, gr.Tab(label, id=name))

    with gr.Blocks(title=texts.TITLE, analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        tagline = texts.TAGLINE.format(student=inputs.preset.student.steps, teacher=inputs.preset.teacher.steps)
        handlers, desk = Handlers(inputs), gr.State(Desk())
        gr.HTML(_HEADER.format(title=texts.TITLE, tagline=tagline), js_on_load=None)
        with gr.Tabs(elem_id="tdm-tabs") as tabs:
            with tab("compare", texts.TAB_COMPARE):
                compare = compare_tab(inputs, handlers, desk)
            with tab("study", texts.TAB_STUDY):
                if inputs.asks_login:
                    gr.LoginButton(visible=False)  # brings the routes; the link stands in the tab's own page
                study = blind_study(elem_id="tdm-study")
            with tab("results", texts.TAB_RESULTS) as results:
                refresh = results_tab(inputs.results, inputs.gallery, opened=results)
            with tab("race", texts.TAB_RACE):
                race_tab(inputs, handlers, desk)
            if inputs.trajectory:
                with tab("steps", texts.TAB_STEPS):
                    steps_tab(inputs.trajectory, handlers, desk)
            if inputs.learn:
                with tab("distil", texts.TAB_DISTIL):
                    lesson = distil_tab(inputs.learn)
            with tab("benchmarks", texts.TAB_BENCHMARKS) as benchmarks:
                benchmarks_tab(inputs.reports, inputs.bars, opened=benchmarks)
            with tab("systems", texts.TAB_SYSTEMS) as systems:
                cards = systems_tab(inputs, opened=systems)
            if inputs.has_quiz:
                with tab("quiz", texts.TAB_QUIZ):
                    quiz_tab(inputs.preset, elem_id="tdm-quiz")
            with tab("about", texts.TAB_ABOUT):
                about_tab(inputs.preset)
        look_closer()
        private = {"api_visibility": "private", "show_progress": "hidden"}
        study.ended(lambda: gr.Tabs(selected="results"), None, tabs, queue=False, **private).then(**refresh)
        gr.api(results_endpoint(inputs.results), api_name="results", queue=False)
        to_compare = {"fn": lambda: gr.Tabs(selected="compare"), "outputs": tabs, "queue": False, **private}
        compare.take_system(cards.select).then(**to_compare)
        if inputs.learn:
            compare.take_system(lesson.compare, lesson).then(**to_compare)
        compare.open_page(page)

        def open_tab(request: gr.Request) -> Any:
            asked = request.query_params.get("tab")
            return gr.Tabs(selected=asked) if asked in named else gr.skip()

        opened = page.load(open_tab, None, tabs, queue=False, **private)
        opened.then(None, js="() => { window.tdmOpened = true; }", **private)
        for name, each in named.items():
            each.select(None, js=_REMEMBER_TAB.replace("NAME", name), **private)
    return page


SESSIONS = 128
"""Gradio keeps an eighth of a MiB for each session, a program's call being one, and lets the oldest go only above this
number (10,000 by default).  Whose is gone keeps link and history, which are the browser's."""

THREADS = 96
"""More than `Visitors` admits, so that one is left for whoever is to be told that the page is busy."""


def launch_options() -> dict[str, Any]:
    """How the page is launched wherever it runs: its looks, and nothing of Gradio's that would tell on the study."""
    return {
        "theme": theme.make_theme(),
        "css": theme.CSS,
        "head": theme.HEAD,
        "footer_links": [],
        "ssr_mode": False,  # its proxy would swallow our routes
        "enable_monitoring": False,  # public otherwise: names, counts and latencies of all events
        "run_history": False,
        "state_session_capacity": SESSIONS,
        "max_threads": THREADS,
    }
