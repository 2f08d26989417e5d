"""The types of what can be passed to `popen` by keyword. They exist for type checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from pysandpool._config.fields import Duration
    from pysandpool._execute.encode import Environ, Word
    from pysandpool._process.streams import Stream


class ProcessOptions(TypedDict, total=False):
    """`PooledSandbox.popen` describes each option."""

    stdin: Stream
    stdout: Stream
    stderr: Stream
    env: Environ | None
    cwd: Word | None
    timeout: Duration | None
    text: bool
    encoding: str | None
    errors: str | None
    bufsize: int
    pty: bool
    size: tuple[int, int] | None
