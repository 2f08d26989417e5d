"""Opens the launcher of macOS: one agent for each sandbox, which Seatbelt confines from its first instruction.

`open_agents` also runs on other systems, with a substitute for `sandbox-exec`, so that it can be tested there.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from pysandpool._backend.hints import hint_for
from pysandpool._backend.seatbelt import seatbelt_profile
from pysandpool._config.sandbox import SandboxConfig
from pysandpool._errors import SandboxCreateError
from pysandpool._ffi import PROGRAMS, check, ffi, lib, new_error

SANDBOX_EXEC = "/usr/bin/sandbox-exec"
_PROGRAM = PROGRAMS / "sandpool-agent"
_MIB = 1024 * 1024


def open_agents(
    config: SandboxConfig, sandbox_exec: str = SANDBOX_EXEC, program: str | None = None, *, confines: bool = True
) -> Any:
    """A new `sp_launcher *`, which the caller owns. Raises `SandboxCreateError`. No process is started yet.

    `confines=False` is for tests whose substitute for `sandbox-exec` confines nothing: then no proof is demanded.
    """
    agent = os.path.realpath(program or _PROGRAM)
    for path in (sandbox_exec, agent):
        if not os.access(path, os.X_OK):
            raise SandboxCreateError("spawn_zygote", errno.ENOENT, hint_for("spawn_zygote", errno.ENOENT), path)
    if is_confined():
        raise SandboxCreateError("seatbelt", errno.EPERM, hint_for("seatbelt", errno.EPERM))
    profile = seatbelt_profile(resolved(config), agent)
    # Seatbelt resolves symbolic links before it compares paths, and /tmp is one.
    parent = os.path.realpath(tempfile.gettempdir())
    words = [ffi.new("char[]", os.fsencode(word)) for word in (sandbox_exec, profile, agent, parent)]
    options = ffi.new("sp_agent_options *", {"size": ffi.sizeof("sp_agent_options")})
    options.sandbox_exec, options.profile, options.program, options.scratch_parent = words
    options.network = lib.SP_NET_NONE if config.deny_network else lib.SP_NET_HOST
    options.unproved = not confines
    limits = [limit for limit in (config.memory_limit_mb, config.data_limit_mb) if limit is not None]
    options.memory_bytes = min(limits, default=0) * _MIB
    options.scratch_bytes = (config.scratch_size_mb or 0) * _MIB
    error = new_error()
    launcher = lib.sp_agents_open(options, error)
    if launcher == ffi.NULL:
        check(error.code or lib.SP_E_INVAL, error=error)
    return launcher


def is_confined() -> bool:
    """Whether Seatbelt confines this process; False if the system cannot say."""
    if os.uname().sysname != "Darwin":
        return False
    try:
        import ctypes  # not for Linux: it takes milliseconds, and some builds of Python lack it

        return bool(ctypes.CDLL(None).sandbox_check(os.getpid(), None, 0))
    except AttributeError:
        return False


def resolved(config: SandboxConfig) -> SandboxConfig:
    """`config` with its symbolic links resolved. Raises `SandboxCreateError` for a path that does not exist.

    A bind that stays at its place becomes a part of `fs_readonly` or `fs_readwrite`. Another one is left as it is.
    """
    same = [bind for bind in config.binds if bind.src == bind.dst]
    readonly = (*config.fs_readonly, *(bind.src for bind in same if bind.readonly))
    readwrite = (*config.fs_readwrite, *(bind.src for bind in same if not bind.readonly))
    return dataclasses.replace(
        config,
        fs_readonly=tuple(_real(path) for path in readonly),
        fs_readwrite=tuple(_real(path) for path in readwrite),
        binds=tuple(bind for bind in config.binds if bind.src != bind.dst),
    )


def _real(path: str) -> str:
    try:
        return os.path.realpath(path, strict=True) if sys.version_info >= (3, 10) else str(Path(path).resolve(True))
    except OSError as error:
        err = error.errno or errno.ENOENT
        raise SandboxCreateError("bind", err, hint_for("bind", err), path) from None
