"""A study's segments in a private dataset of the Hugging Face Hub, for machines whose disk does not last.

A round is one commit: the votes that the dataset lacks, and the study's record if it has changed. What the dataset
holds is read anew before every try, and a commit names the one that it follows. So a commit whose answer was lost is
not repeated, two processes never write one vote twice, and a refused commit (409, 412) is simply tried again.

While the study is open its record would unblind it: a public dataset is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, cast

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from tdm_core.errors import StorageError
from tdm_core.storage.files import write_once
from tdm_core.storage.segments import ROWS, as_segments, last_number, study_record
from tdm_core.storage.store import SqlStore

# The second one is the HTTP client's own error, timeouts included; which client that is, is the library's affair.
HUB_ERRORS = (OSError, cast(type[Exception], HfHubHTTPError.__bases__[0]))
TRIES = 5
FIRST_WAIT_SECONDS = 1.0  # doubled after each try
REFUSED = (401, 403)


class HubSegments:
    """One study's folder in the dataset ``repository`` (OWNER/NAME), which is made if it is not there.

    Args:
        endpoint, token: instead of the Hub's own address (``HF_ENDPOINT``) and the stored login (``HF_TOKEN``).
    """

    def __init__(
        self,
        repository: str,
        study_id: str,
        *,
        endpoint: str | None = None,
        token: str | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._api = HfApi(endpoint=endpoint, token=token)
        self._repository, self._study_id, self._sleep = repository, study_id, sleep
        self._record = b""  # as this process last sent it

    def push(self, store: SqlStore) -> int:
        """Send what the dataset lacks; how many votes they were.

        Raises:
            StorageError: if the Hub cannot be reached or refuses, or the dataset is public while the study is open,
                or holds votes that the database has not.
        """
        return self._again(lambda: self._push_once(store))

    def fetch(self, folder: Path) -> int:
        """Bring the study's files of the dataset into an empty folder; how many there are, 0 if none.

        Raises:
            StorageError: if the Hub cannot be reached or refuses, or the folder cannot be written.
        """
        return self._again(lambda: self._fetch_once(folder))

    def _push_once(self, store: SqlStore) -> int:
        head, names = self._state()
        last = last_number(names)
        with store.reading(self._study_id) as records:
            study, record = records.study(), study_record(records)
            links, count = records.links(after=last), records.vote_count()
        if study is None or record is None:
            raise StorageError(f"{self._study_id}: no such study, so nothing of it to send")
        if last > count:
            raise StorageError(f"{self._where}: holds {last} votes, more than the study has; the database lost rows")
        if study.closed_at_ms is None and not head.private:
            raise StorageError(f"{self._where}: is public, which would unblind the study; make it private")
        files = dict(as_segments(links, rows=ROWS))
        if record != self._record:
            files["study.json"] = record
        if files:
            self._api.create_commit(
                self._repository,
                [CommitOperationAdd(f"{self._study_id}/{name}", content) for name, content in files.items()],
                commit_message=f"{self._study_id}: {count} votes",
                repo_type="dataset",
                parent_commit=head.sha,
            )
            self._record = record
        return len(links)

    def _fetch_once(self, folder: Path) -> int:
        head, names = self._state()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{folder}: {error.strerror}; make it writable") from error
        with TemporaryDirectory() as passing:
            for name in names:
                held = self._api.hf_hub_download(
                    self._repository,
                    f"{self._study_id}/{name}",
                    repo_type="dataset",
                    revision=head.sha,
                    local_dir=passing,
                )
                write_once(folder / name, Path(held).read_bytes())
        return len(names)

    def _state(self) -> tuple[Any, list[str]]:
        """The dataset as it is now, and the names of this study's files in it."""
        try:
            head = self._api.dataset_info(self._repository)
        except RepositoryNotFoundError:
            self._api.create_repo(self._repository, repo_type="dataset", private=True, exist_ok=True)
            head = self._api.dataset_info(self._repository)
        paths = (PurePosixPath(file.rfilename) for file in head.siblings or ())
        return head, sorted(path.name for path in paths if path.parent.as_posix() == self._study_id)

    def _again(self, step: Callable[[], int]) -> int:
        for number in range(TRIES):
            try:
                with self._told():
                    return step()
            except _Passing as error:
                if number == TRIES - 1:
                    raise StorageError(str(error)) from error
                self._sleep(FIRST_WAIT_SECONDS * 2**number)
        raise AssertionError("unreachable")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except HUB_ERRORS as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:150]
            status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
            if status in REFUSED:
                cure = "give HF_TOKEN a token that may write to it"
                raise StorageError(f"{self._where}: {reason}; {cure}") from error
            raise _Passing(f"{self._where}: {reason}; votes are kept here and sent later") from error

    @property
    def _where(self) -> str:
        return f"dataset {self._repository}"


class _Passing(Exception):
    """What may be over at the next try."""
