"""Opens the C pool of a configuration, and owns it.

`PoolCore` is what a pool and its leases share: the C object lives as long as any of them refers to it.
"""

from __future__ import annotations

import atexit
import errno
import itertools
import os
import sys
import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple

from pysandpool._backend.cgroup import CONTROLLERS, find_parent, new_directory, sweep
from pysandpool._backend.hints import hint_for
from pysandpool._backend.machine import audit_listener
from pysandpool._backend.macos import open_agents
from pysandpool._backend.setid import find_covers
from pysandpool._config.duration import to_nanoseconds
from pysandpool._config.pool import TRUE, PoolConfig
from pysandpool._config.sandbox import NamespaceDegradation, SandboxConfig, SeccompProfile
from pysandpool._errors import SandboxCreateError, UnsupportedPlatformError
from pysandpool._execute.encode import Environment, encode_command
from pysandpool._ffi import UINT32_MAX, UNLIMITED_BYTES, as_hot, check, ffi, lib, new_error, zygote_path
from pysandpool._pool.log import log

LANDLOCK_VARIABLE = "PYSANDPOOL_LANDLOCK_ABI"
_MIB = 1024 * 1024
_SCRATCH_INODES = 16_384
_CONTROLLER_BITS = dict(zip(CONTROLLERS, (lib.SP_CGROUP_MEMORY, lib.SP_CGROUP_PIDS, lib.SP_CGROUP_CPU)))
_EXIT_CLOSE_NS = 5_000_000_000
_numbers = itertools.count(1)


class PoolLimits(NamedTuple):
    """What `sp_pool_options` is made of; by default a pool that keeps nothing and creates every lease anew."""

    min_size: int = 0
    max_size: int = 0
    max_in_use: int = 0
    max_idle_ns: int = 0
    health_check_interval: int = 0
    health_timeout_ns: int = 0
    refill_concurrency: int = 0
    health_command: tuple[str, ...] = (TRUE,)

    @classmethod
    def of(cls, config: PoolConfig) -> PoolLimits:
        """The limits that `config` stands for."""
        idle = config.max_idle_duration
        return cls(
            config.min_size,
            config.max_size,
            config.max_in_use or 0,
            0 if idle is None else to_nanoseconds(idle),
            config.health_check_interval or 0,
            to_nanoseconds(config.health_check_timeout),
            config.refill_concurrency,
            config.health_check_command,
        )


class PoolCore:
    """One open C pool, freed when neither a pool nor a lease refers to this object any more."""

    __slots__ = (
        "__weakref__",
        "closed",
        "config",
        "environment",
        "freed",
        "hot",
        "max_output_bytes",
        "number",
        "ptr",
        "timeout_ns",
    )

    def __init__(self, ptr: Any, config: SandboxConfig, environment: Environment, number: int) -> None:
        self.ptr = ptr
        self.number = number
        self.hot = as_hot(ptr)
        self.closed = False
        # For leases that are finalized after this object: in a cycle of garbage any order is possible.
        self.freed = False
        self.config = config
        self.environment = environment
        self.timeout_ns = to_nanoseconds(config.timeout_secs)
        self.max_output_bytes = UNLIMITED_BYTES if config.max_output_bytes is None else config.max_output_bytes
        _open_cores[number] = self

    def __del__(self, _free: Any = lib.sp_pool_free, _exiting: Any = sys.is_finalizing) -> None:
        # Not at exit: a daemon thread may still be inside a C call on this pool, so that exit closes and never frees.
        # Names of this module may be gone by then, arguments are not.
        if not _exiting():
            self.freed = True
            _free(self.ptr)

    def close(self, timeout_ns: int) -> None:
        """Ends leases and entries. A second call, or one in a forked child, changes nothing."""
        self.closed = True
        lib.sp_pool_close(self.ptr, timeout_ns)
        log.drain()


_open_cores: weakref.WeakValueDictionary[int, PoolCore] = weakref.WeakValueDictionary()


@atexit.register
def _close_all() -> None:
    # A list of references is made in one step: daemon threads may open and drop pools meanwhile.
    for reference in _open_cores.valuerefs():
        core = reference()
        if core is not None:
            core.close(_EXIT_CLOSE_NS)
    log.finish()


def open_core(config: SandboxConfig, limits: PoolLimits, launcher: Any = None) -> PoolCore:
    """Starts a zygote for `config` and a pool over it, warmed to `limits.min_size`.

    `launcher` (tests) is used instead of a zygote, and stays the caller's. Raises `SandboxCreateError`, or
    `UnsupportedPlatformError`; nothing is left behind then.
    """
    if launcher is not None:
        return _open_pool(launcher, config, limits)
    if sys.platform == "darwin":
        return _open_and_unref(open_agents(config), config, limits)
    if not sys.platform.startswith("linux"):
        raise UnsupportedPlatformError(f"there is no sandbox backend for {sys.platform} in this version")
    may_degrade = _may_degrade(config)
    parent = config.cgroup_parent or find_parent(_wanted_controllers(config))
    if parent is None:
        if config.cpu_quota_us is not None and not may_degrade:
            raise SandboxCreateError("limits", errno.ENOTSUP, hint_for("limits", errno.ENOTSUP), "cpu_quota_us")
        return _open_own(config, limits)
    sweep(parent)
    try:
        return _open_own(config, limits, parent)
    except SandboxCreateError as error:
        # Found, not asked for: what the limits need can be had without it, all but the quota.
        dispensable = config.cgroup_parent is None and config.cpu_quota_us is None
        if error.stage != "cgroup" or not (may_degrade or dispensable):
            raise
    return _open_own(config, limits)


def _open_own(config: SandboxConfig, limits: PoolLimits, cgroup_parent: str | None = None) -> PoolCore:
    return _open_and_unref(_open_launcher(config, cgroup_parent), config, limits)


def _open_and_unref(own: Any, config: SandboxConfig, limits: PoolLimits) -> PoolCore:
    try:
        return _open_pool(own, config, limits)
    finally:
        lib.sp_launcher_unref(own)


def _may_degrade(config: SandboxConfig) -> bool:
    return config.namespace_degradation is NamespaceDegradation.ALLOW_DEGRADATION


def landlock_abi_max(environ: Mapping[str, str] = os.environ) -> int:
    """The newest Landlock ABI to use.

    PYSANDPOOL_LANDLOCK_ABI, where it is set, makes the kernel look like an older one; 0: one without Landlock.
    Raises ValueError for what is no number.
    """
    text = environ.get(LANDLOCK_VARIABLE, "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{LANDLOCK_VARIABLE} = {text!r} is not allowed: a Landlock ABI, 0, 1, 2, ...")
    return int(text) if text else UINT32_MAX


def _wanted_controllers(config: SandboxConfig) -> set[str]:
    limits = (config.memory_limit_mb, config.max_processes, config.cpu_quota_us)
    return {name for name, limit in zip(CONTROLLERS, limits) if limit is not None}


def _open_launcher(config: SandboxConfig, cgroup_parent: str | None) -> Any:
    for last in (False, False, True):
        options, _keep = _sandbox_options(config, cgroup_parent)
        error = new_error()
        launcher = lib.sp_launcher_open(options, error)
        # ESTALE: what was to be covered has gone or was moved since it was found.
        if launcher != ffi.NULL or error.err != errno.ESTALE or last:
            break
    if launcher == ffi.NULL:
        check(error.code or lib.SP_E_INVAL, error=error)
    return launcher


def _binds(config: SandboxConfig) -> list[tuple[bytes, int, int, int]]:
    """{path, SP_BIND_*, device, inode}: a directory comes before what is in it, so that what is in it lies on top."""
    flags = dict.fromkeys(map(os.fsencode, config.fs_readonly), 0)
    flags.update(dict.fromkeys(map(os.fsencode, config.fs_readwrite), lib.SP_BIND_WRITABLE))
    covers = find_covers(config.fs_readwrite, config.fs_readonly)
    return sorted(
        [
            *((path, flag, 0, 0) for path, flag in flags.items()),
            *((cover.path, lib.SP_BIND_COVER, cover.device, cover.inode) for cover in covers),
        ]
    )


def _sandbox_options(config: SandboxConfig, cgroup_parent: str | None) -> tuple[Any, list[Any]]:
    """The struct, and what must stay alive as long as it is used."""
    keep: list[Any] = []

    def text(value: str | bytes) -> Any:
        keep.append(ffi.new("char[]", os.fsencode(value)))
        return keep[-1]

    binds = [(text(path), *rest) for path, *rest in _binds(config)]
    bind_array = ffi.new("sp_bind[]", binds)
    keep.append(bind_array)
    calls = ffi.new("char *[]", [text(name) for name in config.seccomp_allow])
    keep.append(calls)
    wanted = _wanted_controllers(config)
    loopback = config.network == "loopback"
    network = lib.SP_NET_LOOPBACK if loopback else lib.SP_NET_NONE if config.deny_network else lib.SP_NET_HOST
    inet = loopback or config.seccomp_profile is SeccompProfile.NETWORK
    options = ffi.new(
        "sp_sandbox_options *",
        {
            "size": ffi.sizeof("sp_sandbox_options"),
            "network": network,
            "zygote_path": text(zygote_path()),
            "binds": bind_array,
            "n_binds": len(binds),
            "seccomp_profile": lib.SP_SECCOMP_NETWORK if inet else lib.SP_SECCOMP_ESSENTIAL,
            "memory_bytes": (config.memory_limit_mb or 0) * _MIB,
            "max_processes": config.max_processes or 0,
            "scratch_bytes": (config.scratch_size_mb or 0) * _MIB,
            "scratch_inodes": _SCRATCH_INODES,
            "allow_fork": config.allow_fork,
            "allow_unix_sockets": config.allow_unix_sockets,
            "landlock_abi_max": landlock_abi_max(),
            "rootfs": ffi.NULL if config.rootfs is None else text(config.rootfs),
            "cgroup_dir": ffi.NULL if cgroup_parent is None else text(new_directory(cgroup_parent)),
            "cgroup_required": 0 if _may_degrade(config) else sum(_CONTROLLER_BITS[name] for name in wanted),
            "cpu_quota_us": config.cpu_quota_us or 0,
            "cpu_period_us": config.cpu_period_us,
            "allow_degradation": _may_degrade(config),
            "seccomp_allow": calls,
            "n_seccomp_allow": len(config.seccomp_allow),
            # What a filter says is to be logged would fill the host's audit trail, at the tenant's speed.
            "refuse_filters": audit_listener() is True,
        },
    )
    return options, keep


def _open_pool(launcher: Any, config: SandboxConfig, limits: PoolLimits) -> PoolCore:
    numbers = limits._asdict()
    del numbers["health_command"]
    environment = Environment(config.env_vars)
    env, envc = environment.encode()
    argv, argc = encode_command(limits.health_command)
    health_argv, health_env = ffi.from_buffer("char[]", argv), ffi.from_buffer("char[]", env)
    options = ffi.new(
        "sp_pool_options *",
        {
            "size": ffi.sizeof("sp_pool_options"),
            **numbers,
            "health_argc": argc,
            "health_argv": health_argv,
            "health_argv_len": len(argv),
            "health_env": health_env,
            "health_env_len": len(env),
            "health_envc": envc,
        },
    )
    error = new_error()
    options.number = next(_numbers)
    options.events = events = log.enter()
    try:
        ptr = lib.sp_pool_open(launcher, options, error)
    finally:
        log.leave(events)
    if ptr == ffi.NULL:
        check(error.code or lib.SP_E_INVAL, error=error)
    return PoolCore(ptr, config, environment, options.number)
