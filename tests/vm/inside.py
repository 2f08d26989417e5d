"""The machine's first process: delegates a subtree to a user, runs pytest as each user asked for, switches off.

inside.py 0,1000 [pytest arguments]
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import socket
import struct
import subprocess
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CGROUPS = Path("/sys/fs/cgroup")
USER = 1000
SECONDS = 900  # for one test; most take some, on an idle machine
PROBES = "/srv/probes"  # see image.py
DISK_MB = 256
FINIT_MODULE = 313  # x86_64
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
POWER_OFF = 0x4321FEDC


def delegate() -> None:
    """As systemd does it: the directory and the three files that rule it are the user's."""
    (CGROUPS / "cgroup.subtree_control").write_text("+memory +pids +cpu")
    own = CGROUPS / "user"
    own.mkdir()
    (own / "session").mkdir()
    for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "session", "session/cgroup.procs"):
        os.chown(own / name, USER, USER)


def mount_disk() -> None:
    """/var/tmp is on ext4, as on most hosts. The rest is on a tmpfs, whose mounts can be idmapped since Linux 6.3."""
    with open("/disk", "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.truncate(DISK_MB << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "/disk"], check=True)
    subprocess.run(["mount", "-o", "loop", "/disk", "/var/tmp"], check=True)


def set_up() -> None:
    """What a distribution's start does, and what an attack's control needs to have something to reach."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    for module in Path("/lib/modules").glob("*.ko"):
        with module.open("rb") as file:
            if ctypes.CDLL(None, use_errno=True).syscall(FINIT_MODULE, file.fileno(), b"", 0) != 0:
                print(f"{module}: {os.strerror(ctypes.get_errno())}")
    mount_disk()
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        os.chmod(folder, 0o1777)
    Path("/proc/sys/kernel/perf_event_paranoid").write_text("1")
    Path("/proc/sys/vm/nr_hugepages").write_text("8")
    tiocsti = Path("/proc/sys/dev/tty/legacy_tiocsti")  # since Linux 6.2, and off in Debian
    if tiocsti.exists():
        tiocsti.write_text("1")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1 << 20))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (8 << 20, 8 << 20))
    resource.setrlimit(resource.RLIMIT_SIGPENDING, (1 << 16, 1 << 16))
    os.environ["SANDPOOL_PROBES"] = PROBES


def run_tests(uid: int, tests: list[str]) -> int:
    """pytest in a process of that user's."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            if uid != 0:
                (CGROUPS / "user" / "session" / "cgroup.procs").write_text("0")
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            import pytest

            options = [
                "-v",
                "--no-header",
                "-rsxX",
                "-c",
                "/dev/null",
                "-p",
                "no:cacheprovider",
                "--color=no",
                "--tb=short",
                "--durations=10",
                "--durations-min=10",
                "-omarkers=alone\nextended\nnamespaces\nnetwork\nslow",
            ]
            options += [f"--rootdir={ROOT}", f"--confcutdir={ROOT / 'tests'}"]
            options += ["-p", "pytest_timeout", f"--timeout={SECONDS}"]
            seconds = time.clock_gettime(time.CLOCK_BOOTTIME)
            print(f"--- as uid {uid} on Linux {os.uname().release}, {seconds:.1f} s after boot", flush=True)
            code = int(pytest.main([*options, *tests]))
        except BaseException:  # noqa: BLE001  # there is nobody above
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    while True:
        ended, status = os.wait()
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def main() -> None:
    for fd in (0, 1, 2):
        os.dup2(os.open("/dev/console", os.O_RDWR), fd)
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    sys.dont_write_bytecode = True
    os.chdir(ROOT)
    try:
        set_up()
        delegate()
        for uid in map(int, sys.argv[1].split(",")):
            print(f"inside: uid {uid} ended with {run_tests(uid, sys.argv[2:])}", flush=True)
    except Exception:  # noqa: BLE001  # there is nobody above
        traceback.print_exc()
    time.sleep(0.1)  # the console's buffer
    ctypes.CDLL(None).reboot(POWER_OFF)


if __name__ == "__main__":
    main()
