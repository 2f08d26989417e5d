"""Hints: the command or setting that would fix a failed creation, found by its stage and errno.

The settings of this kernel are read at the time of the failure, so that the hint names the one that caused it, not all
that could. Sources: user_namespaces(7), namespaces(7), clone(2), and Documentation/admin-guide/sysctl of the kernel.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Union

from pysandpool._backend.container import container_kind
from pysandpool._backend.delegation import delegate
from pysandpool._backend.engines import Advice, Fix
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

_FILES = "raise the limit of open files (RLIMIT_NOFILE): ulimit -n 65536, or LimitNOFILE= of the service"
_ALL_FILES = "raise the system's limit of open files: sysctl -w fs.file-max=1000000"
_PIDS = (
    "raise the limit of processes: RLIMIT_NPROC (ulimit -u), the cgroup's pids.max (TasksMax=, docker run "
    "--pids-limit), or sysctl -w kernel.pid_max"
)
FILTERS = (
    'allow them with SandboxConfig(seccomp_allow=("seccomp",)) if that does not matter, or keep filters from logging: '
    'sysctl -w kernel.seccomp.actions_logged="kill_process kill_thread trap errno user_notif trace"'
)
FILTER_LOG = (
    "on the host, if it runs an audit daemon: sysctl -w "
    'kernel.seccomp.actions_logged="kill_process kill_thread trap errno user_notif trace"'
)
_KINDS = "this kernel lacks a namespace kind: it needs CONFIG_USER_NS, CONFIG_PID_NS, CONFIG_NET_NS and CONFIG_IPC_NS"
_NESTING = "user namespaces are nested too deeply (32 levels at most): start the host process in an outer one"
_OUTER_COUNT = (
    "a user namespace around this one allows no more of them, as that of bwrap --disable-userns: start this process "
    "outside of it, or raise user.max_user_namespaces there"
)
_READ_ONLY_PROC = (
    "/proc is mounted read-only, so that no id map can be written: mount -o remount,rw /proc, outside of it"
)
_GVISOR = (
    "the kernel is gVisor's, which lacks a call that sandboxes need: run it in another runtime (docker run "
    "--runtime=runc; in Kubernetes, no runtimeClassName of gVisor)"
)
# pidfd_open; 5.10 is the oldest on which the tests run.
_OLDEST_KERNEL = (5, 3)
_OLD_KERNEL = (
    "this kernel is too old, as that of RHEL 8 is: use Linux 5.10 or newer (RHEL 9, Debian 11, Ubuntu 22.04, Amazon "
    "Linux 2 with its kernel-5.10)"
)
_LACKING = "this kernel lacks a system call that sandboxes need: use Linux 5.10 or newer, with nothing in between"
_DEGRADE = "choose NamespaceDegradation.ALLOW_DEGRADATION"
_LESS = (
    "; or take less isolation with NamespaceDegradation.ALLOW_DEGRADATION (pysandpool run --allow-degradation); "
    "isolation.tier then says which"
)
# Where a host that may take less goes on without namespaces: see sp_tier_is_refusal. A /proc is left out alone.
_REFUSED_STAGES = frozenset({"drop_root", "root_template", "dev", "pivot_root", *_NAMESPACE_STAGES})
_REFUSALS = frozenset({*_DENIED, errno.ENOSYS, errno.ENOSPC, errno.EINVAL, errno.EROFS, errno.ENODEV, errno.EBUSY})
_LANDLOCK_KERNEL = (5, 13)
_FEW_NAMESPACES = 1000
_NETNS = "raise the number of network namespaces: sysctl -w user.max_net_namespaces=15000"
_MOUNTS = "raise the number of mounts of a namespace: sysctl -w fs.mount-max=200000"
_MEMORY = "free memory, or raise the memory limit of the service's cgroup"
_TIMEOUT = "the machine did not create a sandbox within 10 s: check its load and its memory pressure"
_PRELOAD_SLOW = "let Interpreter.preload_timeout be longer, or preload less"
_PRELOAD_ENDED = (
    "Interpreter.python must be a CPython 3.9 to 3.14, and neither setup nor what is imported may end the process "
    "(os._exit, exec)"
)
_PRELOAD_PYTHON = (
    "let the sandbox show this interpreter: fs_readonly with its prefix, or a path of the rootfs; what tenants can "
    "write (fs_readwrite, a writable Bind, and all below) is hidden from it"
)
_REINSTALL = "the installation is incomplete: pip install --force-reinstall pysandpool"
_NO_OTHER_ID = (
    "sandboxes of root run as uid and gid 65534, which this process cannot become without CAP_SETUID and CAP_SETGID, "
    "or where they are not mapped into its user namespace: run it as an ordinary user, or outside of that namespace"
)
_NO_ROOT_MAP = (
    "this process is root and may not map that id into a user namespace: run it as an ordinary user (docker run "
    "--user 1000), or keep CAP_SETFCAP"
)
_HEALTH = (
    "the health command (PoolConfig.health_check_command) must exit with 0 inside: run `python -m pysandpool doctor`"
)
_LANDLOCK = "boot with landlock in the list of security modules: lsm=landlock,... (CONFIG_SECURITY_LANDLOCK)"
_LOWER_TIER = "the kernel refuses namespaces here, and the Landlock tier, which ALLOW_DEGRADATION takes instead, "
_LANDLOCK_DENIED = (
    "a seccomp profile refuses Landlock: allow landlock_create_ruleset, landlock_add_rule and landlock_restrict_self "
    f"in it, or {_DEGRADE}"
)
_PROOF = (
    "something between this process and the kernel (a seccomp supervisor, or a kernel in user space such as gVisor) "
    "reports success for calls that had no effect: run outside of it, and report the detail if there is none"
)
_SEATBELT = (
    "Seatbelt does not enforce the profile: /usr/bin/sandbox-exec must be Apple's own; if it is, report the detail "
    "with the version of macOS"
)
_NESTED = "this process is in a sandbox already, and Seatbelt cannot be nested: start it outside of that sandbox"
_PROFILE = "sandbox-exec did not start the agent: report the detail with the version of macOS"
_NO_UNIX = "unix sockets are forbidden to this process: in a systemd unit, add RestrictAddressFamilies=AF_UNIX"
_LEASES = "a pool can have at most 16383 leases at a time: release some, or open another pool"
_SECCOMP = "the kernel needs CONFIG_SECCOMP_FILTER"
_CONTROLLERS = (
    "a controller is not available in that cgroup: systemctl edit user@.service, [Service] Delegate=cpu memory pids, "
    "or write +memory +pids +cpu to the cgroup.subtree_control of each directory above it"
)
_BIND_MISSING = (
    "create the path (with rootfs=, in the rootfs too), or remove it from fs_readonly, fs_readwrite or binds"
)
_ROOTFS = (
    "rootfs must be a directory that every user may enter, and contain the directories /proc, /tmp and /dev: "
    "mkdir -p ROOTFS/proc ROOTFS/tmp ROOTFS/dev; chmod 755 ROOTFS"
)
_BIND_DENIED = (
    "the user that runs the pool must be able to reach the path, and in fs_readwrite to write to it: check its "
    "permissions and its parents'. Sandboxes of root run as uid 65534. A directory of another user becomes theirs if "
    "its file system has idmapped mounts (ext4, xfs, btrfs, tmpfs); if not: chown -R 65534:65534 it"
)
_BIND_LINK = (
    "the path contains a symbolic link, which lies below another fs_* path or leads to what the sandbox is not shown: "
    "name the target of the link"
)
_BIND_SYSTEM = (
    "the path is, or leads by a symbolic link to, a place of the system that is never shown (/proc, /sys, /dev) or "
    "never writable (/usr, /etc, ...): name another path"
)
_BIND_MOVED = (
    "a file with a set-id bit or a capability, or a directory that cannot be searched, was moved or replaced since the "
    "pool was opened, and can no longer be made read-only: open the pool again"
)
SET_ID = (
    "a file that runs with its owner's rights, or with capabilities, must not be writable for a sandbox: "
    "chmod u-s,g-s FILE, setcap -r FILE, or put it in fs_readonly"
)
MANY_SET_ID = (
    "each set-id file, file with capabilities and directory that cannot be read needs a bind of its own, and a sandbox "
    "has at most 4,096: chmod u-s,g-s and setcap -r where they are not needed, or put the directory in fs_readonly"
)
MANY_DIRECTORIES = "it has too many directories to be searched for set-id files: put it in fs_readonly"
_WORKSPACE_TAKEN = (
    "something of the configuration is at /mnt or /workspace, where a workspace is attached: show it at another place "
    "with Bind(src, dst); with rootfs=, make an empty directory /mnt in it"
)
_WORKSPACE_DENIED = (
    "the user that runs the pool must be able to reach the directory, and to write to it with mode rw. One of another "
    "user becomes the sandbox's if the host runs as root and its file system has idmapped mounts (ext4, xfs, btrfs, "
    "tmpfs)"
)
OVERLAY = (
    "the kernel refuses an overlay of this directory: it needs Linux 5.11 with overlayfs for mode cow, and a directory "
    "in which nothing else is mounted; modes rw and ro work everywhere"
)
_BIND_READ_ONLY = "its file system is mounted read-only: put it in fs_readonly"


def for_hostname() -> Advice:
    """What would let sandboxes have a hostname of their own."""
    if not container_kind():
        return Advice("allow sethostname in the seccomp filter of this process")
    return advice_for("namespaces", errno.EPERM, may_degrade=True)


def _cpu(stage: str, err: int) -> Advice:
    return Advice(f"only a cgroup enforces cpu_quota_us: {delegate()}; or {_DEGRADE}")


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
        return Advice(_OUTER_COUNT)
    names = names or [lowest]
    where = "on the host, " if container_kind() else ""
    fixes = tuple(Fix(f"as root, {where}raise the number of namespaces", f"sysctl -w {name}=15000") for name in names)
    return Advice("; ".join(f"{where}raise the number of namespaces: {fix.command}" for fix in fixes), fixes)


def _no_other_id(stage: str, err: int) -> Advice:
    """Dropping root comes first: what else a container forbids is named beside it."""
    return advice(stage, err) if container_kind() else Advice(_NO_OTHER_ID)


def _id_map_denied(stage: str, err: int) -> Advice:
    return Advice(_NO_ROOT_MAP) if os.geteuid() == 0 else advice(stage, err)


def _missing_call(stage: str, err: int) -> Advice:
    """ENOSYS or EINVAL may come from a seccomp filter that hides what it forbids, or from the kernel."""
    if is_gvisor():
        return Advice(_GVISOR)
    if (0, 0) < kernel_version() < _OLDEST_KERNEL:
        return Advice(_OLD_KERNEL)
    if is_filtered():
        return advice(stage, err)
    return Advice(_KINDS if stage in _NAMESPACE_STAGES else _LACKING)


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
        else f"needs Landlock: {_LANDLOCK}"
    )
    return Advice(f"{_LOWER_TIER}{what}; or allow namespaces: {allowed.line}", allowed.fixes)


def _no_proc(stage: str, err: int) -> Advice:
    masked = masked_proc()
    some = f"there are mounts over /proc ({', '.join(masked[:3])}{', ...' if masked[3:] else ''}): " if masked else ""
    allowed = advice(stage, err)
    return Advice(f"{some}{allowed.line}", allowed.fixes)


_Hint = Union[str, Callable[[str, int], Advice]]

# The first rule that matches wins. An empty set matches every stage or errno.
_RULES: tuple[tuple[frozenset[str], frozenset[int], _Hint], ...] = (
    (frozenset({"limits"}), frozenset({errno.ENOTSUP}), _cpu),
    (frozenset({"preload"}), frozenset({errno.ETIMEDOUT}), _PRELOAD_SLOW),
    (frozenset({"preload"}), frozenset({errno.ECONNRESET, errno.EPIPE}), _PRELOAD_ENDED),
    (frozenset({"preload"}), frozenset({errno.ENOENT, errno.EACCES, errno.ENOTDIR}), _PRELOAD_PYTHON),
    (frozenset({"cgroup"}), frozenset({errno.EOPNOTSUPP, errno.EBUSY}), _CONTROLLERS),
    (frozenset({"cgroup"}), frozenset({*_DENIED, errno.ENOENT, errno.ENODEV, errno.EROFS}), _delegate),
    (frozenset({"spawn_zygote"}), frozenset({errno.ENOENT, errno.EACCES, errno.ENOEXEC}), _REINSTALL),
    (frozenset({"spawn_zygote", "protocol"}), frozenset({errno.ECONNRESET}), _killed),
    (frozenset({"host_socket"}), frozenset({errno.EAFNOSUPPORT}), _NO_UNIX),
    (frozenset({"drop_root"}), frozenset(), _no_other_id),
    (frozenset({"id_map"}), _DENIED, _id_map_denied),
    (frozenset({"health_check"}), frozenset(), _HEALTH),
    (frozenset({"bind"}), frozenset({errno.ENOENT, errno.ENOTDIR}), _BIND_MISSING),
    (frozenset({"bind"}), frozenset({errno.ELOOP}), _BIND_LINK),
    (frozenset({"bind"}), frozenset({errno.EINVAL}), _BIND_SYSTEM),
    (frozenset({"bind"}), frozenset({errno.EROFS}), _BIND_READ_ONLY),
    (frozenset({"bind"}), frozenset({errno.ESTALE}), _BIND_MOVED),
    (frozenset({"bind"}), _DENIED, _BIND_DENIED),
    (frozenset({"workspace"}), frozenset({errno.EBUSY}), _WORKSPACE_TAKEN),
    (frozenset({"workspace"}), _DENIED, _WORKSPACE_DENIED),
    (frozenset({"workspace"}), frozenset({errno.EROFS}), _BIND_READ_ONLY.replace("fs_readonly", "mode ro")),
    (frozenset({"workspace"}), frozenset({errno.EINVAL}), _BIND_SYSTEM),
    (frozenset({"rootfs"}), frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EINVAL}), _ROOTFS),
    (frozenset({"mount_proc"}), _DENIED, _no_proc),
    (frozenset({"tier"}), frozenset({errno.EOPNOTSUPP}), _not_in_the_lower_tier),
    (frozenset({"landlock"}), frozenset({errno.ENOSYS}), _not_in_the_lower_tier),
    (frozenset({"landlock"}), frozenset({errno.EOPNOTSUPP}), _LANDLOCK),
    (frozenset({"landlock"}), _DENIED, _LANDLOCK_DENIED),
    (frozenset({"proof"}), frozenset(), _PROOF),
    (frozenset({"seatbelt"}), frozenset({errno.ENOTSUP}), _SEATBELT),
    (frozenset({"seatbelt"}), frozenset({errno.EPERM}), _NESTED),
    (frozenset({"seatbelt"}), frozenset({errno.EPROTO}), _PROFILE),
    (frozenset({"seccomp"}), frozenset({errno.ENOSYS, errno.EINVAL}), _SECCOMP),
    (frozenset({"host_socket"}), frozenset({errno.ENOSPC}), _LEASES),
    (frozenset({"network_namespace"}), frozenset({errno.ENOSPC}), _NETNS),
    (frozenset({"root_template", "bind", "dev", "scratch"}), frozenset({errno.ENOSPC}), _MOUNTS),
    (_NAMESPACE_STAGES, frozenset({errno.ENOSPC}), _counts),
    (_NAMESPACE_STAGES, frozenset({errno.EUSERS}), _NESTING),
    (_NAMESPACE_STAGES, frozenset({errno.ENOSYS, errno.EINVAL}), _missing_call),
    (_NAMESPACE_STAGES, _DENIED, advice),
    (_MOUNT_STAGES, _DENIED, advice),
    (frozenset({"id_map"}), frozenset({errno.EROFS}), _READ_ONLY_PROC),
    (frozenset(), frozenset({errno.ENOSYS}), _missing_call),
    # ETOOMANYREFS: descriptors that are being sent count against the same limit.
    (frozenset(), frozenset({errno.EMFILE, errno.ETOOMANYREFS}), _FILES),
    (frozenset(), frozenset({errno.ENFILE}), _ALL_FILES),
    (frozenset(), frozenset({errno.EAGAIN}), _PIDS),
    (frozenset(), frozenset({errno.ENOMEM}), _MEMORY),
    (frozenset(), frozenset({errno.ETIMEDOUT}), _TIMEOUT),
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
        return f"; or, without any /proc inside, {_DEGRADE}"
    return _LESS if stage in _REFUSED_STAGES and err in _REFUSALS and kernel_version() >= _LANDLOCK_KERNEL else ""


def hint_for(stage: str, err: int) -> str:
    """The command or setting that would fix a failure at `stage` with errno `err`; "" if none is known."""
    return advice_for(stage, err).line
