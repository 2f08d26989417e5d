"""What happens before there is any sandbox: imports and set-up, once for all of them."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from . import compact, renew, snippet, streams

_REHEARSALS = 16
"""After these the interpreter has adapted the code; more of them do not change how many pages a copy writes to."""


class Preloaded:
    """The interpreter as all copies have it."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self.main = snippet.new_main()
        self.problem: str | None = None
        """why it cannot be used: a traceback, or a sentence"""
        self._filling: list[object] = []
        self._on_interrupt: Any = None

    def load(self, rehearse: Callable[[], None] | None = None) -> None:
        """Imports and sets up. Afterwards `problem` says whether that failed.

        `rehearse` is what each copy of the process will call. Here it fills caches, and has the interpreter adapt its
        code, so that no copy has to write to those pages.
        """
        sys.argv = [""]
        with streams.captured() as tail:
            self._load(tail)
        if self.problem is None and rehearse is not None:
            self._warm_up(rehearse)
        if self.problem is None:
            self._on_interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
            gc.collect()
            self._filling = compact.fill()
            gc.freeze()

    def _load(self, tail: streams.Tail) -> None:
        try:
            for name in self._parameters["preload"]:
                importlib.import_module(name)
            self._run("setup", self.main.__dict__)
            self._run("warmup", dict(self.main.__dict__))
        except BaseException as error:  # noqa: BLE001 - sys.exit() of a module is a failure, too
            self.problem = tail.text + _traceback(error)
            return
        threads = _threads()
        if threads:
            names = ", ".join(threads)
            self.problem = (
                f"the preload left threads running, which no copy of the process would have: {names}. End them in "
                "`setup`, or import the module that starts them in the code that needs it."
            )

    def _warm_up(self, rehearse: Callable[[], None]) -> None:
        try:
            for _ in range(_REHEARSALS):
                renew.renew()
                rehearse()
        except BaseException as error:  # noqa: BLE001 - of code that the preload has replaced
            self.problem = _traceback(error)

    def prepare_copy(self, rehearse: Callable[[], None]) -> str | None:
        """To be called in each copy before it is ready. Returns why it is not: the traceback of a failed `after_fork`
        or `warmup`, behind what it has printed."""
        printed = ""
        try:
            renew.renew()
            if self._parameters["after_fork"] is not None or self._parameters["warmup"] is not None:
                with streams.captured() as tail:
                    try:
                        self._run("after_fork", self.main.__dict__)
                        self._run("warmup", dict(self.main.__dict__))
                    finally:
                        printed = tail.text
            rehearse()
        except BaseException as error:  # noqa: BLE001 - as with `setup`
            return printed + _traceback(error)
        return None

    def renew_copy(self) -> None:
        """To be called in a copy of a copy. Raises what `after_fork` raises."""
        renew.renew()
        self._run("after_fork", self.main.__dict__)

    def take_interrupts(self) -> None:
        """To be called before the first code of a tenant. SIGINT does again what it did before `load`: it raises
        KeyboardInterrupt, unless the set-up has another handler for it."""
        if self._on_interrupt is not None:
            signal.signal(signal.SIGINT, self._on_interrupt)

    def _run(self, name: str, namespace: dict[str, Any]) -> None:
        source = self._parameters[name]
        if source is not None:
            filename = f"<{name}>"
            snippet.keep_source(source, filename)
            exec(compile(source, filename, "exec", dont_inherit=True), namespace)


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, _inner(error)))


def _inner(error: BaseException) -> Any:
    """The traceback without the frames of this module that it begins with."""
    found = error.__traceback__
    while found is not None and found.tb_frame.f_code.co_filename == _inner.__code__.co_filename:
        found = found.tb_next
    return found


def _threads() -> list[str]:
    """The names of all threads but this one."""
    threading = sys.modules.get("threading")
    if threading is not None:
        known = [one.name for one in threading.enumerate() if one is not threading.current_thread()]
        if known:
            return known
    try:
        tasks = os.listdir("/proc/self/task")
    except OSError:
        return []
    own = str(os.getpid())
    return [_name_of(task) for task in tasks if task != own] if len(tasks) > 1 else []


def _name_of(task: str) -> str:
    try:
        with open(f"/proc/self/task/{task}/comm", encoding="utf-8", errors="replace") as file:
            return f"{file.read().strip()} (of a C library)"
    except OSError:
        return f"thread {task} (of a C library)"
