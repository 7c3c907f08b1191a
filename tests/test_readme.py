"""The README is held to the code: variables, commands, paths, front matter and results."""

import re
import shlex
import shutil
import tomllib
from contextlib import closing
from dataclasses import fields
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from benchmarks.readme import filled
from benchmarks.rows import Measure, Row, load
from tdm_core.generation.bank import Bank
from tdm_core.settings import PREFIX, READ_ELSEWHERE, Settings
from tdm_core.study import StudyService
from tdm_core.wiring import Wiring
from tests.studies import Clock, look_and_vote

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
_, FRONT_MATTER, BODY = README.split("---\n", 2)
SPACE = yaml.safe_load(FRONT_MATTER)
CODE = ("tdm_core", "train", "benchmarks", "hosting", "tests")


def section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", BODY, flags=re.MULTILINE | re.DOTALL).group(1)


def blocks(language, title):
    return re.findall(rf"```{language}\n(.*?)```", section(title), flags=re.DOTALL)


def table_rows(text):
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]


def test_front_matter_is_what_a_space_reads():
    assert SPACE["sdk"] == "gradio"
    assert SPACE["license"] == "apache-2.0"
    assert (ROOT / SPACE["app_file"]).is_file()
    assert len(SPACE["short_description"]) <= 60  # a Space refuses more
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {SPACE["colorFrom"], SPACE["colorTo"]} <= colours


def test_front_matter_asks_for_versions_that_the_project_allows():
    requirements = [
        Requirement(line.split("#")[0]) for line in (ROOT / "requirements.txt").read_text().splitlines()[1:]
    ]
    gradio = next(requirement for requirement in requirements if requirement.name == "gradio")
    assert gradio.specifier.contains(SPACE["sdk_version"])
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert SpecifierSet(pyproject["project"]["requires-python"]).contains(SPACE["python_version"])


def test_table_of_variables_is_the_settings():
    documented = {row[0].strip("`"): row[1].strip("`") for row in table_rows(section("Environment variables"))}
    defaults = {PREFIX + field.name.upper(): str(field.default or "") for field in fields(Settings)}
    assert documented == defaults | dict.fromkeys(READ_ELSEWHERE, "")


def test_no_variable_is_read_without_being_in_the_table():
    documented = {row[0].strip("`") for row in table_rows(section("Environment variables"))}
    sources = [ROOT / "app.py", *(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))]
    used = {name for path in sources for name in re.findall(r"environ\S*[\[(]\"(\w+)", path.read_text("utf-8"))}
    assert {name for name in used if name.startswith(PREFIX)} <= documented


def test_table_of_targets_is_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE).group(1).split())
    assert {row[0].strip("`").removeprefix("make ") for row in table_rows(section("Two commands"))} == targets
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)


def test_every_make_command_in_the_text_has_a_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^)make ([a-z-]+)", BODY, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_local_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", BODY) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_annotated_tree_shows_what_is_there():
    tree = re.search(r"```text\n(.*?)```", section("What is where"), flags=re.DOTALL).group(1)
    folder, missing = Path(), []
    for line in tree.splitlines():
        names = re.split(r"\s{2,}(?!\S*\.py\b)", line.strip())[0].split()
        parent = folder if line.startswith("  ") else Path()
        missing += [name for name in names if not (ROOT / parent / name).exists()]
        if not line.startswith("  "):
            folder = Path(names[0])
    assert missing == []


def test_annotated_tree_leaves_no_package_out():
    packages = {path.parent.name for path in (ROOT / "tdm_core").glob("*/__init__.py")}
    assert packages <= set(re.findall(r"^  (\w+)/", section("What is where"), flags=re.MULTILINE))


COMMANDS, STUDY = ([line for line in block if line] for block in map(str.splitlines, blocks("bash", "Command line")))
CHEAP = ("presets", "doctor", "evaluate suites")  # the others load or make weights, or want what an earlier line made


def called(line):
    """A line's module with a ``main``, and its arguments without the comment."""
    python, flag, module, *arguments = shlex.split(line, comments=True)
    assert (python, flag) == (".venv/bin/python", "-m"), line
    return import_module("tdm_core.__main__" if module == "tdm_core" else module), arguments


def test_the_two_blocks_of_commands_are_the_ones_that_are_run_here():
    assert len(COMMANDS) >= 15 and len(STUDY) == 8
    assert {" ".join(shlex.split(line, comments=True)[3:]) for line in COMMANDS} >= set(CHEAP)


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line.partition("#")[0].partition("-m ")[2])
def test_a_command_line_is_one_that_its_program_takes(line, tmp_path, monkeypatch, capsys):
    """Its arguments are parsed, each option is one of the help's, each file is there; what is cheap is done."""
    monkeypatch.setenv("TDM_DATA_DIR", str(tmp_path / "data"))
    program, arguments = called(line)
    assert [name for name in arguments if name.endswith(".toml") and not (ROOT / name).is_file()] == []
    with pytest.raises(SystemExit) as ended:
        program.main([*arguments, "--help"])
    told = capsys.readouterr()
    assert ended.value.code == 0, told.err
    assert [option for option in arguments if option.startswith("--") and option not in told.out] == []
    if " ".join(arguments) in CHEAP:
        assert program.main(arguments) == 0, capsys.readouterr()
        assert capsys.readouterr().out


def test_a_study_is_held_by_the_readmes_own_lines(tiny_system, tmp_path, monkeypatch, capsys):
    """On a tiny system in the mini's place; the page itself is held in test_stop.py and its neighbours."""
    (tmp_path / "presets").mkdir()
    shutil.copy(tiny_system / "presets" / "tiny.toml", tmp_path / "presets" / "mini-sd3.toml")
    monkeypatch.setenv("TDM_PRESETS", str(tmp_path / "presets"))
    monkeypatch.setenv("TDM_DATA_DIR", str(tmp_path / "data"))
    told, created = [], Path(shlex.split(STUDY[0], comments=True)[-1])
    assert (ROOT / created).is_file()
    for line in STUDY:
        command = shlex.split(line, comments=True)
        if command[-2:] == ["make", "run"]:
            monkeypatch.setenv(*command[0].split("="))
            take_part(Settings.from_env())
            continue
        program, arguments = called(line)
        at = [str(ROOT / word) if word == str(created) else word for word in arguments]
        at = [str(tmp_path / word) if before == "--out" else word for before, word in pairwise(["", *at])]
        status = program.main(at)
        told.append(capsys.readouterr().out)
        assert status == 0, (line, told[-1])
    assert re.search(r"sha256 [0-9a-f]{64}", told[0])  # "prints the hash of its rules"
    assert told[1].splitlines()[-1] == "40 of 40 pairs"
    assert "share of student" in told[-2]
    names = {path.name for path in (tmp_path / "scenes-votes").iterdir()}
    assert {"votes.csv", "votes.jsonl", "README.md"} <= names


def take_part(settings):
    """What three raters do on the page of the study that the settings name."""
    clock = Clock()
    with closing(Wiring(settings)) as wiring:
        pairs = Bank(wiring.bank_folder(settings.study), preset="mini-sd3")
        service = StudyService(store=wiring.store, pairs=pairs, study_id=settings.study, clock=clock)
        for rater in ("a" * 32, "b" * 32, "c" * 32):
            service.consent(rater)
            for _ in range(3):
                look_and_vote(service, clock, rater)
        assert service.status().votes == 9


def test_own_lora_works_as_the_tutorial_says(tmp_path, monkeypatch, capsys):
    from tdm_core.__main__ import main

    text = section("Your own LoRA, in five minutes")
    preset, study = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "my-presets").mkdir()
    (tmp_path / "my-presets" / "mine.toml").write_text(preset, encoding="utf-8")
    (tmp_path / "my-study.toml").write_text(study, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TDM_DATA_DIR", str(tmp_path / "data"))
    export, *lines, last = re.search(r"```bash\n(.*?)```", text, flags=re.DOTALL).group(1).strip().splitlines()
    monkeypatch.setenv(*export.removeprefix("export ").split("="))
    for line in lines:
        assert main(shlex.split(line.partition("-m tdm_core ")[2])) == 0, capsys.readouterr().err
    assert {path.name for path in (tmp_path / "runs" / "mine").iterdir()} >= {"pair.json", "student.png"}
    variable, *command = shlex.split(last)
    monkeypatch.setenv(*variable.split("="))
    assert command == ["make", "run"]
    settings = Settings.from_env()
    with closing(Wiring(settings)) as wiring:
        rules = wiring.study(settings.study).rules
        assert wiring.study_preset(rules.preset).title == "My student"


def test_results_are_what_the_committed_rows_say():
    assert filled(README, load()) == README


ROW = Row(
    name="speed",
    when="2026-11-23T12:00:00+00:00",
    commit="abc1234",
    machine="a machine, 2 cores",
    command="make bench ARGS=speed",
    measures=(
        Measure(what="student", value=0.25, unit="s", low=0.2, high=0.3, n=20, bar="<= 0.3 s", met=True),
        Measure(what="teacher", value=5.0),
    ),
)


def test_newest_row_of_a_benchmark_is_shown_with_interval_and_bar():
    older = Row(**{**vars(ROW), "when": "2026-11-22T12:00:00+00:00", "commit": "0000000"})
    text = filled(README, [older, ROW])
    assert "| student | 0.25 s [0.2, 0.3], n = 20 | <= 0.3 s: met |" in text
    assert "| teacher | 5 |  |" in text
    assert "abc1234" in text
    assert "0000000" not in text


def test_readme_without_markers_is_refused():
    with pytest.raises(ValueError, match="lost its markers"):
        filled("# Title", [ROW])
