import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tdm_core.errors import ConfigError, SamplingError, StorageError, StudyError
from tdm_core.generation.bank import Bank, build_bank, check_bank, read_prompts
from tdm_core.generation.media import decode_mp4, decode_png
from tdm_core.generation.presets import SHIPPED, load_presets
from tdm_core.generation.sample import Progress, Role, Sample
from tdm_core.scenes import grammar as still
from tdm_core.scenes.moving import grammar as moving
from tdm_core.study.authoring import read_rules

ROOT = Path(__file__).parents[2]
PROMPTS = ["a cat", "a dog", "a fox"]
SIDES = ("student", "teacher")


def fake_sample(request, *, size=16, kind="image", noise="n"):
    """A grey level for each role and noise that follows from the seed, as the engine's contract has it."""
    steps = 4 if request.role is Role.STUDENT else 28
    for step in range(1, 4):
        yield Progress(step=step, steps=steps, elapsed_seconds=0.0)
    pixels = np.random.default_rng(request.seed).integers(100, size=(size, size, 3), dtype=np.uint8)
    yield Sample(
        media=pixels + np.uint8(100 if request.role is Role.STUDENT else 0),
        kind=kind,
        steps=steps,
        nfe=steps,
        guidance_scale=1.0,
        scheduler="Fake",
        seconds=0.1,
        denoiser_seconds=0.1,
        noise_sha256=f"{noise} {request.seed}",
    )


def build(root, *, pairs=4, sample=fake_sample, prompts=PROMPTS, preset="mini"):
    return list(build_bank(root, preset=preset, prompts=prompts, sample=sample, pairs=pairs))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "bank"


@pytest.fixture
def bank(root):
    build(root)
    return Bank(root, preset="mini")


def test_a_bank_holds_the_pairs_asked_for_with_prompts_used_evenly(bank):
    prompts = Counter(pair.prompt for pair in bank.pairs())
    assert prompts == {"a cat": 2, "a dog": 1, "a fox": 1}


def test_progress_counts_up_and_comes_at_every_step(root):
    progress = build(root, pairs=2)
    assert (progress[0].pairs, progress[-1].pairs, progress[-1].target) == (0, 2, 2)
    assert [each.pairs for each in progress] == sorted(each.pairs for each in progress)
    assert len(progress) > 2 * 2 * 3


def test_both_ways_round_hold_the_same_two_pictures(bank):
    for pair in bank.pairs():
        one_way, other_way = (decode_png(bank.packed(pair.id, *sides)) for sides in (SIDES, SIDES[::-1]))
        assert np.array_equal(one_way[:, :16], other_way[:, 16:])
        assert np.array_equal(one_way[:, 16:], other_way[:, :16])
        assert one_way[:, :16].min() >= 100  # the student's


def controls(pair):
    arm = pair.control_arm
    return [(arm, "spoiled"), ("spoiled", arm), (arm, arm)]


def test_controls_hold_one_arm_beside_itself_and_beside_its_spoiled_copy(bank):
    for pair in bank.pairs():
        good = decode_png(
            bank.packed(pair.id, pair.control_arm, "teacher" if pair.control_arm == "student" else "student")
        )
        good_left, spoiled_left, twice = (decode_png(bank.packed(pair.id, *sides)) for sides in controls(pair))
        assert np.array_equal(good_left[:, :16], good[:, :16])
        assert np.array_equal(twice, np.tile(good[:, :16], (1, 2, 1)))
        assert np.array_equal(spoiled_left, np.roll(good_left, 16, axis=1))
        assert not np.array_equal(good_left[:, 16:], good_left[:, :16])


def test_all_bodies_are_equally_long(bank):
    lengths = {
        len(bank.packed(pair.id, *sides)) for pair in bank.pairs() for sides in (SIDES, SIDES[::-1], *controls(pair))
    }
    assert len(lengths) == 1


def test_a_reader_sees_each_pair_as_soon_as_it_is_there(root):
    """Also those that come within one tick of the file system's clock after it has looked."""
    bank = Bank(root, preset="mini")
    assert bank.pairs() == []
    for count in (1, 2, 3):
        build(root, pairs=count)
        assert len(bank.pairs()) == count
    for path in root.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    assert bank.pairs() == []


def test_a_settled_bank_is_not_listed_again(root, bank, monkeypatch):
    os.utime(root, (1, 1))
    listed = bank.pairs()
    monkeypatch.setattr(Path, "glob", None)
    assert bank.pairs() == listed


def test_pairs_keep_the_category_of_their_prompt(root):
    list(build_bank(root, preset="mini", prompts=PROMPTS, sample=fake_sample, pairs=3, categories={"a cat": "felines"}))
    assert {pair.prompt: pair.category for pair in Bank(root, preset="mini").pairs()} == {
        "a cat": "felines",
        "a dog": "",
        "a fox": "",
    }


def test_names_are_opaque_and_seeds_all_different(root, bank):
    names = {path.name for path in root.iterdir() if path.is_dir()}
    assert all(len(name) == 32 for name in names)
    seeds = {pair.seed for pair in bank.pairs()}
    assert len(seeds) == 4
    assert not any(str(seed) in name for seed in seeds for name in names)


def test_a_whole_bank_has_no_problems(root, bank):
    assert check_bank(root) == []


def test_a_stopped_bank_goes_on_where_it_was(root):
    building = build_bank(root, preset="mini", prompts=PROMPTS, sample=fake_sample, pairs=4)
    while next(building).pairs < 2:
        pass
    building.close()
    before = {pair.id for pair in Bank(root, preset="mini").pairs()}
    assert len(before) == 2
    build(root)
    after = Bank(root, preset="mini").pairs()
    assert len(after) == 4
    assert before <= {pair.id for pair in after}
    assert check_bank(root) == []


def test_a_sampler_that_fails_leaves_nothing_behind(root):
    def failing(request):
        yield from fake_sample(request)
        if request.role is Role.TEACHER:
            raise SamplingError("out of memory")

    with pytest.raises(SamplingError):
        build(root, sample=failing)
    assert Bank(root, preset="mini").pairs() == []
    assert not any(path.is_dir() for path in root.iterdir())


BUILDER = """
import sys
from pathlib import Path
from tdm_core.generation import bank
from tests.generation.test_bank import PROMPTS, fake_sample

whole = bank.write_whole
def tell(path, content):
    whole(path, content)
    print(path.name, flush=True)
bank.write_whole = tell
list(bank.build_bank(Path(sys.argv[1]), preset="mini", prompts=PROMPTS, sample=fake_sample, pairs=int(sys.argv[2])))
"""


def a_builder(root, pairs):
    program = [sys.executable, "-c", BUILDER, str(root), str(pairs)]
    return subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("files_before_the_kill", [1, 2, 5])
def test_a_killed_builder_leaves_only_whole_pairs(root, files_before_the_kill):
    builder = a_builder(root, 100_000)
    for _ in range(files_before_the_kill):
        builder.stdout.readline()
    builder.kill()
    builder.communicate()
    assert check_bank(root) == []
    made = len(Bank(root, preset="mini").pairs())
    build(root, pairs=made + 1)
    assert len(Bank(root, preset="mini").pairs()) == made + 1
    assert not [path for path in root.glob(".*") if path.name != ".lock"]


def test_two_builders_make_no_pair_too_many(root):
    builders = [a_builder(root, 12) for _ in range(2)]
    assert [builder.communicate(timeout=300) and builder.returncode for builder in builders] == [0, 0]
    assert len(Bank(root, preset="mini").pairs()) == 12


def test_banks_of_two_presets_share_a_folder(root, bank):
    build(root, preset="other", pairs=1)
    assert len(Bank(root, preset="other").pairs()) == 1
    assert len(bank.pairs()) == 4


def test_a_damaged_picture_is_never_served(root, bank):
    pair = bank.pairs()[0]
    path = root / pair.id / "student_left.png"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StorageError, match="delete this folder"):
        bank.packed(pair.id, "student", "teacher")
    [problem] = check_bank(root)
    assert pair.id in problem


@pytest.mark.parametrize("damage", [lambda text: text[:50], lambda text: "[]", lambda text: '{"id": 7}'])
def test_a_damaged_description_is_named(root, bank, damage):
    folder = root / bank.pairs()[0].id
    (folder / "pair.json").write_text(damage((folder / "pair.json").read_text()))
    with pytest.raises(StorageError, match=folder.name):
        Bank(root, preset="mini").pairs()
    assert len(check_bank(root)) == 1


def test_swapped_pictures_are_found(root, bank):
    pair = bank.pairs()[0]
    path = root / pair.id / "pair.json"
    values = json.loads(path.read_text())
    values["sha256_by_left_arm"]["student"] = values["sha256_by_left_arm"]["teacher"]
    path.write_text(json.dumps(values))
    shutil.copy(root / pair.id / "teacher_left.png", root / pair.id / "student_left.png")
    [problem] = check_bank(root)
    assert "same two pictures" in problem


def test_a_pair_that_is_gone_is_named(root, bank):
    pair = bank.pairs()[0]
    shutil.rmtree(root / pair.id)
    assert pair.id not in {each.id for each in bank.pairs()}
    with pytest.raises(StorageError, match=pair.id):
        bank.packed(pair.id, "student", "teacher")


def test_arms_of_unequal_size_are_refused(root):
    def unequal(request):
        return fake_sample(request, size=16 if request.role is Role.STUDENT else 32)

    with pytest.raises(StudyError, match="one size"):
        build(root, sample=unequal)


def test_arms_of_unequal_noise_are_refused(root):
    with pytest.raises(StudyError, match="one noise"):
        build(root, sample=lambda request: fake_sample(request, noise=request.role))


def test_a_picture_beside_a_video_is_refused(root):
    with pytest.raises(StudyError, match="one size"):
        build(root, sample=lambda r: fake_video(r) if r.role is Role.STUDENT else fake_sample(r))


def fake_video(request, *, width=16):
    """A student that flickers and a teacher that stands still."""
    steps = 4 if request.role is Role.STUDENT else 25
    yield Progress(step=1, steps=steps, elapsed_seconds=0.0)
    still = np.random.default_rng(request.seed).integers(100, size=(4, 4, 3), dtype=np.uint8)
    frames = np.tile(still.repeat(4, axis=0).repeat(width // 4, axis=1), (5, 1, 1, 1))
    if request.role is Role.STUDENT:
        frames[1::2] += np.uint8(100)
    [picture] = [event for event in fake_sample(request) if isinstance(event, Sample)]
    yield replace(picture, media=frames, kind="video")


@pytest.fixture
def videos(root):
    list(build_bank(root, preset="mini", prompts=PROMPTS, sample=fake_video, pairs=2, fps=4))
    return Bank(root, preset="mini")


def test_a_pair_of_videos_is_one_mp4_for_each_way_round(videos):
    for pair in videos.pairs():
        assert (pair.kind, pair.frames, pair.fps, pair.width, pair.height) == ("video", 5, 4, 16, 16)
        assert pair.length_ms == 1250
        bodies = {sides: videos.packed(pair.id, *sides) for sides in (SIDES, SIDES[::-1], *controls(pair))}
        assert len({len(body) for body in bodies.values()}) == 1
        one_way, other_way = (decode_mp4(bodies[sides]).astype(int) for sides in (SIDES, SIDES[::-1]))
        assert np.abs(np.roll(one_way, 16, axis=2) - other_way).mean() < 3
        flicker = np.abs(np.diff(one_way, axis=0)).mean(axis=(0, 1, 3))
        assert flicker[:16].min() > 50 > 5 > flicker[16:].max()  # the student lies left


def test_a_bank_of_videos_is_checked(root, videos):
    assert check_bank(root) == []
    pair = videos.pairs()[0]
    path = root / pair.id / "student_left.mp4"
    path.write_bytes(path.read_bytes()[:-1])
    assert len(check_bank(root)) == 1


def test_a_bank_whose_ways_round_are_not_the_same_videos_is_found(root, videos):
    folder = root / videos.pairs()[0].id
    facts = json.loads((folder / "pair.json").read_text())
    shutil.copy(folder / "student_left.mp4", folder / "teacher_left.mp4")
    facts["sha256_by_left_arm"]["teacher"] = facts["sha256_by_left_arm"]["student"]
    (folder / "pair.json").write_text(json.dumps(facts))
    [problem] = check_bank(root)
    assert "not the same two" in problem


def test_videos_whose_sides_would_share_blocks_are_refused(root):
    with pytest.raises(StudyError, match="multiple of 16"):
        list(build_bank(root, preset="m", prompts=PROMPTS, sample=lambda r: fake_video(r, width=20), pairs=1))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        build(tmp_path / "file" / "bank")


def test_no_prompts_are_refused(root):
    with pytest.raises(ConfigError):
        build(root, prompts=[])


def test_prompts_are_read_line_by_line(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("# source; licence\na cat\n\n  a 🦊 \n", encoding="utf-8")
    assert read_prompts(path) == ["a cat", "a 🦊"]


@pytest.mark.parametrize("path", sorted((ROOT / "assets" / "studies").glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_study_has_forty_prompts_that_its_teacher_knows(path):
    rules = read_rules(path, read_prompts)
    preset = load_presets([SHIPPED])[rules.preset]
    [prompts] = rules.prompts.values()
    assert len(prompts) == len(set(prompts)) == rules.target == 40
    words = moving.VOCABULARY if preset.media == "video" else still.VOCABULARY
    assert [prompt for prompt in prompts if still.unknown_words(prompt, vocabulary=words)] == []


@pytest.mark.parametrize("content,message", [(b"", "no prompts"), (b"\xff\xfe", "text"), (b"ok\na\0b", "line 2")])
def test_prompts_that_cannot_be_used_are_named(tmp_path, content, message):
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_prompts(path)
