"""The surroundings of this process: the kernel and its settings, filters, profiles, mounts, a service."""

from __future__ import annotations

import os
import re
from pathlib import Path

NAMESPACES = ("user", "pid", "mnt", "ipc", "uts", "cgroup", "net")
SYSCTLS = (
    *(f"user.max_{kind}_namespaces" for kind in NAMESPACES),
    "kernel.unprivileged_userns_clone",
    "kernel.apparmor_restrict_unprivileged_userns",
)

_PSEUDO = frozenset(["proc", "sysfs", "cgroup", "cgroup2", "devpts", "debugfs", "tracefs", "securityfs"])


def read_sysctl(name: str) -> str | None:
    """The value of a sysctl such as "user.max_user_namespaces", or None if this kernel does not have it."""
    return _read(Path("/proc/sys", *name.split("."))) or None


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
    return tuple(sorted({point for point, _ in mount_points() if point.startswith("/proc/")}))


def mount_points() -> tuple[tuple[str, str], ...]:
    """(mount point, type of the file system) of each mount that this process sees."""
    lines = (line.partition(" - ") for line in _read(Path("/proc/self/mountinfo")).splitlines())
    return tuple((before.split(" ")[4], after.split(" ")[0]) for before, _, after in lines)


def is_changed_root() -> bool:
    """Whether the root directory is no mount point: in a chroot the kernel allows no user namespace."""
    points = mount_points()
    return bool(points) and all(point != "/" for point, _ in points)


def is_nested() -> bool:
    """Whether this process is in another user namespace than the machine's first one, which maps each id to itself."""
    return _read(Path("/proc/self/uid_map")).split() not in ([], ["0", "0", "4294967295"])


def apparmor_profile() -> str:
    """The AppArmor profile of this process, without its mode; "" if there is none, or it is unconfined."""
    for path in ("/proc/self/attr/apparmor/current", "/proc/self/attr/current"):
        name, _, mode = _read(Path(path)).rstrip("\0").rpartition(" ")
        if mode in ("(enforce)", "(kill)"):
            return name
    return ""


def is_selinux_container() -> bool:
    """Whether SELinux confines this process as a container."""
    return ":container_t:" in _read(Path("/proc/self/attr/current"))


def is_gvisor() -> bool:
    """Whether the kernel is gVisor's, which runs in user space; its version has carried this date since 2016."""
    return "#1 SMP Sun Jan 10 15:06:54 PST 2016" in _read(Path("/proc/version"))


def kernel_version() -> tuple[int, int]:
    """The version of the kernel, such as (6, 12); (0, 0) if it is unknown."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def service_unit() -> str:
    """The systemd unit that this process belongs to, such as "worker.service"; "" if it is no service."""
    if "INVOCATION_ID" not in os.environ:
        return ""
    found = re.findall(r"([^/\n]+\.service)(?=[/\n]|$)", _read(Path("/proc/self/cgroup")))
    return found[-1] if found else ""


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
