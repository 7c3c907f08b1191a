"""Tests that need something outside Python (a browser, PostgreSQL, git): skip loudly, or fail where CI asks for all."""

import os

import pytest


def need(found: object, reason: str) -> None:
    """Skip the running test unless ``found`` is truthy; with ``TDM_REQUIRE_ALL=1`` fail instead."""
    if found:
        return
    if os.environ.get("TDM_REQUIRE_ALL") == "1":
        pytest.fail(f"TDM_REQUIRE_ALL=1, but {reason}", pytrace=False)
    pytest.skip(reason)
