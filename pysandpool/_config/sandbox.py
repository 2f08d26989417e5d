"""`SandboxConfig`: an immutable, comparable, hashable value that checks itself when it is made."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Union

from pysandpool._config.bind import Bind, check_places, working_directory
from pysandpool._config.bind import binds as _binds
from pysandpool._config.bind import scratch_dirs as _scratch_dirs
from pysandpool._config.environ import frozen_env
from pysandpool._config.fields import (
    Duration,
    flag,
    integer,
    member,
    optional_flag,
    optional_integer,
    optional_seconds,
)
from pysandpool._config.interpreter import Interpreter, interpreter_of
from pysandpool._config.paths import (
    check_binds,
    check_rootfs,
    optional_path,
    readable_paths,
    rootfs_path,
    writable_paths,
)
from pysandpool._config.seccomp import allowed_calls
from pysandpool._errors import (
    InvalidSandboxConfigError,
    InvalidSandboxConfigTypeError,
    refuse_sandbox_field,
)

StrPath = Union[str, "os.PathLike[str]"]

MAX_MIB = 1 << 24
MAX_PROCESSES = 1 << 22
MAX_OUTPUT_BYTES = 1 << 40
MAX_UINT32 = 2**32 - 1
_NETWORKS = 'None, "none", "loopback" or "host"'
DEFAULT_OUTPUT_BYTES = 4 * 1024 * 1024


def processes_for(processors: int) -> int:
    """The default of `max_processes`. Libraries start several threads for each processor: Polars starts 166 for 64."""
    return 192 + 4 * processors


DEFAULT_PROCESSES = processes_for(os.cpu_count() or 1)


class SeccompProfile(enum.Enum):
    """Which system calls a command may make."""

    ESSENTIAL = "essential"
    """What ordinary programs need, without inet sockets."""
    NETWORK = "network"
    """The same with inet sockets."""


class NamespaceDegradation(enum.Enum):
    """What happens if the kernel refuses a part of the isolation that the configuration asks for."""

    FAIL_CLOSED = "fail_closed"
    """No sandbox is created: `SandboxCreateError`."""
    ALLOW_DEGRADATION = "allow_degradation"
    """The sandbox is created without that part, if SECURITY.md lists the part as dispensable. `isolation` reports
    what is left."""


# The string below a field is the reference of that field: what it does, its unit, and what it costs. The range is the
# one that the error for a wrong value names. docs/configuration.md is generated from both.
@dataclass(frozen=True, init=False)
class SandboxConfig:
    """What a sandbox is allowed to do and to use. For a limit, None means unlimited.

    A configuration is an immutable value, which can be compared, hashed and pickled. Whether the paths of `fs_*` exist
    is checked when a sandbox is created, not here.

    Raises:
        InvalidSandboxConfigError: a field has a value outside its range. The error is a ValueError, and for a value of
            the wrong type a TypeError as well. It names the field, the value and the range.
    """

    fs_readonly: tuple[str, ...]
    """Host paths that are visible inside at the same place, read-only. Of nested paths the longest matching path wins,
    also below a path of `fs_readwrite`. Both fields together can have 4,096 paths.

    Cost: each path adds 1 to 3 µs to the creation of a sandbox, and about 6 µs if it lies below /tmp."""
    fs_readwrite: tuple[str, ...]
    """Host paths that are visible inside at the same place, writable. Directories of the system are refused. Files with
    a set-id bit or a file capability stay read-only, and each counts as a path.

    Cost: as for `fs_readonly`. Opening a pool also searches the whole trees for such files."""
    binds: tuple[Bind, ...]
    """Paths of the host at other places: `Bind(src, dst, readonly=True)`. Of nested places the longest one wins. They
    count as paths of `fs_readonly` and `fs_readwrite`.

    Cost: as for these."""
    scratch_dirs: tuple[str, ...]
    """More private, empty, writable directories, such as "/workspace" and "/var/tmp". `scratch_size_mb` bounds them
    together with /tmp. At most 64, none below /tmp. In a `rootfs` or a path of the host, the directory must exist.

    Cost: each adds about 7 µs to the creation of a sandbox."""
    workdir: str | None
    """The working directory of commands that name none, and what a relative `cwd` is relative to. None: /tmp.

    Cost: if it does not exist inside, each command fails with ENOENT."""
    fs_python: bool
    """True: the Python that runs this process is visible inside, read-only: `sys.prefix`, `sys.base_prefix`, and the
    directories to which their interpreters link. PATH begins with the `bin` of `sys.prefix`, so that "python" is the
    same interpreter with the same packages. Directories that a package adds to `sys.path` by itself, such as the
    sources of an editable installation, have to be named in `fs_readonly`.

    Cost: each directory is a path of `fs_readonly`. A tenant can read all installed packages."""
    rootfs: str | None
    """A directory tree that becomes the root, read-only, in place of the host's programs and libraries. It must contain
    the directories /proc, /tmp and /dev, and those at which paths of `fs_*` are shown."""
    deny_network: bool
    """True: the sandbox has an empty network namespace. False: it uses the host's, which needs
    `SeccompProfile.NETWORK`.

    Cost: with False a command reaches whatever the host reaches."""
    network: str | None
    """"none" and "host" say in words what `deny_network` says; None leaves it to that field. "loopback" gives the
    sandbox a network namespace of its own, whose only interface is lo, and allows inet sockets with either profile.
    With "loopback" and "host" a command can list the interfaces, but not change them.

    Cost: "loopback" adds about 0.4 ms to the creation of a sandbox, because no namespace is used twice."""
    memory_limit_mb: int | None
    """MiB of memory of the whole sandbox, files in its scratch included. Only memory that was written or read counts,
    not what was merely reserved. A command that goes above the limit is killed, and its result has `oom_killed`. In a
    cgroup the kernel enforces the sum. Without one, the sandbox's init measures the sum, and kills the command after
    that: until then it can have more.

    Cost: without a cgroup, measuring takes between 0.1 and 5 percent of a CPU while a command runs."""
    data_limit_mb: int | None
    """MiB of private memory that each process may reserve (RLIMIT_DATA): above that, `malloc` and `mmap` fail inside,
    and the program can handle it. It does not replace `memory_limit_mb`, which limits the sum.

    Cost: programs that reserve much more than they use, such as Java, sbcl, Go and sanitizers, do not start."""
    max_processes: int | None
    """The largest number of processes and threads at a time. The default grows with the processors of the host, because
    many programs start threads for each of them: it is 192, and 4 more for each processor."""
    cpu_quota_us: int | None
    """Microseconds of CPU time in each `cpu_period_us`. Only a cgroup can enforce it. Without one, creation fails, or
    with `NamespaceDegradation.ALLOW_DEGRADATION` the quota is ignored."""
    cpu_period_us: int
    """The period of `cpu_quota_us` in microseconds."""
    cgroup_parent: str | None
    """A directory of cgroup v2 in which this process may create cgroups. None: the delegated cgroup that this process
    is in, if there is one.

    Cost: one cgroup is created and removed for each sandbox."""
    timeout_secs: float | None
    """Seconds of wall clock time that one `execute()` may take, unless the call passes `timeout`."""
    seccomp_profile: SeccompProfile
    """Which system calls a command may make."""
    seccomp_allow: tuple[str, ...]
    """Names of system calls that the profile refuses and that a command may make all the same. A call that would break
    a promise of SECURITY.md cannot be named.

    Cost: `isolation.seccomp` is "partial", and some of the calls have a price of their own."""
    allow_fork: bool
    """False: a command may start threads, but no processes."""
    allow_unix_sockets: bool | None
    """Whether a command may create AF_UNIX sockets, as multiprocessing's forkserver and Manager do. None: it may where
    the sandbox shows no path of the host but those of the system (no `fs_*`, no `rootfs`), and where it can reach no
    abstract socket of the host. On macOS, None means False. Connected pairs, as of `socketpair()`, are always there.

    Cost: with True such a socket reaches every socket file in a host path that the sandbox is shown."""
    namespace_degradation: NamespaceDegradation
    """What happens if the kernel refuses a part of the isolation that this configuration asks for.

    Cost: with `ALLOW_DEGRADATION` a sandbox may have less isolation than was asked for. `isolation` reports it."""
    env_vars: Mapping[str, str | None]
    """Variables for every command, in addition to PATH, HOME, LANG, LC_CTYPE and TMPDIR, or in their place. The value
    None removes a variable.

    Cost: LANG with a UTF-8 locale delays a small program such as /bin/echo by 56 to 97 µs, in which libc opens the
    files of the locale."""
    scratch_size_mb: int | None
    """MiB of /tmp and /dev/shm together; also the largest size of one file.

    Cost: what is written there counts as memory of the sandbox."""
    max_output_bytes: int | None
    """Bytes that are kept of stdout, and as many of stderr. Further output is read and dropped.

    Cost: the host process needs that much memory for each of the two streams of a running command."""
    interpreter: Interpreter | None
    """The Python that `run_code` and `session` use. It is started once for all sandboxes, with what it preloads, and
    each sandbox has a copy that waits. None: there is none.

    Cost: opening the pool takes as long as its imports, and each idle sandbox about 2 MB more."""

    def __init__(  # noqa: PLR0913 - one keyword per field
        self,
        *,
        fs_readonly: Iterable[StrPath] = (),
        fs_readwrite: Iterable[StrPath] = (),
        binds: Iterable[Bind] = (),
        scratch_dirs: Iterable[StrPath] = (),
        workdir: StrPath | None = None,
        fs_python: bool = False,
        rootfs: StrPath | None = None,
        deny_network: bool = True,
        network: str | None = None,
        memory_limit_mb: int | None = 512,
        data_limit_mb: int | None = None,
        max_processes: int | None = DEFAULT_PROCESSES,
        cpu_quota_us: int | None = None,
        cpu_period_us: int = 100_000,
        cgroup_parent: StrPath | None = None,
        timeout_secs: Duration | None = 30.0,
        seccomp_profile: SeccompProfile = SeccompProfile.ESSENTIAL,
        seccomp_allow: Iterable[str] = (),
        allow_fork: bool = True,
        allow_unix_sockets: bool | None = None,
        namespace_degradation: NamespaceDegradation = NamespaceDegradation.FAIL_CLOSED,
        env_vars: Mapping[str, str | None] | None = None,
        scratch_size_mb: int | None = 64,
        max_output_bytes: int | None = DEFAULT_OUTPUT_BYTES,
        interpreter: Interpreter | None = None,
    ) -> None:
        no = refuse_sandbox_field
        self._set(
            fs_readonly=readable_paths(no, "fs_readonly", fs_readonly),
            fs_readwrite=writable_paths(no, "fs_readwrite", fs_readwrite),
            binds=_binds(no, "binds", binds),
            scratch_dirs=_scratch_dirs(no, "scratch_dirs", scratch_dirs),
            workdir=working_directory(no, "workdir", workdir),
            fs_python=flag(no, "fs_python", fs_python),
            rootfs=rootfs_path(no, "rootfs", rootfs),
            deny_network=flag(no, "deny_network", deny_network),
            network=_network(network),
            memory_limit_mb=optional_integer(no, "memory_limit_mb", memory_limit_mb, 1, MAX_MIB),
            data_limit_mb=optional_integer(no, "data_limit_mb", data_limit_mb, 1, MAX_MIB),
            max_processes=optional_integer(no, "max_processes", max_processes, 1, MAX_PROCESSES),
            cpu_quota_us=optional_integer(no, "cpu_quota_us", cpu_quota_us, 1_000, MAX_UINT32),
            cpu_period_us=integer(no, "cpu_period_us", cpu_period_us, 1_000, 1_000_000),
            cgroup_parent=optional_path(no, "cgroup_parent", cgroup_parent),
            timeout_secs=optional_seconds(no, "timeout_secs", timeout_secs),
            seccomp_profile=member(no, "seccomp_profile", seccomp_profile, SeccompProfile),
            seccomp_allow=allowed_calls(no, "seccomp_allow", seccomp_allow),
            allow_fork=flag(no, "allow_fork", allow_fork),
            allow_unix_sockets=optional_flag(no, "allow_unix_sockets", allow_unix_sockets),
            namespace_degradation=member(no, "namespace_degradation", namespace_degradation, NamespaceDegradation),
            env_vars=frozen_env(no, "env_vars", env_vars),
            scratch_size_mb=optional_integer(no, "scratch_size_mb", scratch_size_mb, 1, MAX_MIB),
            max_output_bytes=optional_integer(no, "max_output_bytes", max_output_bytes, 0, MAX_OUTPUT_BYTES),
            interpreter=interpreter_of(no, "interpreter", interpreter),
        )
        self._check_together()

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _check_together(self) -> None:
        self._check_network()
        if self.fs_python and self.rootfs is not None:
            raise InvalidSandboxConfigError(
                "fs_python", True, "False together with rootfs, which has a Python of its own"
            )
        written = tuple(bind.src for bind in self.binds if not bind.readonly)
        check_rootfs(refuse_sandbox_field, self.rootfs, (*self.fs_readwrite, *written))
        check_binds(refuse_sandbox_field, self.fs_readonly, self.fs_readwrite, self.binds)
        check_places(refuse_sandbox_field, (*self.fs_readonly, *self.fs_readwrite), self.binds, self.scratch_dirs)

    def _check_network(self) -> None:
        inet = self.seccomp_profile is SeccompProfile.NETWORK
        profile = "seccomp_profile=SeccompProfile.NETWORK"
        if self.network == "host" and (self.deny_network or not inet):
            allowed = f'"host" only together with deny_network=False and {profile}; "loopback" and "none" need neither'
            raise InvalidSandboxConfigError("network", "host", allowed)
        if self.network in ("none", "loopback") and not self.deny_network:
            raise InvalidSandboxConfigError("network", self.network, '"none" or "loopback" with deny_network=True')
        if not self.deny_network and not inet:
            raise InvalidSandboxConfigError("deny_network", False, f"False only together with {profile}")


def _network(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidSandboxConfigTypeError("network", value, _NETWORKS)
    if value not in (None, "none", "loopback", "host"):
        raise InvalidSandboxConfigError("network", value, _NETWORKS)
    return value
