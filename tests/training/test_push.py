"""Publishing, against a double of the Hub."""

import pytest

from tdm_core.errors import TrainingError
from tdm_core.training.push import open_repository, push
from tests.training.hub import REPOSITORY, TOKEN, serving


@pytest.fixture
def hub():
    with serving() as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "README.md").write_text("---\nlibrary_name: diffusers\n---\n# A student\n")
    (tmp_path / "pytorch_lora_weights.safetensors").write_bytes(bytes(range(256)) * 20)
    return tmp_path


def test_the_exported_folder_arrives_whole(hub, folder):
    open_repository(REPOSITORY, endpoint=hub.address, token=TOKEN)
    address = push(folder, REPOSITORY, endpoint=hub.address, token=TOKEN)
    assert hub.repositories == ["student"]
    assert hub.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert address.endswith("/commit/abc")


def test_a_refused_token_is_told_before_the_training_and_never_shown(hub):
    with pytest.raises(TrainingError, match=r"--push someone/student: .*401.*\n.*hf auth login") as error:
        open_repository(REPOSITORY, endpoint=hub.address, token="hf_wrongwrong")
    assert "hf_wrong" not in str(error.value) and len(str(error.value).splitlines()) == 2


def test_an_unreachable_hub_is_told_and_the_folder_stays(hub, folder):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(TrainingError, match=r"--push someone/student: .*\n.*can be pushed later"):
        push(folder, REPOSITORY, endpoint=hub.address, token=TOKEN)
    assert len(list(folder.iterdir())) == 2


def test_an_impossible_name_is_told(hub):
    with pytest.raises(TrainingError, match=r"--push a/b/c: .*\nCheck its name"):
        open_repository("a/b/c", endpoint=hub.address, token=TOKEN)
