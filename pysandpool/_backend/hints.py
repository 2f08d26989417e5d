"""Hints: the command or setting that would fix a failed creation, found by its stage and errno.

The settings of this kernel are read at the time of the failure, so that the hint names the one that caused it, not all
that could. Sources: user_namespaces(7), namespaces(7), clone(2), and Documentation/admin-guide/sysctl of the kernel.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Union

from pysandpool._backend import hint_texts as texts
from pysandpool._backend.container import NSPAWN, container_kind
from pysandpool._backend.delegation import delegate
from pysandpool._backend.engines import Advice, Fix, nspawn_filter
from pysandpool._backend.forbidden import advice
from pysandpool._backend.machine import (
    SYSCTLS,
    is_filtered,
    is_gvisor,
    is_nested,
    kernel_version,
    masked_proc,
    read_sysctl,
)

_DENIED = frozenset({errno.EPERM, errno.EACCES})
_MOUNT_STAGES = frozenset({"root_template", "bind", "dev", "mount_proc", "pivot_root", "scratch"})
_NAMESPACE_STAGES = frozenset({"user_namespace", "id_map", "namespaces", "network_namespace", "clone"})

# pidfd_open; 5.10 is the oldest on which the tests run.
_OLDEST_KERNEL = (5, 3)
# Where a host that may take less goes on without namespaces: see sp_tier_is_refusal. A /proc is left out alone.
_REFUSED_STAGES = frozenset({"drop_root", "root_template", "dev", "pivot_root", *_NAMESPACE_STAGES})
_REFUSALS = frozenset({*_DENIED, errno.ENOSYS, errno.ENOSPC, errno.EINVAL, errno.EROFS, errno.ENODEV, errno.EBUSY})
_LANDLOCK_KERNEL = (5, 13)
_FEW_NAMESPACES = 1000


def for_hostname() -> Advice:
    """What would let sandboxes have a hostname of their own."""
    if not container_kind():
        return Advice("allow sethostname in the seccomp filter of this process")
    return advice_for("namespaces", errno.EPERM, may_degrade=True)


def _cpu(stage: str, err: int) -> Advice:
    return Advice(f"only a cgroup enforces cpu_quota_us: {delegate()}; or {texts.DEGRADE}")


def _delegate(stage: str, err: int) -> Advice:
    return Advice(delegate())


def _counts(stage: str, err: int) -> Advice:
    """The kinds with the limit 0, or else the kind with the lowest limit: the kernel does not say which one it was.

    Each user namespace has limits of its own besides those around it, which cannot be seen from inside.
    """
    limits = {name: int(read_sysctl(name) or 2**31) for name in SYSCTLS if name.startswith("user.max_")}
    names = [name for name, limit in limits.items() if limit == 0]
    lowest = min(limits, key=limits.__getitem__)
    if not names and is_nested() and limits[lowest] >= _FEW_NAMESPACES:
        return Advice(texts.OUTER_COUNT)
    names = names or [lowest]
    where = "on the host, " if container_kind() else ""
    fixes = tuple(Fix(f"as root, {where}raise the number of namespaces", f"sysctl -w {name}=15000") for name in names)
    return Advice("; ".join(f"{where}raise the number of namespaces: {fix.command}" for fix in fixes), fixes)


def _no_other_id(stage: str, err: int) -> Advice:
    """Dropping root comes first: what else a container forbids is named beside it."""
    return advice(stage, err) if container_kind() else Advice(texts.NO_OTHER_ID)


def _id_map_denied(stage: str, err: int) -> Advice:
    return Advice(texts.NO_ROOT_MAP) if os.geteuid() == 0 else advice(stage, err)


def _missing_call(stage: str, err: int) -> Advice:
    """ENOSYS or EINVAL may come from a seccomp filter that hides what it forbids, or from the kernel."""
    if is_gvisor():
        return Advice(texts.GVISOR)
    if (0, 0) < kernel_version() < _OLDEST_KERNEL:
        return Advice(texts.OLD_KERNEL)
    if is_filtered():
        return advice(stage, err)
    return Advice(texts.KINDS if stage in _NAMESPACE_STAGES else texts.LACKING)


def _killed(stage: str, err: int) -> Advice:
    """A filter may kill a process for a call, in place of an errno."""
    allowed = advice(stage, err) if is_filtered() else Advice()
    return (
        allowed._replace(line=f"it may have been killed by a seccomp filter: {allowed.line}")
        if allowed.line
        else allowed
    )


def _not_in_the_lower_tier(stage: str, err: int) -> Advice:
    allowed = advice("user_namespace", errno.EPERM)
    what = (
        "cannot give this: leave it out (instead of a workspace, fs_readwrite shows a directory to all sandboxes of a "
        "pool, and upload() and download() copy files)"
        if stage == "tier"
        else f"needs Landlock: {texts.LANDLOCK}"
    )
    return Advice(f"{texts.LOWER_TIER}{what}; or allow namespaces: {allowed.line}", allowed.fixes)


def _landlock_denied(stage: str, err: int) -> Advice:
    if container_kind() != NSPAWN:
        return Advice(texts.LANDLOCK_DENIED)
    fix = nspawn_filter("landlock_create_ruleset landlock_add_rule landlock_restrict_self")
    return Advice(f"the container forbids Landlock: {fix.command}", (fix,))


def _no_proc(stage: str, err: int) -> Advice:
    masked = masked_proc()
    some = f"there are mounts over /proc ({', '.join(masked[:3])}{', ...' if masked[3:] else ''}): " if masked else ""
    allowed = advice(stage, err)
    return Advice(f"{some}{allowed.line}", allowed.fixes)


def _no_proc_for_code(stage: str, err: int) -> Advice:
    return _no_proc("mount_proc", errno.EPERM)


_Hint = Union[str, Callable[[str, int], Advice]]

# The first rule that matches wins. An empty set matches every stage or errno.
_RULES: tuple[tuple[frozenset[str], frozenset[int], _Hint], ...] = (
    (frozenset({"limits"}), frozenset({errno.ENOTSUP}), _cpu),
    (frozenset({"preload"}), frozenset({errno.ETIMEDOUT}), texts.PRELOAD_SLOW),
    (frozenset({"preload"}), frozenset({errno.ECONNRESET, errno.EPIPE}), texts.PRELOAD_ENDED),
    (frozenset({"preload"}), frozenset({errno.ENOTSUP}), _no_proc_for_code),
    (frozenset({"preload"}), frozenset({errno.ENOENT, errno.EACCES, errno.ENOTDIR}), texts.PRELOAD_PYTHON),
    (frozenset({"cgroup"}), frozenset({errno.EOPNOTSUPP, errno.EBUSY}), texts.CONTROLLERS),
    (frozenset({"cgroup"}), frozenset({*_DENIED, errno.ENOENT, errno.ENODEV, errno.EROFS}), _delegate),
    (frozenset({"spawn_zygote"}), frozenset({errno.ENOENT, errno.EACCES, errno.ENOEXEC}), texts.REINSTALL),
    (frozenset({"spawn_zygote", "protocol"}), frozenset({errno.ECONNRESET}), _killed),
    (frozenset({"host_socket"}), frozenset({errno.EAFNOSUPPORT}), texts.NO_UNIX),
    (frozenset({"drop_root"}), frozenset(), _no_other_id),
    (frozenset({"id_map"}), _DENIED, _id_map_denied),
    (frozenset({"health_check"}), frozenset(), texts.HEALTH),
    (frozenset({"bind"}), frozenset({errno.ENOENT, errno.ENOTDIR}), texts.BIND_MISSING),
    (frozenset({"bind"}), frozenset({errno.ELOOP}), texts.BIND_LINK),
    (frozenset({"bind"}), frozenset({errno.EINVAL}), texts.BIND_SYSTEM),
    (frozenset({"bind"}), frozenset({errno.EROFS}), texts.BIND_READ_ONLY),
    (frozenset({"bind"}), frozenset({errno.ESTALE}), texts.BIND_MOVED),
    (frozenset({"bind"}), _DENIED, texts.BIND_DENIED),
    (frozenset({"workspace"}), frozenset({errno.EBUSY}), texts.WORKSPACE_TAKEN),
    (frozenset({"workspace"}), frozenset({errno.ETIMEDOUT}), texts.WORKSPACE_SLOW),
    (frozenset({"workspace"}), _DENIED, texts.WORKSPACE_DENIED),
    (frozenset({"workspace"}), frozenset({errno.EROFS}), texts.BIND_READ_ONLY.replace("fs_readonly", "mode ro")),
    (frozenset({"workspace"}), frozenset({errno.EINVAL}), texts.BIND_SYSTEM),
    (frozenset({"rootfs"}), frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EINVAL}), texts.ROOTFS),
    (frozenset({"mount_proc"}), _DENIED, _no_proc),
    (frozenset({"tier"}), frozenset({errno.EOPNOTSUPP}), _not_in_the_lower_tier),
    (frozenset({"landlock"}), frozenset({errno.ENOSYS}), _not_in_the_lower_tier),
    (frozenset({"landlock"}), frozenset({errno.EOPNOTSUPP}), texts.LANDLOCK),
    (frozenset({"landlock"}), _DENIED, _landlock_denied),
    (frozenset({"proof"}), frozenset(), texts.PROOF),
    (frozenset({"seatbelt"}), frozenset({errno.ENOTSUP}), texts.SEATBELT),
    (frozenset({"seatbelt"}), frozenset({errno.EPERM}), texts.NESTED),
    (frozenset({"seatbelt"}), frozenset({errno.EPROTO}), texts.PROFILE),
    (frozenset({"seccomp"}), frozenset({errno.ENOSYS, errno.EINVAL}), texts.SECCOMP),
    (frozenset({"host_socket"}), frozenset({errno.ENOSPC}), texts.LEASES),
    (frozenset({"network_namespace"}), frozenset({errno.ENOSPC}), texts.NETNS),
    (frozenset({"root_template", "bind", "dev", "scratch"}), frozenset({errno.ENOSPC}), texts.MOUNTS),
    (_NAMESPACE_STAGES, frozenset({errno.ENOSPC}), _counts),
    (_NAMESPACE_STAGES, frozenset({errno.EUSERS}), texts.NESTING),
    (_NAMESPACE_STAGES, frozenset({errno.ENOSYS, errno.EINVAL}), _missing_call),
    (_NAMESPACE_STAGES, _DENIED, advice),
    (_MOUNT_STAGES, _DENIED, advice),
    (frozenset({"id_map"}), frozenset({errno.EROFS}), texts.READ_ONLY_PROC),
    (frozenset(), frozenset({errno.ENOSYS}), _missing_call),
    # ETOOMANYREFS: descriptors that are being sent count against the same limit.
    (frozenset(), frozenset({errno.EMFILE, errno.ETOOMANYREFS}), texts.FILES),
    (frozenset(), frozenset({errno.ENFILE}), texts.ALL_FILES),
    (frozenset(), frozenset({errno.EAGAIN}), texts.PIDS),
    (frozenset(), frozenset({errno.ENOMEM}), texts.MEMORY),
    (frozenset(), frozenset({errno.ETIMEDOUT}), texts.TIMEOUT),
)


def advice_for(stage: str, err: int, may_degrade: bool = False) -> Advice:
    """What would fix a failure at `stage` with errno `err`; an empty line if nothing is known.

    `may_degrade`: nothing is said about ALLOW_DEGRADATION, because it has been chosen.
    """
    for stages, errnos, hint in _RULES:
        if (not stages or stage in stages) and (not errnos or err in errnos):
            found = Advice(hint) if isinstance(hint, str) else hint(stage, err)
            less = "" if may_degrade or not found.line else _or_less(stage, err)
            return found._replace(line=found.line + less)
    return Advice()


def _or_less(stage: str, err: int) -> str:
    if stage == "mount_proc" and err in _DENIED:
        return f"; or, without any /proc inside, {texts.DEGRADE}"
    if stage == "landlock" and err in _DENIED:
        return f"; or, without Landlock, {texts.DEGRADE}"
    return texts.LESS if stage in _REFUSED_STAGES and err in _REFUSALS and kernel_version() >= _LANDLOCK_KERNEL else ""


def hint_for(stage: str, err: int) -> str:
    """The command or setting that would fix a failure at `stage` with errno `err`; "" if none is known."""
    return advice_for(stage, err).line
