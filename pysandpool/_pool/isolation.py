"""`IsolationReport`: what was proved of one sandbox, before anybody's command ran in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from pysandpool._config.sandbox import SandboxConfig
from pysandpool._ffi import check, ffi, lib

FULL = "full"
PARTIAL = "partial"
NONE = "none"

SCOPED_ABI = 6
"""The Landlock ABI from which on signals and abstract unix sockets stay inside."""


@dataclass(frozen=True)
class IsolationReport:
    """What holds in one sandbox: "full", "partial" or "none" for each part.

    Each starts at "none", and is raised only by what the sandbox's init saw for itself before its first command (a
    namespace's number differs, a forbidden call is refused, a limit reads back as it was set, ...) and by what the
    host read back from its cgroup. A command can change nothing about it. "none" is also the word for what the
    configuration does not ask for.

    On macOS it is the resident agent that tries what Seatbelt has to refuse. There `mounts` and `network` are "partial"
    at best, and all else is "none": macOS has no namespaces, no Landlock, no seccomp and no no_new_privs, and nothing
    that limits the memory, the processes or the cpu of a sandbox. That no signal reaches the host, and that no set-id
    program can be run, has no word here: a sandbox of which it cannot be proved is not handed out.
    """

    namespaces: str = NONE
    """full: user, pid, mount, ipc, uts and cgroup namespace of its own, with one unprivileged id in it; partial:
    without uts or cgroup namespace"""
    mounts: str = NONE
    """full: a read-only root, a private and bounded /tmp, a /proc of its own; partial: without any /proc, or (macOS) no
    file of the host can be read or written but what is shown, and the private directory has no bound"""
    landlock: str = NONE
    """full: in force, and signals and abstract sockets are scoped (ABI 6); partial: in force, at an older ABI; none:
    not in this kernel, or left out"""
    landlock_abi: int = 0
    """the Landlock ABI that is enforced; 0: none"""
    seccomp: str = NONE
    """full: the profile's filters are in force; partial: so they are, but `seccomp_allow` opens them"""
    seccomp_allow: tuple[str, ...] = ()
    """what the configuration allows beyond the profile"""
    no_new_privs: str = NONE
    """full: no_new_privs is set, and there are no capabilities to begin with"""
    network: str = NONE
    """full: a network namespace of its own, with nothing in it but lo; partial: no inet socket can be made, but the
    namespace is the host's, which /proc/self/net tells about, or (macOS) no socket can be bound or connected; none: the
    host's network"""
    memory: str = NONE
    """full: the sum is limited by a cgroup; partial: each process is limited (RLIMIT_DATA), and init watches the sum
    where there is a /proc; none: no limit"""
    processes: str = NONE
    """full: limited by a cgroup, or by RLIMIT_NPROC in its own user namespace; none: no limit"""
    cpu: str = NONE
    """full: limited by a cgroup; none: no limit"""


def _fact_names() -> Iterator[str]:
    for index in itertools.count():
        name = bytes(ffi.string(lib.sp_fact_name(index))).decode("ascii")
        if name == "unknown":
            return
        yield name


# The names of csrc/common/fact.h; bit n of the facts is the n-th of them.
_FACTS = tuple(_fact_names())
_ISOLATING = frozenset({"USER_NS", "PID_NS", "MOUNT_NS", "IPC_NS", "ID_MAP"})
_MOUNTED = frozenset({"MOUNT_NS", "ROOT_READ_ONLY", "ROOT_FLAGS", "SCRATCH"})
_CLOSED = frozenset({"HOST_UNREAD", "HOST_UNWRITTEN"})


def isolation_of(pool: Any, handle: int, config: SandboxConfig) -> IsolationReport:
    """The report of a lease's sandbox. Raises as `PooledSandbox.pid` does."""
    found = ffi.new("sp_isolation *")
    check(lib.sp_lease_isolation(pool, handle, found), pool)
    facts = frozenset(name for index, name in enumerate(_FACTS) if found.facts >> index & 1)
    return report(config, facts, found.landlock_abi, found.cgroup)


def report(config: SandboxConfig, facts: frozenset[str], landlock_abi: int, cgroup: int) -> IsolationReport:
    """`facts`: names of csrc/common/fact.h; `cgroup`: the limits that a cgroup was seen to have, SP_CGROUP_*."""
    allowed: tuple[str, ...] = getattr(config, "seccomp_allow", ())
    landlock = landlock_abi > 0 and "LANDLOCK_DENIES" in facts
    return IsolationReport(
        namespaces=_graded(facts, _ISOLATING, {"UTS_NS", "CGROUP_NS"}),
        mounts=PARTIAL if facts >= _CLOSED else _graded(facts, _MOUNTED, {"OWN_PROC"}),
        landlock=NONE if not landlock else FULL if landlock_abi >= SCOPED_ABI else PARTIAL,
        landlock_abi=landlock_abi if landlock else 0,
        seccomp=NONE if not facts >= {"FILTERED", "CALL_DENIED"} else PARTIAL if allowed else FULL,
        seccomp_allow=allowed,
        no_new_privs=_graded(facts, {"NO_NEW_PRIVS"}, {"NO_PRIVILEGE", "NO_CAPS"}),
        network=_network(facts),
        memory=_limited(
            config.memory_limit_mb, cgroup & lib.SP_CGROUP_MEMORY, PARTIAL if "LIMIT_DATA" in facts else NONE
        ),
        processes=_limited(config.max_processes, cgroup & lib.SP_CGROUP_PIDS, FULL if "LIMIT_NPROC" in facts else NONE),
        cpu=_limited(config.cpu_quota_us, cgroup & lib.SP_CGROUP_CPU, NONE),
    )


def _graded(facts: AbstractSet[str], least: AbstractSet[str], rest: AbstractSet[str]) -> str:
    return NONE if not facts >= least else FULL if facts >= rest else PARTIAL


def _network(facts: AbstractSet[str]) -> str:
    if "NET_NS" in facts:
        return FULL if facts & {"NO_INET", "NO_LINK"} else NONE
    return PARTIAL if facts & {"NO_INET", "NO_CONNECTION"} else NONE


def _limited(limit: int | None, by_cgroup: int, otherwise: str) -> str:
    return NONE if limit is None else FULL if by_cgroup else otherwise
