"""Other machines, simulated: what a kernel, a container or an administrator refuses, for one process and its children.

Each function changes the calling process for good: call it in a process of its own (`scripts.run_script`), before a
pool is opened there.
"""

from __future__ import annotations

import codecs
import ctypes
import os
import platform
import re
import struct
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLONE_NEWUSER = 0x10000000
CLONE_NEWNS = 0x00020000
MS_NOEXEC, MS_NOATIME = 8, 1024
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_SET_DUMPABLE = 38, 22, 4
ALLOW, ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, JUMP_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x45, 0x06
ORDINARY = 12345

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def in_container(kind: str) -> None:
    """What the hints take this process's surroundings for: a `container_kind`, "" for none."""
    from pysandpool._backend import delegation, forbidden, hints

    hints.container_kind = forbidden.container_kind = delegation.container_kind = lambda: kind


def become_ordinary() -> None:
    """An unprivileged user, if this is root."""
    if os.geteuid() == 0:
        codecs.lookup("ascii")  # root's Python may lie where nobody else can read what is not imported yet
        os.setgroups([])
        os.setresgid(ORDINARY, ORDINARY, ORDINARY)
        os.setresuid(ORDINARY, ORDINARY, ORDINARY)


def number_of(name: str) -> int:
    """The number of a system call on this machine."""
    table = {"x86_64": "syscalls_x86_64.h", "aarch64": "syscalls_aarch64.h"}[platform.machine()]
    found = re.search(rf'{{"{name}", (\d+)}}', (ROOT / "csrc" / "host" / "seccomp" / table).read_text(encoding="utf-8"))
    assert found, name
    return int(found[1])


def answer(name: str, errno: int, flag: tuple[int, int] | None = None) -> None:
    """A seccomp filter that answers `name` with `errno`; 0 is a success that never happened.

    `flag`: (argument, bits): only when the argument has any of the bits; for prctl's number, when it equals them.
    """
    program = [(LOAD, 0, 0, 0), (JUMP_EQUAL, 0, 3 if flag else 1, number_of(name))]
    if flag:
        index, bits = flag
        program += [(LOAD, 0, 0, 16 + 8 * index), (JUMP_EQUAL if name == "prctl" else JUMP_SET, 0, 1, bits)]
    _install([*program, (RETURN, 0, 0, ERRNO | errno), (RETURN, 0, 0, ALLOW)], name)


def kill_for(name: str) -> None:
    """A seccomp filter that kills whoever calls `name`, as SystemCallFilter= of systemd does by default."""
    program = [(LOAD, 0, 0, 0), (JUMP_EQUAL, 0, 1, number_of(name))]
    _install([*program, (RETURN, 0, 0, KILL_PROCESS), (RETURN, 0, 0, ALLOW)], name)


def _install(program: list[tuple[int, int, int, int]], name: str) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in program))
    filters = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    if os.geteuid() != 0:
        _checked(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _checked(_libc.prctl(PR_SET_SECCOMP, 2, filters, 0, 0), f"filter for {name}")


def _unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), "unshare")


def own_mounts() -> None:
    """A mount namespace of its own; an ordinary user's is in a user namespace of its own."""
    if os.geteuid() != 0:
        own_users()
    _unshare(CLONE_NEWNS)
    _checked(_libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "private mounts")


def mount_tmpfs(path: str, flags: int = 0) -> None:
    """After own_mounts(): a tmpfs at this path that everybody may write to."""
    os.makedirs(path, exist_ok=True)
    _checked(_libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", flags, b"mode=0777"), path)


def mask_proc() -> None:
    """Covers entries of /proc as container runtimes do, in mounts of its own."""
    own_mounts()
    _checked(_libc.mount(b"/dev/null", b"/proc/keys", None, MS_BIND, None), "/proc/keys")
    _checked(_libc.mount(b"tmpfs", b"/proc/irq", b"tmpfs", 1, None), "/proc/irq")


def own_users(**limits: int) -> None:
    """A user namespace of its own, with these limits (`max_user_namespaces=0`, ...): root stays root in it.

    The limits are the namespace's own: those of the machine stay as they are.
    """
    uid, gid = os.geteuid(), os.getegid()
    _checked(_libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "dumpable")
    if uid == 0:
        _map_from_outside("0 0 65536", "0 0 65536")
    else:
        _unshare(CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"1000 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"1000 {gid} 1")
    for name, limit in limits.items():
        Path("/proc/sys/user", name).write_text(str(limit))


def _map_from_outside(uids: str, gids: str) -> None:
    """More than one id can only be mapped by somebody with privileges outside: a child that stayed there."""
    ready, release = os.pipe()
    this, child = os.getpid(), os.fork()
    if child == 0:
        os.close(release)
        os.read(ready, 1)  # until this process has left
        Path(f"/proc/{this}/uid_map").write_text(uids)
        Path(f"/proc/{this}/gid_map").write_text(gids)
        os._exit(0)
    _unshare(CLONE_NEWUSER)
    os.close(release)
    assert os.waitpid(child, 0)[1] == 0, "id maps"
    os.close(ready)


def cgroup_mount() -> str | None:
    """Where cgroup v2 is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            return line.split(" ")[4]
    return None


def cgroup_read_only() -> None:
    """cgroup v2 as a container sees it: there, and read-only."""
    own_mounts()
    mount = (cgroup_mount() or "").encode()
    _checked(_libc.mount(mount, mount, None, MS_BIND, None), "bind of cgroup v2")
    _checked(_libc.mount(None, mount, None, MS_BIND | MS_REMOUNT | MS_RDONLY, None), "read-only cgroup v2")
