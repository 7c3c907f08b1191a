"""The Compare tab: one prompt and seed, three pictures with honest clocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gradio as gr

from tdm_core.generation.sample import MAX_STEPS, Role
from tdm_core.ui import texts
from tdm_core.ui.api import compare_endpoint
from tdm_core.ui.board import MAX_STUDENT_STEPS, Comparison
from tdm_core.ui.desk import Desk, Handlers
from tdm_core.ui.inputs import PageInputs
from tdm_core.ui.line import text_line
from tdm_core.ui.viewer import compare_viewer

SUGGESTIONS = 6
TEACHERS_AT_ONCE = 8  # more wait in Gradio's queue, so that threads remain for students
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
ROLL_AND_RUN = "() => [Math.floor(Math.random() * 10000), Date.now()]"
TAKE_AND_RUN = "(text) => [text, Date.now()]"


class CompareTab(NamedTuple):
    """What the rest of the page does with the tab."""

    open_page: Callable[[gr.Blocks], None]
    """To be called once the page itself stands."""
    made: gr.Dropdown
    """Which student is shown."""
    choice: Callable[[str], gr.Dropdown]
    """Its update that offers all there are and chooses one."""
    go: gr.Number
    """Whatever sets a field and wants a run writes the time here."""


def compare_tab(inputs: PageInputs) -> CompareTab:
    handlers = Handlers(inputs)
    desk = gr.State(Desk())
    with gr.Row(elem_id="tdm-ask", equal_height=True):
        prompt = prompt_box(handlers.example.prompt)
        generate = gr.Button(texts.GENERATE, variant="primary", scale=0, min_width=140, elem_id="tdm-generate")
    note = text_line(elem_id="tdm-note")
    with gr.Row(elem_id="tdm-chips"):
        more = gr.Button(texts.MORE, size="sm", elem_classes=["tdm-chip", "tdm-more"], elem_id="tdm-more")
        chips = [gr.Button(text, size="sm", elem_classes="tdm-chip") for text in inputs.suggest()[:SUGGESTIONS]]
    with gr.Row(elem_id="tdm-options"):
        seed = gr.Number(
            handlers.example.seed, label=texts.SEED, precision=0, min_width=110, scale=0, elem_id="tdm-seed"
        )
        dice = gr.Button(texts.DICE, min_width=48, scale=0, elem_id="tdm-dice")
        student_steps = student_steps_choice(handlers.example.student_steps, inputs.trained_steps)
        teacher_steps = teacher_steps_slider(handlers.example)
        made = gr.Dropdown(
            [(texts.OWN_STUDENT, "")],
            value="",
            label=texts.WHICH_STUDENT,
            visible=False,
            filterable=False,
            min_width=220,
            elem_id="tdm-made",
        )
    viewer = compare_viewer(elem_id="tdm-compare")
    go = gr.Number(0, visible="hidden")

    fields = [prompt, seed, student_steps, teacher_steps, made]
    run = {"inputs": [*fields, desk], "outputs": [viewer, note], "concurrency_limit": None}
    rest = {"inputs": desk, "outputs": viewer, "concurrency_limit": TEACHERS_AT_ONCE}
    often = PRIVATE | {"trigger_mode": "multiple"}
    started = gr.on([generate.click, prompt.submit, go.change], handlers.student, **run, **often)
    started.then(handlers.teachers, **rest, **often)
    viewer.stop(lambda desk: desk.stop(), desk, None, queue=False, **PRIVATE)
    dice.click(None, None, [seed, go], js=ROLL_AND_RUN, **PRIVATE)
    for chip in chips:
        chip.click(None, chip, [prompt, go], js=TAKE_AND_RUN, **PRIVATE)
    more.click(lambda: inputs.suggest()[: len(chips)], None, chips, queue=False, **PRIVATE)
    teacher_steps.change(
        lambda steps: gr.Slider(info=evaluations(handlers.example, steps)),
        teacher_steps,
        teacher_steps,
        queue=False,
        **PRIVATE,
    )
    gr.api(compare_endpoint(inputs.sample, inputs.preset), api_name="compare", concurrency_limit=TEACHERS_AT_ONCE)

    def open_page(page: gr.Blocks) -> None:
        restored = page.load(handlers.restore, None, [*fields, note], **PRIVATE)
        restored.then(handlers.opening, **run, **often).then(handlers.teachers, **rest, **often)

    return CompareTab(open_page, made, handlers.choice, go)


def prompt_box(text: str) -> gr.Textbox:
    return gr.Textbox(
        text,
        label=texts.PROMPT,
        show_label=False,
        placeholder=texts.PROMPT_PLACEHOLDER,
        max_lines=3,
        scale=1,
        elem_id="tdm-prompt",
    )


def student_steps_choice(steps: int, trained: frozenset[int]) -> gr.Radio:
    choices = [(f"{k} ✓" if k in trained else str(k), k) for k in range(1, MAX_STUDENT_STEPS + 1)]
    return gr.Radio(
        choices,
        value=steps,
        label=texts.STUDENT_STEPS,
        info=texts.TRAINED_STEPS,
        min_width=320,
        elem_id="tdm-student-steps",
    )


def teacher_steps_slider(example: Comparison) -> gr.Slider:
    return gr.Slider(
        example.preset.teacher.steps,
        MAX_STEPS,
        value=example.teacher_steps,
        step=1,
        label=texts.TEACHER_STEPS,
        info=evaluations(example, example.teacher_steps),
        min_width=260,
        elem_id="tdm-teacher-steps",
    )


def evaluations(example: Comparison, teacher_steps: float) -> str:
    per_step = example.nfe(Role.TEACHER) // example.teacher_steps
    return texts.EVALUATIONS.format(nfe=per_step * int(teacher_steps))
