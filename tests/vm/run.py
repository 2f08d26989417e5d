"""Boots Debian's cloud kernels under qemu (no KVM needed), with cgroup v2, and runs tests there as root and as a user.

    python tests/vm/run.py [--kernel 5.10] [pytest arguments]

About ten seconds pass until the first test of a kernel, and a test takes some ten times as long as outside. The table
at the end has a line for each kernel and user; the exit code is 0 when all passed. What is missing is fetched: qemu by
apt-get (as root), the kernels into build/vm.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import threading

from image import INSIDE, SITE, build, qemu
from kernels import CACHE, RELEASES, kernel

SECONDS = 2400
"""at most, for each kernel"""
MEMORY_MB = 1536
USERS = (0, 1000)
WORDS = ("passed", "failed", "error", "skipped", "xfailed")
# What another kernel and cgroup v2 decide about. The rest of the suite would take an hour there.
TESTS = (
    "tests/vm/limits.py",
    "tests/vm/cgroups.py",
    "tests/vm/killed.py",
    "tests/vm/landlock.py",
    "tests/contract",
    "--ignore=tests/contract/test_pool_model.py",  # of the fake launcher alone
    # Each root's sandbox has a cgroup here, whose directory is opened first.
    "--deselect=tests/contract/test_contract_close.py::test_limit_of_open_files_is_named",
    # The agent's launcher is no kernel's, and a load of hundreds of leases takes too long.
    *("-k", "not agent and not balance_under_load"),
    "tests/isolation/test_isolation.py",
    "tests/isolation/test_limits.py",
    "tests/isolation/test_fallbacks.py",
    "tests/isolation/test_attack.py",
    "tests/isolation/test_memory.py",
)

# The root of an initramfs has no parent, and pivot_root wants one: the same files, bound on top of it, have.
INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts devpts /dev/pts
mount -t cgroup2 -o nsdelegate cgroup /sys/fs/cgroup
mount -t securityfs security /sys/kernel/security
mount --rbind / /mnt
cd /mnt
mount -n --move . /
exec chroot . {python} {inside}/tests/vm/inside.py {arguments}
"""


def boot(version: str, arguments: list[str]) -> list[str]:
    """Runs the machine with that kernel; its console, line by line, is printed and returned."""
    vmlinuz = kernel(version)
    initramfs = CACHE / version / "initramfs"
    init = INIT.format(python=os.path.realpath(sys.executable), inside=INSIDE, arguments=shlex.join(arguments))
    build(init, version, initramfs)
    command = [qemu(), "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", str(MEMORY_MB), "-no-reboot"]
    command += ["-nodefaults", "-nographic", "-serial", "stdio", "-kernel", os.fspath(vmlinuz)]
    command += ["-initrd", os.fspath(initramfs)]
    options = "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off rdinit=/init"
    options += f" PYTHONPATH={INSIDE}:{INSIDE}/tests/support:{SITE}"
    lines = []
    with subprocess.Popen(
        [*command, "-append", options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as machine:
        assert machine.stdout is not None
        # A machine that hangs says nothing: its end is then the end of its console.
        too_long = threading.Timer(SECONDS, machine.kill)
        too_long.start()
        try:
            for line in machine.stdout:
                lines.append(line.rstrip())
                print(lines[-1], flush=True)
        finally:
            too_long.cancel()
            machine.kill()
    return lines


def rows(version: str, lines: list[str]) -> list[tuple[str, ...]]:
    """Of each user of one machine: what became of the tests, in pytest's words, and the exit code of pytest."""
    codes = dict(re.findall(r"inside: uid (\d+) ended with (-?\d+)$", "\n".join(lines), re.MULTILINE))
    found: dict[str, tuple[dict[str, int], str]] = {}
    release, user = "-", "-"
    for line in lines:
        began = re.search(r"--- as uid (\d+) on Linux (\S+),", line)
        if began is not None:
            user, release = began.groups()
        ended = re.search(r"^=* ?\d+ \w+.* in ([\d.]+)s", line)
        if ended is not None:
            counts = {word.rstrip("s"): int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", line)}
            found[user] = (counts, ended[1])
    table = []
    for uid in map(str, USERS):
        counts, seconds = found.get(uid, ({}, "-"))
        numbers = (str(counts.get(word, 0)) for word in WORDS)
        verdict = "passed" if codes.get(uid) == "0" and counts.get("passed") else "FAILED"
        table.append((version, release, uid, *numbers, seconds, verdict))
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", action="append", choices=RELEASES, help="this kernel only; default: all of them")
    options, arguments = parser.parse_known_args()
    table: list[tuple[str, ...]] = []
    for version in options.kernel or RELEASES:
        print(f"=== Linux {version}", flush=True)
        table += rows(version, boot(version, arguments or list(TESTS)))
    table.insert(0, ("kernel", "release", "uid", *WORDS, "seconds", "verdict"))
    widths = [max(map(len, column)) for column in zip(*table)]
    print()
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    return 0 if all(row[-1] == "passed" for row in table[1:]) else 1


if __name__ == "__main__":
    raise SystemExit(main())
