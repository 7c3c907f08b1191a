"""Published suites: fetched when used, told clearly when that fails, kept beside the pictures they were drawn for."""

import json
import urllib.error
from collections import Counter
from dataclasses import replace

import pytest

from tdm_core.errors import ConfigError, EvaluationError
from tdm_core.evaluation import geneval_prompts, published
from tdm_core.evaluation.arms import choose_arms
from tdm_core.evaluation.harness import generate
from tdm_core.evaluation.published import SOURCES, questions
from tdm_core.evaluation.runs import Run
from tdm_core.evaluation.suites import KEPT, load_suite, suite_list

VBENCH = [{"prompt_en": "a bird ", "dimension": ["subject_consistency", "motion_smoothness"]}]
FILES = {
    "hps_v2": {f"{style}.json": json.dumps([f"{style} one"]) for style in published.HPS_STYLES},
    "drawbench": {"drawbench.json": '["a red book"]'},
    "ocr": {"test.txt": 'a sign that reads "OPEN"\n\n'},
    "coco_10k": {
        "captions_val2014.json": json.dumps(
            {
                "annotations": [
                    {"image_id": 9, "id": 3, "caption": "second"},
                    {"image_id": 9, "id": 1, "caption": "first\n"},
                    {"image_id": 4, "id": 7, "caption": "lower"},
                ]
            }
        )
    },
    "vbench": {"VBench_full_info.json": json.dumps(VBENCH), "all_dimension.txt": "a bird\n"},
    "vbench_long": {
        "VBench_full_info.json": json.dumps(VBENCH),
        "all_dimension.txt": "a bird\n",
        "all_dimension_longer.txt": "a bird flies over a lake at dawn\n",
    },
    "t2v_compbench": {file: f"one {tag}\ntwo {tag}\n" for tag, file in published.COMPBENCH.items()},
}
COUNTS = {
    "t2v_compbench": 14,
    "hps_v2": 4,
    "drawbench": 1,
    "ocr": 1,
    "coco_10k": 2,
    "vbench": 1,
    "vbench_long": 1,
}


@pytest.fixture
def downloads(tmp_path, monkeypatch):
    """Excerpts in the sources' own formats, counted as if they were whole."""
    for name, files in FILES.items():
        (tmp_path / "suites" / name).mkdir(parents=True)
        monkeypatch.setitem(SOURCES, name, replace(SOURCES[name], prompts=COUNTS[name]))
        for file, text in files.items():
            (tmp_path / "suites" / name / file).write_text(text)
    return tmp_path / "suites"


def test_every_source_is_read_in_its_own_format(downloads):
    found = {name: questions(name, downloads) for name in FILES}
    assert [question.tag for question in found["hps_v2"]] == list(published.HPS_STYLES)
    assert [question.prompt for question in found["coco_10k"]] == ["lower", "first"]
    long = found["vbench_long"][0]
    assert (long.prompt, long.eval_prompt, long.tag) == (
        "a bird flies over a lake at dawn",
        "a bird",
        "subject_consistency",
    )


def test_genevals_prompts_are_here_as_its_procedure_draws_them(tmp_path):
    assert geneval_prompts.PATH.read_text() == geneval_prompts.text(geneval_prompts.make_prompts())
    found = questions("geneval", tmp_path)
    counts = {"single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100}
    assert Counter(question.tag for question in found) == counts
    assert len(load_suite("geneval", tmp_path).items) == 553
    assert "Copyright (c) 2023 Dhruba Ghosh" in (geneval_prompts.PATH.parent / "LICENSE").read_text()


# Lines of copies of the original file that lie in public repositories, with their clauses.
KNOWN = [
    ("single_object", "an orange", {"include": [{"class": "orange", "count": 1}]}),
    ("two_object", "a bowl and a skis", {"include": [{"class": "bowl", "count": 1}, {"class": "skis", "count": 1}]}),
    (
        "counting",
        "four benchs",
        {"include": [{"class": "bench", "count": 4}], "exclude": [{"class": "bench", "count": 5}]},
    ),
    (
        "counting",
        "two wine glasses",
        {"include": [{"class": "wine glass", "count": 2}], "exclude": [{"class": "wine glass", "count": 3}]},
    ),
    ("colors", "a black tv remote", {"include": [{"class": "tv remote", "count": 1, "color": "black"}]}),
    (
        "position",
        "a zebra below a broccoli",
        {
            "include": [
                {"class": "broccoli", "count": 1},
                {"class": "zebra", "count": 1, "position": ["below", 0]},
            ]
        },
    ),
    (
        "color_attr",
        "a brown giraffe and a white stop sign",
        {
            "include": [
                {"class": "giraffe", "count": 1, "color": "brown"},
                {"class": "stop sign", "count": 1, "color": "white"},
            ]
        },
    ),
]


@pytest.mark.parametrize(("tag", "asked", "clauses"), KNOWN)
def test_the_shipped_file_has_the_lines_that_others_have(tag, asked, clauses, tmp_path):
    found = {question.prompt: question for question in questions("geneval", tmp_path)}
    question = found[f"a photo of {asked}"]
    assert question.tag == tag and json.loads(question.clauses) == clauses


@pytest.mark.parametrize("name", FILES)
def test_offline_one_message_says_what_to_fetch_and_where_to_put_it(name, tmp_path, monkeypatch):
    def refuse(url, timeout):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(published.urllib.request, "urlopen", refuse)
    with pytest.raises(ConfigError, match=rf"--suite {name}: not shipped.*Name or service not known") as error:
        load_suite(name, tmp_path)
    assert len(str(error.value).splitlines()) == 2 and str(tmp_path / name) in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_list_that_has_changed_is_refused(downloads):
    (downloads / "drawbench" / "drawbench.json").write_text('["one", "two"]')
    with pytest.raises(ConfigError, match="holds 2 prompts, the suite has 1"):
        load_suite("drawbench", downloads)
    (downloads / "hps_v2" / "anime.json").write_text("<html>")
    with pytest.raises(ConfigError, match="holds 0 prompts"):
        load_suite("hps_v2", downloads)


def test_a_run_keeps_its_prompts_and_needs_no_download_again(preset, engine, tmp_path):
    prompts = tmp_path / "mine.txt"
    prompts.write_text("# mine\na cat\npairs\ta dog and a cat\n\na dog\n", encoding="utf-8")
    suite = load_suite(str(prompts))
    assert [(item.tag, item.prompt) for item in suite.items] == [
        ("prompt", "a cat"),
        ("pairs", "a dog and a cat"),
        ("prompt", "a dog"),
    ]
    out = tmp_path / "run"
    generate(out, preset=preset, suite=suite, arms=choose_arms(preset, ["teacher"]), sampler=engine, seeds=1)
    prompts.unlink()
    assert Run.open(out).items == suite.items
    (out / KEPT).write_text("{")
    with pytest.raises(EvaluationError, match="missing or damaged"):
        Run.open(out)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"# none\n", "no prompts"), (b"\xff\xfe\x00", "no UTF-8"), (b"a cat\n" + b"x" * 5000, "line 2: The prompt has")],
)
def test_a_file_without_prompts_is_named(tmp_path, content, message):
    (tmp_path / "mine.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_suite(str(tmp_path / "mine.txt"))


def test_the_list_names_licence_and_presence(downloads, tmp_path):
    for line in (
        "scenes  555 prompts, Apache-2.0; shipped;",
        "moving  186 prompts,",
        "geneval 553 prompts, MIT; shipped;",
    ):
        name, _, rest = line.partition(" ")
        assert any(found.split()[0] == name and rest.strip() in found for found in suite_list(tmp_path))
    assert any(line.startswith("ocr") and "MIT; downloaded;" in line for line in suite_list(downloads))
    assert any(
        line.startswith("drawbench") and "unknown; downloaded when used" in line for line in suite_list(tmp_path)
    )
