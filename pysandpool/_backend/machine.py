"""The surroundings of this process: settings of the kernel, a container, a seccomp filter, a masked /proc."""

from __future__ import annotations

import os
from pathlib import Path

NAMESPACES = ("user", "pid", "mnt", "ipc", "uts", "cgroup", "net")
SYSCTLS = (
    *(f"user.max_{kind}_namespaces" for kind in NAMESPACES),
    "kernel.unprivileged_userns_clone",
    "kernel.apparmor_restrict_unprivileged_userns",
)

_PSEUDO = frozenset(["proc", "sysfs", "cgroup", "cgroup2", "devpts", "debugfs", "tracefs", "securityfs"])
_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
_POD_MARK = "/var/run/secrets/kubernetes.io"


def read_sysctl(name: str) -> str | None:
    """The value of a sysctl such as "user.max_user_namespaces", or None if this kernel does not have it."""
    return _read(Path("/proc/sys", *name.split("."))) or None


def in_container() -> bool:
    """Whether this process runs in a container of docker, podman or Kubernetes."""
    return in_pod() or any(Path(mark).exists() for mark in _CONTAINER_MARKS)


def in_pod() -> bool:
    """Whether this process runs in Kubernetes."""
    return "KUBERNETES_SERVICE_HOST" in os.environ or Path(_POD_MARK).exists()


def is_filtered() -> bool:
    """Whether this process has a seccomp filter, from a container or a service manager."""
    return "\nSeccomp:\t2\n" in f"\n{_read(Path('/proc/self/status'))}\n"


def audit_listener() -> bool | None:
    """Whether a program reads the audit log of the host, into which seccomp filters can log; None if it is unknown.

    An audit daemon has a netlink socket of the audit family (9), and so does journald; the kernel's own has pid 0. Such
    sockets are visible only in the network namespace of the host, which is the one that has sysctls of devices.
    """
    if "log" not in _read(Path("/proc/sys/kernel/seccomp/actions_logged")).split():
        return False
    sockets = [line.split() for line in _read(Path("/proc/net/netlink")).splitlines()[1:]]
    if any(len(words) > 2 and words[1] == "9" and words[2] != "0" for words in sockets):
        return True
    return False if Path("/proc/sys/net/core/dev_weight").exists() else None


def masked_proc() -> tuple[str, ...]:
    """The mount points below /proc. If there are any, the kernel lets no unprivileged process mount a new /proc."""
    points = (line.split(" ")[4] for line in _read(Path("/proc/self/mountinfo")).splitlines())
    return tuple(sorted({point for point in points if point.startswith("/proc/")}))


def pseudo_devices() -> frozenset[int]:
    """The devices (st_dev) of file systems in which no file can be created, such as other mounts of /proc."""
    devices = set()
    for line in _read(Path("/proc/self/mountinfo")).splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ")[0] in _PSEUDO:
            major, minor = before.split(" ")[2].split(":")
            devices.add(os.makedev(int(major), int(minor)))
    return frozenset(devices)


def security_modules() -> str:
    """The active security modules, for example "lockdown,yama,apparmor"; "" if they are unknown."""
    return _read(Path("/sys/kernel/security/lsm"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").strip()
    except OSError:
        return ""
