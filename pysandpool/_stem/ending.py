"""Ends the interpreter as CPython does, in the same order, but without freeing its memory."""

from __future__ import annotations

import atexit
import functools
import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from . import streams


def finish(end_loop: Callable[[], object], rehearses: bool = False) -> None:
    """Ends the event loop, waits for threads, calls what was registered at exit, closes the files of `__main__`, and
    flushes. One that `rehearses` only looks these functions up."""
    call = _call_nothing if rehearses else _call
    call(end_loop)
    threading = sys.modules.get("threading")
    if threading is not None and _may_have_threads(threading):
        call(threading._shutdown)  # noqa: SLF001
        if not rehearses:
            # Those that are left are daemons, which Python stops before it takes anything away from them.
            threading.excepthook = _ignore  # type: ignore[attr-defined]
    logging = sys.modules.get("logging")
    if logging is not None:
        _call(lambda: _leave_out_handlers(logging))
    call(atexit._run_exitfuncs)  # noqa: SLF001
    main = sys.modules.get("__main__")
    if main is not None:
        call(main.__dict__.clear)
    streams.flush_streams()


def _may_have_threads(threading: ModuleType) -> bool:
    """False if `threading._shutdown()` has nothing to wait for, and nothing to call. It would write to 20 pages that a
    copy of the interpreter shares with others, each of which the kernel has to copy."""
    pools = sys.modules.get("concurrent.futures.thread")
    try:
        # What the pools of threads have registered does nothing without threads.
        registered = [_function_of(one) for one in threading._threading_atexits]  # noqa: SLF001
        others = [one for one in registered if pools is None or one is not pools._python_exit]  # noqa: SLF001
        return len(threading._active) != 1 or bool(threading._limbo or others)  # noqa: SLF001
    except BaseException:  # noqa: BLE001 - the code has changed these, or this Python has others
        return True


def _function_of(registered: Any) -> Any:
    """What `threading._register_atexit()` was given: in a partial object, and since Python 3.13 in a closure."""
    if isinstance(registered, functools.partial):
        return registered.func
    return dict(zip(registered.__code__.co_freevars, registered.__closure__))["func"].cell_contents


def _leave_out_handlers(logging: ModuleType) -> None:
    """Lets `logging.shutdown()`, which logging registers at exit, pass over handlers that keep nothing. It would write
    to the pages of their locks."""
    keep_nothing = (logging._StderrHandler, logging.NullHandler, type(None))  # noqa: SLF001
    handlers = logging._handlerList  # noqa: SLF001
    if all(type(handler()) in keep_nothing for handler in handlers):
        handlers.clear()


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
