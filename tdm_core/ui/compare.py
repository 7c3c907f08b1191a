"""The Compare tab: one prompt and seed, three pictures or clips with honest clocks."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from tdm_core.generation.presets import Preset
from tdm_core.generation.sample import MAX_FLOW_SHIFT, MAX_GUIDANCE_SCALE, MAX_STEPS, MAX_STRENGTH
from tdm_core.ui import texts, viewer
from tdm_core.ui.api import compare_endpoint
from tdm_core.ui.board import MAX_STUDENT_STEPS, Comparison
from tdm_core.ui.desk import Handlers
from tdm_core.ui.inputs import PageInputs, System
from tdm_core.ui.line import text_line
from tdm_core.ui.words import with_word, word_buttons, words_value

HERE = Path(__file__).parent
SUGGESTIONS = 6
MAX_DICE = 9999
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
AT_ONCE: dict[str, Any] = PRIVATE | {"queue": False}
ROLL_AND_RUN = f"() => [Math.floor(Math.random() * {MAX_DICE + 1}), Date.now()]"
_TEMPLATE, _STYLE, _SCRIPT = ((HERE / f"compare.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))


@dataclass(frozen=True)
class CompareTab:
    """What the page wires once it stands."""

    open_page: Callable[[gr.Blocks], None]
    take_system: Callable[..., Any]
    """Given an event that brings a system's name, or that and a board whose ``preset`` is one: choose it here."""


def compare_tab(inputs: PageInputs, handlers: Handlers, desk: gr.State) -> CompareTab:
    """Build the tab; ``desk`` is what the open page looks at, which other tabs share."""
    example = handlers.example
    system_now = inputs.systems[inputs.preset.name]
    with gr.Row(elem_id="tdm-ask", equal_height=True):
        prompt = prompt_box(example.prompt)
        generate = gr.Button(texts.GENERATE, variant="primary", scale=0, min_width=140, elem_id="tdm-generate")
    note = text_line(elem_id="tdm-note")
    with gr.Row(elem_id="tdm-chips"):
        surprise = gr.Button(
            texts.SURPRISE_ME, size="sm", elem_classes=["tdm-chip", "tdm-more"], elem_id="tdm-surprise"
        )
        more = gr.Button(texts.MORE, size="sm", elem_classes=["tdm-chip", "tdm-more"], elem_id="tdm-more")
        chips = [gr.Button(size="sm", elem_classes="tdm-chip", **chip) for chip in chips_of(system_now)]
    with gr.Row(elem_id="tdm-options"):
        system = system_choice(inputs)
        seed = gr.Number(example.seed, label=texts.SEED, precision=0, min_width=110, scale=0, elem_id="tdm-seed")
        dice = gr.Button(texts.DICE, min_width=48, scale=0, elem_id="tdm-dice")
        student_steps = gr.Radio(**student_steps_choice(example, system_now))
        teacher_steps = gr.Slider(**teacher_steps_choice(example))
    with gr.Row(elem_id="tdm-extra"):
        words = word_buttons(inputs.vocabulary, elem_id="tdm-words")
        with gr.Accordion(texts.SETTINGS, open=False, elem_id="tdm-fine"), gr.Row(elem_id="tdm-fine-row"):
            beside = gr.Dropdown(**beside_choice(handlers, example))
            fine = [gr.Slider(**settings) for settings in fine_choices(example)]
    compared = viewer.static_html(
        viewer.TEMPLATE + _TEMPLATE, viewer.STYLE + _STYLE, viewer.SCRIPT + _SCRIPT, elem_id="tdm-compare"
    )
    go = gr.Number(0, visible="hidden")  # whatever sets a field and wants a run writes the time here

    fields = [system, prompt, seed, student_steps, teacher_steps, *fine, beside]
    run = {"inputs": [*fields, desk], "outputs": [compared, note], "concurrency_limit": None}
    rest = {"inputs": desk, "outputs": compared, "concurrency_limit": None}
    often = PRIVATE | {"trigger_mode": "multiple"}
    started = gr.on([generate.click, prompt.submit, go.change], handlers.student, **run, **often)
    started.then(handlers.teachers, **rest, **often)
    compared.stop(lambda desk: desk.stop(), desk, None, **AT_ONCE)
    dice.click(None, None, [seed, go], js=ROLL_AND_RUN, **PRIVATE)

    def then_run(event: Any) -> None:
        # Not through `go`: sliders refuse a value outside their range, and the new system's must have arrived first.
        event.then(handlers.student, **run, **often).then(handlers.teachers, **rest, **often)

    def choose(name: str) -> list[Any]:
        """Another system with its own example."""
        chosen = inputs.systems[name]
        updates = field_updates(handlers.example_of(chosen.preset), chosen, handlers)[1:]
        return [*updates, words_value(chosen.vocabulary), *map(chip_update, chips_of(chosen))]

    def suggested(name: str, text: str) -> tuple[str, Any]:
        """An example of the system brings its own seed."""
        seeds = {example.prompt: example.seed for example in inputs.systems[name].preset.examples}
        return text, seeds.get(text, gr.skip())

    def another(name: str) -> tuple[str, int]:
        rng = random.Random()
        return rng.choice(inputs.systems[name].suggest()), rng.randint(0, MAX_DICE)

    def reopen(event: gr.EventData) -> list[Any]:
        """The fields of a pair of the history, which the browser shows by itself."""
        asked, _ = handlers.linked(event._data if isinstance(event._data, dict) else {})
        return field_updates(asked, inputs.systems[asked.preset.name], handlers)

    def add_word(text: str, event: gr.EventData) -> str:
        return with_word(text, event._data)

    def count(name: str, steps: float, guidance: float) -> Any:
        return gr.Slider(info=evaluations(inputs.systems[name].preset, steps, guidance))

    then_run(system.input(choose, system, [*fields[1:], words, *chips], **AT_ONCE))
    for chip in chips:
        then_run(chip.click(suggested, [system, chip], [prompt, seed], **AT_ONCE))
    then_run(surprise.click(another, system, [prompt, seed], **AT_ONCE))
    more.click(lambda name: [*map(chip_update, chips_of(inputs.systems[name]))], system, chips, **AT_ONCE)
    words.select(add_word, prompt, prompt, **AT_ONCE)
    compared.select(reopen, None, fields, **AT_ONCE)
    then_run(compared.submit(reopen, None, fields, **AT_ONCE))
    gr.on([teacher_steps.input, fine[0].input], count, [system, teacher_steps, fine[0]], teacher_steps, **AT_ONCE)
    gr.api(compare_endpoint(handlers), api_name="compare", concurrency_limit=None)

    def restore(request: gr.Request) -> list[Any]:
        asked, told = handlers.linked(request.query_params)
        chosen = inputs.systems[asked.preset.name]
        updates = field_updates(asked, chosen, handlers)
        updates[0] = gr.Dropdown(choices=system_choices(inputs), value=asked.preset.name)
        return [*updates, words_value(chosen.vocabulary), *map(chip_update, chips_of(chosen)), told]

    def open_page(page: gr.Blocks) -> None:
        restored = page.load(restore, None, [*fields, words, *chips, note], **PRIVATE)
        restored.then(handlers.opening, **run, **often).then(handlers.teachers, **rest, **often)

    def take_system(event: Any, board: Any = None) -> Any:
        def take(asked: str) -> list[Any]:
            name = asked if asked in inputs.systems else inputs.preset.name
            return [gr.Dropdown(choices=system_choices(inputs), value=name, visible=True), *choose(name)]

        def told(chosen: gr.EventData) -> list[Any]:
            return take(str(chosen._data))

        def made(value: dict[str, Any]) -> list[Any]:
            return take(str(value["preset"]))

        outputs = [*fields, words, *chips]
        taken = event(made, board, outputs, **AT_ONCE) if board else event(told, None, outputs, **AT_ONCE)
        then_run(taken)
        return taken

    return CompareTab(open_page=open_page, take_system=take_system)


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


def system_choice(inputs: PageInputs) -> gr.Dropdown:
    """Every system; the reasons why some cannot run are looked up when a page opens."""
    choices = [(system.preset.title, name) for name, system in inputs.systems.items()]
    return gr.Dropdown(
        choices,
        value=inputs.preset.name,
        label=texts.SYSTEM,
        filterable=False,
        visible=len(choices) > 1,
        min_width=220,
        elem_id="tdm-system",
    )


def beside_choice(handlers: Handlers, asked: Comparison) -> dict[str, Any]:
    """Every student that can be shown beside this system; hidden where there is none."""
    choices = [(texts.NOBODY, ""), *((each.title, each.name) for each in handlers.students_for(asked.preset))]
    return {
        "choices": choices,
        "value": asked.beside.name if asked.beside else "",
        "label": texts.BESIDE,
        "filterable": False,
        "visible": len(choices) > 1,
        "min_width": 200,
        "elem_id": "tdm-beside",
    }


def system_choices(inputs: PageInputs) -> list[tuple[str, str]]:
    """Label and name, those that can run first."""
    absent = {name: bool(inputs.why_not(name)) for name in inputs.systems}

    def label(name: str) -> str:
        preset = inputs.systems[name].preset
        marks = [texts.SYSTEM_VIDEO] * (preset.media == "video") + [texts.SYSTEM_NOT_HERE] * absent[name]
        return " · ".join([preset.title, *marks])

    return [(label(name), name) for name in sorted(inputs.systems, key=lambda name: absent[name])]


def chips_of(system: System) -> list[dict[str, Any]]:
    """Always as many, since buttons cannot be added later; those without a text are hidden."""
    suggested = system.suggest()[:SUGGESTIONS]
    hidden = [{"value": "", "visible": False}] * (SUGGESTIONS - len(suggested))
    return [{"value": text, "visible": True} for text in suggested] + hidden


def chip_update(chip: dict[str, Any]) -> Any:
    return gr.Button(**chip)


def field_updates(asked: Comparison, system: System, handlers: Handlers) -> list[Any]:
    """The fields in their order, set to a comparison; what they offer is the system's."""
    return [
        asked.preset.name,
        asked.prompt,
        asked.seed,
        gr.Radio(**student_steps_choice(asked, system)),
        gr.Slider(**teacher_steps_choice(asked)),
        *(gr.Slider(**settings) for settings in fine_choices(asked)),
        gr.Dropdown(**beside_choice(handlers, asked)),
    ]


def student_steps_choice(asked: Comparison, system: System) -> dict[str, Any]:
    trained = system.trained_steps() | {asked.preset.student.steps}
    return {
        "choices": [(f"{k} ✓" if k in trained else str(k), k) for k in range(1, MAX_STUDENT_STEPS + 1)],
        "value": asked.student_steps,
        "label": texts.STUDENT_STEPS,
        "info": texts.TRAINED_STEPS,
        "min_width": 320,
        "elem_id": "tdm-student-steps",
    }


def teacher_steps_choice(asked: Comparison) -> dict[str, Any]:
    guidance = asked.preset.teacher.guidance_scale if asked.guidance is None else asked.guidance
    return {
        "minimum": asked.preset.teacher.steps,
        "maximum": MAX_STEPS,
        "value": asked.teacher_steps,
        "step": 1,
        "label": texts.TEACHER_STEPS,
        "info": evaluations(asked.preset, asked.teacher_steps, guidance),
        "min_width": 260,
        "elem_id": "tdm-teacher-steps",
    }


def fine_choices(asked: Comparison) -> list[dict[str, Any]]:
    """Guidance, strength and flow shift, where the system has one."""
    preset, shift = asked.preset, asked.preset.student.flow_shift

    def slider(**settings: Any) -> dict[str, Any]:
        return {"minimum": 1.0, "step": 0.1, "min_width": 200} | settings

    return [
        slider(
            maximum=MAX_GUIDANCE_SCALE / 2,
            value=preset.teacher.guidance_scale if asked.guidance is None else asked.guidance,
            label=texts.GUIDANCE,
            info=texts.GUIDANCE_HINT,
            elem_id="tdm-guidance",
        ),
        slider(
            minimum=0.0,
            maximum=MAX_STRENGTH,
            step=0.05,
            value=1.0 if asked.strength is None else asked.strength,
            label=texts.STRENGTH,
            info=texts.STRENGTH_HINT,
            elem_id="tdm-strength",
        ),
        slider(
            maximum=MAX_FLOW_SHIFT,
            value=(shift or 1.0) if asked.flow_shift is None else asked.flow_shift,
            label=texts.FLOW_SHIFT,
            info=texts.FLOW_SHIFT_HINT,
            visible=shift is not None,
            elem_id="tdm-shift",
        ),
    ]


def evaluations(preset: Preset, steps: float, guidance: float) -> str:
    return texts.EVALUATIONS.format(nfe=int(steps) * (2 if guidance > 1 else 1))
