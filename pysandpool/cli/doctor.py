"""What a sandbox is worth here: makes one, and says what was proved of it, what is missing, and what brings that."""

from __future__ import annotations

import dataclasses
import errno
import os
import platform
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from pysandpool._backend import hints as _hints
from pysandpool._backend.cgroup import CONTROLLERS, find_parent
from pysandpool._backend.machine import (
    NAMESPACES,
    SYSCTLS,
    audit_listener,
    in_container,
    masked_proc,
    read_sysctl,
    security_modules,
)
from pysandpool._config.sandbox import NamespaceDegradation, SandboxConfig
from pysandpool._errors import SandboxCreateError, SandpoolError
from pysandpool._pool.isolation import FULL, NONE, PARTIAL, SCOPED_ABI, IsolationReport
from pysandpool._pool.sandbox import Sandbox
from pysandpool.cli.doctor_macos import Seatbelt, surroundings

_COMMAND = ("/bin/echo",)
_FEW = 1000  # sandboxes; a machine that has room for so many is not to be told about
_FDS_PER_SANDBOX = 2


@dataclass(frozen=True)
class Missing:
    """One thing that a sandbox does not have here, and the command or setting that brings it."""

    what: str
    fix: str


@dataclass(frozen=True)
class Diagnosis:
    """What was found; on a failure, where (`stage`), what (`errno`, `error`) and what would fix it (`hint`)."""

    works: bool
    """with `FAIL_CLOSED`, the default"""
    error: str = ""
    stage: str | None = None
    errno: int | None = None
    hint: str = ""
    isolation: IsolationReport | None = None
    """of a sandbox that was made; where only `ALLOW_DEGRADATION` works, of that one"""
    missing: tuple[Missing, ...] = ()
    seatbelt: Seatbelt | None = None
    """None where there is no Seatbelt, which is everywhere but on macOS"""
    kernel: str = field(default_factory=platform.release)
    machine: str = field(default_factory=platform.machine)
    python: str = field(default_factory=platform.python_version)
    uid: int = field(default_factory=os.geteuid)
    container: bool = field(default_factory=in_container)
    sysctls: dict[str, str | None] = field(default_factory=lambda: {name: read_sysctl(name) for name in SYSCTLS})
    security_modules: str = field(default_factory=security_modules)
    masked_proc: tuple[str, ...] = field(default_factory=masked_proc)
    cgroup: str | None = field(default_factory=lambda: find_parent(set(CONTROLLERS)))
    """where a sandbox's cgroup would be made"""

    def lines(self) -> list[str]:
        """The same for people."""
        found = [
            *self._cgroup(),
            f"kernel            {self.kernel} {self.machine}",
            f"python            {self.python}, uid {self.uid}{', in a container' if self.container else ''}",
        ]
        if self.seatbelt is not None:
            return [*found, *self.seatbelt.lines(), "", *self._verdict(), *self._proved(), *self._what_is_missing()]
        found.append(f"security modules  {self.security_modules or 'unknown'}")
        found.append(f"cgroup            {self.cgroup or 'none that cgroups can be made in'}")
        found += [f"{name} = {value}" for name, value in self.sysctls.items() if value is not None]
        return [*found, "", *self._verdict(), *self._proved(), *self._what_is_missing()]

    def _cgroup(self) -> Iterator[str]:
        """First of all: whatever else is said, this is what a hostile tenant's memory is bounded by."""
        if self.seatbelt is None and self.cgroup is None:
            yield "for hostile tenants, give the pool a cgroup: without one, memory that cannot be seen is not bounded"
            yield f"    fix: {_hints.delegate()}"
            yield ""

    def _verdict(self) -> Iterator[str]:
        if self.works:
            yield "a sandbox was created and ran a command: works"
            return
        yield f"does not work: {self.error}"
        if self.stage is not None:
            name = "unknown" if self.errno is None else errno.errorcode.get(self.errno, str(self.errno))
            yield f"stage {self.stage}, errno {name}"
        if self.hint:
            yield f"hint: {self.hint}"
        if self.isolation is not None:
            yield "with NamespaceDegradation.ALLOW_DEGRADATION it works, with less:"

    def _proved(self) -> Iterator[str]:
        if self.isolation is not None:
            for name, value in dataclasses.asdict(self.isolation).items():
                if name != "seccomp_allow":
                    yield f"  {name:<14}{value}"

    def _what_is_missing(self) -> Iterator[str]:
        for one in self.missing:
            yield f"missing: {one.what}"
            yield f"    fix: {one.fix}"


def diagnose() -> Diagnosis:
    """Creates a sandbox with the default configuration, runs a command in it, and looks at its report."""
    return _diagnose(surroundings() if sys.platform == "darwin" else None)


def _diagnose(seatbelt: Seatbelt | None) -> Diagnosis:
    try:
        isolation = _try(NamespaceDegradation.FAIL_CLOSED)
    except SandboxCreateError as error:
        less = _with_less()
        missing = tuple(_missing(less, seatbelt))
        return Diagnosis(False, str(error), error.stage, error.errno, error.hint, less, missing, seatbelt)
    except (SandpoolError, ValueError) as error:
        return Diagnosis(False, str(error), seatbelt=seatbelt)
    return Diagnosis(True, isolation=isolation, missing=tuple(_missing(isolation, seatbelt)), seatbelt=seatbelt)


def _try(degradation: NamespaceDegradation) -> IsolationReport:
    with Sandbox(SandboxConfig(namespace_degradation=degradation)) as sandbox:
        sandbox.execute(_COMMAND).check()
        return sandbox.isolation


def _with_less() -> IsolationReport | None:
    try:
        return _try(NamespaceDegradation.ALLOW_DEGRADATION)
    except SandpoolError:
        return None


def _missing(isolation: IsolationReport | None, seatbelt: Seatbelt | None) -> Iterator[Missing]:
    if seatbelt is not None:
        yield from (Missing(what, fix) for what, fix in seatbelt.missing(isolation))
        yield from _few_files()
        return
    if isolation is not None:
        yield from _missing_of_isolation(isolation)
    if find_parent(set(CONTROLLERS)) is None:
        yield Missing("a delegated cgroup: exact memory limits, and cpu_quota_us at all", _hints.delegate())
    yield from _filters()
    yield from _few_files()
    yield from _few_namespaces()


def _missing_of_isolation(isolation: IsolationReport) -> Iterator[Missing]:
    if isolation.namespaces != FULL:
        yield Missing("a uts or cgroup namespace of its own", _hints.hint_for("clone", errno.ENOSPC))
    if isolation.mounts != FULL:
        yield Missing("/proc inside: programs that look there fail", _hints.hint_for("mount_proc", errno.EPERM))
    if isolation.network != FULL:
        yield Missing("a network namespace of its own", _hints.hint_for("network_namespace", errno.ENOSPC))
    if isolation.landlock == NONE:
        yield Missing("Landlock, the second lock on files", _hints.hint_for("landlock", errno.EOPNOTSUPP))
    if isolation.landlock == PARTIAL:
        what = f"Landlock ABI {SCOPED_ABI} (this is {isolation.landlock_abi}): signals and abstract sockets scoped"
        yield Missing(what, "a newer kernel: Linux 6.12 has it")


def _filters() -> Iterator[Missing]:
    listens = audit_listener()
    if listens:
        yield Missing(
            "a tenant's own seccomp filters, which programs such as `file` and `man` install: they are refused, for an "
            "audit daemon or journald listens here, and what a filter logs would fill its log",
            _hints.FILTERS,
        )
    elif listens is None:
        yield Missing(
            "a look at who listens to the host's audit trail, for this is another network namespace: a tenant's own "
            "seccomp filters are allowed, and may fill it",
            _hints.FILTER_LOG,
        )


def _few_files() -> Iterator[Missing]:
    """A limit that few sandboxes fit in: each one takes descriptors."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= files < 128 * _FDS_PER_SANDBOX:
        what = f"room for more than {files // _FDS_PER_SANDBOX} sandboxes: RLIMIT_NOFILE is {files}"
        yield Missing(what, _hints.hint_for("host_socket", errno.EMFILE))


def _few_namespaces() -> Iterator[Missing]:
    """Likewise: each one takes a namespace of each kind."""
    for kind in NAMESPACES:
        name = f"user.max_{kind}_namespaces"
        limit = int(read_sysctl(name) or _FEW)
        if 0 < limit < _FEW:
            yield Missing(f"room for more than {limit} sandboxes: {name} is {limit}", f"sysctl -w {name}=15000")
