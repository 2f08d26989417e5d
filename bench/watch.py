"""Measures what init's memory watch costs, and how long one scan takes, under tenants that make scans expensive.

    python bench/watch.py [SECONDS]

It needs a user for whom no cgroup is found. Each line is one command: the share of a CPU that init uses, the longest
scan, and how much later than its timeout the command ended. A scan is the CPU time of init between two sleeps, read
from /proc/PID/schedstat. A command that has mapped much memory ends late, because the kernel needs time to unmap it.
Exits with 1 if a scan takes longer than 50 ms.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from pysandpool import PoolConfig, SandboxConfig, SandboxPool, SandboxResult

BUDGET_MS = 50.0
HEAD = """
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/wait.h>
#include <string.h>
#include <unistd.h>
"""
COMMANDS = {
    "one process that sleeps": "int main(void) { pause(); }",
    "60 processes of 250 descriptors": """
int main(void) {
    for (int i = 0; i < 250; i++) (void)dup(0);
    for (int i = 0; i < 60 && fork() != 0; i++) {}
    for (;;) pause();
}""",
    "64 MiB mapped 400 times": """
int main(void) {
    size_t size = 64 << 20;
    int fd = memfd_create("d", 0);
    (void)ftruncate(fd, size);
    for (int i = 0; i < 400; i++) {
        char *at = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (i == 0) memset(at, 1, size);
        for (size_t o = 0; o < size; o += 65536) (void)*(volatile char *)(at + o);
    }
    for (;;) pause();
}""",
    "a fork bomb": "int main(void) { for (;;) (void)fork(); }",
    "children that end at once": """
int main(void) {
    for (int i = 0; i < 5; i++) (void)fork();
    for (;;) {
        if (fork() == 0) _exit(0);
        while (waitpid(-1, 0, WNOHANG) > 0) {}
    }
}""",
    "8 processes share 300 MiB": """
int main(void) {
    size_t size = 300 << 20;
    char *at = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)madvise(at, size, MADV_NOHUGEPAGE);
    memset(at, 1, size);
    for (int i = 0; i < 8 && fork() != 0; i++) {}
    for (;;) pause();
}""",
}  # fmt: skip


def build(folder: str, name: str, source: str) -> str:
    path = os.path.join(folder, name)
    subprocess.run(
        ["cc", "-O1", "-w", "-static", "-x", "c", "-", "-o", path], input=HEAD + source, text=True, check=True
    )
    return path


class Meter(threading.Thread):
    """Reads how long init has run, until `stop` is set or init is gone."""

    def __init__(self, pid: int) -> None:
        super().__init__()
        self.path = Path(f"/proc/{pid}/schedstat")
        self.longest = self.total = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        try:
            before = first = int(self.path.read_text().split()[0])
            stretch = 0
            while not self.stopped.wait(0.001):
                now = int(self.path.read_text().split()[0])
                stretch = stretch + now - before if now != before else 0
                self.longest = max(self.longest, stretch)
                before = now
            self.total = before - first
        except OSError:
            pass


def measure(pool: SandboxPool, command: str, seconds: float) -> tuple[SandboxResult, Meter]:
    with pool.acquire() as lease:
        meter = Meter(lease.pid)
        threading.Timer(1.0, meter.start).start()  # the first pass over the descriptors is no look of the rest
        threading.Timer(seconds - 0.2, meter.stopped.set).start()
        result = lease.execute([command], timeout=seconds)
        meter.join()
    return result, meter


def main(seconds: float = 8.0) -> int:
    print(f"{platform.platform()}, {os.cpu_count()} cpus, load {os.getloadavg()[0]:.1f}, {seconds:g} s each")
    worst = 0.0
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        config = SandboxConfig(memory_limit_mb=2048, fs_readonly=(folder,))
        paths = {name: build(folder, f"c{i}", source) for i, (name, source) in enumerate(COMMANDS.items())}
        with SandboxPool(config, PoolConfig(min_size=1, max_size=2)) as pool:
            for name, path in paths.items():
                result, meter = measure(pool, path, seconds)
                assert (result.timed_out, result.oom_killed) == (True, False), (name, result)
                worst = max(worst, meter.longest / 1e6)
                share = meter.total / 1e9 / (seconds - 1.2)
                print(
                    f"{name:34} {share:8.3%} of a core, longest look {meter.longest / 1e6:6.2f} ms,"
                    f" ended {(result.elapsed - seconds) * 1e3:6.1f} ms late",
                    flush=True,
                )
    print(f"longest look: {worst:.2f} ms, budget {BUDGET_MS:g} ms: {'met' if worst <= BUDGET_MS else 'MISSED'}")
    return worst > BUDGET_MS


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:])))
