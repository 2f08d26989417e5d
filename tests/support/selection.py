"""Which tests run: the environment's SANDPOOL_TESTS is empty, "quick" or "extended".

Without it, all run but those marked `extended`, which take minutes and belong to `make test-all`. With "quick" those
marked `slow` are left out, too, as `make quick` does. Ctrl-C works in all of them.
"""

from __future__ import annotations

import os
import signal

import pytest

_CHOSEN = os.environ.get("SANDPOOL_TESTS", "")
QUICK = _CHOSEN == "quick"
EXTENDED = _CHOSEN == "extended"
assert _CHOSEN in {"", "quick", "extended"}, f"SANDPOOL_TESTS={_CHOSEN}"

# A job that a shell has started in the background ignores it, and a test that sends it to itself would wait for ever.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def left_out(item: pytest.Item) -> bool:
    return (QUICK and item.get_closest_marker("slow") is not None) or (
        not EXTENDED and item.get_closest_marker("extended") is not None
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    out = [item for item in items if left_out(item)]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if not left_out(item)]
