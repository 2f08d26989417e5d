"""Counts the ordinary commands that init's memory watch kills by mistake while the machine is busy.

    python bench/innocent.py [RUNS [LOOPS]]

It needs a user for whom no cgroup is found. Each command stays below the memory limit of its sandbox: run alone, it
ends by itself. LOOPS processes that compute keep the processors busy (12 by default), so that init and the command
often wait for one. Each round runs every command once. Exits with 1 if a command was killed for its memory.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator

from pysandpool import PoolConfig, SandboxConfig, SandboxPool, SandboxResult

# Several programs start others by vfork from a process that has more than half of the limit: until the child has
# execed, it shows the memory of its parent as its own.
SPAWNS = """
import subprocess, sys, threading
memory = bytearray({mb} << 20)
def spawn():
    for _ in range(10):
        subprocess.run(["/bin/true"], check=True)
threads = [threading.Thread(target=spawn) for _ in range({threads})]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
HELLO = 'echo "int main(void) { return 0; }" > /tmp/hello.c && gcc -O2 /tmp/hello.c -o /tmp/hello && /tmp/hello'
MAKE = r"""
cd /tmp && for i in 1 2 3 4 5 6 7 8; do echo "int f$i(void) { return $i; }" > f$i.c; done
printf 'all: f1.o f2.o f3.o f4.o f5.o f6.o f7.o f8.o\n' > Makefile && make -s -j4
"""
GIT = "cd /tmp && git init -q . && echo text > file && git add file && git status --short"
# The limit in MiB, and the command.
COMMANDS = {
    "ls": (32, ["/bin/ls", "-l", "/usr/bin"]),
    "python": (32, ["/usr/bin/python3", "-c", "import json, subprocess, time; time.sleep(0.1)"]),
    "gcc": (64, ["/bin/sh", "-c", HELLO]),
    "make": (256, ["/bin/sh", "-c", MAKE]),
    "git": (64, ["/bin/sh", "-c", GIT]),
    "a thread that spawns": (64, ["/usr/bin/python3", "-c", SPAWNS.format(mb=30, threads=1)]),
    "four threads that spawn": (64, ["/usr/bin/python3", "-c", SPAWNS.format(mb=30, threads=4)]),
}


@contextlib.contextmanager
def load(loops: int) -> Iterator[None]:
    """Busy processors for the time of the block."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(loops)]
    try:
        time.sleep(0.5)
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def once(pool: SandboxPool, command: list[str]) -> SandboxResult:
    with pool.acquire() as lease:
        result = lease.execute(command, timeout=120)
    assert result.oom_killed or result.exit_code == 0, (command, result, result.stderr)
    return result


def main(runs: int = 500, loops: int = 12) -> int:
    print(f"{platform.platform()}, {os.cpu_count()} cpus, {loops} busy loops, {runs} runs of each command", flush=True)
    killed = dict.fromkeys(COMMANDS, 0)
    longest = dict.fromkeys(COMMANDS, 0.0)
    with contextlib.ExitStack() as stack:
        pools = {
            limit: stack.enter_context(SandboxPool(SandboxConfig(memory_limit_mb=limit), PoolConfig(min_size=1)))
            for limit in {limit for limit, _ in COMMANDS.values()}
        }
        for limit, command in COMMANDS.values():
            assert not once(pools[limit], command).oom_killed, f"{command} needs more than {limit} MiB"
        stack.enter_context(load(loops))
        for _ in range(runs):
            for name, (limit, command) in COMMANDS.items():
                result = once(pools[limit], command)
                killed[name] += result.oom_killed
                longest[name] = max(longest[name], result.elapsed)
    for name, (limit, _) in COMMANDS.items():
        print(f"{name:24} {limit:4} MiB: {killed[name]} of {runs} killed, the longest took {longest[name]:.1f} s")
    print(f"killed by mistake: {sum(killed.values())}")
    return any(killed.values())


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
