"""The calls that run code, as methods of a lease and of `Sandbox`."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from pysandpool._code.order import code_order
from pysandpool._code.place import CodePlace
from pysandpool._code.session import CodeSession, open_session
from pysandpool._execute.run import run_command

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pysandpool._code.options import CodeOptions, SessionOptions
    from pysandpool._code.result import CodeResult


class CodeMethods:
    """Code in the interpreter that waits in a sandbox with `SandboxConfig.interpreter`."""

    __slots__ = ()

    @abstractmethod
    def _code(self) -> CodePlace: ...

    def run_code(self, code: str, **options: Unpack[CodeOptions]) -> CodeResult:
        """Runs Python code in a fresh copy of the interpreter, and waits for its end.

        It is like `execute(["python", "-c", code])`, without the start of the interpreter and without the imports that
        it has preloaded. Each call has a `__main__` of its own. Files are shared with the other calls of the lease.

        Args:
            code: Python source, at most 4 MiB in UTF-8.
            input: a str or bytes-like object for standard input. By default it is /dev/null.
            env, cwd, timeout: as for `execute`.
            on_stdout, on_stderr: functions that are called with the next text as soon as it comes, as for `execute`.
            max_output_bytes: in place of that of the configuration, for each output and for what the code reports.
            check: True calls `check()` of the result.

        Returns:
            A `CodeResult`. An exception of the code is a part of it, and is not raised here.

        Raises:
            CodeFailedError: with `check=True`, unless `ok` of the result is true.
            SandboxError: the sandbox has no interpreter, or the code could not be started.
            SandboxLostError, SandboxReleasedError, PoolStateError: as for `execute`.
            TypeError, ValueError: an argument has a wrong type or value, or the code is too long; nothing was started.
        """
        place = self._code()
        order = code_order(place, code, **options)
        return order.finish(run_command(place.pool, place.handle, order.cmd, order.options, order.defaults, order.live))

    def session(self, **options: Unpack[SessionOptions]) -> CodeSession:
        """Starts a `CodeSession`: an interpreter that runs several pieces of code, one after the other.

        Several sessions may live in one lease, beside commands, `run_code` and processes of `popen`; with these they
        can be 64. They share the files of the sandbox, its memory limit and its processes.

        Args:
            env, cwd: as for `execute`; they hold for all cells.

        Raises:
            SandboxError: the sandbox has no interpreter, or the session could not be started: a `cwd` that does not
                exist, `after_fork` or `warmup` failed, or EAGAIN with too many processes.
            SandboxLostError, SandboxReleasedError, PoolStateError: as for `execute`.
        """
        place = self._code()
        return open_session(place, options.get("env"), options.get("cwd"))
