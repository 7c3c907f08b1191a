"""Who is logged in with Hugging Face: Gradio's own login, whose session a Space's requests carry.

Outside a Space that login is a mock which makes everybody the machine's owner, and its cookie can be forged. So it is
believed only where a Space has set it up; elsewhere a study that asks for it is refused at the start.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from starlette.requests import Request

from tdm_core.errors import ConfigError, SilentHubError, YoungAccountError

MadeAt = Callable[[str], datetime]
"""When the account of this name was made; raises `SilentHubError` if nobody says."""

MOST_ACCOUNTS = 20_000
SET_BY_A_SPACE = ("SPACE_ID", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OPENID_PROVIDER_URL")


def check_login(environ: Mapping[str, str] = os.environ) -> None:
    """Raises `ConfigError` unless this is a Space whose visitors can log in."""
    missing = [name for name in SET_BY_A_SPACE if not environ.get(name)]
    if missing:
        raise ConfigError(
            f"the study asks for a Hugging Face login, but {missing[0]} is not set: hold it on a Space with\n"
            'hf_oauth: true in its README, or set identity = "invite" in a new study'
        )


def subject(request: Request) -> str | None:
    """The stable id of whoever is logged in; ``None`` for everybody else and after the login has expired."""
    return _told(request, "sub")


def _told(request: Request, key: str) -> str | None:
    known = request.scope.get("session", {}).get("oauth_info") or {}
    expires_at = known.get("expires_at")
    if expires_at is not None and expires_at < time.time():
        return None
    found = (known.get("userinfo") or {}).get(key)
    return found if isinstance(found, str) and found else None


class Accounts:
    """Which accounts are old enough; those that are, are not asked about again."""

    def __init__(self, made_at: MadeAt, *, least_days: int) -> None:
        self._made_at, self._least = made_at, timedelta(days=least_days)
        self._accepted: OrderedDict[str, None] = OrderedDict()

    def check(self, request: Request) -> None:
        """Of whoever is logged in.

        Raises:
            YoungAccountError: if the account is too young.
            SilentHubError: if nobody says how old it is.
        """
        name = _told(request, "preferred_username")
        if not self._least or name in self._accepted:
            return
        if name is None:
            raise SilentHubError("Your login came without a name. Log in again.")
        age = datetime.now(UTC) - self._made_at(name)
        if age < self._least:
            raise YoungAccountError(
                f"This study asks for an account that is {self._least.days} days old; yours is {max(age.days, 0)}."
            )
        self._accepted[name] = None
        if len(self._accepted) > MOST_ACCOUNTS:
            self._accepted.popitem(last=False)
