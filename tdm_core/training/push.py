"""Publishing a finished student: its export folder as a model repository of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from tdm_core.backbones.base import HUB_ERRORS
from tdm_core.errors import TrainingError


def open_repository(repository: str, *, endpoint: str | None = None, token: str | None = None) -> None:
    """Make the model repository if it is not there, which proves that it can be written.

    Args:
        endpoint, token: instead of the Hub's own address (``HF_ENDPOINT``) and the stored login (``HF_TOKEN``).

    Raises:
        TrainingError: if the Hub cannot be reached or refuses.
    """
    with _told(repository):
        HfApi(endpoint=endpoint, token=token).create_repo(repository, exist_ok=True)


def push(folder: Path, repository: str, *, endpoint: str | None = None, token: str | None = None) -> str:
    """Upload all files of an export folder in one commit; returns the commit's address.

    Raises:
        TrainingError: as `open_repository`; the folder is left as it is.
    """
    with _told(repository):
        api = HfApi(endpoint=endpoint, token=token)
        commit = api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload the student")
    return str(commit.commit_url)


@contextmanager
def _told(repository: str) -> Iterator[None]:
    try:
        yield
    except HUB_ERRORS as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            cure = "Log in with a token that may write: hf auth login"
        else:
            cure = "Check its name (OWNER/NAME) and the network; the exported folder can be pushed later."
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:150]
        raise TrainingError(f"--push {repository}: {reason}\n{cure}") from error
