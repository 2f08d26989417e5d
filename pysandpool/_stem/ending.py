"""Ends the interpreter as CPython does, in the same order, but without freeing its memory."""

from __future__ import annotations

import atexit
import sys
import traceback
from collections.abc import Callable

from . import streams


def finish(end_loop: Callable[[], object], rehearses: bool = False) -> None:
    """Ends the event loop, waits for threads, calls what was registered at exit, closes the files of `__main__`, and
    flushes. One that `rehearses` only looks these functions up."""
    call = _call_nothing if rehearses else _call
    call(end_loop)
    threading = sys.modules.get("threading")
    if threading is not None:
        call(threading._shutdown)  # noqa: SLF001
        if not rehearses:
            # Those that are left are daemons, which Python stops before it takes anything away from them.
            threading.excepthook = _ignore  # type: ignore[attr-defined]
    call(atexit._run_exitfuncs)  # noqa: SLF001
    main = sys.modules.get("__main__")
    if main is not None:
        call(main.__dict__.clear)
    streams.flush_streams()


def _ignore(_: object) -> None:
    return None


def _call_nothing(function: Callable[[], object]) -> None:
    _call(lambda: function)


def _call(function: Callable[[], object]) -> None:
    try:
        function()
    except BaseException:  # noqa: BLE001 - of the tenant's code
        try:
            traceback.print_exc()
        except BaseException:  # noqa: BLE001
            return
