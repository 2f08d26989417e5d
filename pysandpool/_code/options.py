"""The types of what can be passed to `run_code` and to the methods of a session by keyword, for type checkers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from pysandpool._config.fields import Duration
    from pysandpool._execute.encode import Environ, Word


class CellOptions(TypedDict, total=False):
    """`CodeSession.run` describes each option."""

    input: str | Buffer | None
    timeout: Duration | None
    on_stdout: Callable[[str], object] | None
    on_stderr: Callable[[str], object] | None
    max_output_bytes: float | None
    check: bool


class CodeOptions(CellOptions, total=False):
    """`PooledSandbox.run_code` describes each option."""

    env: Environ | None
    cwd: Word | None


class SessionOptions(TypedDict, total=False):
    """`PooledSandbox.session` describes each option."""

    env: Environ | None
    cwd: Word | None
