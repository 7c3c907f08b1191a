"""What the Hugging Face Hub tells everybody of an account."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from huggingface_hub import HfApi

from tdm_core.errors import SilentHubError
from tdm_core.storage.hub import HUB_ERRORS


def made_at(name: str) -> datetime:
    """As the Hub's public overview of the account says.

    Raises:
        SilentHubError: if it does not.
    """
    try:
        told: Any = HfApi().get_user_overview(name, token=False)
        return datetime.fromisoformat(told.createdAt)
    except (*HUB_ERRORS, AttributeError, TypeError, ValueError) as error:
        raise SilentHubError("The Hub did not say how old your account is. Try again in a minute.") from error
