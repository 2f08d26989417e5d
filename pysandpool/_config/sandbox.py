"""`SandboxConfig`: an immutable, comparable, hashable value that checks itself when it is made."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Union

from pysandpool._config.environ import frozen_env
from pysandpool._config.fields import (
    Duration,
    flag,
    integer,
    member,
    optional_integer,
    optional_seconds,
)
from pysandpool._config.paths import check_binds, check_rootfs, optional_path, readable_paths, writable_paths
from pysandpool._config.seccomp import allowed_calls
from pysandpool._errors import (
    InvalidSandboxConfigError,
    InvalidSandboxConfigTypeError,
)

StrPath = Union[str, "os.PathLike[str]"]

MAX_MIB = 1 << 24
MAX_PROCESSES = 1 << 22
MAX_OUTPUT_BYTES = 1 << 40
MAX_UINT32 = 2**32 - 1
_NETWORKS = 'None, "none", "loopback" or "host"'
DEFAULT_OUTPUT_BYTES = 4 * 1024 * 1024


class SeccompProfile(enum.Enum):
    """Which system calls a command may make."""

    ESSENTIAL = "essential"
    """no sockets but `socketpair()`"""
    NETWORK = "network"
    """inet sockets too"""


class NamespaceDegradation(enum.Enum):
    """What happens when the kernel cannot give a part of the isolation that was asked for."""

    FAIL_CLOSED = "fail_closed"
    """no sandbox: `SandboxCreateError`"""
    ALLOW_DEGRADATION = "allow_degradation"
    """a sandbox without it, where it is of use all the same: `isolation` tells what it has, SECURITY.md what may go"""


@dataclass(frozen=True, init=False)
class SandboxConfig:
    """What a sandbox is allowed. Every limit may be None: unlimited.

    Raises `InvalidSandboxConfigError` (a ValueError), naming the field, the value and what is allowed; for a
    value of the wrong type it is a TypeError as well. Whether the `fs_*` paths exist is found out when a
    sandbox is created.
    """

    fs_readonly: tuple[str, ...]
    """host paths seen at the same place, read-only. Of nested paths the longest is in force, also below fs_readwrite.
    There can be 4,096 paths in both fields together"""
    fs_readwrite: tuple[str, ...]
    """host paths seen at the same place, writable; none of the system's. Files in them with a set-id bit or a file
    capability are read-only, and each counts as a path"""
    rootfs: str | None
    """a directory tree as the root, read-only, instead of the host's programs and libraries; it must have the
    directories /proc, /tmp and /dev, and those that `fs_*` paths are seen at"""
    deny_network: bool
    """True: an empty network namespace. False: the host's, which needs `SeccompProfile.NETWORK`"""
    network: str | None
    """None: what `deny_network` says. "none" and "host": the same in words. "loopback": a network namespace of its own,
    with nothing but lo, and inet sockets whatever the profile"""
    memory_limit_mb: int | None
    """MiB of memory of the whole sandbox, its scratch included. One process that asks for more is refused it
    (RLIMIT_DATA); a sum above it ends the command, with `oom_killed`"""
    max_processes: int | None
    """processes and threads at a time"""
    cpu_quota_us: int | None
    """microseconds of cpu per `cpu_period_us`. Only a cgroup enforces it: without one creation fails, or with
    `ALLOW_DEGRADATION` the quota is ignored"""
    cpu_period_us: int
    cgroup_parent: str | None
    """a directory of cgroup v2 that this process may make cgroups in; None: the delegated one that it is in, if any"""
    timeout_secs: float | None
    """wall clock seconds of one execute, when the call names no `timeout`"""
    seccomp_profile: SeccompProfile
    seccomp_allow: tuple[str, ...]
    """system calls that the profile does not allow and this sandbox may make all the same, by name; only such as break
    no promise. README.md lists them"""
    allow_fork: bool
    """False: a command may start threads, but no processes"""
    allow_unix_sockets: bool
    """True: AF_UNIX sockets, which reach any socket file in a bound directory"""
    namespace_degradation: NamespaceDegradation
    env_vars: Mapping[str, str | None]
    """added to PATH, HOME, LANG, LC_CTYPE and TMPDIR; None takes a variable away"""
    scratch_size_mb: int | None
    """MiB of /tmp and /dev/shm; also the largest size of one file"""
    max_output_bytes: int | None
    """bytes kept of stdout, and as many of stderr"""

    def __init__(  # noqa: PLR0913 - one keyword per field
        self,
        *,
        fs_readonly: Iterable[StrPath] = (),
        fs_readwrite: Iterable[StrPath] = (),
        rootfs: StrPath | None = None,
        deny_network: bool = True,
        network: str | None = None,
        memory_limit_mb: int | None = 512,
        max_processes: int | None = 64,
        cpu_quota_us: int | None = None,
        cpu_period_us: int = 100_000,
        cgroup_parent: StrPath | None = None,
        timeout_secs: Duration | None = 30.0,
        seccomp_profile: SeccompProfile = SeccompProfile.ESSENTIAL,
        seccomp_allow: Iterable[str] = (),
        allow_fork: bool = True,
        allow_unix_sockets: bool = False,
        namespace_degradation: NamespaceDegradation = NamespaceDegradation.FAIL_CLOSED,
        env_vars: Mapping[str, str | None] | None = None,
        scratch_size_mb: int | None = 64,
        max_output_bytes: int | None = DEFAULT_OUTPUT_BYTES,
    ) -> None:
        no = _refuse_sandbox
        self._set(
            fs_readonly=readable_paths(no, "fs_readonly", fs_readonly),
            fs_readwrite=writable_paths(no, "fs_readwrite", fs_readwrite),
            rootfs=optional_path(no, "rootfs", rootfs),
            deny_network=flag(no, "deny_network", deny_network),
            network=_network(network),
            memory_limit_mb=optional_integer(no, "memory_limit_mb", memory_limit_mb, 1, MAX_MIB),
            max_processes=optional_integer(no, "max_processes", max_processes, 1, MAX_PROCESSES),
            cpu_quota_us=optional_integer(no, "cpu_quota_us", cpu_quota_us, 1_000, MAX_UINT32),
            cpu_period_us=integer(no, "cpu_period_us", cpu_period_us, 1_000, 1_000_000),
            cgroup_parent=optional_path(no, "cgroup_parent", cgroup_parent),
            timeout_secs=optional_seconds(no, "timeout_secs", timeout_secs),
            seccomp_profile=member(no, "seccomp_profile", seccomp_profile, SeccompProfile),
            seccomp_allow=allowed_calls(no, "seccomp_allow", seccomp_allow),
            allow_fork=flag(no, "allow_fork", allow_fork),
            allow_unix_sockets=flag(no, "allow_unix_sockets", allow_unix_sockets),
            namespace_degradation=member(no, "namespace_degradation", namespace_degradation, NamespaceDegradation),
            env_vars=frozen_env(no, "env_vars", env_vars),
            scratch_size_mb=optional_integer(no, "scratch_size_mb", scratch_size_mb, 1, MAX_MIB),
            max_output_bytes=optional_integer(no, "max_output_bytes", max_output_bytes, 0, MAX_OUTPUT_BYTES),
        )
        self._check_together()

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _check_together(self) -> None:
        if self.network is not None and self.deny_network != (self.network != "host"):
            raise InvalidSandboxConfigError(
                "network", self.network, '"none" or "loopback" with deny_network=True, "host" with deny_network=False'
            )
        if not self.deny_network and self.seccomp_profile is not SeccompProfile.NETWORK:
            raise InvalidSandboxConfigError(
                "deny_network", False, "False only together with seccomp_profile=SeccompProfile.NETWORK"
            )
        check_rootfs(_refuse_sandbox, self.rootfs, self.fs_readwrite)
        check_binds(_refuse_sandbox, self.fs_readonly, self.fs_readwrite)


def _refuse_sandbox(field: str, value: object, allowed: str, wrong_type: bool) -> Exception:
    return (InvalidSandboxConfigTypeError if wrong_type else InvalidSandboxConfigError)(field, value, allowed)


def _network(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidSandboxConfigTypeError("network", value, _NETWORKS)
    if value not in (None, "none", "loopback", "host"):
        raise InvalidSandboxConfigError("network", value, _NETWORKS)
    return value
