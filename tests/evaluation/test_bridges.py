"""Programs in environments of their own: a stub executable that keeps the real ones' contracts."""

import json
import stat
from dataclasses import replace

import numpy as np
import pytest

from tdm_core.errors import ConfigError, EvaluationError
from tdm_core.evaluation import export, report
from tdm_core.evaluation.arms import choose_arms
from tdm_core.evaluation.harness import generate
from tdm_core.evaluation.metrics import load_metric, vbench
from tdm_core.evaluation.metrics.geneval_original import read_verdicts
from tdm_core.evaluation.runs import Run
from tdm_core.evaluation.suites import Item, _suite
from tdm_core.generation.sample import Role

# What the real programs read and write: GenEval walks NUMBER/samples and writes a line a picture; VBench writes
# {dimension: [mean, [{"video_path", "video_results"}]]}.  `calls` counts how often each was asked.
STUB = """#!/usr/bin/env python3
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
kind, source, results, *more = sys.argv[1:]
source, results = pathlib.Path(source), pathlib.Path(results)
if (here / "fail").exists():
    print("loading", flush=True); print("CUDA is not there", file=sys.stderr); sys.exit(3)
if "PYTHONPATH" in os.environ:
    sys.exit("this environment leaked")
if kind == "geneval":
    rows = []
    for folder in source.iterdir():
        asked = json.loads((folder / "metadata.jsonl").read_text())
        for path in (folder / "samples").glob("*.png"):
            good = asked["include"][0]["class"] == "cat" and path.stem == "0000"
            rows.append({"filename": str(path), "tag": asked["tag"], "correct": good})
    results.write_text("".join(json.dumps(row) + "\\n" for row in rows))
else:
    dimension = more[0]
    clips = [{"video_path": str(p), "video_results": 50 + int(p.stem[-1])} for p in sorted(source.glob("*.mp4"))]
    mean = sum(clip["video_results"] for clip in clips) / len(clips) / 100
    (results / f"{dimension}_eval_results.json").write_text(json.dumps({dimension: [mean, clips]}))
"""

CLAUSES = {
    "two cats": json.dumps({"include": [{"class": "cat", "count": 2}]}),
    "a dog": json.dumps({"include": [{"class": "dog", "count": 1}]}),
}


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """The folder of the stub, with a file of bridges that calls it."""
    folder = tmp_path / "environment"
    folder.mkdir()
    program = folder / "program"
    program.write_text(STUB)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (folder / "bridges.toml").write_text(
        f'[geneval]\ncommand = ["{program}", "geneval", "{{pictures}}", "{{results}}"]\nedition = "stub 1"\n'
        f'[vbench]\ncommand = ["{program}", "vbench", "{{videos}}", "{{results}}", "{{dimension}}"]\n'
    )
    monkeypatch.setenv("PYTHONPATH", "somewhere")
    return folder


def calls(folder):
    path = folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


def made(folder, preset, sampler, items, *, seeds=2, roles=("teacher", "student")):
    arms = choose_arms(preset, list(roles))
    generate(folder, preset=preset, suite=_suite("file:mine", tuple(items)), arms=arms, sampler=sampler, seeds=seeds)
    return Run.open(folder)


def geneval_items():
    tags = {"two cats": "counting", "a dog": "single_object"}
    return [Item(id=f"{tags[p]}-{i:05d}", prompt=p, tag=tags[p], clauses=c) for i, (p, c) in enumerate(CLAUSES.items())]


def test_geneval_is_asked_once_in_its_own_layout(stub, tmp_path, preset, engine):
    run = made(tmp_path / "run", preset, engine, geneval_items())
    metric = load_metric("geneval", "geneval", bridges=stub / "bridges.toml")
    results = report.score(run, [metric])
    assert results["geneval"]["student"]["value"] == 0.25  # the mean of the categories: one of two cats, no dog
    assert results["metrics"]["geneval"]["fingerprint"]["edition"] == "stub 1"
    assert len(calls(stub)) == 2  # one call for each arm
    folder = run.folder / "bridges" / "geneval" / "student" / "pictures" / "00000"
    asked = json.loads((folder / "metadata.jsonl").read_text())
    assert asked == {"tag": "counting", "include": [{"class": "cat", "count": 2}], "prompt": "two cats"}
    assert sorted(path.name for path in (folder / "samples").iterdir()) == ["0000.png", "0001.png"]
    report.score(Run.open(run.folder), [metric])
    assert len(calls(stub)) == 2  # what it said is kept
    engine.fault_rates[Role.TEACHER_FEW] = 1.0
    more = made(tmp_path / "run", preset, engine, geneval_items(), roles=("teacher_few",))
    assert metric.measure(more).arms["student"]["value"] == 0.25
    assert len(calls(stub)) == 3  # a new arm costs its own pictures alone


def vbench_items():
    """Four prompts for four dimensions each, and each of its own."""
    words, names = ["a cat moving left", "a dog moving right"], vbench.DIMENSIONS
    rows = [names[start::4] for start in range(4)]
    return [
        Item(
            id=f"{row[0]}-{i:05d}", prompt=words[i % 2], tag=row[0], clauses=json.dumps(row), eval_prompt=f"prompt {i}"
        )
        for i, row in enumerate(rows)
    ]


def test_vbench_is_asked_for_each_dimension_and_aggregated_here(stub, tmp_path, preset, moving_engine, monkeypatch):
    monkeypatch.setattr(vbench, "RESAMPLES", 50)
    run = made(tmp_path / "run", preset, moving_engine, vbench_items())
    metric = load_metric("vbench", "vbench", bridges=stub / "bridges.toml")
    found = metric.measure(run)
    assert len(calls(stub)) == 2 * 16
    videos = run.folder / "bridges" / "vbench" / "student" / "videos"
    assert (videos / "prompt 3-1.mp4").read_bytes() == (run.folder / run.pictures("student")[7][1].file).read_bytes()
    row = found.arms["student"]
    assert row["raw"]["imaging_quality"] == pytest.approx(0.505)  # the program's mean, although its clips say 50.5
    quality = [
        (0.505 - low) / (high - low) * (0.5 if n == "dynamic_degree" else 1)
        for n, (low, high) in list(vbench.RANGES.items())[:7]
    ]
    semantics = [(0.505 - low) / (high - low) for low, high in list(vbench.RANGES.values())[7:]]
    assert row["value"] == pytest.approx((4 * sum(quality) / 6.5 + sum(semantics) / 9) / 5)
    assert row["low"] <= row["value"] <= row["high"]
    metric.measure(run)
    assert len(calls(stub)) == 2 * 16


def test_the_published_total_follows_from_published_sides():
    """TDM's Table 4 for CogVideoX-2B: quality 82.66 and semantics 77.64 make 81.66."""
    least, most = (np.array(side) for side in zip(*vbench.RANGES.values(), strict=True))
    scaled = np.concatenate([np.full(7, 0.8266), np.full(9, 0.7764)])
    assert vbench.totals(least + scaled * (most - least)) == pytest.approx([0.81656, 0.8266, 0.7764])


def test_a_run_without_some_dimension_has_no_total(stub, tmp_path, preset, moving_engine):
    run = made(tmp_path / "run", preset, moving_engine, vbench_items()[:3], seeds=1)
    with pytest.raises(EvaluationError, match="no prompt of motion_smoothness, object_class, spatial") as error:
        load_metric("vbench", "vbench", bridges=stub / "bridges.toml").measure(run)
    assert len(str(error.value).splitlines()) == 2


def test_a_failing_program_is_told_by_its_last_line(stub, tmp_path, preset, engine):
    (stub / "fail").touch()
    run = made(tmp_path / "run", preset, engine, geneval_items())
    with pytest.raises(EvaluationError, match="status 3: CUDA is not there\nAll it said: ") as error:
        load_metric("geneval", "geneval", bridges=stub / "bridges.toml").measure(run)
    assert len(str(error.value).splitlines()) == 2
    (stub / "fail").unlink()
    assert load_metric("geneval", "geneval", bridges=stub / "bridges.toml").measure(run).arms["student"]["n"] == 4


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "--bridges FILE"),
        ("", "says nothing of geneval"),
        ('[geneval]\ncommand = ["x", "{pictures}"]', "each of {pictures}, {results}"),
        ('[geneval]\ncommand = ["x", "{pictures}", "{results}", "{secret}"]', "nothing else in braces"),
        ('[geneval]\ncommand = ["x", "{pictures"]', "write {{ for a brace"),
        ("[geneval]\nprogram = 1", "unknown key 'program'"),
        ('[geneval]\ncommand = ["/no/such", "{pictures}", "{results}"]', "/no/such: No such file"),
    ],
)
def test_a_bridge_that_cannot_be_used_is_told_in_two_lines(tmp_path, preset, engine, text, told):
    path = None
    if text is not None:
        path = tmp_path / "bridges.toml"
        path.write_text(text)
    run = made(tmp_path / "run", preset, engine, geneval_items(), seeds=1)
    with pytest.raises(ConfigError, match=told.replace("{", r"\{").replace("}", r"\}")) as error:
        load_metric("geneval", "geneval", bridges=path).measure(run)
    assert len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize("content", ["", "{}", '{"filename": "a/b/c.png"}', "[1]"])
def test_results_of_another_kind_are_refused(tmp_path, content):
    (tmp_path / "results.jsonl").write_text(content)
    (tmp_path / "x_eval_results.json").write_text(content)
    if content:
        with pytest.raises(EvaluationError, match="not what GenEval's program writes"):
            read_verdicts(tmp_path / "results.jsonl")
    with pytest.raises(EvaluationError, match="not what VBench writes"):
        vbench.read_dimension("color", tmp_path)


# --- layouts for scorers that are run elsewhere ----------------------------------------------------------------------


def compbench_items():
    prompts = [("motion_binding", "a cat moving left"), ("numeracy", "a dog"), ("motion_binding", "a dog moving right")]
    return [Item(id=f"{tag}-{i:05d}", prompt=prompt, tag=tag) for i, (tag, prompt) in enumerate(prompts)]


def test_compbench_numbers_each_category_in_the_order_of_its_prompts(tmp_path, preset, moving_engine):
    run = made(tmp_path / "run", preset, moving_engine, compbench_items(), seeds=1)
    assert export.export(run, "student", "t2v-compbench", tmp_path / "out") == 3
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.mp4")}
    assert found == {"motion_binding/0001.mp4", "motion_binding/0002.mp4", "numeracy/0001.mp4"}
    _, picture = next(job for job in run.pictures("student") if job[0].prompt == "a dog moving right")
    copied = tmp_path / "out" / "motion_binding" / "0002.mp4"
    assert copied.read_bytes() == (run.folder / picture.file).read_bytes()
    with pytest.raises(ConfigError, match="holds something already"):
        export.export(run, "student", "t2v-compbench", tmp_path / "out")


def test_what_a_layout_cannot_hold_is_refused(tmp_path, preset, engine, moving_engine):
    pictures = made(tmp_path / "pictures", preset, engine, geneval_items(), seeds=1)
    clips = made(tmp_path / "clips", preset, moving_engine, compbench_items())
    with pytest.raises(EvaluationError, match=r"takes \.mp4 files alone"):
        export.export(pictures, "student", "vbench", tmp_path / "a")
    with pytest.raises(EvaluationError, match="generate with --seeds 1"):
        export.export(clips, "student", "t2v-compbench", tmp_path / "b")
    with pytest.raises(EvaluationError, match="no clauses"):
        export.export(clips, "student", "geneval", tmp_path / "c")
    with pytest.raises(ConfigError, match="there are: geneval, vbench, t2v-compbench"):
        export.export(clips, "student", "mystery", tmp_path / "d")
    with pytest.raises(ConfigError, match="there are: teacher, student"):
        export.export(clips, "rival", "vbench", tmp_path / "d")
    long = replace(compbench_items()[0], eval_prompt="../" * 3)
    named = made(tmp_path / "named", preset, moving_engine, [long], seeds=1)
    with pytest.raises(EvaluationError, match="is no file's name"):
        export.export(named, "student", "vbench", tmp_path / "d")
    assert not (tmp_path / "d").exists()
