"""Opens the launcher of Linux: one zygote for a configuration, which clones a sandbox for each request."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from pysandpool._backend.cgroup import CONTROLLERS, find_parent, new_directory, sweep
from pysandpool._backend.doors import unix_sockets
from pysandpool._backend.hints import hint_for
from pysandpool._backend.interpreter import StemStart
from pysandpool._backend.machine import audit_listener
from pysandpool._backend.python import readonly_paths
from pysandpool._backend.setid import find_covers
from pysandpool._config.sandbox import NamespaceDegradation, SandboxConfig, SeccompProfile
from pysandpool._errors import SandboxCreateError
from pysandpool._ffi import PROGRAMS, UINT32_MAX, check, ffi, lib, new_error

TIER_VARIABLE = "PYSANDPOOL_TIER"
LANDLOCK_VARIABLE = "PYSANDPOOL_LANDLOCK_ABI"
_MIB = 1024 * 1024
# The zygote shows a copy of what is there about processors; the directory itself tells more of the host.
_SHOWN_ALREADY = "/sys/devices/system/cpu"
_SCRATCH_INODES = 16_384
_CONTROLLER_BITS = dict(zip(CONTROLLERS, (lib.SP_CGROUP_MEMORY, lib.SP_CGROUP_PIDS, lib.SP_CGROUP_CPU)))


def cgroup_parents(config: SandboxConfig) -> list[str | None]:
    """The directories to try, in this order, for the launcher's cgroup; None stands for no cgroup at all.

    Removes from the first of them what hosts that were killed have left there. Raises `SandboxCreateError` if there
    is no such directory and the configuration asks for what only a cgroup can enforce.
    """
    may_degrade = _may_degrade(config)
    parent = config.cgroup_parent or find_parent(_wanted_controllers(config))
    if parent is None:
        if config.cpu_quota_us is not None and not may_degrade:
            raise SandboxCreateError("limits", errno.ENOTSUP, hint_for("limits", errno.ENOTSUP), "cpu_quota_us")
        return [None]
    sweep(parent)
    # A directory that was found, not asked for, is dispensable: all limits but the quota can be had without a cgroup.
    dispensable = config.cgroup_parent is None and config.cpu_quota_us is None
    return [parent, None] if may_degrade or dispensable else [parent]


def open_zygote(config: SandboxConfig, cgroup_parent: str | None, environment: tuple[bytes, int]) -> Any:
    """A new `sp_launcher *`, which the caller owns; its cgroup is made in `cgroup_parent`, if that is not None.

    Raises `SandboxCreateError`; no process is left behind then.
    """
    with StemStart(config, environment) as start:
        for last in (False, False, True):
            options, _keep = _sandbox_options(config, cgroup_parent)
            for name, value in start.options().items():
                setattr(options, name, value)
            error = new_error()
            launcher = lib.sp_launcher_open(options, error)
            # ESTALE: a file that was to be covered has been removed or moved since it was found.
            if launcher != ffi.NULL or error.err != errno.ESTALE or last:
                break
        if launcher == ffi.NULL:
            try:
                check(error.code or lib.SP_E_INVAL, error=error)
            except SandboxCreateError as found:
                raise start.explain(found) from None
    return launcher


def zygote_path() -> str:
    """The path of the zygote's program. Raises `SandboxCreateError` if it does not exist or cannot be executed."""
    path = PROGRAMS / "sandpool-zygote"
    if not os.access(path, os.X_OK):
        err = errno.EACCES if path.exists() else errno.ENOENT
        raise SandboxCreateError("spawn_zygote", err, hint_for("spawn_zygote", err), str(path))
    return str(path)


def landlock_abi_max(environ: Mapping[str, str] = os.environ) -> int:
    """The newest Landlock ABI that may be used.

    The variable PYSANDPOOL_LANDLOCK_ABI sets it, as if the kernel were an older one; 0 stands for a kernel without
    Landlock. Raises ValueError if it is not a number.
    """
    text = environ.get(LANDLOCK_VARIABLE, "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{LANDLOCK_VARIABLE} = {text!r} is not allowed; expected: a Landlock ABI, 0, 1, 2, ...")
    return int(text) if text else UINT32_MAX


def lowest_tier(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether sandboxes are to be of the Landlock tier although the kernel may grant namespaces.

    The variable PYSANDPOOL_TIER asks for it, as if the kernel refused them. Raises ValueError for any other value than
    "landlock" or "".
    """
    text = environ.get(TIER_VARIABLE, "")
    if text not in ("", "landlock"):
        raise ValueError(f"{TIER_VARIABLE} = {text!r} is not allowed; expected: landlock")
    return text != ""


def _may_degrade(config: SandboxConfig) -> bool:
    return config.namespace_degradation is NamespaceDegradation.ALLOW_DEGRADATION


def _wanted_controllers(config: SandboxConfig) -> set[str]:
    limits = (config.memory_limit_mb, config.max_processes, config.cpu_quota_us)
    return {name for name, limit in zip(CONTROLLERS, limits) if limit is not None}


_Bind = tuple[bytes, bytes, int, int, int]


def _binds(config: SandboxConfig) -> list[_Bind]:
    """(path inside, source, SP_BIND_*, device, inode) for each bind, a directory before the paths below it."""
    shown = {path: (path, True) for path in readonly_paths(config) if path != _SHOWN_ALREADY}
    shown.update({path: (path, False) for path in config.fs_readwrite})
    shown.update({bind.dst: (bind.src, bind.readonly) for bind in config.binds})
    found = [
        (os.fsencode(dst), os.fsencode(src), 0 if readonly else lib.SP_BIND_WRITABLE, 0, 0)
        for dst, (src, readonly) in shown.items()
    ]
    scratch = [(os.fsencode(path), os.fsencode(path), lib.SP_BIND_SCRATCH, 0, 0) for path in config.scratch_dirs]
    return sorted([*found, *scratch, *_covers(shown)])


def _covers(shown: dict[str, tuple[str, bool]]) -> Iterator[_Bind]:
    """What is covered in the writable binds; `shown`: the source of each place inside, and whether it is read-only."""
    here = {dst for dst, (src, _) in shown.items() if src == dst}
    writable = [dst for dst in shown if not shown[dst][1]]
    same = [dst for dst in writable if dst in here]
    found = [(b"", b"", cover) for cover in find_covers(same, here - set(same))]
    for dst in (dst for dst in writable if dst not in here):
        src = shown[dst][0]
        inner = [src + one[len(dst) :] for one in shown if one.startswith(dst + "/")]
        found += [(os.fsencode(src), os.fsencode(dst), cover) for cover in find_covers([src], inner)]
    for old, new, cover in found:
        path = new + cover.path[len(old) :]
        yield path, path, lib.SP_BIND_COVER, cover.device, cover.inode


class _Strings:
    """C strings, which live as long as this object."""

    def __init__(self) -> None:
        self._kept: list[Any] = []

    def of(self, value: str | bytes | None) -> Any:
        """The `char *` of `value`, NULL for None."""
        if value is None:
            return ffi.NULL
        self._kept.append(ffi.new("char[]", os.fsencode(value)))
        return self._kept[-1]


def _sandbox_options(config: SandboxConfig, cgroup_parent: str | None) -> tuple[Any, tuple[Any, ...]]:
    """The `sp_sandbox_options *`, and the objects that must live as long as it is used."""
    strings = _Strings()
    found = _binds(config)
    binds = ffi.new("sp_bind[]", [(strings.of(path), strings.of(source), *rest) for path, source, *rest in found])
    calls = ffi.new("char *[]", [strings.of(name) for name in config.seccomp_allow])
    options = ffi.new(
        "sp_sandbox_options *",
        {
            "size": ffi.sizeof("sp_sandbox_options"),
            "zygote_path": strings.of(zygote_path()),
            "rootfs": strings.of(config.rootfs),
            "binds": binds,
            "n_binds": len(binds),
            "allow_unix_sockets": unix_sockets(
                config, shows_paths=len(binds) > len(config.scratch_dirs) or config.rootfs is not None
            ),
            "seccomp_allow": calls,
            "n_seccomp_allow": len(calls),
            "lease_parent": strings.of(_lease_parent()),
            "tier": lib.SP_TIER_LANDLOCK if lowest_tier() else lib.SP_TIER_BEST,
            "cgroup_dir": strings.of(None if cgroup_parent is None else new_directory(cgroup_parent)),
            **_isolation(config),
            **_limits(config),
        },
    )
    return options, (strings, binds, calls)


def _lease_parent() -> str:
    """Where the Landlock tier makes the directories of its leases. Only that tier needs to write there."""
    try:
        return os.path.realpath(tempfile.gettempdir())
    except OSError:  # no directory is writable, or no descriptor is free
        return "/tmp"


def _isolation(config: SandboxConfig) -> dict[str, Any]:
    loopback = config.network == "loopback"
    inet = loopback or config.seccomp_profile is SeccompProfile.NETWORK
    return {
        "network": lib.SP_NET_LOOPBACK if loopback else lib.SP_NET_NONE if config.deny_network else lib.SP_NET_HOST,
        "seccomp_profile": lib.SP_SECCOMP_NETWORK if inet else lib.SP_SECCOMP_ESSENTIAL,
        "allow_fork": config.allow_fork,
        "landlock_abi_max": landlock_abi_max(),
        "allow_degradation": _may_degrade(config),
        # A filter of a tenant could log to the host's audit log, as fast as the tenant makes system calls.
        "refuse_filters": audit_listener() is True,
    }


def _limits(config: SandboxConfig) -> dict[str, Any]:
    required = set() if _may_degrade(config) else _wanted_controllers(config)
    return {
        "memory_bytes": (config.memory_limit_mb or 0) * _MIB,
        "data_bytes": (config.data_limit_mb or 0) * _MIB,
        "max_processes": config.max_processes or 0,
        "scratch_bytes": (config.scratch_size_mb or 0) * _MIB,
        "scratch_inodes": _SCRATCH_INODES,
        "cgroup_required": sum(_CONTROLLER_BITS[name] for name in required),
        "cpu_quota_us": config.cpu_quota_us or 0,
        "cpu_period_us": config.cpu_period_us,
    }
