"""What one call of `execute` asks for, whether it waits on a thread or in an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pysandpool._config.fields import Duration
from pysandpool._errors import CommandFailedError
from pysandpool._execute.encode import Environ, Word, Words
from pysandpool._execute.foreign import refuse
from pysandpool._execute.live import Taker, Tap
from pysandpool._execute.result import SandboxResult, decoded
from pysandpool._execute.run import CommandDefaults
from pysandpool._execute.text import Coding, coding_of

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Order(NamedTuple):
    """The arguments of `run_command`, and what becomes of its result."""

    cmd: Words
    options: tuple[str | Buffer | None, Environ | None, Word | None, Duration | None]
    defaults: CommandDefaults
    live: Tap | None
    decodes: Coding | None
    """None: the result is to be bytes"""
    checks: bool

    def finish(self, found: SandboxResult) -> SandboxResult[Any]:
        """The result of the call. Raises UnicodeDecodeError or `CommandFailedError`."""
        result: SandboxResult[Any] = found if self.decodes is None else decoded(found, self.decodes)
        if self.checks and not result.ok:
            raise CommandFailedError(result, self.cmd)
        return result


def order_of(  # noqa: PLR0913 - the arguments of PooledSandbox.execute, which describes them
    defaults: CommandDefaults,
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
) -> Order:
    """Checks those arguments that the defaults and the text mode depend on; the others are checked by `run_command`."""
    refuse("execute", foreign)
    if max_output_bytes is not None:
        defaults = defaults.keeping(max_output_bytes)
    if cpu_time is not None:
        defaults = defaults.limiting(cpu_time)
    decodes = coding_of(text, encoding, errors)
    live = None
    if on_stdout is not None or on_stderr is not None:
        live = Tap(on_stdout, on_stderr, defaults.max_output_bytes, decodes)
    data = decodes.encode(input) if decodes is not None and isinstance(input, str) else input
    return Order(cmd, (data, env, cwd, timeout), defaults, live, decodes, check)
