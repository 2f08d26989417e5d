"""The processes that came to this one when their parent ended."""

from __future__ import annotations

import os
from contextlib import suppress


def reap_all() -> None:
    """Every zombie that is a child of this process, at a moment when it waits for no child of its own."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
