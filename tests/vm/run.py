"""Boots Debian's cloud kernel under qemu (no KVM needed), with cgroup v2, and runs tests there as root and as a user.

    python tests/vm/run.py [pytest arguments]

About ten seconds pass until the first test, and a test takes some ten times as long as outside. The last line sums up
both runs in pytest's form; the exit code is 0 when all passed. What is missing is fetched: qemu by apt-get (as root),
the kernel into build/vm.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
import time

from image import CACHE, INSIDE, SITE, build, kernel, qemu

SECONDS = 1500
MEMORY_MB = 1536
# What another kernel and cgroup v2 decide about. The rest of the suite would take an hour there.
TESTS = (
    "tests/vm/limits.py",
    "tests/vm/cgroups.py",
    "tests/vm/killed.py",
    "tests/vm/landlock.py",
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


def boot(arguments: list[str]) -> list[str]:
    """Runs the machine; its console, line by line, is printed and returned."""
    vmlinuz = kernel()
    initramfs = CACHE / "initramfs"
    init = INIT.format(python=os.path.realpath(sys.executable), inside=INSIDE, arguments=shlex.join(arguments))
    build(init, initramfs)
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


def closing_line(lines: list[str], seconds: float) -> tuple[str, bool]:
    """The sums of the runs inside in pytest's form, and whether all passed."""
    counts: dict[str, int] = {}
    for line in lines:
        if re.match(r"=* ?\d+ \w+.* in [\d.]+s", line):
            for number, word in re.findall(r"(\d+) (passed|failed|errors?|skipped|xfailed)", line):
                counts[word] = counts.get(word, 0) + int(number)
    codes = [line.split(":")[1].split() for line in lines if line.startswith("inside:")]
    good = bool(counts.get("passed")) and codes == [["0", "0"]]
    words = ", ".join(f"{number} {word}" for word, number in counts.items()) or "no tests ran"
    return f"===== {words} in {seconds:.2f}s =====", good


def main() -> int:
    start = time.monotonic()
    arguments = sys.argv[1:] or list(TESTS)
    text, good = closing_line(boot(arguments), time.monotonic() - start)
    print(text)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
