"""Trackers: TensorBoard by default, others by name, none of them before the first row."""

import struct

import numpy as np
import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from tensorboardX.proto.event_pb2 import Event

from tdm_core.errors import ConfigError
from tdm_core.training import tracking
from tests.training.recipes import recipe, tiny_trainer

PICTURES = np.zeros((3, 2, 8, 8, 3), dtype=np.uint8)


def events(folder):
    """All values in TensorBoard's files: a length, a checksum, the event, a checksum; again and again."""
    for path in folder.rglob("events.out*"):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            yield from ((event.step, value) for value in event.summary.value)
            place += 12 + length + 4


def test_tensorboard_is_told_of_every_figure_and_of_the_previews(tmp_path):
    config = recipe(tmp_path, run={"tracker": "tensorboard"})
    row = tiny_trainer(config).train_step()
    with tracking.tracking(config) as tracker:
        assert not config.run.folder.exists()  # a run that is refused leaves nothing behind
        tracker.log(row)
        tracker.show(1, PICTURES)
    found = {value.tag: (step, value) for step, value in events(config.run.folder)}
    assert found["fake_loss"][0] == 1 and found["fake_loss"][1].simple_value == pytest.approx(row.fake_loss)
    assert {"student_loss", "student_gradient", "disagreement", "latents_std", "seconds"} <= found.keys()
    picture = next(value.image for tag, (_, value) in found.items() if "previews" in tag)
    assert (picture.height, picture.width) == (24, 16)


class Recorder(GeneralTracker):
    name, requires_logging_directory = "trackio", False

    def __init__(self, run_name):
        super().__init__(_blank=True)
        self.said = [run_name]
        Recorder.last = self

    def start(self):
        self.said.append("start")

    def store_init_configuration(self, values):
        self.said.append(values["title"])

    def log(self, values, step):
        self.said.append((step, sorted(values)[:1]))

    def log_images(self, values, step):
        self.said.append((step, values["previews"].shape))

    def finish(self):
        self.said.append("finish")


def test_another_tracker_is_chosen_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "trackio", Recorder)
    monkeypatch.setitem(tracking.PACKAGES, "trackio", "json")
    config = recipe(tmp_path, run={"tracker": "trackio"})
    with tracking.tracking(config) as tracker:
        tracker.log(tiny_trainer(config).train_step())
        tracker.show(1, PICTURES)
    assert Recorder.last.said == ["tiny", "start", "tiny", (1, ["disagreement"]), (1, (1, 24, 16, 3)), "finish"]


def test_a_tracker_that_is_not_installed_is_named_with_a_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(tracking.PACKAGES, "wandb", "no_such_package")
    with (
        pytest.raises(ConfigError, match=r"run.tracker: no_such_package is not installed.\n.*run.tracker=none"),
        tracking.tracking(recipe(tmp_path, run={"tracker": "wandb"})),
    ):
        pass
