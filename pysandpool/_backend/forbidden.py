"""What forbids namespaces, or mounts in them, to this process, and all the settings that allow them, at once.

Each obstacle is looked for when a creation has failed, so that nothing is recommended that holds already. Sources:
user_namespaces(7), systemd.exec(5), apparmor.d(5), and Documentation/admin-guide/sysctl of the kernel.
"""

from __future__ import annotations

import errno
import os
import re

from pysandpool._backend.container import container_kind
from pysandpool._backend.engines import APPARMOR, PROC, ROOT, SECCOMP, SELINUX, Advice, Fix, container_advice
from pysandpool._backend.machine import (
    apparmor_profile,
    is_changed_root,
    is_filtered,
    is_selinux_container,
    masked_proc,
    read_sysctl,
    service_unit,
)
from pysandpool._ffi import PROGRAMS

# The values with which sysctls forbid user namespaces, and with which they allow them.
_RESTRICTED = "kernel.apparmor_restrict_unprivileged_userns"
_SYSCTLS = {
    "user.max_user_namespaces": ("0", "15000"),
    "kernel.unprivileged_userns_clone": ("0", "1"),
    _RESTRICTED: ("1", "0"),
}
_WRITE_APPARMOR = "pysandpool doctor --apparmor-profile | sudo tee /etc/apparmor.d/pysandpool"
_LOAD_APPARMOR = "sudo apparmor_parser -r /etc/apparmor.d/pysandpool"
_CHROOT = (
    "the kernel allows no user namespaces to a process in a chroot: start it with pivot_root instead (bwrap, "
    "systemd-nspawn, a container)"
)
_NO_CAUSE_FOUND = (
    "something forbids user namespaces, and neither a sysctl, a seccomp filter nor an AppArmor profile was found: is "
    "this a chroot, or does the kernel's log (dmesg, journalctl -k) name a security module?"
)
_LANDLOCK = "landlock_create_ruleset landlock_add_rule landlock_restrict_self"
# The settings of a unit that take away what forbids.
_OF_UNITS = {
    SECCOMP: (
        "RestrictNamespaces=no",
        # @system-service, too: a unit without any filter would get one that allows nothing else.
        f"SystemCallFilter=@system-service @mount sethostname {_LANDLOCK}",
        "ProtectHostname=no",
    ),
    PROC: ("ProtectKernelTunables=no", "ProtectKernelLogs=no"),
    APPARMOR: ("AppArmorProfile=unconfined",),
    SELINUX: ("SELinuxContext=unconfined_u:unconfined_r:unconfined_t:s0",),
}
_AROUND = {
    SECCOMP: "a seccomp filter",
    PROC: "a mount over a part of /proc",
    APPARMOR: "an AppArmor profile",
    SELINUX: "SELinux",
}


def advice(stage: str, err: int) -> Advice:
    """What allows the namespaces, or the mounts in them, that were refused at `stage` with `err`."""
    kind = container_kind()
    sysctls = tuple(name for name in _forbidding_sysctls() if stage != "mount_proc" or name == _RESTRICTED)
    found = obstacles(stage, err)
    parts = [_allow_sysctls(sysctls, kind)] if sysctls else []
    if found and kind:
        parts.append(container_advice(kind, found))
    elif found:
        parts.append(_outside(found))
    elif not sysctls:
        parts.append(Advice(_CHROOT if is_changed_root() else _NO_CAUSE_FOUND))
    return Advice("; ".join(one.line for one in parts), tuple(fix for one in parts for fix in one.fixes))


def obstacles(stage: str, err: int) -> tuple[str, ...]:
    """Which of SECCOMP, PROC, APPARMOR, SELINUX and ROOT forbid what comes at `stage` and later."""
    there = {
        # A /proc is mounted when the calls for namespaces and mounts have been allowed.
        SECCOMP: stage != "mount_proc" and is_filtered(),
        # Not every mount over a part of /proc forbids a new one: those of a unit of systemd do not.
        PROC: stage == "mount_proc" or bool(container_kind() and masked_proc()),
        APPARMOR: apparmor_profile() not in ("", "unprivileged_userns"),
        SELINUX: err == errno.EACCES and is_selinux_container(),
        ROOT: stage == "drop_root",
    }
    return tuple(name for name, is_there in there.items() if is_there)


def apparmor_text() -> str:
    """An AppArmor profile that lets the zygote of this installation, and nothing else, create user namespaces."""
    # The kernel compares the path that links lead to. In a profile, some of its characters would be a pattern.
    zygote = re.sub(r'([][{}*?^@"\\])', r"\\\1", os.path.realpath(PROGRAMS / "sandpool-zygote"))
    return (
        "abi <abi/4.0>,\n"
        "include <tunables/global>\n\n"
        f'profile pysandpool "{zygote}" flags=(unconfined) {{\n'
        "  userns,\n"
        "  include if exists <local/pysandpool>\n"
        "}\n"
    )


def _forbidding_sysctls() -> list[str]:
    return [name for name, (forbids, _) in _SYSCTLS.items() if read_sysctl(name) == forbids]


def _allow_sysctls(names: tuple[str, ...], kind: str) -> Advice:
    """In a container they are the host's: /proc/sys is read-only there."""
    commands = [f"sysctl -w {name}={_SYSCTLS[name][1]}" for name in names]
    line = f"{'on the host, ' if kind else ''}allow user namespaces: {' && '.join(commands)}"
    fixes = [Fix(f"as root{' on the host' if kind else ''}, allow user namespaces", one) for one in commands]
    if names == (_RESTRICTED,) and not kind:
        line += (
            f"; or let AppArmor allow them to pysandpool alone (Ubuntu 23.10 and later): {_WRITE_APPARMOR} && "
            f"{_LOAD_APPARMOR}"
        )
        fixes = [
            Fix("let AppArmor allow user namespaces to pysandpool alone", _WRITE_APPARMOR),
            Fix("load that profile", _LOAD_APPARMOR),
            Fix("or, as root, allow user namespaces to all programs", commands[0]),
        ]
    return Advice(line, tuple(fixes))


def _outside(found: tuple[str, ...]) -> Advice:
    """Outside of containers it is mostly a unit of systemd that sets filters, and mounts over parts of /proc."""
    unit = service_unit()
    settings = "\n".join(setting for name in found for setting in _OF_UNITS.get(name, ()))
    line = f"{_AROUND[found[0]]} on this process forbids {'a new /proc' if found[0] == PROC else 'namespaces'}: "
    if unit:
        where = f"in the unit of the service (systemctl edit {unit})"
        return Advice(f"{line}{where}, set {settings.replace(chr(10), ', ')}", (Fix(where, f"[Service]\n{settings}"),))
    return Advice(f"{line}start it without; in a systemd unit, set {settings.replace(chr(10), ', ')}")
