"""Boots a kernel under qemu with the tests that it is to run."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading

from image import INSIDE, SITE, build, qemu
from kernels import CACHE, kernel

SECONDS = 3600
"""at most, for each boot"""
MEMORY_MB = 1536
CPU = "Nehalem"
"""without five levels of page tables and AVX, which cost an emulator more than they give"""
USERS = {"root": 0, "user": 1000}

# The root of an initramfs has no parent, and pivot_root wants one: the same files, bound on top of it, have. Nor can it
# be idmapped, as a tmpfs can be since Linux 6.3, so /tmp is one.
INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs -o mode=1777 tmp /tmp
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
    # no_timer_check: a machine that waits for a processor of its host may miss the ticks that the kernel tries first.
    options = "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off no_timer_check rdinit=/init"
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
