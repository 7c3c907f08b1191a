"""Logs for people and for machines."""

import json
import logging
import shutil
from contextlib import closing
from urllib.error import HTTPError

import pytest

from tdm_core.generation.bank import ARMS
from tdm_core.logs import start_logging
from tdm_core.storage import open_store
from tests.running_app import PROMPT, App, Rater, only_tiny, with_bank

ADDRESS = "93.184.216.34"
SECRETS = {"TDM_SECRET": "hush-0123456789ab", "TDM_ADMIN_TOKEN": "hush-fedcba9876543"}


@pytest.fixture
def logger():
    root, before = logging.getLogger(), (logging.getLogger().handlers[:], logging.getLogger().level)
    yield logging.getLogger("tdm")
    root.handlers[:], root.level = before


def test_a_line_of_json_holds_message_time_and_what_was_added(logger, capsys):
    start_logging("json")
    logger.info("%s is loaded", "Mini", extra={"event": "loaded", "seconds": 2.5})
    row = json.loads(capsys.readouterr().err)
    assert row.pop("time").endswith("+00:00")
    assert row == {"level": "info", "logger": "tdm", "message": "Mini is loaded", "event": "loaded", "seconds": 2.5}


def test_an_error_stays_one_line(logger, capsys):
    start_logging("json")
    try:
        raise KeyError("gone")
    except KeyError:
        logger.exception("the sample failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "KeyError: 'gone'" in json.loads(line)["error"]


def test_people_read_time_and_message(logger, capsys):
    start_logging("text")
    logger.info("ready", extra={"event": "ready"})
    logging.getLogger("httpx").info("a request of Gradio's to itself")
    assert capsys.readouterr().err.split(maxsplit=1)[1] == "ready\n"


def test_a_study_leaves_neither_its_arms_nor_its_raters_in_the_log(tiny_system, tmp_path):
    """The real app's whole output, while somebody votes and while every kind of thing goes wrong for them."""
    with_bank(tmp_path / "data")
    app = App(
        tmp_path / "data", only_tiny(tiny_system, tmp_path / "presets"), TDM_LOGS="json", TDM_PROXIES="1", **SECRETS
    )
    rater = Rater(**{"X-Forwarded-For": ADDRESS})
    trials = []

    def refused(status, path, **body):
        with pytest.raises(HTTPError) as caught:
            rater.post(app, path, **body)
        with caught.value as answer:
            assert answer.code == status

    try:
        app.wait_for(lambda: app.status()["state"] == "open")
        for choice in ("left", "tie"):
            trials.append(rater.look(app))
            rater.vote(app, trials[-1]["trial"], choice)
        refused(409, "vote", trial=trials[0]["trial"], choice="right")
        refused(400, "vote", trial=trials[0]["trial"], choice="student")
        refused(404, "vote", trial="0" * 32, choice="left")
        trials.append(rater.post(app, "next"))
        refused(409, "vote", trial=trials[-1]["trial"], choice="left")  # its pictures were not fetched
        rater.post(app, "skip", trial=trials[-1]["trial"])
        trials.append(rater.post(app, "next"))
        for pair in (app.data_dir / "bank").glob("[!.]*/"):
            shutil.rmtree(pair)
        with pytest.raises(HTTPError, match="503"):
            rater.get(app, f"media/{trials[-1]['media']}")
        rater.post(app, "withdraw")
    finally:
        assert app.end() == 0
    told = app.log.read_text()
    rows = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert "serving" in {row.get("event") for row in rows}
    with closing(open_store(app.data_dir)) as store, store.reading("demo") as records:
        (person,) = {trial.rater_id for trial in records.trials()}
        pairs = {trial.pair_id for trial in records.trials()}
    ids = {trial[name] for trial in trials for name in ("trial", "media")}
    private = {PROMPT, ADDRESS, rater.cookie.partition("=")[2], person, "hush-", *ids, *pairs, *ARMS}
    assert {word for word in private if word in told} == set(), told
