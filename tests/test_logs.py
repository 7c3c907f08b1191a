"""Logs for people and for machines."""

import json
import logging

import pytest

from tdm_core.logs import start_logging


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
