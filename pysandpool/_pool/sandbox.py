"""`Sandbox`: one sandbox without a pool."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, overload

from pysandpool._code.methods import CodeMethods
from pysandpool._code.place import CodePlace
from pysandpool._config.sandbox import SandboxConfig
from pysandpool._config.workspace import StrPath, Workspace, workspace_of
from pysandpool._errors import SandboxReleasedError
from pysandpool._execute.encode import Word, Words
from pysandpool._execute.result import SandboxResult
from pysandpool._files.methods import FileMethods
from pysandpool._files.operation import LeaseFiles
from pysandpool._pool.acquire import lease_by_ticket
from pysandpool._pool.core import PoolCore, open_core
from pysandpool._pool.isolation import IsolationReport
from pysandpool._pool.limits import PoolLimits
from pysandpool._pool.workspace import lease_with_workspace
from pysandpool._process.process import SandboxProcess

MAX_ZYGOTES = 8

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from pysandpool._execute.options import BytesOptions, EitherOptions, TextOptions
    from pysandpool._pool.lease import PooledSandbox
    from pysandpool._process.options import ProcessOptions


class Sandbox(FileMethods, CodeMethods):
    """A fresh sandbox without a pool. `destroy()`, leaving its `with` block or garbage collection ends it.

    Sandboxes of equal configurations share one zygote in each process. The zygotes of the last 8 configurations are
    kept for further sandboxes until the process exits.

    Args:
        config: what the sandbox is allowed; by default `SandboxConfig()`.
        workspace: a directory of the host at /workspace, see `SandboxPool.acquire`, whose errors it can raise.

    Raises:
        SandboxCreateError: the sandbox could not be created; no process is left behind.
        UnsupportedPlatformError: there is no backend for this system.
        TypeError: `config` is not a `SandboxConfig`.
    """

    __slots__ = ("__weakref__", "_config", "_lease")

    def __init__(self, config: SandboxConfig | None = None, *, workspace: Workspace | StrPath | None = None) -> None:
        if config is not None and not isinstance(config, SandboxConfig):
            raise TypeError(f"config must be a SandboxConfig, not {type(config).__name__}")
        self._config = SandboxConfig() if config is None else config
        if workspace is None:
            self._lease = lease_by_ticket(core_of(self._config))
        else:
            wanted = workspace_of(workspace)
            self._lease = lease_with_workspace(lambda: lease_by_ticket(core_of(self._config)), wanted)

    @property
    def config(self) -> SandboxConfig:
        """The configuration of the sandbox."""
        return self._config

    @property
    def pid(self) -> int:
        """The pid of the sandbox's init, as the host sees it. Raises the errors of `PooledSandbox.pid`."""
        return self._live().pid

    @property
    def isolation(self) -> IsolationReport:
        """What was proved about this sandbox before its first command. Raises the errors of `pid`."""
        return self._live().isolation

    @property
    def destroyed(self) -> bool:
        """Whether the sandbox was destroyed."""
        return self._lease.released

    @overload
    def execute(self, cmd: Words, *, text: Literal[False] = ..., **options: Unpack[BytesOptions]) -> SandboxResult: ...
    @overload
    def execute(self, cmd: Words, *, text: Literal[True], **options: Unpack[TextOptions]) -> SandboxResult[str]: ...
    @overload
    def execute(self, cmd: Words, *, text: bool = ..., **options: Unpack[EitherOptions]) -> SandboxResult[Any]: ...

    def execute(self, cmd: Words, **options: Any) -> SandboxResult[Any]:
        """Runs `cmd` until it exits, without a shell. Arguments and errors are those of `PooledSandbox.execute`."""
        return self._live().execute(cmd, **options)

    @overload
    def shell(self, script: Word, *, text: Literal[False] = ..., **options: Unpack[BytesOptions]) -> SandboxResult: ...
    @overload
    def shell(self, script: Word, *, text: Literal[True], **options: Unpack[TextOptions]) -> SandboxResult[str]: ...
    @overload
    def shell(self, script: Word, *, text: bool = ..., **options: Unpack[EitherOptions]) -> SandboxResult[Any]: ...

    def shell(self, script: Word, **options: Any) -> SandboxResult[Any]:
        """Runs `script` with `/bin/sh -c`. Arguments and errors are those of `PooledSandbox.shell`."""
        return self._live().shell(script, **options)

    def popen(self, cmd: Words, **options: Unpack[ProcessOptions]) -> SandboxProcess:
        """Starts `cmd` and returns while it runs. Arguments and errors are those of `PooledSandbox.popen`."""
        return self._live().popen(cmd, **options)

    def _files(self) -> LeaseFiles:
        return self._live()._files()  # noqa: SLF001 - of this package

    def _code(self) -> CodePlace:
        return self._live()._code()  # noqa: SLF001 - of this package

    def _live(self) -> PooledSandbox:
        if self.destroyed:
            raise SandboxReleasedError("this sandbox was destroyed")
        return self._lease

    def destroy(self) -> None:
        """Kills the sandbox and all processes in it. It never waits and never fails; a second call changes nothing."""
        self._lease.release()

    def __enter__(self) -> Self:
        self._live()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.destroy()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Sandbox can be neither copied nor pickled: create another one from its config")

    def __repr__(self) -> str:
        if self.destroyed:
            return "<Sandbox destroyed>"
        return repr(self._lease).replace("PooledSandbox leased", "Sandbox").replace("PooledSandbox", "Sandbox")


class _Slot:
    """The pool of one configuration, which keeps no idle sandboxes; None until the first sandbox is created."""

    __slots__ = ("core", "lock")

    def __init__(self) -> None:
        self.core: PoolCore | None = None
        # Reentrant, like the other lock: a signal handler or garbage collection may create a sandbox meanwhile.
        self.lock = threading.RLock()


class _Zygotes:
    """The pools of the last configurations. The least recently used is dropped; live sandboxes keep its zygote."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Drops all pools: in a forked child they belong to the parent, and a lock may be held for ever."""
        self._lock = threading.RLock()
        self._slots: OrderedDict[SandboxConfig, _Slot] = OrderedDict()

    def core(self, config: SandboxConfig) -> PoolCore:
        slot = self.slot(config)
        # Opening takes milliseconds, for which only callers with the same configuration wait.
        with slot.lock:
            if slot.core is None:
                slot.core = open_core(config, PoolLimits())
            return slot.core

    def slot(self, config: SandboxConfig) -> _Slot:
        with self._lock:
            slot = self._slots.setdefault(config, _Slot())
            self._slots.move_to_end(config)
            # The slot is dropped outside the lock, because freeing a pool waits for its threads.
            dropped = self._slots.popitem(last=False) if len(self._slots) > MAX_ZYGOTES else None
        del dropped
        return slot


_zygotes = _Zygotes()


def core_of(config: SandboxConfig) -> PoolCore:
    """The pool for the sandboxes of this configuration. Opens it if that was not done."""
    return _zygotes.core(config)


def open_core_of(config: SandboxConfig) -> PoolCore | None:
    """The same; None if it is not open."""
    return _zygotes.slot(config).core


os.register_at_fork(after_in_child=_zygotes.forget)
