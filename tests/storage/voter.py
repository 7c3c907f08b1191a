"""A process of the app that votes on the real store as fast as it can and prints each vote once it is acknowledged.

Usage: python -m tests.storage.voter DATA_DIR URL NAME COUNT, with - for SQLite in DATA_DIR
"""

import sys
from pathlib import Path

from tdm_core.storage import open_store
from tdm_core.study import Choice
from tests.studies import Clock, a_service, look


def main(data_dir: str, url: str, name: str, count: str) -> None:
    clock = Clock()
    service = a_service(
        store=open_store(Path(data_dir), None if url == "-" else url, busy_timeout_seconds=60.0), clock=clock
    )
    for number in range(int(count)):
        rater, choice = f"{name} {number // 20}", list(Choice)[number % 4]
        offer = look(service, clock, rater)
        service.cast_vote(rater, offer.trial, choice)
        print(offer.trial, choice, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
