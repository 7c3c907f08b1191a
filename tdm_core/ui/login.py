"""Who is logged in with Hugging Face: Gradio's own login, whose session a Space's requests carry.

Outside a Space that login is a mock which makes everybody the machine's owner, and its cookie can be forged. So it is
believed only where a Space has set it up; elsewhere a study that asks for it is refused at the start.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from starlette.requests import Request

from tdm_core.errors import ConfigError

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
    known = request.scope.get("session", {}).get("oauth_info") or {}
    expires_at = known.get("expires_at")
    if expires_at is not None and expires_at < time.time():
        return None
    found = (known.get("userinfo") or {}).get("sub")
    return found if isinstance(found, str) and found else None
