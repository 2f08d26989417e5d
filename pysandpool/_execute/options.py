"""The types of what can be passed to `execute` and to `run` by keyword. They exist for type checkers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from pysandpool._config.fields import Duration
    from pysandpool._config.workspace import StrPath, Workspace
    from pysandpool._execute.encode import Environ, Word


class AnyOptions(TypedDict, total=False):
    """What does not depend on `text`. `PooledSandbox.execute` describes each option."""

    env: Environ | None
    cwd: Word | None
    timeout: Duration | None
    check: bool
    max_output_bytes: float | None
    cpu_time: Duration | None


class BytesOptions(AnyOptions, total=False):
    """Options of a call with `text=False`."""

    input: Buffer | None
    on_stdout: Callable[[bytes], object] | None
    on_stderr: Callable[[bytes], object] | None


class TextOptions(AnyOptions, total=False):
    """Options of a call with `text=True`."""

    input: str | Buffer | None
    encoding: str | None
    errors: str | None
    on_stdout: Callable[[str], object] | None
    on_stderr: Callable[[str], object] | None


class EitherOptions(AnyOptions, total=False):
    """Options of a call with a `text` that the type checker does not know."""

    input: Buffer | None
    encoding: str | None
    errors: str | None
    on_stdout: Callable[[bytes | str], object] | None
    on_stderr: Callable[[bytes | str], object] | None


class AcquireOptions(TypedDict, total=False):
    """What `SandboxPool.run` takes for its acquire."""

    acquire_timeout: Duration | None
    workspace: Workspace | StrPath | None


class BytesRunOptions(BytesOptions, AcquireOptions, total=False):
    """Options of `SandboxPool.run` with `text=False`."""


class TextRunOptions(TextOptions, AcquireOptions, total=False):
    """Options of `SandboxPool.run` with `text=True`."""


class EitherRunOptions(EitherOptions, AcquireOptions, total=False):
    """Options of `SandboxPool.run` with a `text` that the type checker does not know."""
