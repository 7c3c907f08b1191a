"""A study whose media are videos, from its TOML file to its report, on a tiny random CogVideoX."""

import json
import time

import pytest
from safetensors.torch import save_file

from tdm_core.__main__ import main
from tdm_core.generation.media import decode_mp4
from tdm_core.settings import Settings
from tdm_core.study import Choice, Offer
from tdm_core.wiring import Wiring
from tests.tiny_systems import ATTENTION, BASES, as_diffusers, random_lora, save_base

PRESET = """
title = "Tiny clips"
family = "cogvideox"
base = "base"
licence = "none"
media = "video"
width = 64
height = 64
frames = 9
fps = 50
max_sequence_length = 226
[teacher]
steps = 3
guidance_scale = 2.0
[student]
lora = "lora"
steps = 2
grid = "scheduler"
[[examples]]
prompt = "a cat"
seed = 1
"""
STUDY = """
title = "Clips"
question = "Which clip fits these words better?"
preset = "clips"
needed = 2
target = 2
trials_per_rater = 2
min_view_ms = 0
[prompts]
all = ["a cat runs", "a dog sits"]
[controls]
practice = 0
gold_share = 0
repeat_share = 0
identical_every = 0
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    presets = tmp_path / "presets"
    save_base("cogvideox", presets / "base")
    lora = random_lora(BASES["cogvideox"]().transformer, ATTENTION)
    (presets / "lora").mkdir()
    save_file(as_diffusers(lora, "transformer"), presets / "lora" / "pytorch_lora_weights.safetensors")
    (presets / "clips.toml").write_text(PRESET)
    (tmp_path / "clips.toml").write_text(STUDY)
    monkeypatch.setenv("TDM_PRESETS", str(presets))
    monkeypatch.setenv("TDM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TDM_DEVICE", "cpu")
    return tmp_path / "clips.toml"


def test_a_study_of_videos_from_its_file_to_its_report(study, capsys):
    for command in (["create", str(study)], ["build", "clips"], ["open", "clips"]):
        assert main(["study", *command]) == 0, capsys.readouterr()
    wiring = Wiring(Settings.from_env())
    service = wiring.study("clips")
    assert (service.status().state, service.status().kind) == ("open", "video")
    while isinstance(offer := service.next_trial("r"), Offer):
        assert (offer.kind, offer.frames, offer.fps, offer.min_view_ms) == ("video", 9, 50, 180)
        body = service.media("r", offer.media)
        frames = decode_mp4(body)
        assert frames.shape == (9, 64, 128, 3)
        assert (frames[:, :, :64] != frames[:, :, 64:]).any()
        service.media_sent("r", offer.media)
        time.sleep(0.2)  # one loop, by the service's own clock
        service.cast_vote("r", offer.trial, Choice.LEFT)
    wiring.close()
    assert main(["bank", "check", "--out", str(study.parent / "data" / "studies" / "clips" / "bank")]) == 0
    assert main(["study", "close", "clips"]) == 0
    capsys.readouterr()
    assert main(["study", "report", "clips", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["votes"] == 2
