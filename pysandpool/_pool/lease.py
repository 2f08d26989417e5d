"""`PooledSandbox`: one lease of a sandbox."""

from __future__ import annotations

import os
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, overload

from pysandpool._code.methods import CodeMethods
from pysandpool._code.place import CodePlace
from pysandpool._config.fields import Duration
from pysandpool._errors import PoolStateError, SandboxReleasedError
from pysandpool._execute.encode import Environ, Word, Words, shell_command
from pysandpool._execute.foreign import refuse
from pysandpool._execute.live import Taker
from pysandpool._execute.order import order_of
from pysandpool._execute.result import SandboxResult
from pysandpool._execute.run import CommandDefaults, run_command
from pysandpool._ffi import check, hot, lib
from pysandpool._files.methods import FileMethods
from pysandpool._files.operation import LeaseFiles
from pysandpool._pool.core import PoolCore
from pysandpool._pool.isolation import IsolationReport, isolation_of
from pysandpool._process.arguments import size_of
from pysandpool._process.handle import Held, Program
from pysandpool._process.process import SandboxProcess, start_process
from pysandpool._process.streams import Stream, kind_of

_sp_release = hot.sp_release


if TYPE_CHECKING:
    from typing_extensions import Buffer, Self, Unpack

    from pysandpool._execute.options import BytesOptions, EitherOptions, TextOptions


class PooledSandbox(FileMethods, CodeMethods):
    """A lease: a fresh sandbox of a pool, for the use of one caller until it is released.

    `SandboxPool.acquire()` returns it. Leaving its `with` block or `release()` releases it, and so does garbage
    collection, once nothing refers to it, to a process of it that runs, or to a session of it. A sandbox in which a
    command has run is never leased again.
    """

    # `_handle` is the number of the lease in the C pool, and 0 after the release.
    __slots__ = ("__weakref__", "_core", "_handle", "_hot")

    def __init__(self, core: PoolCore, pool: Any, handle: int) -> None:
        self._hot = pool
        self._core = core
        self._handle = handle

    @overload
    def execute(self, cmd: Words, *, text: Literal[False] = ..., **options: Unpack[BytesOptions]) -> SandboxResult: ...
    @overload
    def execute(self, cmd: Words, *, text: Literal[True], **options: Unpack[TextOptions]) -> SandboxResult[str]: ...
    @overload
    def execute(self, cmd: Words, *, text: bool = ..., **options: Unpack[EitherOptions]) -> SandboxResult[Any]: ...

    def execute(  # noqa: PLR0913 - all but the command by keyword
        self,
        cmd: Words,
        *,
        input: str | Buffer | None = None,
        env: Environ | None = None,
        cwd: Word | None = None,
        timeout: Duration | None = None,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
        check: bool = False,
        on_stdout: Taker | None = None,
        on_stderr: Taker | None = None,
        max_output_bytes: float | None = None,
        cpu_time: Duration | None = None,
        **foreign: Any,
    ) -> SandboxResult[Any]:
        """Runs `cmd` until it exits, without a shell, and then kills the processes that it left running.

        Several calls share the scratch of the sandbox and see each other's files. Calls of two threads run one after
        the other.

        Args:
            cmd: the command and its arguments, each a str, bytes or PathLike. If the first has no slash, it is searched
                in the PATH that the command gets.
            input: a bytes-like object for standard input, or with `text=True` a str. By default, standard input is
                /dev/null.
            env: changes to the variables of the configuration; the value None removes a variable.
            cwd: the working directory inside the sandbox. By default, it is the private /tmp.
            timeout: seconds or a timedelta of wall clock time; `math.inf` means no limit. By default, it is
                `SandboxConfig.timeout_secs`. A command that takes longer is killed, and the result says so.
            text: True gives str in place of bytes, to the result and to `on_stdout` and `on_stderr`. As in the text
                mode of subprocess, "\\r\\n" and "\\r" become "\\n". An incomplete character at the end of output that
                was truncated, or of a command that was killed, is dropped.
            encoding: that of the text, by its name in the codecs module; by default UTF-8, whatever the locale is.
            errors: what happens to bytes that the encoding does not have: "strict", which text has by default, raises
                UnicodeDecodeError after the command has ended, "replace" puts U+FFFD in their place, and so on, see
                the codecs module. As with subprocess, `encoding` or `errors` without `text` means `text=True`.
            check: True calls `check()` of the result.
            on_stdout: a function that is called with the next bytes of standard output as soon as they come, on the
                thread of the caller. It gets all of them, also those that `max_output_bytes` drops from the result. The
                command waits while the function is slow. A timeout that passes meanwhile takes effect when the function
                returns. If the function raises an exception, the command is killed, and the exception passes through.
                The function must not execute another command in the same sandbox.
            on_stderr: the same for standard error.
            max_output_bytes: an int in place of `SandboxConfig.max_output_bytes`; `math.inf` means no limit.
            cpu_time: seconds or a timedelta of CPU time. The result's `cpu_time_exceeded` says whether the command and
                the children that it has waited for used that much. A process that uses half as much again, rounded up
                to whole seconds, gets SIGXCPU, and SIGKILL one second later: the kernel's clock for this limit is not
                exact. The limit holds for each single process, so set `timeout` as well. By default, there is no
                limit.

        Raises:
            CommandNotFoundError: the command cannot be executed inside the sandbox.
            SandboxError: the command could not be started for another reason, such as a `cwd` that does not exist.
            SandboxLostError: the sandbox died; the outcome of the command is unknown.
            SandboxReleasedError: the lease was released, before or during the call.
            PoolStateError: the pool was closed, before or during the call, or belongs to the parent process.
            CommandFailedError: with `check=True`, see `SandboxResult.check`.
            UnicodeDecodeError: with `text=True`, the command wrote what is not in the encoding. If a function takes
                that output, it is raised at once, and the command is killed.
            TypeError, ValueError, LookupError: an argument has a wrong type or value; nothing was started.
        """
        core = self._core
        order = order_of(
            self._defaults(),
            cmd,
            input=input,
            env=env,
            cwd=cwd,
            timeout=timeout,
            text=text,
            encoding=encoding,
            errors=errors,
            check=check,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            max_output_bytes=max_output_bytes,
            cpu_time=cpu_time,
            **foreign,
        )
        return order.finish(run_command(core.ptr, self._live_handle(), cmd, order.options, order.defaults, order.live))

    @overload
    def shell(self, script: Word, *, text: Literal[False] = ..., **options: Unpack[BytesOptions]) -> SandboxResult: ...
    @overload
    def shell(self, script: Word, *, text: Literal[True], **options: Unpack[TextOptions]) -> SandboxResult[str]: ...
    @overload
    def shell(self, script: Word, *, text: bool = ..., **options: Unpack[EitherOptions]) -> SandboxResult[Any]: ...

    def shell(self, script: Word, **options: Any) -> SandboxResult[Any]:
        """Runs `script` with `/bin/sh -c`, which is also what `shell=True` means for subprocess.

        Keyword arguments and errors are those of `execute`. A string that does not come from you must not become part
        of the script: pass it in `env`, and write `"$NAME"`. For bash, call `execute(["bash", "-c", script])`.
        """
        return self.execute(shell_command(script), **options)

    def popen(  # noqa: PLR0913 - all but the command by keyword
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
    ) -> SandboxProcess:
        """Starts `cmd` and returns while it runs, as `subprocess.Popen` does.

        Several processes may run at once, and `execute` beside them, which then kills only what it has started itself.
        A process, and what it has started, ends with the lease at the latest.

        Args:
            cmd, env, cwd: as for `execute`.
            stdin, stdout, stderr: `subprocess.PIPE`; `DEVNULL` or None for /dev/null; for `stderr` also `STDOUT`; or an
                open file, pipe or socket: an object with `fileno()`, or a descriptor. The process then holds that
                very file, with all that its descriptor permits. A terminal or a directory is refused.
            timeout: seconds or a timedelta after which the process is killed, and its `timed_out` is True. By default
                there is no limit.
            text: the files and `communicate()` of the process take and give str.
            encoding, errors: as for `execute`; without `text` they mean `text=True`.
            bufsize: that of the files, as for `open`: 0 writes at once, 1 at the end of each line of text. An
                `AsyncSandboxProcess` always writes at once.
            pty: the process gets a new terminal of the sandbox as its three streams and its controlling terminal.
                `stdin` and `stdout` of the returned process are the other side of it.
            size: rows and columns of the terminal, or what `os.get_terminal_size()` returns; by default (24, 80).

        Raises:
            CommandNotFoundError: the command cannot be executed inside the sandbox.
            SandboxError: the process could not be started for another reason: a `cwd` that does not exist, or EAGAIN
                with 64 processes, or `max_processes`.
            SandboxLostError: the sandbox has died.
            SandboxReleasedError: the lease was released.
            PoolStateError: the pool is closed, or belongs to the parent process.
            UnsupportedPlatformError: macOS.
            TypeError, ValueError: an argument has a wrong type or value; nothing was started.
        """
        refuse("popen", foreign)
        program = Program(cmd, env, cwd, timeout, pty, size=size_of(size, terminal=pty))
        kind = kind_of(text, encoding, errors, bufsize)
        held, streams = Held(self, self._core), (stdin, stdout, stderr)
        return start_process(held, self._live_handle(), program, streams, self._defaults(), kind)

    def _defaults(self) -> CommandDefaults:
        return self._core.defaults

    def release(self) -> None:
        """Returns the sandbox to the pool. It never waits and never fails; a second call changes nothing."""
        handle = self._handle
        if handle:
            # C first: it refuses the number of a lease that has ended, so that an interrupt in between is harmless.
            _sp_release(self._hot, handle)
            self._handle = 0

    @property
    def released(self) -> bool:
        """Whether the lease was released."""
        return not self._handle

    @property
    def pid(self) -> int:
        """The pid of the sandbox's init, as the host sees it.

        Raises:
            SandboxReleasedError: the lease was released.
            SandboxLostError: the sandbox has died.
            PoolStateError: the pool is closed, or belongs to the parent process.
        """
        return check(lib.sp_lease_pid(self._core.ptr, self._live_handle()), self._core.ptr)

    @property
    def isolation(self) -> IsolationReport:
        """What was proved about this sandbox before its first command. Raises the errors of `pid`."""
        return isolation_of(self._core.ptr, self._live_handle(), self._core.config)

    def __enter__(self) -> Self:
        if not self._handle:
            raise SandboxReleasedError
        if self._core.closed:
            raise PoolStateError
        return self

    # Repeats the body of release(): one more call would take a tenth of the time that an acquire may take.
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        handle = self._handle
        if handle:
            _sp_release(self._hot, handle)
            self._handle = 0

    def __del__(self, _release: Any = _sp_release) -> None:
        # Releases a lease that was forgotten. `_release` is bound here because globals may be gone at exit.
        try:
            if self._handle and not self._core.freed:
                _release(self._hot, self._handle)
        except AttributeError:  # interrupted before __init__ had set anything
            return

    def __reduce__(self) -> NoReturn:
        raise TypeError("a lease can be neither copied nor pickled: send commands to its process, and the results back")

    def __repr__(self) -> str:
        if not self._handle:
            return "<PooledSandbox released>"
        pid = lib.sp_lease_pid(self._core.ptr, self._handle)
        return f"<PooledSandbox leased pid={pid}>" if pid > 0 else f"<PooledSandbox {_state(pid)}>"

    def _files(self) -> LeaseFiles:
        core, directory = self._core, self._defaults().directory(None)
        return LeaseFiles(core, core.ptr, self._live_handle(), None if directory is None else os.fsencode(directory))

    def _code(self) -> CodePlace:
        core = self._core
        return CodePlace.of(core.config, Held(self, core), self._live_handle(), self._defaults())

    def _live_handle(self) -> int:
        handle = self._handle
        if not handle:
            raise SandboxReleasedError
        return handle


def _state(code: int) -> str:
    words = {
        lib.SP_E_CLOSED: "closed",
        lib.SP_E_FORKED: "of the parent process",
        lib.SP_E_RELEASED: "released",
    }
    return words.get(code, "lost")
