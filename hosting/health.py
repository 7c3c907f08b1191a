"""Is the app on this machine alive?  ``python -m hosting.health``: status 0 if its study answers, else 1 and why.

The route reads the database, so a page without its votes is not healthy.
"""

from __future__ import annotations

import json
import os
import sys
from urllib.request import urlopen

TIMEOUT_SECONDS = 8


def main() -> int:
    port = os.environ.get("GRADIO_SERVER_PORT", "7860")
    try:
        with urlopen(f"http://127.0.0.1:{port}/gradio_api/study/status", timeout=TIMEOUT_SECONDS) as answer:
            state = json.loads(answer.read())["state"]
    except (OSError, ValueError, KeyError) as error:
        print(f"not healthy: {error}", file=sys.stderr)
        return 1
    print(f"healthy; the study is {state}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
