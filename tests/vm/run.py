"""Boots Debian's cloud kernels under qemu (no KVM needed), with cgroup v2, and runs tests there as root and as a user.

    python tests/vm/run.py [--kernel 5.10] [--suite attack] [--user root] [--resume] [pytest arguments]

The tests come in parts (suites.py), and each part is a boot. About ten seconds pass until its first test, and a test
takes some ten times as long as outside. The results of all parts are kept in build/vm/results.json: with --resume, a
run that was interrupted or had failures goes on with what has not passed yet. The table at the end has a line for each
part, and one for each kernel and user; the exit code is 0 when all passed. What is missing is fetched: qemu by apt-get
(as root), the kernels into build/vm.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import results
from image import INSIDE, SITE, build, qemu
from kernels import CACHE, RELEASES, kernel
from results import PASSED
from suites import SUITES

SECONDS = 3600
"""at most, for each boot"""
MEMORY_MB = 1536
CPU = "Nehalem"
"""without five levels of page tables and AVX, which cost an emulator more than they give"""
USERS = {"root": 0, "user": 1000}

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


def boot(version: str, uids: list[int], tests: list[str]) -> list[str]:
    """Runs these tests in a machine with that kernel; its console, line by line, is printed and returned."""
    vmlinuz = kernel(version)
    initramfs = CACHE / version / "initramfs"
    arguments = shlex.join([",".join(map(str, uids)), *tests])
    init = INIT.format(python=os.path.realpath(sys.executable), inside=INSIDE, arguments=arguments)
    build(init, version, initramfs)
    command = [qemu(), "-accel", "tcg,thread=multi", "-cpu", CPU, "-smp", "2", "-m", str(MEMORY_MB), "-no-reboot"]
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", action="append", choices=RELEASES, help="this kernel only; default: all of them")
    parser.add_argument("--suite", action="append", choices=SUITES, help="this part of the tests only")
    parser.add_argument("--user", action="append", choices=USERS, help="this user only")
    parser.add_argument("--resume", action="store_true", help="leave out what passed in the run before")
    parser.add_argument("--json", type=Path, default=CACHE / "results.json", help="where results are kept: %(default)s")
    options, arguments = parser.parse_known_args()
    uids = [USERS[name] for name in options.user or USERS]
    suites = {"chosen": tuple(arguments)} if arguments else {name: SUITES[name] for name in options.suite or SUITES}
    kept = results.read(options.json) if options.resume else []
    versions = options.kernel or list(RELEASES)
    for version in versions:
        for name, tests in suites.items():
            done = {row.uid for row in kept if (row.kernel, row.suite, row.verdict) == (version, name, PASSED)}
            wanted = [uid for uid in uids if uid not in done]
            if wanted:
                print(f"=== Linux {version}: {name}", flush=True)
                lines = boot(version, wanted, list(tests))
                new = results.of_console(lines, version, name, wanted, dt.date.today().isoformat())
                kept = results.replace(kept, new)
                results.write(options.json, kept)
    chosen = [row for row in kept if row.kernel in versions and row.suite in suites and row.uid in uids]
    print("\n" + results.table(chosen))
    return 0 if all(row.verdict == PASSED for row in chosen) else 1


if __name__ == "__main__":
    raise SystemExit(main())
