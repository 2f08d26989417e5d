"""`Sandbox`: one sandbox without a pool."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from pysandpool._config.fields import Duration
from pysandpool._config.sandbox import SandboxConfig
from pysandpool._errors import SandboxReleasedError
from pysandpool._execute.encode import Environ, Word
from pysandpool._execute.result import SandboxResult
from pysandpool._pool.core import PoolCore, open_core
from pysandpool._pool.isolation import IsolationReport
from pysandpool._pool.lease import PooledSandbox, lease_by_ticket
from pysandpool._pool.limits import PoolLimits

MAX_ZYGOTES = 8


if TYPE_CHECKING:
    from typing_extensions import Self


class Sandbox:
    """A fresh sandbox of its own, ended by `destroy()`, by leaving its `with` block, or by garbage collection.

    Sandboxes of equal configurations share one zygote per process, which stays for the next one: the last 8
    configurations are kept, and end with the process.

    Raises:
        SandboxCreateError: it could not be created; nothing is left behind.
        TypeError: `config` is no `SandboxConfig`.
    """

    __slots__ = ("__weakref__", "_config", "_lease")

    def __init__(self, config: SandboxConfig | None = None) -> None:
        if config is not None and not isinstance(config, SandboxConfig):
            raise TypeError(f"config is a SandboxConfig, not {type(config).__name__}")
        self._config = SandboxConfig() if config is None else config
        self._lease = _zygotes.lease(self._config)

    @property
    def config(self) -> SandboxConfig:
        """What the sandbox is allowed."""
        return self._config

    @property
    def pid(self) -> int:
        """The host's pid of the sandbox's init. Raises `SandboxReleasedError` once it was destroyed."""
        return self._lease.pid

    @property
    def isolation(self) -> IsolationReport:
        """As `PooledSandbox.isolation`."""
        return self._lease.isolation

    @property
    def destroyed(self) -> bool:
        """Whether `destroy()` was called."""
        return self._lease.released

    def execute(
        self,
        cmd: Sequence[Word],
        *,
        input: Any = None,
        env: Environ | None = None,
        cwd: Word | None = None,
        timeout: Duration | None = None,
    ) -> SandboxResult:
        """As `PooledSandbox.execute`. Several calls share the sandbox's scratch and see each other's files."""
        return self._lease.execute(cmd, input=input, env=env, cwd=cwd, timeout=timeout)

    def destroy(self) -> None:
        """Ends the sandbox and all that runs in it. Never waits and never fails; a second call changes nothing."""
        self._lease.release()

    def __enter__(self) -> Self:
        if self.destroyed:
            raise SandboxReleasedError("this sandbox was destroyed")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.destroy()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Sandbox can be neither copied nor pickled: make another one from its config")

    def __repr__(self) -> str:
        if self.destroyed:
            return "<Sandbox destroyed>"
        return repr(self._lease).replace("PooledSandbox leased", "Sandbox").replace("PooledSandbox", "Sandbox")


class _Slot:
    """The pool that keeps nothing for one configuration; None until the first sandbox of it."""

    __slots__ = ("core", "lock")

    def __init__(self) -> None:
        self.core: PoolCore | None = None
        # Reentrant, as the other: a signal's handler, or garbage collection, may make a sandbox in between.
        self.lock = threading.RLock()


class _Zygotes:
    """The least recently used configuration leaves first. Sandboxes that are out keep their zygote alive."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Starts afresh: in a forked child, where the parent's zygotes are not ours and a lock may be held for ever."""
        self._lock = threading.RLock()
        self._slots: OrderedDict[SandboxConfig, _Slot] = OrderedDict()

    def lease(self, config: SandboxConfig) -> PooledSandbox:
        slot = self._slot(config)
        # Opening takes milliseconds: only those wait for it who want the same configuration.
        with slot.lock:
            if slot.core is None:
                slot.core = open_core(config, PoolLimits())
            core = slot.core
        return lease_by_ticket(core)

    def _slot(self, config: SandboxConfig) -> _Slot:
        with self._lock:
            slot = self._slots.setdefault(config, _Slot())
            self._slots.move_to_end(config)
            # The evicted slot is dropped outside the lock: freeing a pool waits for its threads.
            dropped = self._slots.popitem(last=False) if len(self._slots) > MAX_ZYGOTES else None
        del dropped
        return slot


_zygotes = _Zygotes()
os.register_at_fork(after_in_child=_zygotes.forget)
