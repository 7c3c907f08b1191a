"""What a request may be: its one home."""

import pytest

from tdm_core.errors import RequestError
from tdm_core.generation.sample import MAX_PROMPT_CHARACTERS, Role, SampleRequest


def ask(**values):
    return SampleRequest(**({"preset": "mini", "role": Role.STUDENT, "prompt": "a cat", "seed": 1} | values))


@pytest.mark.parametrize(
    "prompt",
    ["a cat", "🦊🦊", "קטוב שמאל", "<b>bold</b> {{ 7*7 }} ${HOME} %s", "x" * MAX_PROMPT_CHARACTERS],
    ids=["plain", "emoji", "right to left", "markup", "longest"],
)
def test_any_text_is_a_prompt(prompt):
    assert ask(prompt=prompt).prompt == prompt


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": " \n\t"}, "prompt is empty"),
        ({"prompt": "x" * 10_000}, "10,000 characters; at most 2000"),
        ({"prompt": "a\0cat"}, "not text"),
        ({"prompt": "a \ud83d cat"}, "not text"),
        ({"seed": -1}, "from 0 to 4294967295"),
        ({"seed": 2**32}, "from 0 to 4294967295"),
        ({"seed": 1.5}, "whole number"),
        ({"seed": True}, "whole number"),
        ({"steps": 0}, "from 1 to 100"),
        ({"steps": 101}, "from 1 to 100"),
        ({"guidance_scale": 0.5}, "between 1"),
        ({"guidance_scale": float("nan")}, "between 1"),
    ],
)
def test_value_outside_its_range_is_refused_with_the_range(values, message):
    with pytest.raises(RequestError, match=message) as refusal:
        ask(**values)
    assert len(str(refusal.value).splitlines()) == 1
