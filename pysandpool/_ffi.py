"""The boundary to C: the only file that imports the compiled modules, and that translates their status codes.

Two modules are built from the same sources. The functions of `hot` keep the GIL and never wait (acquire, release,
counters); those of `lib` release it. A pool is one C object, but each module has a type of its own for it: `as_hot`
converts the pointer.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pysandpool._errors import (
    AcquireTimeoutError,
    CommandNotFoundError,
    PoolStateError,
    SandboxCreateError,
    SandboxError,
    SandboxLostError,
    SandboxReleasedError,
    SandpoolError,
    UnsupportedPlatformError,
)

try:
    from pysandpool import _core, _core_hot
except ImportError as error:
    raise ImportError(
        "the compiled modules of pysandpool are missing: run `pip install .`, and start Python outside the folder of "
        f"the sources, or run `pip install --editable .` ({error})"
    ) from error

EXPECTED_ABI = 8


def check_abi(found: int, expected: int, module: str) -> None:
    """Raises ImportError if a compiled module belongs to another build than these Python files."""
    if found != expected:
        raise ImportError(f"{module} has ABI {found}, but this pysandpool needs ABI {expected}: reinstall pysandpool")


check_abi(_core.lib.sp_abi(), EXPECTED_ABI, "pysandpool._core")
check_abi(_core_hot.lib.sp_abi(), EXPECTED_ABI, "pysandpool._core_hot")

ffi = _core.ffi
lib = _core.lib
hot_ffi = _core_hot.ffi
hot = _core_hot.lib

_CLOSED_ELSEWHERE = "were closed by another part of this process (os.closerange(), or a descriptor closed twice)"
PROGRAMS = Path(__file__).absolute().parent / "_bin"
"""The directory of the programs that are built with the package."""
UNLIMITED_BYTES = 2**64 - 1
UINT32_MAX = 2**32 - 1
_MAX_DIAGNOSTICS = 64 * 1024


def as_hot(pool: Any) -> Any:
    """The `sp_pool *` of `lib` as an `sp_pool *` of `hot`."""
    return hot_ffi.cast("sp_pool *", int(ffi.cast("uintptr_t", pool)))


def _no_hint(stage: str, err: int) -> str:
    return ""


_hint_for: Callable[[str, int], str] = _no_hint


def use_hints(hint_for: Callable[[str, int], str]) -> None:
    """Sets the function that finds the hint for a failure, given its stage and its errno.

    The package sets it to `_backend.hints.hint_for`, which looks at this machine. This module must not import it.
    """
    global _hint_for  # noqa: PLW0603  # set once, at import
    _hint_for = hint_for


def new_error() -> Any:
    """An empty `sp_error *`, which a call fills."""
    return ffi.new("sp_error *")


def check(code: int, pool: Any = None, error: Any = None, command: str = "", hint: str = "") -> int:
    """Returns `code` if it is a success (>= 0), and raises the exception that it stands for if it is not.

    `pool` is the `sp_pool *` of the call, `error` the `sp_error *` that it filled, `command` the name of the command
    that was to be executed, `hint` what would help if it is missing; each is needed only for the exceptions that
    mention it.
    """
    if code >= 0:
        return code
    raise _exception(code, pool, error, command, hint)


def check_open(error: Any, launcher: Any) -> None:
    """Raises the exception of an `sp_error *` that a pool has filled which could not be opened over the launcher."""
    if error.code == lib.SP_E_CREATE:
        raise _create_error(error, lib.sp_launcher_diagnostics, launcher)
    check(error.code or lib.SP_E_INVAL, error=error)


def _exception(code: int, pool: Any, error: Any, command: str, hint: str) -> Exception:
    if code == lib.SP_E_CREATE:
        return _create_error(error, lib.sp_pool_diagnostics, pool)
    if code == lib.SP_E_NOT_FOUND:
        return CommandNotFoundError(error.err, command or text_of(error.detail), hint)
    if code == lib.SP_E_EXEC:
        return _exec_error(error, command, hint)
    if code == lib.SP_E_FORKED:
        return _forked_error(pool)
    if code == lib.SP_E_CLOSED and pool is not None and lib.sp_pool_descriptors_lost(pool):
        return PoolStateError(f"descriptors of the pool {_CLOSED_ELSEWHERE}: close it and open another one")
    plain: dict[int, Exception] = {
        lib.SP_E_CLOSED: PoolStateError(),
        lib.SP_E_DESCRIPTORS: SandboxLostError(
            f"descriptors of the sandbox {_CLOSED_ELSEWHERE}: it is lost, and the outcome of the command is unknown"
        ),
        lib.SP_E_RELEASED: SandboxReleasedError(),
        lib.SP_E_TIMEOUT: AcquireTimeoutError(),
        lib.SP_E_LOST: SandboxLostError(),
        lib.SP_E_UNSUPPORTED: UnsupportedPlatformError(
            "the sandboxes of this system can only execute commands", hint="use execute()"
        ),
        lib.SP_E_NOMEM: MemoryError("the host process is out of memory"),
    }
    return plain.get(code) or SandpoolError(f"internal error {code}: the C core refused an argument; please report it")


def _create_error(error: Any, copy: Callable[..., int], owner: Any) -> SandboxCreateError:
    """`copy` copies the diagnostics of an interpreter of the `owner` that could not start."""
    stage, traceback = stage_name(error.stage), ""
    if stage == "preload" and owner is not None:
        room = ffi.new("char[]", _MAX_DIAGNOSTICS)
        traceback = ffi.unpack(room, copy(owner, room, _MAX_DIAGNOSTICS)).decode("utf-8", "replace").strip()
    return SandboxCreateError(stage, error.err, _hint_for(stage, error.err), text_of(error.detail), traceback)


def _exec_error(error: Any, command: str, hint: str) -> SandboxError:
    stage, detail = stage_name(error.stage), text_of(error.detail)
    what = f"could not start {command!r} in the sandbox: {stage}: {os.strerror(error.err)}"
    # Only a request that could not be sent failed because of a limit of the host, which a hint could name.
    if detail == "request" and error.err != errno.E2BIG:
        hint = _hint_for(stage, error.err)
    return SandboxError(what + (f": {detail!r}" if detail else ""), error.err, stage, hint)


def _forked_error(pool: Any) -> PoolStateError:
    owner = lib.sp_pool_owner_pid(pool) if pool is not None else None
    fix = "open a pool in each process, after the fork (gunicorn --preload: in its post_fork hook)"
    return PoolStateError(f"the pool belongs to process {owner}, this is its child {os.getpid()}: {fix}", owner)


def stage_name(stage: int) -> str:
    """The name of an `enum sp_stage`."""
    return bytes(ffi.string(lib.sp_stage_name(stage))).decode("ascii")


def text_of(chars: Any) -> str:
    """The text of a `char[]` of C. It may hold a path, and so any bytes."""
    return bytes(ffi.string(chars)).decode("utf-8", "replace")
