"""`AsyncSandbox`: one sandbox without a pool, for the tasks of an event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, overload

from pysandpool._async.acquire import Acquiring, lease_by_ticket, lease_with_workspace
from pysandpool._async.backend import Backend
from pysandpool._async.current import current
from pysandpool._async.done import DONE
from pysandpool._async.files import AsyncFileMethods
from pysandpool._async.lease import AsyncPooledSandbox
from pysandpool._async.process import AsyncSandboxProcess
from pysandpool._async.session import AsyncCodeSession
from pysandpool._config.sandbox import SandboxConfig
from pysandpool._config.workspace import StrPath, Workspace, workspace_of
from pysandpool._errors import SandboxReleasedError
from pysandpool._execute.encode import Word, Words
from pysandpool._execute.result import SandboxResult
from pysandpool._files.operation import LeaseFiles
from pysandpool._pool.core import PoolCore
from pysandpool._pool.isolation import IsolationReport
from pysandpool._pool.pool import typed
from pysandpool._pool.sandbox import core_of, open_core_of

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from pysandpool._code.options import CodeOptions, SessionOptions
    from pysandpool._code.result import CodeResult
    from pysandpool._execute.options import BytesOptions, EitherOptions, TextOptions
    from pysandpool._process.options import ProcessOptions


class AsyncSandbox(AsyncFileMethods):
    """A fresh sandbox as `Sandbox`, whose calls are awaited.

    It is created by `async with AsyncSandbox(config) as sandbox:` or by `sandbox = await AsyncSandbox(config)`. The
    first sandbox of a configuration waits in a thread, until the zygote has started.

    Args:
        config: what the sandbox is allowed; by default `SandboxConfig()`.
        workspace: a directory of the host, see `AsyncSandboxPool.acquire`.

    Raises:
        TypeError, ValueError: an argument has a wrong type or value.
    """

    __slots__ = ("__weakref__", "_config", "_destroyed", "_lease", "_workspace")

    def __init__(self, config: SandboxConfig | None = None, *, workspace: Workspace | StrPath | None = None) -> None:
        self._config = typed(config, SandboxConfig, "config")
        self._workspace = None if workspace is None else workspace_of(workspace)
        self._destroyed = False
        self._lease: AsyncPooledSandbox | None = None

    @property
    def config(self) -> SandboxConfig:
        """The configuration of the sandbox."""
        return self._config

    @property
    def pid(self) -> int:
        """The pid of the sandbox's init, as the host sees it. Raises the errors of `PooledSandbox.pid`."""
        return self._created().pid

    @property
    def isolation(self) -> IsolationReport:
        """What was proved about this sandbox before its first command. Raises the errors of `pid`."""
        return self._created().isolation

    @property
    def destroyed(self) -> bool:
        """Whether the sandbox was destroyed."""
        return self._destroyed

    async def create(self) -> None:
        """Creates the sandbox. A second call changes nothing.

        Raises:
            SandboxCreateError: the sandbox could not be created; no process is left behind.
            UnsupportedPlatformError: there is no backend for this system.
            SandboxReleasedError: the sandbox was destroyed.
        """
        if self._destroyed:
            raise SandboxReleasedError("this sandbox was destroyed")
        if self._lease is None:
            backend = current()
            core: PoolCore | None = open_core_of(self._config)
            if core is None:
                core = await backend.in_thread(lambda: core_of(self._config))
            if self._workspace is None:
                lease = await lease_by_ticket(backend, core)
            else:
                lease = await lease_with_workspace(backend, partial(lease_by_ticket, backend, core), self._workspace)
            self._lease = AsyncPooledSandbox(lease, backend.loop)

    @overload
    async def execute(
        self, cmd: Words, *, text: Literal[False] = ..., **options: Unpack[BytesOptions]
    ) -> SandboxResult: ...
    @overload
    async def execute(
        self, cmd: Words, *, text: Literal[True], **options: Unpack[TextOptions]
    ) -> SandboxResult[str]: ...
    @overload
    async def execute(
        self, cmd: Words, *, text: bool = ..., **options: Unpack[EitherOptions]
    ) -> SandboxResult[Any]: ...

    async def execute(self, cmd: Words, **options: Any) -> SandboxResult[Any]:
        """Runs `cmd` until it exits. Arguments and errors are those of `AsyncPooledSandbox.execute`."""
        result: SandboxResult[Any] = await self._created().execute(cmd, **options)
        return result

    @overload
    async def shell(
        self, script: Word, *, text: Literal[False] = ..., **options: Unpack[BytesOptions]
    ) -> SandboxResult: ...
    @overload
    async def shell(
        self, script: Word, *, text: Literal[True], **options: Unpack[TextOptions]
    ) -> SandboxResult[str]: ...
    @overload
    async def shell(
        self, script: Word, *, text: bool = ..., **options: Unpack[EitherOptions]
    ) -> SandboxResult[Any]: ...

    async def shell(self, script: Word, **options: Any) -> SandboxResult[Any]:
        """Runs `script` with `/bin/sh -c`, see `PooledSandbox.shell`. Keyword arguments are those of `execute`."""
        result: SandboxResult[Any] = await self._created().shell(script, **options)
        return result

    def popen(self, cmd: Words, **options: Unpack[ProcessOptions]) -> Acquiring[AsyncSandboxProcess]:
        """Starts `cmd` and returns while it runs, see `AsyncPooledSandbox.popen`."""
        return self._created().popen(cmd, **options)

    async def run_code(self, code: str, **options: Unpack[CodeOptions]) -> CodeResult:
        """Runs Python code in a fresh copy of the interpreter, see `AsyncPooledSandbox.run_code`."""
        return await self._created().run_code(code, **options)

    def session(self, **options: Unpack[SessionOptions]) -> Acquiring[AsyncCodeSession]:
        """Starts a session, see `AsyncPooledSandbox.session`."""
        return self._created().session(**options)

    def _files(self) -> tuple[Backend, LeaseFiles]:
        return self._created()._files()  # noqa: SLF001 - of this package

    def destroy(self) -> Awaitable[None]:
        """Kills the sandbox and all processes in it, at once. It never waits and never fails.

        What it returns may be awaited, and need not be.
        """
        self._destroyed = True
        if self._lease is not None:
            self._lease.release()
        return DONE

    def __await__(self) -> Generator[Any, Any, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        await self.create()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.destroy()

    def __reduce__(self) -> NoReturn:
        raise TypeError("an AsyncSandbox can be neither copied nor pickled: create another one from its config")

    def __repr__(self) -> str:
        if self._destroyed:
            return "<AsyncSandbox destroyed>"
        if self._lease is None:
            return "<AsyncSandbox not created>"
        text = repr(self._lease).replace("AsyncPooledSandbox leased", "AsyncSandbox")
        return text.replace("PooledSandbox", "Sandbox")

    def _created(self) -> AsyncPooledSandbox:
        if self._destroyed:
            raise SandboxReleasedError("this sandbox was destroyed")
        if self._lease is None:
            raise SandboxReleasedError("this sandbox was not created yet: use `async with` or `await sandbox.create()`")
        return self._lease
