"""Runs are resumable: nothing finished is made twice, nothing broken is read as whole."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.quality import forget_changed
from tdm_core.errors import ConfigError, EvaluationError, LoadError, PresetError
from tdm_core.evaluation.arms import arms_of, choose_arms
from tdm_core.evaluation.harness import generate
from tdm_core.evaluation.manifest import HEADER, LINES, append_pictures, read_header, read_pictures
from tdm_core.evaluation.runs import Run, check_same_noise
from tdm_core.evaluation.suites import load_suite
from tdm_core.generation.sample import Role
from tests.evaluation.killed import PICTURES

ROOT = Path(__file__).parents[2]


def test_all_roles_are_made_by_default(make_run, preset):
    run = make_run(limit=3, seeds=1)
    assert {path.name for path in run.iterdir() if path.is_dir()} == set(arms_of(preset))
    assert all(len(list((run / name).glob("*.png"))) == 3 for name in arms_of(preset))
    assert len(read_pictures(run)) == 3 * len(arms_of(preset))


def test_a_second_call_makes_nothing(make_run, engine):
    make_run()
    made = len(engine.roles)
    make_run()
    assert len(engine.roles) == made


def test_equal_noise_and_seeds_on_all_arms(make_run):
    run = Run.open(make_run())
    check_same_noise(run, run.arms)
    seeds = {arm: [picture.seed for _, picture in run.pictures(arm)] for arm in run.arms}
    assert len({tuple(values) for values in seeds.values()}) == 1


def test_an_interrupted_run_goes_on_where_it_stopped(make_run, engine):
    whole = make_run("whole", roles=["student"])
    engine.batches.clear()
    engine.break_after = 2
    with pytest.raises(KeyboardInterrupt):
        make_run("cut", roles=["student"])
    engine.break_after = None
    cut = make_run("cut", roles=["student"])
    assert sum(engine.batches) == 12
    assert {p.sha256 for p in read_pictures(whole).values()} == {p.sha256 for p in read_pictures(cut).values()}


@pytest.mark.parametrize("harm", ["delete", "truncate"])
def test_a_lost_or_broken_picture_is_made_again(make_run, engine, harm):
    run = make_run(roles=["teacher"])
    victim = sorted((run / "teacher").glob("*.png"))[3]
    if harm == "delete":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:100])
    engine.roles.clear()
    make_run(roles=["teacher"])
    assert len(engine.roles) == 1
    assert Run.open(run).pictures("teacher")


def test_a_torn_last_line_costs_one_picture(make_run, engine):
    run = make_run(roles=["teacher"])
    text = (run / LINES).read_bytes()
    (run / LINES).write_bytes(text[:-40])
    engine.roles.clear()
    make_run(roles=["teacher"])
    assert len(engine.roles) == 1
    assert len(Run.open(run).pictures("teacher")) == 12


def test_more_prompts_and_seeds_extend_a_run(make_run, engine):
    make_run(limit=4, seeds=1, roles=["teacher"])
    engine.roles.clear()
    run = make_run(limit=6, seeds=2, roles=["teacher"])
    assert len(engine.roles) == 12 - 4
    assert len(Run.open(run).pictures("teacher")) == 12


def test_roles_may_be_made_one_by_one(make_run):
    make_run(roles=["teacher"])
    run = make_run(roles=["student"])
    assert Run.open(run).arms == ("teacher", "student")


def change_student(preset):
    (preset.origin.parent / "lora" / "pytorch_lora_weights.safetensors").write_bytes(
        (4).to_bytes(8, "little") + b"{  }"  # another whole safetensors file
    )


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("roles", [["teacher", "student"], ["student"], ["teacher"]])
def test_a_changed_model_under_an_old_run_is_refused_and_nothing_is_overwritten(make_run, engine, preset, roles):
    before = contents(make_run(roles=["teacher", "student"]))
    engine.roles.clear()
    change_student(preset)
    with pytest.raises(EvaluationError, match=r"holds student of another model.*\n.*--out") as error:
        make_run(roles=roles, limit=8)
    assert len(str(error.value).splitlines()) == 2
    assert engine.roles == [] and contents(next(iter(before)).parent) == before


def test_a_changed_base_is_seen_by_whatever_arm_is_asked_for(make_run, preset):
    make_run(roles=["teacher"])
    (preset.origin.parent / "base" / "weights.bin").write_bytes(b"another teacher")
    with pytest.raises(EvaluationError, match="holds teacher of another model"):
        make_run(roles=["student"])


def test_a_teacher_goes_on_while_the_student_is_away(make_run, preset):
    make_run(roles=["teacher", "teacher_few_student_grid", "student"], limit=4)
    (preset.origin.parent / "lora" / "pytorch_lora_weights.safetensors").unlink()
    assert len(Run.open(make_run(roles=["teacher"])).pictures("teacher")) == 12


def test_the_quality_benchmark_draws_a_new_student_beside_the_old_teacher(make_run, engine, preset, tmp_path):
    forget_changed(tmp_path / "run", preset)  # there is none yet
    run = make_run(roles=["teacher", "student"])
    engine.roles.clear()
    change_student(preset)
    engine.fault_rates[Role.STUDENT] = 0.9
    forget_changed(run, preset)
    assert Run.open(run).arms == ("teacher",) and not (run / "student").exists()
    make_run(roles=["teacher", "student"])
    assert set(engine.roles) == {Role.STUDENT} and len(engine.roles) == 12
    assert len(Run.open(run).pictures("student")) == 12


def test_a_folder_of_somebody_elses_is_refused_and_left_alone(make_run, tmp_path):
    folder = tmp_path / "run"
    (folder / "student").mkdir(parents=True)
    (folder / "student" / "single_object-000-0.png").write_bytes(b"mine")
    (folder / ".download.part").write_bytes(b"half")
    before = contents(folder)
    with pytest.raises(ConfigError, match=r"holds \.download\.part and no evaluation run; name a new folder"):
        make_run()
    assert contents(folder) == before


def test_what_a_killed_call_left_is_no_obstacle_and_only_ours_is_cleared_away(make_run, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / f".{HEADER}.7.part").write_bytes(b"{")
    make_run(roles=["teacher"], limit=2)
    half, foreign = folder / "teacher" / ".a-0.png.7.part", folder / ".download.part"
    half.touch()
    foreign.touch()
    make_run(roles=["teacher"], limit=3)
    assert list(folder.rglob(".*")) == [foreign]


def test_a_model_that_cannot_be_loaded_leaves_no_run_behind(make_run, engine, monkeypatch, tmp_path):
    def refuse(requests):
        raise LoadError("half-downloaded")

    monkeypatch.setattr(engine, "sample_batch", refuse)
    with pytest.raises(LoadError):
        make_run()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("suite", "media", "frames"), [("scenes", "video", 9), ("moving", "image", 1)])
def test_a_suite_of_other_media_is_refused(preset, engine, tmp_path, suite, media, frames):
    preset = replace(preset, media=media, frames=frames)
    with pytest.raises(ConfigError, match=f"--suite {suite}: does not fit tiny") as error:
        generate(
            tmp_path / "run", preset=preset, suite=load_suite(suite), arms=choose_arms(preset, None), sampler=engine
        )
    assert len(str(error.value).splitlines()) == 2 and not (tmp_path / "run").exists()


def test_a_folder_of_another_preset_is_refused(make_run, preset, engine):
    run = make_run(roles=["teacher"])
    other = replace(preset, name="other")
    engine.presets["other"] = other
    with pytest.raises(EvaluationError, match=r"preset tiny.*not of other"):
        generate(
            run, preset=other, suite=load_suite("scenes"), arms=choose_arms(other, ["teacher"]), sampler=engine, limit=6
        )


def test_a_missing_student_is_named_before_anything_is_made(make_run, engine, preset):
    (preset.origin.parent / "lora" / "pytorch_lora_weights.safetensors").unlink()
    with pytest.raises(PresetError, match=r"student.lora: no file"):
        make_run(roles=["teacher", "student"])
    assert engine.roles == []


def test_missing_pictures_are_counted(make_run):
    run = make_run(roles=["teacher"])
    (run / LINES).write_text("".join((run / LINES).read_text().splitlines(keepends=True)[:-3]))
    with pytest.raises(EvaluationError, match="3 of 12 pictures of teacher are missing"):
        Run.open(run).pictures("teacher")


def test_a_changed_picture_is_not_read(make_run):
    run = Run.open(make_run(roles=["teacher"]))
    _, picture = run.pictures("teacher")[0]
    _, other = run.pictures("teacher")[1]
    (run.folder / picture.file).write_bytes((run.folder / other.file).read_bytes())
    with pytest.raises(EvaluationError, match="changed since"):
        run.pixels(picture)


def test_unequal_noise_is_refused(make_run):
    folder = make_run(roles=["teacher", "student"])
    picture = next(p for p in read_pictures(folder).values() if p.arm == "student")
    append_pictures(folder, [replace(picture, noise_sha256="f" * 64)])
    run = Run.open(folder)
    with pytest.raises(EvaluationError, match="different noise"):
        check_same_noise(run, run.arms)


@pytest.mark.parametrize("change", [{"sigmas": None}, {"seed": "x"}, {"file": 3}, {"steps": 4.5}])
def test_a_line_with_a_wrong_value_counts_as_a_missing_picture(make_run, change):
    run = make_run(roles=["teacher"])
    first, *others = (run / LINES).read_text().splitlines()
    (run / LINES).write_text("\n".join([json.dumps(json.loads(first) | change), *others]) + "\n")
    with pytest.raises(EvaluationError, match="1 of 12 pictures of teacher are missing"):
        Run.open(run).pictures("teacher")


@pytest.mark.parametrize("change", [{"seeds": "four"}, {"limit": "x"}, {"arms": {"teacher": 1}}, {"preset": None}])
def test_a_header_with_a_wrong_value_is_refused(make_run, change):
    run = make_run(roles=["teacher"])
    (run / HEADER).write_text(json.dumps(json.loads((run / HEADER).read_text()) | change))
    with pytest.raises(EvaluationError, match="damaged"):
        read_header(run)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"arms": {}}', "\x00"])
def test_a_damaged_header_is_refused(tmp_path, content):
    (tmp_path / HEADER).write_text(content)
    with pytest.raises(EvaluationError, match="damaged"):
        read_header(tmp_path)


def test_another_edition_of_the_suite_is_refused(make_run):
    run = make_run(roles=["teacher"])
    header = json.loads((run / HEADER).read_text())
    (run / HEADER).write_text(json.dumps(header | {"suite_sha256": "0" * 64}))
    with pytest.raises(EvaluationError, match="another edition"):
        Run.open(run)


def test_ten_kills_and_two_processes_leave_what_one_quiet_run_leaves(tmp_path):
    command = [sys.executable, "-m", "tests.evaluation.killed", str(tmp_path)]
    subprocess.run(command, check=True, timeout=300, cwd=Path(__file__).parents[2])

    def made(name):
        folder = tmp_path / name
        lines = [line for path in folder.glob("manifest*.jsonl") for line in path.read_text().splitlines()]
        pictures = {picture.key: picture.sha256 for picture in read_pictures(folder).values()}
        whole = [json.loads(line)["key"] for line in lines if line.endswith("}")]
        assert len(whole) == len(set(whole)) == len(pictures) == PICTURES  # no picture has two lines
        assert not list(folder.rglob(".*.part"))
        run = Run.open(folder)
        assert all(run.pixels(picture).shape == (96, 96, 3) for _, picture in run.pictures("student"))
        return pictures

    assert made("killed") == made("whole") == made("two")
    assert {path.name for path in (tmp_path / "two").glob("*.jsonl")} == {"manifest.jsonl", "manifest-1.jsonl"}


def test_accelerate_launch_over_two_processes_makes_the_bits_of_one(tmp_path, tiny_system):
    """On CPUs `--multi_gpu` only starts processes, which is all that is asked of it here."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch = ["--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    two = [sys.executable, "-m", "accelerate.commands.launch", *launch, f"--main_process_port={port}", "-m", "tdm_core"]
    environment = os.environ | {"TDM_DEVICE": "cpu", "TDM_THREADS": "1", "TDM_PRESETS": str(tiny_system / "presets")}
    asked = ["--preset=tiny", "--role=student", "--limit=6", "--seeds=1", "--batch-size=2"]
    made = []
    for name, command in (("two", two), ("one", [sys.executable, "-m", "tdm_core"])):
        command += ["evaluate", "generate", f"--out={tmp_path / name}", *asked]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        made.append({item.id: picture.sha256 for item, picture in Run.open(tmp_path / name).pictures("student")})
    assert made[0] == made[1] and len(set(made[0].values())) == 6
    assert [len((tmp_path / "two" / f"manifest{rank}.jsonl").read_text().splitlines()) for rank in ("", "-1")] == [4, 2]


def test_generating_loads_no_metric_and_no_torch():
    code = "import sys, tdm_core.evaluation.harness; print([m for m in sys.modules if 'metrics' in m or m == 'torch'])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
