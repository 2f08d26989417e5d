"""Runs one command in one lease, in turns of an event loop."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from pysandpool._async.backend import Backend, Look
from pysandpool._config.fields import Duration
from pysandpool._errors import SandboxError
from pysandpool._execute.encode import Environ, Word, Words, command_name
from pysandpool._execute.live import Live, Taker
from pysandpool._execute.result import SandboxResult
from pysandpool._execute.run import CommandDefaults, fill_request, hint_for_command, live_result, result_of
from pysandpool._ffi import check, ffi, hot, lib

_T = TypeVar("_T")
_CALL = ffi.typeof("sp_call *")
_LOOK = ffi.typeof("sp_due *")
_ADDRESS = ffi.typeof("uintptr_t")
_turn = lib.sp_call_turn
_AGAIN = lib.SP_AGAIN

_taking: ContextVar[tuple[_Turns, ...]] = ContextVar("pysandpool_taking", default=())
"""The calls whose output this task, or one that started it, was taking."""


class Takers:
    """`on_stdout` and `on_stderr` of one call, each a function or an async function."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending: list[Awaitable[object]] = []

    def collecting(self, function: Taker | None) -> Taker | None:
        """The same as a function that only notes what is to be awaited."""
        if not callable(function):
            return function
        taker: Callable[[Any], object] = function

        def take(piece: Any) -> None:
            found = taker(piece)
            if inspect.isawaitable(found):
                self._pending.append(found)

        return take

    async def settle(self) -> None:
        """Awaits what the functions have returned, in the order of the calls."""
        pending, self._pending = self._pending, []
        while pending:
            try:
                await pending.pop(0)
            except BaseException:
                for rest in pending:
                    if inspect.iscoroutine(rest):
                        rest.close()
                raise


def refuse_nested(pool: Any, handle: int) -> None:
    """Raises SandboxError in a function that takes output of a command of this lease: it would wait for itself."""
    if any(turns.is_taken_of(pool, handle) for turns in _taking.get()):
        raise SandboxError("a function that takes output of a command cannot execute another one in the same sandbox")


class Orders(Protocol):
    """An `Order` or a `CodeOrder`."""

    @property
    def cmd(self) -> Words: ...
    @property
    def options(self) -> tuple[Any, Environ | None, Word | None, Duration | None]: ...
    @property
    def defaults(self) -> CommandDefaults: ...
    @property
    def live(self) -> Live | None: ...


async def run_command(backend: Backend, pool: Any, handle: int, order: Orders, takers: Takers) -> SandboxResult:
    """`_execute.run.run_command` without a thread: all waits are the loop's.

    Whatever ends this call early, such as a cancellation, also ends the command, and the lease stays usable.
    """
    call = ffi.gc(ffi.new(_CALL), lib.sp_call_close)
    _keep = fill_request(call.request, order.cmd, order.options, order.defaults)
    turns = _Turns(pool, handle, call)
    try:
        await _run(backend, turns, order.live, takers)
        if turns.code < 0:
            hint = hint_for_command(call.error, order.cmd, order.options, order.defaults)
            check(turns.code, pool, call.error, command_name(order.cmd), hint)
        if order.live is None:
            return result_of(call.result)
        return live_result(call.result, await turns.hand_over(order.live.finish, takers))
    finally:
        # The job has ended, so that this call does not wait.
        hot.sp_call_discard(int(ffi.cast(_ADDRESS, call)))
        ffi.gc(call, None)


async def prepare_lease(backend: Backend, pool: Any, handle: int) -> None:
    """`_execute.run.prepare_lease` without a thread."""
    if not check(lib.sp_lease_is_unused(pool, handle), pool):
        return
    call = ffi.gc(ffi.new(_CALL), lib.sp_call_close)
    call.request.size = ffi.sizeof("sp_exec_request")
    call.request.timeout_ns = -1
    turns = _Turns(pool, handle, call)
    try:
        await _run(backend, turns, None, Takers())
        check(turns.code, pool, call.error)
    finally:
        hot.sp_call_discard(int(ffi.cast(_ADDRESS, call)))
        ffi.gc(call, None)


async def _run(backend: Backend, turns: _Turns, live: Live | None, takers: Takers) -> None:
    """Runs the command until it has ended, however this call ends."""
    try:
        if live is not None:
            live.begin(turns.call)
        await backend.drive(turns.step, steady=True)
        while live is not None and turns.code == _AGAIN:
            await turns.hand_over(live.exchange, takers)
            await backend.drive(turns.step, steady=True)
    except GeneratorExit:  # the loop is gone: nothing can be awaited any more
        lib.sp_call_close(turns.call)
        raise
    except BaseException:
        await _cancel(backend, turns)
        raise


class _Turns:
    """The turns of one call. `code` is what the last one returned."""

    __slots__ = ("_canceled", "_handle", "_look", "_pool", "_taken", "call", "code")

    def __init__(self, pool: Any, handle: int, call: Any) -> None:
        self._pool = pool
        self._handle = handle
        self._look = ffi.new(_LOOK)
        self._taken = self._canceled = False
        self.call = call
        self.code: int = _AGAIN

    def step(self) -> Look:
        """One turn. None: the command has ended, or there is something to exchange."""
        look, call = self._look, self.call
        self.code = code = _turn(self._pool, self._handle, call, look)
        if code != _AGAIN or ((call.result.out_len or call.result.err_len) and not self._canceled):
            return None
        return look.fd, look.after_ns / 1e9

    def cancel(self) -> None:
        """Asks the command to end; `step` does not return None before it has."""
        self._canceled = True
        lib.sp_call_cancel(self.call)

    def is_taken_of(self, pool: Any, handle: int) -> bool:
        """Whether a function is taking output of this call, and the call is one of this lease."""
        return self._taken and self._handle == handle and bool(self._pool == pool)

    async def hand_over(self, function: Callable[[Any], _T], takers: Takers) -> _T:
        """Calls a function of a `Live`, and awaits what the functions of the caller have returned."""
        before = _taking.get()
        _taking.set((*before, self))
        self._taken = True
        try:
            found = function(self.call)
            await takers.settle()
            return found
        finally:
            self._taken = False
            _taking.set(before)


async def _cancel(backend: Backend, turns: _Turns) -> None:
    """Ends the command, and waits for that; 2 s if init does not answer. More cancellations change nothing."""
    turns.cancel()
    with backend.shielded():
        while turns.call.job and turns.code == _AGAIN:
            try:
                await backend.drive(turns.step, steady=True)
            except (Exception, GeneratorExit, KeyboardInterrupt, SystemExit):
                lib.sp_call_close(turns.call)
                raise
            except BaseException:  # noqa: BLE001 - a cancellation: the first one is raised in the end
                continue
