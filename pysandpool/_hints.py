"""What would fix a failed creation: from its address {stage, errno} to a command or a setting.

The settings of this kernel are read at the time of the failure, so that the hint names the one that is in the
way and not all that could be. Sources: user_namespaces(7), namespaces(7), clone(2), and
Documentation/admin-guide/sysctl of the kernel.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Union

SYSCTLS = (
    "user.max_user_namespaces",
    "kernel.unprivileged_userns_clone",
    "kernel.apparmor_restrict_unprivileged_userns",
)

_DENIED = frozenset({errno.EPERM, errno.EACCES})
_NAMESPACE_STAGES = frozenset({"user_namespace", "id_map", "namespaces", "network_namespace", "clone"})
_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")

_COUNT = "raise the number of user namespaces: sysctl -w user.max_user_namespaces=15000"
_CLONE = "allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1"
_APPARMOR = (
    "let AppArmor allow user namespaces: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, "
    "or give this program a profile with `userns,` (Ubuntu 23.10 and later)"
)
_CONTAINER = (
    "the container forbids namespaces: docker run --security-opt seccomp=unconfined (or a seccomp profile that allows "
    "clone, unshare, mount and pivot_root) --security-opt apparmor=unconfined"
)
_ANY = f"{_CLONE}; {_APPARMOR}; in a container: {_CONTAINER}"
_PROC = (
    "the container masks /proc, which forbids mounting a new one: docker run --security-opt systempaths=unconfined, "
    "or procMount: Unmasked in Kubernetes"
)
_FILES = "raise the limit of open files (RLIMIT_NOFILE): ulimit -n 65536, or LimitNOFILE= of the service"
_ALL_FILES = "raise the system's limit of open files: sysctl -w fs.file-max=1000000"
_PIDS = (
    "raise the limit of processes: RLIMIT_NPROC (ulimit -u), the cgroup's pids.max (TasksMax=, docker run "
    "--pids-limit), or sysctl -w kernel.pid_max"
)
_KINDS = "this kernel lacks a namespace kind: it needs CONFIG_USER_NS, CONFIG_PID_NS, CONFIG_NET_NS and CONFIG_IPC_NS"
_NESTING = "user namespaces are nested too deep (32 levels at most): start the host process further out"
_NETNS = "raise the number of network namespaces: sysctl -w user.max_net_namespaces=15000"
_MOUNTS = "raise the number of mounts of a namespace: sysctl -w fs.mount-max=200000"
_MEMORY = "free memory, or raise the memory limit of the service's cgroup"
_TIMEOUT = "the machine did not create a sandbox within 10 s: check its load and its memory pressure"
_REINSTALL = "the installation is not whole: pip install --force-reinstall pysandpool"
_HEALTH = (
    "the health command (PoolConfig.health_check_command) must exit with 0 inside: run `python -m pysandpool doctor`"
)
_LANDLOCK = "boot with landlock in the list of security modules: lsm=landlock,... (CONFIG_SECURITY_LANDLOCK)"
_SECCOMP = "the kernel needs CONFIG_SECCOMP_FILTER"
_DELEGATE = (
    "run in a delegated cgroup of v2: systemd-run --user --scope -p Delegate=yes COMMAND, or Delegate=yes in the "
    "service; and name a directory there, without processes, as cgroup_parent"
)
_CPU = f"only a cgroup enforces cpu_quota_us: {_DELEGATE}; or choose NamespaceDegradation.ALLOW_DEGRADATION"
_CONTROLLERS = (
    "a controller is not available in that cgroup: systemctl edit user@.service, [Service] Delegate=cpu memory pids, "
    "or write +memory +pids +cpu to the cgroup.subtree_control of each directory above it"
)
_BIND_MISSING = "create the path (with rootfs=, in the rootfs too), or take it out of fs_readonly / fs_readwrite"
_ROOTFS = (
    "rootfs is a directory that everybody may enter, with the directories /proc, /tmp and /dev in it to mount on: "
    "mkdir -p ROOTFS/proc ROOTFS/tmp ROOTFS/dev; chmod 755 ROOTFS"
)
_BIND_DENIED = (
    "the path must be reachable for the user that runs the pool, and writable for it in fs_readwrite: check its "
    "permissions and its parents'. Root's sandboxes run as uid 65534; a fs_readwrite directory of another's becomes "
    "theirs where the file system has idmapped mounts (ext4, xfs, btrfs, tmpfs), else: chown -R 65534:65534 it"
)
_BIND_LINK = "below another fs_* path nothing is reached over a symbolic link: name the place that it leads to"
_BIND_SYSTEM = (
    "it is, or a symbolic link makes it, a place of the system that is not shown (/proc, /sys, /dev), or not for "
    "writing (/usr, /etc, ...): name another path"
)
_BIND_READ_ONLY = "its file system is mounted read-only: put it in fs_readonly"


def read_sysctl(name: str) -> str | None:
    """The value of a sysctl such as "user.max_user_namespaces", or None where this kernel does not have it."""
    try:
        return Path("/proc/sys", *name.split(".")).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def in_container() -> bool:
    """Whether the marks of docker or podman are there."""
    return any(Path(mark).exists() for mark in _CONTAINER_MARKS)


def _namespaces_denied() -> str:
    if read_sysctl("user.max_user_namespaces") == "0":
        return _COUNT
    if read_sysctl("kernel.unprivileged_userns_clone") == "0":
        return _CLONE
    if read_sysctl("kernel.apparmor_restrict_unprivileged_userns") == "1":
        return _APPARMOR
    return _CONTAINER if in_container() else _ANY


_Hint = Union[str, Callable[[], str]]

# The first rule that matches wins. No stages: any stage.
_RULES: tuple[tuple[frozenset[str], frozenset[int], _Hint], ...] = (
    (frozenset({"limits"}), frozenset({errno.ENOTSUP}), _CPU),
    (frozenset({"cgroup"}), frozenset({errno.EOPNOTSUPP, errno.EBUSY}), _CONTROLLERS),
    (frozenset({"cgroup"}), frozenset({*_DENIED, errno.ENOENT, errno.ENODEV, errno.EROFS}), _DELEGATE),
    (frozenset({"spawn_zygote"}), frozenset({errno.ENOENT, errno.EACCES, errno.ENOEXEC}), _REINSTALL),
    (frozenset({"health_check"}), frozenset(), _HEALTH),
    (frozenset({"bind"}), frozenset({errno.ENOENT, errno.ENOTDIR}), _BIND_MISSING),
    (frozenset({"bind"}), frozenset({errno.ELOOP}), _BIND_LINK),
    (frozenset({"bind"}), frozenset({errno.EINVAL}), _BIND_SYSTEM),
    (frozenset({"bind"}), frozenset({errno.EROFS}), _BIND_READ_ONLY),
    (frozenset({"bind"}), _DENIED, _BIND_DENIED),
    (frozenset({"rootfs"}), frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EINVAL}), _ROOTFS),
    (frozenset({"mount_proc"}), _DENIED, _PROC),
    (frozenset({"landlock"}), frozenset({errno.ENOSYS, errno.EOPNOTSUPP}), _LANDLOCK),
    (frozenset({"seccomp"}), frozenset({errno.ENOSYS, errno.EINVAL}), _SECCOMP),
    (frozenset({"network_namespace"}), frozenset({errno.ENOSPC}), _NETNS),
    (frozenset({"root_template", "bind", "dev", "scratch"}), frozenset({errno.ENOSPC}), _MOUNTS),
    (_NAMESPACE_STAGES, frozenset({errno.ENOSPC}), _COUNT),
    (_NAMESPACE_STAGES, frozenset({errno.EUSERS}), _NESTING),
    (_NAMESPACE_STAGES, frozenset({errno.ENOSYS, errno.EINVAL}), _KINDS),
    (_NAMESPACE_STAGES, _DENIED, _namespaces_denied),
    (frozenset({"root_template", "bind", "dev", "pivot_root", "scratch"}), _DENIED, _namespaces_denied),
    (frozenset(), frozenset({errno.EMFILE}), _FILES),
    (frozenset(), frozenset({errno.ENFILE}), _ALL_FILES),
    (frozenset(), frozenset({errno.EAGAIN}), _PIDS),
    (frozenset(), frozenset({errno.ENOMEM}), _MEMORY),
    (frozenset(), frozenset({errno.ETIMEDOUT}), _TIMEOUT),
)


def hint_for(stage: str, err: int) -> str:
    """The command or setting that would fix a failure at `stage` with errno `err`; "" when none is known."""
    for stages, errnos, hint in _RULES:
        if (not stages or stage in stages) and (not errnos or err in errnos):
            return hint if isinstance(hint, str) else hint()
    return ""
