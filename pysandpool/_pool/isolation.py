"""`IsolationReport`: what was proved about one sandbox before the first command ran in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from pysandpool._backend.machine import kernel_version
from pysandpool._config.interpreter import Interpreter
from pysandpool._config.sandbox import SandboxConfig
from pysandpool._ffi import check, ffi, lib

FULL = "full"
PARTIAL = "partial"
NONE = "none"
LANDLOCK = "landlock"
SEATBELT = "seatbelt"
SHARED = "shared"
OWN = "own"

COUNTS_BY_NAMESPACE = (5, 14)
"""The first Linux on which RLIMIT_NPROC counts the processes of a user namespace."""

SCOPED_ABI = 6
"""The first Landlock ABI that keeps signals and abstract unix sockets inside."""


@dataclass(frozen=True)
class IsolationReport:
    """The isolation that one sandbox has: "full", "partial" or "none" for each part.

    Every part starts at "none". It is raised only by a proof: by what the sandbox's init observed before the first
    command (its namespaces have other numbers than the host's, a forbidden call is refused, a limit reads back as it
    was set), and by what the host read back from the sandbox's cgroup. No command can change the report. A part that
    the configuration does not ask for is "none" as well.

    On macOS, the agent tries what Seatbelt has to refuse. There `mounts` and `network` are at most "partial", and all
    other parts are "none": macOS has no namespaces, no Landlock, no seccomp and no no_new_privs, and nothing that
    limits the memory, the processes or the CPU time of a sandbox. The agent also proves that no signal reaches the host
    and that no set-id program can be run. The report has no field for that, because a sandbox without this proof is
    never leased.
    """

    tier: str = NONE
    """full: namespaces of its own; landlock: no namespaces, which the kernel refuses here, but Landlock, seccomp and
    ids, see `namespace_degradation`; seatbelt: macOS."""
    namespaces: str = NONE
    """full: its own user, pid, mount, ipc, uts and cgroup namespaces, with one unprivileged id inside; partial: without
    the uts or the cgroup namespace, or with the hostname of the host, because setting another one is refused."""
    mounts: str = NONE
    """full: a read-only root, a private /tmp of limited size, a /proc of its own; partial: without any /proc, or, in
    the tiers without namespaces, that only the files that are shown can be read or written, while names and sizes of
    others can be seen and the private directory has no limit."""
    landlock: str = NONE
    """full: enforced, with signals and abstract sockets scoped (ABI 6); partial: enforced with an older ABI; none: the
    kernel does not have it, or it was left out."""
    landlock_abi: int = 0
    """The Landlock ABI that is enforced; 0 if none is."""
    seccomp: str = NONE
    """full: the filters of the profile are enforced; partial: they are, but `seccomp_allow` adds calls to them."""
    seccomp_allow: tuple[str, ...] = ()
    """The system calls that the configuration allows beyond the profile."""
    no_new_privs: str = NONE
    """full: no_new_privs is set, and the sandbox has no capabilities."""
    network: str = NONE
    """full: its own network namespace, which contains only lo; partial: no inet socket can be created, but the
    namespace is the host's, which /proc/self/net shows, or, on macOS, that no socket can be bound or connected; none:
    the host's network."""
    unix_sockets: str = NONE
    """full: no AF_UNIX socket can be created but connected pairs; partial: one can be, which reaches no abstract socket
    of the host, but every socket file that the sandbox is shown; none: one can be, which may reach both."""
    memory: str = NONE
    """full: a cgroup limits the sum; partial: init measures the sum, and kills a command that exceeds the limit, or
    RLIMIT_DATA alone limits each process, because the sandbox has no /proc or only `data_limit_mb` was asked for; none:
    no limit."""
    processes: str = NONE
    """full: limited by a cgroup, or by RLIMIT_NPROC in its own user namespace or under its own user id; partial: init
    counts them, and kills a command that has more (before Linux 5.14, and in the Landlock tier where the host is an
    ordinary user); none: no limit."""
    cpu: str = NONE
    """full: limited by a cgroup; none: no limit."""
    interpreter: str = NONE
    """own: the interpreter that waits was started in this sandbox; shared: it is a copy, and has the hash secret, the
    addresses and the stack canary of all other copies; none: there is none. This is what the configuration asks for."""


def _fact_names() -> Iterator[str]:
    for index in itertools.count():
        name = bytes(ffi.string(lib.sp_fact_name(index))).decode("ascii")
        if name == "unknown":
            return
        yield name


# The names of csrc/common/fact.h; bit n of the facts stands for the n-th name.
_FACTS = tuple(_fact_names())
_ISOLATING = frozenset({"USER_NS", "PID_NS", "MOUNT_NS", "IPC_NS", "ID_MAP"})
_MOUNTED = frozenset({"MOUNT_NS", "ROOT_READ_ONLY", "ROOT_FLAGS", "SCRATCH"})
_CLOSED = frozenset({"HOST_UNREAD", "HOST_UNWRITTEN"})


def isolation_of(pool: Any, handle: int, config: SandboxConfig) -> IsolationReport:
    """The report of the sandbox of a lease. Raises the errors of `PooledSandbox.pid`."""
    found = ffi.new("sp_isolation *")
    check(lib.sp_lease_isolation(pool, handle, found), pool)
    facts = frozenset(name for index, name in enumerate(_FACTS) if found.facts >> index & 1)
    return report(config, facts, found.landlock_abi, found.cgroup)


def report(config: SandboxConfig, facts: frozenset[str], landlock_abi: int, cgroup: int) -> IsolationReport:
    """The report for `facts`, names of csrc/common/fact.h, and `cgroup`, the SP_CGROUP_* limits read back from it."""
    allowed: tuple[str, ...] = getattr(config, "seccomp_allow", ())
    landlock = landlock_abi > 0 and "LANDLOCK_DENIES" in facts
    return IsolationReport(
        tier=_tier(facts, landlock),
        namespaces=_graded(facts, _ISOLATING, {"UTS_NS", "CGROUP_NS"}),
        mounts=PARTIAL if facts >= _CLOSED else _graded(facts, _MOUNTED, {"OWN_PROC"}),
        landlock=NONE if not landlock else FULL if landlock_abi >= SCOPED_ABI else PARTIAL,
        landlock_abi=landlock_abi if landlock else 0,
        seccomp=NONE if not facts >= {"FILTERED", "CALL_DENIED"} else PARTIAL if allowed else FULL,
        seccomp_allow=allowed,
        no_new_privs=_graded(facts, {"NO_NEW_PRIVS"}, {"NO_PRIVILEGE", "NO_CAPS"}),
        network=_network(facts),
        unix_sockets=_graded(facts, {"UNIX_SCOPED"}, {"NO_UNIX"}),
        memory=_memory(config, facts, cgroup),
        processes=_limited(config.max_processes, cgroup & lib.SP_CGROUP_PIDS, _counted(facts)),
        cpu=_limited(config.cpu_quota_us, cgroup & lib.SP_CGROUP_CPU, NONE),
        interpreter=_interpreter(getattr(config, "interpreter", None)),
    )


def _interpreter(interpreter: Interpreter | None) -> str:
    return NONE if interpreter is None else SHARED if interpreter.start == "fork" else OWN


def _tier(facts: AbstractSet[str], landlock: bool) -> str:
    if facts >= _ISOLATING:
        return FULL
    return NONE if not facts >= _CLOSED else LANDLOCK if landlock else SEATBELT


def _counted(facts: AbstractSet[str]) -> str:
    """Alone, and not with others of the user, only a user id or namespace of its own is counted by RLIMIT_NPROC."""
    if "LIMIT_NPROC" not in facts:
        return NONE
    exact = facts >= _ISOLATING and kernel_version() >= COUNTS_BY_NAMESPACE
    return FULL if exact or (not facts >= _ISOLATING and "ID_MAP" in facts) else PARTIAL


def _graded(facts: AbstractSet[str], least: AbstractSet[str], rest: AbstractSet[str]) -> str:
    return NONE if not facts >= least else FULL if facts >= rest else PARTIAL


def _network(facts: AbstractSet[str]) -> str:
    if "NET_NS" in facts:
        return FULL if facts & {"NO_INET", "NO_LINK"} else NONE
    return PARTIAL if facts & {"NO_INET", "NO_CONNECTION"} else NONE


def _memory(config: SandboxConfig, facts: AbstractSet[str], cgroup: int) -> str:
    by_process = "LIMIT_DATA" in facts and (config.memory_limit_mb is None or "OWN_PROC" not in facts)
    otherwise = PARTIAL if "MEMORY_WATCH" in facts or by_process else NONE
    limit = config.memory_limit_mb if config.memory_limit_mb is not None else config.data_limit_mb
    return _limited(limit, config.memory_limit_mb is not None and cgroup & lib.SP_CGROUP_MEMORY, otherwise)


def _limited(limit: int | None, by_cgroup: int, otherwise: str) -> str:
    return NONE if limit is None else FULL if by_cgroup else otherwise
