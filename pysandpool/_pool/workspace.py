"""Attaches a `Workspace` to a lease in which nothing has run."""

# ruff: noqa: SLF001 - the leases are new, and nobody else has them yet

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

from pysandpool._backend.hint_texts import OVERLAY
from pysandpool._backend.hints import hint_for
from pysandpool._config.workspace import MODES, Workspace
from pysandpool._errors import SandboxError
from pysandpool._execute.run import CommandDefaults
from pysandpool._ffi import check, ffi, lib, new_error, stage_name, text_of
from pysandpool._pool.lease import PooledSandbox

_AT = "/workspace"
# In a rootfs no link is made.
_MOUNTED_AT = "/mnt/workspace"
# So often another sandbox is tried when one has died, or the directory is replaced just then.
ATTEMPTS = 4
# What the zygote finds if the directory was moved away or replaced after the look at it.
_REPLACED = (errno.ESTALE, errno.ENOENT, errno.ENOTDIR)


class WorkspaceLease(PooledSandbox):
    """A lease whose commands run in its workspace by default."""

    __slots__ = ("_own_defaults",)

    def __init__(self, lease: PooledSandbox) -> None:
        core = lease._core
        super().__init__(core, lease._hot, lease._handle)
        # From here on there are two owners for a moment, which does no harm: the second release changes nothing.
        lease._handle = 0
        self._own_defaults = core.defaults.at(_AT if core.config.rootfs is None else _MOUNTED_AT)

    def _defaults(self) -> CommandDefaults:
        return self._own_defaults


def lease_with_workspace(acquire: Callable[[], PooledSandbox], workspace: Workspace) -> PooledSandbox:
    """A lease of `acquire` with the workspace attached.

    Raises FileNotFoundError, NotADirectoryError or PermissionError for what this process finds at the path, and
    `SandboxError` if the directory cannot be attached. No lease is left behind then.
    """
    for attempt in range(1, ATTEMPTS + 1):
        found = find(workspace)
        lease = acquire()
        try:
            if attach(lease, workspace, found, may_try_again=attempt < ATTEMPTS):
                return WorkspaceLease(lease)
        except BaseException:
            lease.release()
            raise
        lease.release()
    raise AssertionError("the last attempt returns a lease or raises")


def find(workspace: Workspace) -> os.stat_result:
    """Looks at the directory. Raises FileNotFoundError, NotADirectoryError or PermissionError."""
    found = os.stat(workspace.path)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), workspace.path)
    return found


def attach(lease: PooledSandbox, workspace: Workspace, found: os.stat_result, may_try_again: bool) -> bool:
    """Attaches the directory that was `found` to the lease. False: another lease may have better luck."""
    core = lease._core
    path = ffi.new("char[]", os.fsencode(workspace.path))
    spec = ffi.new("sp_workspace *", {"size": ffi.sizeof("sp_workspace"), "mode": MODES.index(workspace.mode) + 1})
    spec.path, spec.device, spec.inode = path, found.st_dev, found.st_ino
    error = new_error()
    code = lib.sp_workspace_attach(core.ptr, lease._live_handle(), spec, error)
    if code == lib.SP_OK:
        return True
    replaced = code == lib.SP_E_EXEC and error.err in _REPLACED
    if may_try_again and (code == lib.SP_E_LOST or replaced):
        return False
    if replaced:
        find(workspace)  # Python's own exception, if the directory is gone
    if code == lib.SP_E_EXEC:
        raise _refusal(workspace, error)
    check(code, core.ptr, error)
    raise AssertionError("an error has a code")


def _refusal(workspace: Workspace, error: Any) -> SandboxError:
    stage, detail = stage_name(error.stage), text_of(error.detail)
    hint = OVERLAY if detail == "overlay" else hint_for("tier" if stage == "tier" else "workspace", error.err)
    what = f"could not attach the workspace {workspace.path!r} ({workspace.mode}): {os.strerror(error.err)}"
    return SandboxError(what, error.err, stage, hint)
