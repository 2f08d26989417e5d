"""Creates a sandbox, and reports which isolation features work on this machine and how to enable the rest."""

from __future__ import annotations

import dataclasses
import errno
import os
import platform
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from pysandpool._backend import hint_texts, hints
from pysandpool._backend.cgroup import CONTROLLERS, find_parent
from pysandpool._backend.container import container_kind
from pysandpool._backend.delegation import delegate
from pysandpool._backend.engines import Fix
from pysandpool._backend.machine import (
    NAMESPACES,
    SYSCTLS,
    audit_listener,
    masked_proc,
    read_sysctl,
    security_modules,
)
from pysandpool._backend.rlimits import low_limits
from pysandpool._config.sandbox import DEFAULT_PROCESSES, NamespaceDegradation, SandboxConfig
from pysandpool._errors import SandboxCreateError, SandpoolError
from pysandpool._pool.isolation import FULL, LANDLOCK, NONE, PARTIAL, SCOPED_ABI, IsolationReport
from pysandpool._pool.sandbox import Sandbox
from pysandpool.cli.doctor_interpreter import WaitingPython, try_python
from pysandpool.cli.doctor_macos import Seatbelt, surroundings

_COMMAND = ("/bin/sh", "-c", ":")  # on NixOS /bin has no other program
_FEW = 1000  # sandboxes: a limit that allows fewer is reported
_FDS_PER_SANDBOX = 2


@dataclass(frozen=True)
class Missing:
    """A feature that sandboxes do not have here, and the command or setting that enables it."""

    what: str
    fix: str
    fixes: tuple[Fix, ...] = ()
    """The same as commands, where they are known."""


@dataclass(frozen=True)
class Diagnosis:
    """The findings. After a failure, `stage`, `errno`, `error` and `hint` are those of the exception."""

    works: bool
    """Whether a sandbox with the default configuration, which is `FAIL_CLOSED`, could be created."""
    error: str = ""
    stage: str | None = None
    errno: int | None = None
    hint: str = ""
    fixes: tuple[Fix, ...] = ()
    """The hint as commands, where they are known."""
    isolation: IsolationReport | None = None
    """The report of a sandbox that was created, with `ALLOW_DEGRADATION` if nothing else works."""
    missing: tuple[Missing, ...] = ()
    seatbelt: Seatbelt | None = None
    """None except on macOS."""
    interpreter: WaitingPython | None = None
    """In the sandboxes of `isolation`. None where none has an interpreter: on macOS."""
    kernel: str = field(default_factory=platform.release)
    machine: str = field(default_factory=platform.machine)
    python: str = field(default_factory=platform.python_version)
    uid: int = field(default_factory=os.geteuid)
    container: str = field(default_factory=container_kind)
    """"docker", "podman", "kubernetes", "ecs", "lxc", "systemd-nspawn", "firejail", "other", or "" outside."""
    sysctls: dict[str, str | None] = field(default_factory=lambda: {name: read_sysctl(name) for name in SYSCTLS})
    security_modules: str = field(default_factory=security_modules)
    masked_proc: tuple[str, ...] = field(default_factory=masked_proc)
    cgroup: str | None = field(default_factory=lambda: find_parent(set(CONTROLLERS)))
    """The directory in which cgroups of sandboxes would be created."""

    def lines(self) -> list[str]:
        """The findings as lines of text."""
        found = [
            *self._cgroup(),
            f"kernel            {self.kernel} {self.machine}",
            f"python            {self.python}, uid {self.uid}{self._place()}",
            f"max_processes     {DEFAULT_PROCESSES} by default, for {os.cpu_count()} processors",
        ]
        if self.seatbelt is not None:
            return [*found, *self.seatbelt.lines(), "", *self._verdict(), *self._proved(), *self._what_is_missing()]
        found.append(f"security modules  {self.security_modules or 'unknown'}")
        found.append(f"cgroup            {self.cgroup or 'none in which cgroups can be created'}")
        found += [] if self.interpreter is None else self.interpreter.lines()
        found += [f"{name} = {value}" for name, value in self.sysctls.items() if value is not None]
        return [*found, "", *self._verdict(), *self._proved(), *self._what_is_missing()]

    def commands(self) -> list[str]:
        """What enables all that does not work or is missing: comments, and the commands or settings below them."""
        steps = [("no sandbox can be created", self.hint, self.fixes)] if self.hint else []
        steps += [(one.what, one.fix, one.fixes) for one in self.missing if one.fixes != self.fixes or not self.fixes]
        lines = []
        for what, text, fixes in steps:
            lines += ["", f"## {what}"]
            lines += [] if fixes else [f"# {text}"]
            lines += [line for fix in fixes for line in (f"# {fix.where}", fix.command)]
        return lines[1:] or ["# nothing is missing"]

    def _place(self) -> str:
        return {"": "", "other": ", in a container"}.get(self.container, f", in a container ({self.container})")

    def _cgroup(self) -> Iterator[str]:
        """The first lines: only a cgroup limits all of the memory of a hostile tenant."""
        if self.seatbelt is None and self.cgroup is None:
            yield "for hostile tenants, give the pool a cgroup: without one, some memory is not limited"
            yield f"    fix: {delegate()}"
            yield ""

    def _verdict(self) -> Iterator[str]:
        if self.works:
            yield "a sandbox was created and ran a command: works"
            return
        yield f"does not work: {self.error.replace(f'; hint: {self.hint}', '') if self.hint else self.error}"
        if self.stage is not None:
            name = "unknown" if self.errno is None else errno.errorcode.get(self.errno, str(self.errno))
            yield f"stage {self.stage}, errno {name}"
        if self.hint:
            yield f"hint: {self.hint}"
        if self.isolation is not None:
            yield "with NamespaceDegradation.ALLOW_DEGRADATION it works, with less isolation:"

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
    """Creates a sandbox with the default configuration, runs a command in it, and reads its report."""
    return _diagnose(surroundings() if sys.platform == "darwin" else None)


def _diagnose(seatbelt: Seatbelt | None) -> Diagnosis:
    try:
        isolation = _try(NamespaceDegradation.FAIL_CLOSED)
    except SandboxCreateError as error:
        less = _with_less()
        python = _try_python(less, NamespaceDegradation.ALLOW_DEGRADATION)
        denied = error.errno if error.stage == "landlock" else errno.EOPNOTSUPP
        missing = (*_missing(less, seatbelt, denied), *_missing_interpreter(python))
        fixes = hints.advice_for(error.stage, error.errno).fixes
        return Diagnosis(
            *(False, str(error), error.stage, error.errno, error.hint, fixes),
            isolation=less,
            missing=missing,
            seatbelt=seatbelt,
            interpreter=python,
        )
    except (SandpoolError, ValueError) as error:
        return Diagnosis(False, str(error), seatbelt=seatbelt)
    python = _try_python(isolation, NamespaceDegradation.FAIL_CLOSED)
    lacking = (*_missing(isolation, seatbelt), *_missing_interpreter(python))
    return Diagnosis(True, isolation=isolation, missing=lacking, seatbelt=seatbelt, interpreter=python)


def _try_python(isolation: IsolationReport | None, degradation: NamespaceDegradation) -> WaitingPython | None:
    has_one = isolation is not None and isolation.tier in (FULL, LANDLOCK)
    return try_python(degradation) if has_one else None


def _missing_interpreter(python: WaitingPython | None) -> Iterator[Missing]:
    if python is not None and not python.works:
        yield Missing(f"{python.python} as the interpreter that waits in sandboxes: {python.error}", python.hint)


def _try(degradation: NamespaceDegradation) -> IsolationReport:
    with Sandbox(SandboxConfig(namespace_degradation=degradation)) as sandbox:
        sandbox.execute(_COMMAND).check()
        return sandbox.isolation


def _with_less() -> IsolationReport | None:
    try:
        return _try(NamespaceDegradation.ALLOW_DEGRADATION)
    except SandpoolError:
        return None


def _missing(
    isolation: IsolationReport | None, seatbelt: Seatbelt | None, no_landlock: int = errno.EOPNOTSUPP
) -> Iterator[Missing]:
    """`no_landlock`: the error where Landlock cannot be had."""
    if seatbelt is not None:
        yield from (Missing(what, fix) for what, fix in seatbelt.missing(isolation))
        yield from _few_files()
        return
    if isolation is not None:
        yield from _missing_of_isolation(isolation, no_landlock)
    if find_parent(set(CONTROLLERS)) is None:
        yield Missing("a delegated cgroup, for exact memory limits and cpu_quota_us", delegate())
    yield from _filters()
    yield from (Missing(f"the limits that sandboxes have elsewhere: {low.what}", low.fix) for low in low_limits())
    yield from _few_files()
    yield from _few_namespaces()


def _lacking(what: str, stage: str, err: int) -> Missing:
    advice = hints.advice_for(stage, err, may_degrade=True)
    return Missing(what, advice.line, advice.fixes)


def _missing_of_isolation(isolation: IsolationReport, no_landlock: int) -> Iterator[Missing]:
    if isolation.tier != LANDLOCK:  # there the hint of the refusal says what brings all
        yield from _missing_of_namespaces(isolation)
    if isolation.landlock == NONE:
        yield _lacking("Landlock, the second barrier for files", "landlock", no_landlock)
    if isolation.landlock == PARTIAL:
        what = (
            f"Landlock ABI {SCOPED_ABI} (this is {isolation.landlock_abi}), which keeps signals and abstract sockets in"
        )
        yield Missing(what, "use a newer kernel: Linux 6.12 has it")


def _missing_of_namespaces(isolation: IsolationReport) -> Iterator[Missing]:
    if isolation.namespaces != FULL and any(_limit_of(kind) < _FEW for kind in ("uts", "cgroup")):
        yield _lacking("a private uts or cgroup namespace", "clone", errno.ENOSPC)
    elif isolation.namespaces != FULL:
        advice = hints.for_hostname()
        what = "a hostname of its own: commands see this machine's, because sethostname is refused"
        yield Missing(what, advice.line, advice.fixes)
    if isolation.mounts != FULL:
        yield _lacking("/proc inside the sandbox; programs that need it fail", "mount_proc", errno.EPERM)
    if isolation.network != FULL:
        yield _lacking("a private network namespace", "network_namespace", errno.ENOSPC)


def _filters() -> Iterator[Missing]:
    listens = audit_listener()
    if listens:
        yield Missing(
            "seccomp filters of tenants, which programs such as `file` and `man` install: they are refused, because an "
            "audit daemon or journald runs here, and a filter could fill its log",
            hint_texts.FILTERS,
        )
    elif listens is None:
        yield Missing(
            "information about readers of the host's audit log, because this is another network namespace: seccomp "
            "filters of tenants are allowed, and could fill that log",
            hint_texts.FILTER_LOG,
        )


def _few_files() -> Iterator[Missing]:
    """A limit of descriptors that allows only few sandboxes."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= files < 128 * _FDS_PER_SANDBOX:
        what = f"room for more than {files // _FDS_PER_SANDBOX} sandboxes: RLIMIT_NOFILE is {files}"
        yield Missing(what, hints.hint_for("host_socket", errno.EMFILE))


def _limit_of(kind: str) -> int:
    return int(read_sysctl(f"user.max_{kind}_namespaces") or _FEW)


def _few_namespaces() -> Iterator[Missing]:
    """A limit of namespaces that allows only few sandboxes."""
    for kind in NAMESPACES:
        name, limit = f"user.max_{kind}_namespaces", _limit_of(kind)
        if 0 < limit < _FEW:
            raised = f"sysctl -w {name}=15000"
            yield Missing(f"room for more than {limit} sandboxes: {name} is {limit}", raised, (Fix("as root", raised),))
