"""The machine's first process: delegates a subtree to a user, runs pytest as root and as the user, switches off."""

from __future__ import annotations

import ctypes
import os
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CGROUPS = Path("/sys/fs/cgroup")
USER = 1000
POWER_OFF = 0x4321FEDC


def delegate() -> None:
    """As systemd does it: the directory and the three files that rule it are the user's."""
    (CGROUPS / "cgroup.subtree_control").write_text("+memory +pids +cpu")
    own = CGROUPS / "user"
    own.mkdir()
    (own / "session").mkdir()
    for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "session", "session/cgroup.procs"):
        os.chown(own / name, USER, USER)


def run_tests(uid: int) -> int:
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

            options = ["-q", "-rA", "-c", "/dev/null", "-p", "no:cacheprovider", "--color=no", "--tb=short"]
            options += [f"--rootdir={ROOT}", f"--confcutdir={ROOT / 'tests'}"]
            print(f"--- as uid {uid}, {time.clock_gettime(time.CLOCK_BOOTTIME):.1f} s after boot", flush=True)
            code = int(pytest.main([*options, *sys.argv[1:]]))
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
    os.chmod("/tmp", 0o1777)
    os.chmod("/dev/shm", 0o1777)
    codes = []
    with suppress(Exception):
        delegate()
        codes = [run_tests(uid) for uid in (0, USER)]
    print("inside:", *codes, flush=True)
    time.sleep(0.1)  # the console's buffer
    ctypes.CDLL(None).reboot(POWER_OFF)


if __name__ == "__main__":
    main()
