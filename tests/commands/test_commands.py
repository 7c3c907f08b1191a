"""The command line: what it writes, its exit status, and that a user's mistake is at most two lines."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tdm_core.__main__ import FAMILIES, main
from tdm_core.commands import doctor
from tdm_core.generation.media import decode_png
from tests.tiny import SIZE_PX

PAIR = ["pair", "--preset", "tiny", "--prompt", "a cat", "--seed", "7"]


@pytest.fixture
def run(tiny_system, tmp_path, monkeypatch, capsys):
    """Run a command on the tiny presets; gives exit status, stdout and the lines on stderr."""
    monkeypatch.setenv("TDM_PRESETS", str(tiny_system / "presets"))
    monkeypatch.setenv("TDM_DATA_DIR", str(tmp_path / "data"))

    def run(*arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        return status, out, err.splitlines()

    return run


@pytest.fixture
def own_presets(tmp_path, tiny_system):
    """A folder with one preset file, to be damaged."""
    (tmp_path / "presets").mkdir()
    return shutil.copy(tiny_system / "presets" / "tiny.toml", tmp_path / "presets" / "tiny.toml")


@pytest.fixture
def only_tiny(monkeypatch, tiny_system):
    """Leave the shipped presets out, which a test must not depend on."""
    monkeypatch.setattr("tdm_core.wiring.SHIPPED", tiny_system / "presets")


def test_pair_writes_three_pictures_and_their_figures(run, tmp_path):
    status, _, err = run(*PAIR, "--out", tmp_path / "a" / "b")
    assert (status, err) == (0, [])
    folder = tmp_path / "a" / "b"
    assert sorted(path.name for path in folder.iterdir()) == [
        "pair.json",
        "student.png",
        "teacher.png",
        "teacher_few.png",
    ]
    pictures = [decode_png((folder / f"{role}.png").read_bytes()) for role in ("teacher", "teacher_few", "student")]
    assert {picture.shape for picture in pictures} == {(SIZE_PX, SIZE_PX, 3)}
    assert not np.array_equal(pictures[0], pictures[2])
    figures = json.loads((folder / "pair.json").read_text())
    assert list(figures) == ["noise_sha256", "teacher", "teacher_few", "student"]
    assert {role: (figures[role]["steps"], figures[role]["nfe"]) for role in list(figures)[1:]} == {
        "teacher": (10, 20),
        "teacher_few": (4, 8),
        "student": (4, 4),
    }
    for role in list(figures)[1:]:
        assert list(figures[role]) == ["steps", "nfe", "guidance_scale", "scheduler", "seconds", "denoiser_seconds"]
        assert figures[role]["scheduler"] == "FlowMatchEulerDiscreteScheduler"
        assert 0 < figures[role]["denoiser_seconds"] < figures[role]["seconds"]


def test_pair_is_the_same_for_the_same_seed(run, tmp_path):
    for name in ("a", "b"):
        assert run(*PAIR, "--out", tmp_path / name)[0] == 0
    for role in ("teacher", "teacher_few", "student"):
        assert (tmp_path / "a" / f"{role}.png").read_bytes() == (tmp_path / "b" / f"{role}.png").read_bytes()


def test_steps_are_the_students_and_the_cut_teachers(run, tmp_path):
    _, out, _ = run(*PAIR, "--steps", 3, "--out", tmp_path)
    figures = json.loads((tmp_path / "pair.json").read_text())
    assert [figures[role]["steps"] for role in ("teacher", "teacher_few", "student")] == [10, 3, 3]
    assert "not trained for 3 steps" in out


def test_interrupted_pair_leaves_no_figures_beside_older_pictures(run, tmp_path, monkeypatch):
    run(*PAIR, "--out", tmp_path)

    def full_disk(*_):
        raise OSError(28, "No space left on device", "student.png")

    monkeypatch.setattr("tdm_core.generation.media.os.fsync", full_disk)
    status, _, err = run(*PAIR, "--out", tmp_path)
    assert (status, err) == (1, ["student.png: No space left on device"])
    assert not (tmp_path / "pair.json").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments are required: COMMAND"),
        (["paint"], "invalid choice: 'paint'"),
        (["pair"], "arguments are required: --prompt, --seed, --out"),
        ([*PAIR, "--out", "{tmp}/o", "--seed", "one"], "invalid int value: 'one'"),
        ([*PAIR, "--out", "{tmp}/o", "--seed", "-1"], "from 0 to 4294967295"),
        ([*PAIR, "--out", "{tmp}/o", "--steps", "0"], "from 1 to 100"),
        ([*PAIR, "--out", "{tmp}/o", "--prompt", ""], "prompt is empty"),
        ([*PAIR, "--out", "{tmp}/o", "--prompt", "x" * 10_000], "10,000 characters"),
        ([*PAIR, "--out", "{tmp}/o", "--preset", "sd9"], "no preset 'sd9'; there are: "),
        ([*PAIR, "--out", "{tmp}/o", "--colour", "a\nb\nc\nd"], "unrecognized arguments"),
        ([*PAIR, "--out", __file__], "name a folder"),
        (["presets", "--presets", "{tmp}/none"], "no such folder"),
    ],
)
def test_mistakes_are_told_in_at_most_two_lines_with_status_2(run, tmp_path, arguments, message):
    status, out, err = run(*[argument.replace("{tmp}", str(tmp_path)) for argument in arguments])
    assert (status, out) == (2, "")
    assert message in "\n".join(err)
    assert 1 <= len(err) <= 2


def test_unknown_variable_is_told(run, monkeypatch):
    monkeypatch.setenv("TDM_DEVISE", "cpu")
    status, _, err = run("presets")
    assert status == 2 and "TDM_DEVISE" in err[0]


def test_damaged_weights_are_a_failure_at_run_time(run, own_presets, tmp_path, tiny_system):
    shutil.copytree(tiny_system / "lora", tmp_path / "lora")
    file = tmp_path / "lora" / "pytorch_lora_weights.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    own_presets.write_text(own_presets.read_text().replace(f"{tiny_system}/lora", str(tmp_path / "lora")))
    status, _, err = run(*PAIR, "--presets", own_presets.parent, "--out", tmp_path / "out")
    assert status == 1 and str(file) in err[0] and len(err) == 2


def test_presets_lists_what_runs_here_and_why_the_rest_does_not(run, own_presets, tiny_system):
    own_presets.write_text(own_presets.read_text().replace(f"{tiny_system}/base", "someone/some-model"))
    status, out, err = run("presets", "--presets", own_presets.parent, "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert (status, err) == (0, [])
    assert not rows["tiny"]["runs_here"] and "needs a download of someone/some-model" in rows["tiny"]["why_not"]


def test_presets_check_names_file_and_key(run, only_tiny, own_presets):
    own_presets.write_text(own_presets.read_text().replace("/lora", "/nowhere/at/all"))
    status, _, err = run("presets", "--check", "--presets", own_presets.parent)
    assert (status, len(err)) == (2, 1)
    assert f"{own_presets}: student.lora: no such folder" in err[0]


@pytest.fixture
def typo(own_presets):
    """A file with a typo beside a good preset."""
    path = own_presets.with_name("bad.toml")
    path.write_text('colour = "red"\n' + own_presets.read_text())
    return path


def test_presets_check_refuses_an_unknown_key(run, typo):
    status, _, err = run("presets", "--check", "--presets", typo.parent)
    assert status == 2
    assert str(typo) in err[0] and "'colour'" in err[0]


def test_typo_in_one_preset_is_listed_and_leaves_the_others_at_work(run, typo, tmp_path):
    status, out, err = run("presets", "--presets", typo.parent, "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert (status, err) == (0, [])
    assert rows["tiny"]["runs_here"] and not rows["bad"]["runs_here"]
    assert f"{typo}: unknown key 'colour'" in rows["bad"]["why_not"]
    last = run("presets", "--presets", typo.parent)[1].splitlines()[-1]
    assert last.startswith("bad ") and f"{typo}: unknown key 'colour'" in last
    assert run(*PAIR, "--presets", typo.parent, "--out", tmp_path / "out")[0] == 0
    status, _, err = run(*PAIR, "--presets", typo.parent, "--preset", "bad", "--out", tmp_path / "out")
    assert status == 2 and f"{typo}: unknown key 'colour'" in err[0]


def test_typo_in_a_preset_of_a_shipped_name_does_not_run_the_shipped_one(run, typo, tmp_path):
    typo.rename(typo.with_name("mini-sd3.toml"))
    status, _, err = run(*PAIR, "--presets", typo.parent, "--preset", "mini-sd3", "--out", tmp_path / "out")
    assert status == 2 and "unknown key 'colour'" in err[0]
    rows = [
        row for row in json.loads(run("presets", "--presets", typo.parent, "--json")[1]) if row["name"] == "mini-sd3"
    ]
    assert [row["runs_here"] for row in rows] == [False]


def test_broken_shipped_preset_stops_everything(run, typo, monkeypatch):
    monkeypatch.setattr("tdm_core.wiring.SHIPPED", typo.parent)
    status, _, err = run("presets")
    assert status == 2 and "unknown key 'colour'" in err[0]


def test_check_and_pair_say_the_same_of_a_mistake(run, only_tiny, own_presets, tmp_path):
    own_presets.write_text(own_presets.read_text().replace("[student]", '[student]\nscheduler = "Magic"'))
    checked = run("presets", "--check", "--presets", own_presets.parent)
    assert checked == run(*PAIR, "--presets", own_presets.parent, "--out", tmp_path / "out")
    status, _, err = checked
    assert (status, len(err)) == (2, 2) and f"{own_presets}: student: scheduler: " in err[0]
    assert not (tmp_path / "out").exists()


def test_check_says_how_many_mistakes_there_are(run, only_tiny, own_presets):
    text = own_presets.read_text().replace("[student]", '[student]\nscheduler = "Magic"')
    own_presets.write_text(text.replace("[teacher]", "[teacher]\noptions = { eta = 1.0 }"))
    status, _, err = run("presets", "--check", "--presets", own_presets.parent)
    assert (status, len(err)) == (2, 2) and "takes no 'eta'" in err[0] and err[0].endswith(" (and 1 more)")


@pytest.mark.parametrize(
    ("needs", "told"),
    [("memory_gb = 1e6", "needs 1e+06 GB"), ('memory_gb = 1.0\ndtype = "float16"', "made for a GPU (float16)")],
    ids=["memory", "GPU"],
)
def test_pair_refuses_what_the_machine_cannot_hold(run, own_presets, tmp_path, monkeypatch, needs, told):
    monkeypatch.setenv("TDM_DEVICE", "cpu")
    own_presets.write_text(f"{needs}\n{own_presets.read_text()}")
    status, _, err = run(*PAIR, "--presets", own_presets.parent, "--out", tmp_path / "out")
    assert (status, len(err)) == (1, 2) and told in err[0]
    assert told in run("presets", "--presets", own_presets.parent)[1]


OFFLINE = """
import sys, time
time.sleep = lambda seconds: None  # the Hub's library waits between its tries
from tdm_core.__main__ import main
raise SystemExit(main(sys.argv[1:]))
"""


def offline(presets, folder, **environment):
    """Make a pair where the Hub does not answer; the exit status and the lines on stderr."""
    environ = os.environ | {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(folder / "hub"),
        "HF_HUB_ETAG_TIMEOUT": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "1",
    }
    command = [sys.executable, "-c", OFFLINE, *PAIR, "--presets", presets, "--out", folder / "out"]
    done = subprocess.run(command, env=environ | environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.splitlines()


def test_hub_that_does_not_answer_is_told_in_two_lines(own_presets, tmp_path, tiny_system):
    own_presets.write_text(own_presets.read_text().replace(f"{tiny_system}/base", "someone/some-model"))
    status, err = offline(own_presets.parent, tmp_path)
    assert status == 1 and err == [
        "someone/some-model: the Hub does not answer.",
        "Try again later: what has arrived is kept.",
    ]


@pytest.mark.parametrize("environment", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["unreachable", "offline"])
def test_deleted_weights_of_a_cached_base_are_to_be_fetched_again(own_presets, tmp_path, tiny_system, environment):
    own_presets.write_text(own_presets.read_text().replace(f"{tiny_system}/base", "someone/some-model"))
    cache = tmp_path / "hub" / "hub" / "models--someone--some-model"
    commit = "0" * 40
    shutil.copytree(tiny_system / "base", cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    (cache / "snapshots" / commit / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    status, err = offline(own_presets.parent, tmp_path, **environment)
    assert status == 1 and len(err) == 2, err
    assert "someone/some-model: its copy in the Hub's cache is incomplete or damaged" in err[0]
    assert "with the network there and HF_HUB_OFFLINE unset to fetch it again" in err[1]


def test_doctor_finds_a_healthy_system_well(run, only_tiny):
    status, out, err = run("doctor")
    assert (status, err) == (0, [])
    assert out.splitlines()[-1] == "all is well"


def test_doctor_names_what_is_broken_with_the_cure(run, only_tiny, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "study.db").write_bytes(b"this was a database" * 100)
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
    status, out, _ = run("doctor")
    broken = [line for line in out.splitlines() if line.startswith("BROKEN")]
    assert status == 1
    assert "no-such-package missing; install with: make install" in broken[0]
    assert "study.db: file is not a database; put it aside" in broken[1]
    assert out.splitlines()[-1] == "2 broken"


def test_doctor_says_when_the_data_folder_cannot_be_written(run, only_tiny, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TDM_DATA_DIR", str(tmp_path / "file" / "data"))
    status, out, _ = run("doctor")
    assert status == 1 and "set TDM_DATA_DIR to a folder that can" in out


def test_help_shows_every_family_and_loads_no_framework():
    program = (
        "import sys; from tdm_core.__main__ import main; heavy = {'torch', 'gradio', 'diffusers', 'sqlalchemy'}\n"
        "try: main(['--help'])\n"
        "except SystemExit: print('LOADED', *sorted(sys.modules.keys() & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED"
    for family in ("presets", "pair", "doctor"):
        assert family in FAMILIES and family in done.stdout


def test_program_keeps_the_libraries_chatter_off_stderr(tiny_system, tmp_path):
    command = [sys.executable, "-m", "tdm_core", *PAIR, "--presets", tiny_system / "presets", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_bank_is_built_resumed_and_checked(run, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat\na dog\n")
    build = ["bank", "build", "--preset", "tiny", "--prompts", prompts, "--pairs"]
    assert run(*build, 1)[0] == 0
    first = {path.name for path in (tmp_path / "data" / "bank").glob("[!.]*")}
    status, out, err = run(*build, 2)
    made = sorted(path for path in (tmp_path / "data" / "bank").glob("[!.]*"))
    assert (status, err, len(first), len(made)) == (0, [], 1, 2) and "2 pairs of tiny" in out
    assert first < {path.name for path in made}
    assert run("bank", "check")[0] == 0
    (made[0] / "student_left.png").write_bytes(b"damaged")
    status, out, _ = run("bank", "check")
    assert status == 1 and made[0].name in out and "1 damaged" in out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["build", "--preset", "none"], "no such preset"),
        (["build", "--pairs", "0"], "at least one"),
        (["build", "--prompts", "nowhere.txt"], "nowhere.txt"),
        (["check"], "no bank there"),
    ],
)
def test_bank_refuses_in_a_line_or_two(run, arguments, word):
    status, out, err = run("bank", *arguments)
    assert (status, out) == (2, "") and 1 <= len(err) <= 2 and word in err[0]
