"""`AsyncPooledSandbox`: one lease of a sandbox, for the tasks of an event loop."""

from __future__ import annotations

from collections.abc import Awaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, overload

from pysandpool._async.acquire import Acquiring
from pysandpool._async.backend import Backend
from pysandpool._async.current import current
from pysandpool._async.done import DONE
from pysandpool._async.files import AsyncFileMethods
from pysandpool._async.process import AsyncSandboxProcess
from pysandpool._async.queue import Queue
from pysandpool._async.run import Takers, refuse_nested, run_command
from pysandpool._async.session import AsyncCodeSession, open_session
from pysandpool._async.start import start_process
from pysandpool._code.order import code_order
from pysandpool._config.fields import Duration
from pysandpool._errors import PoolStateError, SandboxReleasedError
from pysandpool._execute.encode import Environ, Word, Words, shell_command
from pysandpool._execute.foreign import refuse
from pysandpool._execute.order import order_of
from pysandpool._execute.result import SandboxResult
from pysandpool._files.operation import LeaseFiles
from pysandpool._pool.isolation import IsolationReport
from pysandpool._pool.lease import PooledSandbox
from pysandpool._process.arguments import size_of
from pysandpool._process.handle import Held, Program
from pysandpool._process.streams import Stream, kind_of

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from pysandpool._code.options import CodeOptions, SessionOptions
    from pysandpool._code.result import CodeResult
    from pysandpool._execute.options import BytesOptions, EitherOptions, TextOptions
    from pysandpool._process.options import ProcessOptions


class AsyncPooledSandbox(AsyncFileMethods):
    """A `PooledSandbox` whose calls are awaited. `AsyncSandboxPool.acquire()` returns it.

    Leaving its `async with` block, `release()` or garbage collection releases it. It belongs to the event loop in which
    it was acquired: a call in another loop raises RuntimeError. Only `release()` may be called anywhere.
    """

    __slots__ = ("__weakref__", "_lease", "_loop", "_queue")

    def __init__(self, lease: PooledSandbox, loop: object) -> None:
        self._lease = lease
        self._loop = loop
        self._queue = Queue()

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
        """Runs `cmd` until it exits, without a shell. Arguments and errors are those of `PooledSandbox.execute`.

        `on_stdout` and `on_stderr` may be async functions as well, which are awaited: while one of them is slow, the
        command waits. Calls of several tasks on one lease run one after the other.

        A cancelled call kills its command, waits until that has ended, and leaves the lease usable. The event loop
        itself does the waiting, and no thread is used.
        """
        takers = Takers()
        for name in ("on_stdout", "on_stderr"):
            if options.get(name) is not None:
                options[name] = takers.collecting(options[name])
        core = self._lease._core  # noqa: SLF001 - the lease is this one's
        order = order_of(self._lease._defaults(), cmd, **options)  # noqa: SLF001
        backend = self._backend()
        refuse_nested(core.ptr, self._lease._live_handle())  # noqa: SLF001
        async with self._queue.turn(backend):
            handle = self._lease._live_handle()  # noqa: SLF001
            return order.finish(await run_command(backend, core.ptr, handle, order, takers))

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
        result: SandboxResult[Any] = await self.execute(shell_command(script), **options)
        return result

    def popen(self, cmd: Words, **options: Unpack[ProcessOptions]) -> Acquiring[AsyncSandboxProcess]:
        """Starts `cmd` and returns while it runs. Arguments and errors are those of `PooledSandbox.popen`.

        Use it as `async with lease.popen(...) as process:` or `process = await lease.popen(...)`. After a cancellation
        the process is killed.
        """
        return Acquiring(self._popen(cmd, **options))

    async def _popen(  # noqa: PLR0913 - as PooledSandbox.popen
        self,
        cmd: Words,
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        env: Environ | None = None,
        cwd: Word | None = None,
        timeout: Duration | None = None,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
        bufsize: int = -1,
        pty: bool = False,
        size: tuple[int, int] | None = None,
        **foreign: NoReturn,
    ) -> AsyncSandboxProcess:
        refuse("popen", foreign)
        self._backend()
        core, handle = self._lease._core, self._lease._live_handle()  # noqa: SLF001 - the lease is this one's
        program = Program(cmd, env, cwd, timeout, pty, size=size_of(size, terminal=pty))
        coding, defaults = kind_of(text, encoding, errors, bufsize).coding, self._lease._defaults()  # noqa: SLF001
        return await start_process(Held(self._lease, core), handle, program, (stdin, stdout, stderr), defaults, coding)

    async def run_code(self, code: str, **options: Unpack[CodeOptions]) -> CodeResult:
        """Runs Python code in a fresh copy of the interpreter. Arguments, results and errors are those of
        `PooledSandbox.run_code`; for functions and cancellations, see `execute`."""
        place = self._lease._code()  # noqa: SLF001 - the lease is this one's
        takers, given = Takers(), dict(options)
        for name in ("on_stdout", "on_stderr"):
            if given.get(name) is not None:
                given[name] = takers.collecting(given[name])  # type: ignore[arg-type]
        order = code_order(place, code, **given)  # type: ignore[arg-type]
        backend = self._backend()
        refuse_nested(place.pool, place.handle)
        async with self._queue.turn(backend):
            handle = self._lease._live_handle()  # noqa: SLF001
            return order.finish(await run_command(backend, place.pool, handle, order, takers))

    def session(self, **options: Unpack[SessionOptions]) -> Acquiring[AsyncCodeSession]:
        """Starts an `AsyncCodeSession`. Arguments and errors are those of `PooledSandbox.session`.

        Use it as `async with lease.session() as session:` or `session = await lease.session()`.
        """
        return Acquiring(self._session(options.get("env"), options.get("cwd")))

    async def _session(self, env: Environ | None, cwd: Word | None) -> AsyncCodeSession:
        self._backend()
        return await open_session(self._lease._code(), env, cwd)  # noqa: SLF001 - the lease is this one's

    def release(self) -> Awaitable[None]:
        """Returns the sandbox to the pool at once. It never waits and never fails; a second call changes nothing.

        Any thread may call it. What it returns may be awaited, and need not be.
        """
        self._lease.release()
        return DONE

    @property
    def released(self) -> bool:
        """Whether the lease was released."""
        return self._lease.released

    @property
    def pid(self) -> int:
        """The pid of the sandbox's init, as the host sees it. Raises the errors of `PooledSandbox.pid`."""
        return self._lease.pid

    @property
    def isolation(self) -> IsolationReport:
        """What was proved about this sandbox before its first command. Raises the errors of `pid`."""
        return self._lease.isolation

    async def __aenter__(self) -> Self:
        if self._lease.released:
            raise SandboxReleasedError
        if self._lease._core.closed:  # noqa: SLF001
            raise PoolStateError
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lease.release()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a lease can be neither copied nor pickled: send commands to its process, and the results back")

    def __repr__(self) -> str:
        return repr(self._lease).replace("PooledSandbox", "AsyncPooledSandbox")

    def _files(self) -> tuple[Backend, LeaseFiles]:
        return self._backend(), self._lease._files()  # noqa: SLF001

    def _backend(self) -> Backend:
        backend = current()
        if backend.loop is not self._loop:
            raise RuntimeError("this lease was acquired in another event loop: acquire one in each loop")
        return backend
