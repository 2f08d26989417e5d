"""Opens the C pool of a configuration, and owns it.

A pool and its leases share one `PoolCore`. The C object lives as long as one of them refers to it.
"""

from __future__ import annotations

import atexit
import itertools
import sys
import weakref
from functools import partial
from typing import Any

from pysandpool._backend.linux import cgroup_parents, open_zygote
from pysandpool._backend.macos import open_agents
from pysandpool._backend.missing import hint_for_missing
from pysandpool._config.sandbox import SandboxConfig
from pysandpool._errors import SandboxCreateError, UnsupportedPlatformError
from pysandpool._execute.encode import encode_command
from pysandpool._execute.run import CommandDefaults
from pysandpool._ffi import as_hot, check_open, ffi, lib, new_error
from pysandpool._pool.limits import PoolLimits
from pysandpool._pool.log import log

_EXIT_CLOSE_NS = 5_000_000_000
_WITHOUT_INTERPRETER = "configure none, and execute() Python with the code as an argument"
_numbers = itertools.count(1)


class PoolCore:
    """One open C pool. It is freed when neither a pool nor a lease refers to this object any more."""

    __slots__ = (
        "__weakref__",
        "closed",
        "config",
        "defaults",
        "freed",
        "hot",
        "number",
        "ptr",
    )

    def __init__(self, ptr: Any, config: SandboxConfig, defaults: CommandDefaults, number: int) -> None:
        self.ptr = ptr
        self.number = number
        self.hot = as_hot(ptr)
        self.closed = False
        # A lease may be finalized after this object: in a garbage cycle the order is arbitrary.
        self.freed = False
        self.config = config
        self.defaults = defaults
        _open_cores[number] = self

    def __del__(self, _free: Any = lib.sp_pool_free, _exiting: Any = sys.is_finalizing) -> None:
        # Exit closes the pool but does not free it, because a daemon thread may still be in a C call on it. Globals of
        # this module may be gone by then; default arguments are not.
        if not _exiting():
            self.freed = True
            _free(self.ptr)

    def close(self, timeout_ns: int) -> None:
        """Ends all leases and idle sandboxes. A second call, or a call in a forked child, changes nothing."""
        self.closed = True
        lib.sp_pool_close(self.ptr, timeout_ns)
        log.drain()


_open_cores: weakref.WeakValueDictionary[int, PoolCore] = weakref.WeakValueDictionary()


@atexit.register
def _close_all() -> None:
    # valuerefs() makes its list in one step; meanwhile daemon threads may open and drop pools.
    for reference in _open_cores.valuerefs():
        core = reference()
        if core is not None:
            core.close(_EXIT_CLOSE_NS)
    log.finish()


def open_core(config: SandboxConfig, limits: PoolLimits, launcher: Any = None) -> PoolCore:
    """Starts a launcher for `config` and opens a pool over it, which creates `limits.min_size` sandboxes.

    With `launcher`, which tests use, that one is used, and the caller keeps its reference. Raises `SandboxCreateError`
    or `UnsupportedPlatformError`; no process and no file is left behind then.
    """
    if launcher is not None:
        return _open_pool(launcher, config, limits)
    if sys.platform == "darwin":
        if config.interpreter is not None:
            raise UnsupportedPlatformError("the sandboxes of macOS have no interpreter", hint=_WITHOUT_INTERPRETER)
        return _open_and_unref(open_agents(config), config, limits)
    if not sys.platform.startswith("linux"):
        raise UnsupportedPlatformError(f"there is no sandbox backend for {sys.platform} in this version")
    environment = CommandDefaults.of(config).environment.encode()
    *preferred, last = cgroup_parents(config)
    for parent in preferred:
        try:
            return _open_and_unref(open_zygote(config, parent, environment), config, limits)
        except SandboxCreateError as error:
            if error.stage != "cgroup":
                raise
    return _open_and_unref(open_zygote(config, last, environment), config, limits)


def _open_and_unref(own: Any, config: SandboxConfig, limits: PoolLimits) -> PoolCore:
    try:
        return _open_pool(own, config, limits)
    finally:
        lib.sp_launcher_unref(own)


def _open_pool(launcher: Any, config: SandboxConfig, limits: PoolLimits) -> PoolCore:
    numbers = limits._asdict()
    del numbers["health_command"]
    defaults = CommandDefaults.of(config)._replace(hint_for_missing=partial(hint_for_missing, config))
    env, envc = defaults.environment.encode()
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
        check_open(error, launcher)
    return PoolCore(ptr, config, defaults, options.number)
