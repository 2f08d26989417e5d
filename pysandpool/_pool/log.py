"""The logger "pysandpool": a daemon thread logs the events of all open pools.

C puts events into a bounded queue and never waits for Python. The thread sleeps in C until there is an event. It runs
from the opening of the first pool to the closing of the last one; a forked child starts its own. So an event is logged
when it happens, no thread of a caller takes a lock of `logging`, and a handler may use the pool.

Each log record has the attributes `event`, `reason`, `pool` (the number in `repr(pool)`), `count`, `pid` and `errno`.
"""

from __future__ import annotations

import _thread
import logging
import os
import signal
import threading
import traceback
import types
from contextlib import suppress
from dataclasses import fields
from typing import Any

from pysandpool._backend.hints import hint_for
from pysandpool._backend.rlimits import low_limits
from pysandpool._backend.undead import state_of
from pysandpool._errors import SandboxCreateError
from pysandpool._ffi import ffi, lib, stage_name, text_of
from pysandpool._pool.stats import Evictions

_logger = logging.getLogger("pysandpool")
_logger.addHandler(logging.NullHandler())

_BATCH = 64
_PAUSE_NS = 1_000_000_000
_FLUSH_SECONDS = 1.0
_REASONS = tuple(field.name for field in fields(Evictions))
_REASON_LEVELS = {
    "age": logging.DEBUG,
    "capacity": logging.DEBUG,
    "failed_recycle": logging.INFO,
    "zygote_lost": logging.INFO,
    "outdated": logging.DEBUG,
    "drained": logging.DEBUG,
}


class _Reader:
    """One queue, and the thread that empties it; `thread` is None if none can be started."""

    def __init__(self) -> None:
        events = lib.sp_events_new()
        if events == ffi.NULL:
            raise MemoryError("the host process is out of memory")
        self.events = ffi.gc(events, lib.sp_events_unref)
        try:
            self.thread = _start(self.events)
        except BaseException:  # interrupted: the thread may be running, and has to end
            lib.sp_events_leave(self.events)
            raise


class Log:
    """The current queue of events: it exists while a pool is open."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Drops the queue: a forked child has no thread, and the events belong to the parent."""
        # Reentrant, because garbage collection during a call may open a pool.
        self._lock = threading.RLock()
        self._reader: _Reader | None = None

    def enter(self) -> Any:
        """The `sp_events *` for a pool that is about to be opened. Call `leave` when it is open, or failed to open."""
        with self._lock:
            if self._reader is None or not lib.sp_events_enter(self._reader.events):
                self._reader = _Reader()
            return self._reader.events

    def leave(self, events: Any) -> None:
        lib.sp_events_leave(events)

    def drain(self) -> None:
        """Logs the queued events, if there is no thread that does."""
        reader = self._reader
        if reader is not None and reader.thread is None:
            _log_all(reader.events, -1)

    def finish(self) -> None:
        """At exit, after the pools were closed: waits until the last events are logged, unless a handler hangs."""
        reader = self._reader
        if reader is not None and reader.thread is not None:
            reader.thread.join(_FLUSH_SECONDS)
        self.drain()


def _start(events: Any) -> threading.Thread | None:
    # If threads are greenlets (gevent, eventlet), one that sleeps in C would stop all the others.
    if not isinstance(_thread.start_new_thread, types.BuiltinFunctionType):
        return None
    thread = threading.Thread(target=_run, args=(events,), name="pysandpool-log", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no more threads, or the interpreter is exiting
        return None
    return thread


def _run(events: Any) -> None:
    # Signals are to be delivered to the threads of the application.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    _log_limits()
    _log_all(events, _PAUSE_NS)


def _log_limits() -> None:
    """Logs the limits of this process that make those of its sandboxes lower than elsewhere."""
    about = {"event": "limits", "reason": None, "pool": None, "count": 1, "pid": None, "errno": None}
    try:
        for low in low_limits():
            _logger.warning("%s; %s", low.what, low.fix, extra=about)
    except BaseException:  # noqa: BLE001  # raised by a handler, which may still handle an event
        _complain()


def _log_all(events: Any, pause_ns: int) -> None:
    """Logs events until the queue has ended or, if `pause_ns` is negative, is empty."""
    found = ffi.new("sp_event[]", _BATCH)
    while True:
        count = lib.sp_events_take(events, found, _BATCH, pause_ns)
        if count == 0:
            return
        for number in range(count):
            try:
                _log(found[number])
            except BaseException:  # noqa: BLE001  # raised by a handler, which may still handle the next event
                _complain()


def _complain() -> None:
    """Prints the exception as `logging` does if a handler fails."""
    if logging.raiseExceptions:
        with suppress(Exception):
            traceback.print_exc()


def _log(event: Any) -> None:
    level, word, reason, text = _described(event)
    if _logger.isEnabledFor(level):
        times = f" ({event.count} times)" if event.count > 1 else ""
        about = {
            "event": word,
            "reason": reason,
            "pool": event.pool,
            "count": event.count,
            "pid": event.pid or None,
            "errno": event.err or None,
        }
        _logger.log(level, "%s%s", text, times, extra=about)


def _described(event: Any) -> tuple[int, str, str | None, str]:
    """The level, the event, the reason and the text."""
    describe = _DESCRIPTIONS.get(event.kind, _dropped)
    return describe(event, f"pool {event.pool}", f"sandbox with pid {event.pid}" if event.pid else "sandbox")


def _evicted(event: Any, pool: str, sandbox: str) -> tuple[int, str, str | None, str]:
    reason = _REASONS[event.reason]
    level = _REASON_LEVELS.get(reason, logging.WARNING)
    return level, "evicted", reason, f"{pool} evicted a {sandbox}: {reason.replace('_', ' ')}"


def _create_failed(event: Any, pool: str, sandbox: str) -> tuple[int, str, str | None, str]:
    stage = stage_name(event.reason)
    error = SandboxCreateError(stage, event.err, hint_for(stage, event.err), text_of(event.detail))
    return logging.WARNING, "create_failed", stage, f"{pool} {error}"


def _lost(event: Any, pool: str, sandbox: str) -> tuple[int, str, str | None, str]:
    text = f"{pool} lost a {sandbox} while a command was running; its outcome is unknown"
    return logging.WARNING, "lost", None, text


def _leases_killed(event: Any, pool: str, sandbox: str) -> tuple[int, str, str | None, str]:
    return logging.WARNING, "leases_killed", None, f"{pool} was closed while leases were in use, which were killed"


def _zygote_restarted(event: Any, pool: str, sandbox: str) -> tuple[int, str, str | None, str]:
    which = f" with pid {event.pid}" if event.pid else ""
    return logging.WARNING, "zygote_restarted", None, f"{pool} lost its zygote and started another{which}"


def _undead(event: Any, pool: str, sandbox: str) -> tuple[int, str, str | None, str]:
    state = state_of(event.pid)
    text = f"{pool} killed a {sandbox} more than 2 s ago, but it is still not dead: {state}"
    return logging.ERROR, "undead", state, text


def _undead_ended(event: Any, pool: str, sandbox: str) -> tuple[int, str, str | None, str]:
    return logging.INFO, "undead_ended", None, f"{pool}: the {sandbox} that did not die is now dead"


def _descriptors_lost(event: Any, pool: str, sandbox: str) -> tuple[int, str, str | None, str]:
    whose = f"a {sandbox}" if event.pid else "the pool"
    text = f"{pool}: descriptors of {whose} were closed by another part of this process, and can no longer be used"
    return logging.ERROR, "descriptors_lost", None, text


def _dropped(event: Any, pool: str, sandbox: str) -> tuple[int, str, str | None, str]:
    return logging.WARNING, "dropped", None, "events were dropped, because the queue was full"


_DESCRIPTIONS = {
    lib.SP_EVENT_EVICTED: _evicted,
    lib.SP_EVENT_CREATE_FAILED: _create_failed,
    lib.SP_EVENT_LOST: _lost,
    lib.SP_EVENT_LEASES_KILLED: _leases_killed,
    lib.SP_EVENT_ZYGOTE_RESTARTED: _zygote_restarted,
    lib.SP_EVENT_UNDEAD: _undead,
    lib.SP_EVENT_UNDEAD_ENDED: _undead_ended,
    lib.SP_EVENT_DESCRIPTORS: _descriptors_lost,
}

log = Log()
os.register_at_fork(after_in_child=log.forget)
