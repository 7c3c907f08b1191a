"""Prompts: files, draws and streams."""

import pytest
import torch

from tdm_core.backbones.sd3_training import SD3Training
from tdm_core.errors import ConfigError
from tdm_core.training import prompts
from tests.tiny import TARGETS, tiny_pipeline
from train.prompts import COUNTS, FILE, PATTERNS, text


@pytest.fixture(scope="module")
def backbone():
    return SD3Training(tiny_pipeline(), rank=2, alpha=2, targets=TARGETS, seed=0, max_sequence_length=0)


def test_lines_are_prompts_but_for_comments_and_empty_ones(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("# source, licence\n  # indented\na cat\n\n  a dog \nshe is #1\n")
    assert prompts.read_prompts(path) == ("a cat", "a dog", "she is #1")


def test_a_byte_order_mark_makes_no_prompt_of_the_header(tmp_path):
    """Windows' editors write one."""
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"\xef\xbb\xbf# source, licence\r\na cat\r\n")
    assert prompts.read_prompts(path) == ("a cat",)


def test_the_list_that_ships_is_what_its_program_makes():
    assert FILE.read_text(encoding="utf-8") == text()


def test_the_list_that_ships_names_source_and_licence_and_says_nothing_twice():
    header = [line for line in FILE.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert "train/prompts.py" in header[1] and "CC0 1.0" in header[2] and len(header) == 3
    shipped = prompts.read_prompts(FILE)
    assert len({prompt.lower() for prompt in shipped}) == len(shipped) == sum(COUNTS.values()) >= 2000
    assert not any("{" in prompt for prompt in shipped)


def test_every_list_of_phrases_is_used():
    patterns = "\n".join(pattern for kind in COUNTS for pattern in PATTERNS[kind])
    assert [name for name in PATTERNS.keys() - COUNTS.keys() if "{" + name + "}" not in patterns] == []


@pytest.mark.parametrize("content", [b"", b"# nothing\n\n", b"\xff\xfe", b"a cat\n\0\1"])
def test_a_file_without_prompts_is_refused(tmp_path, content):
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"prompts.file: .*(holds no prompt|not UTF-8|is a binary file)"):
        prompts.read_prompts(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"prompts.file: .*missing.txt: No such file"):
        prompts.read_prompts(tmp_path / "missing.txt")


def test_encoding_in_batches_changes_nothing(backbone, monkeypatch):
    texts = ["a cat", "a dog", "two dogs"]
    at_once = prompts.encode_all(backbone, texts)
    monkeypatch.setattr(prompts, "ENCODE_BATCH", 2)
    for name, tensor in prompts.encode_all(backbone, texts).tensors.items():
        torch.testing.assert_close(tensor, at_once.tensors[name])


def test_the_generator_decides_what_is_drawn(backbone):
    draw = prompts.draw_from_list(backbone, ["a cat", "a dog", "two dogs"])
    first, same = (draw(8, torch.Generator().manual_seed(0)).tensors["pooled_projections"] for _ in range(2))
    assert first.shape[0] == 8 and torch.equal(first, same)
    assert len(first.unique(dim=0)) == 3


def test_a_stream_is_asked_for_fresh_prompts_with_a_seed_of_the_generator(backbone):
    asked = []

    def sample(number, seed):
        asked.append((number, seed))
        return ["a cat"] * number

    draw, generator = prompts.draw_from_stream(backbone, sample), torch.Generator().manual_seed(0)
    assert len(draw(3, generator)) == 3
    draw(3, generator)
    assert [number for number, _ in asked] == [3, 3] and asked[0][1] != asked[1][1]
