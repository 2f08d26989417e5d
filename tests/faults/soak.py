"""A random mix of everything that a host can do with pools, and all that can befall it, with a fixed seed.

    python tests/faults/soak.py [--seconds 600] [--seed 1]
    python tests/faults/soak.py --cycles 100000 [--seed 1]

Every second the work pauses, and fds, threads, processes, zombies, mounts, namespaces, slots and counters must be where
they belong; memory must not grow. Prints progress; on a breach the seed and the last events, and the exit status is 1.
When nothing has ended for a minute it prints where all threads wait, in Python and in the kernel, and exits with 3.
When a signal ends it, that is named, and the exit status is 4.
With --cycles it is so many executes and ten times as many acquire/release, one fault in a hundred, checked alike.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, os.fspath(Path(__file__).resolve().parents[1] / "support"))

from eyes_linux import see_orphans
from soak_check import MIB, BreachError
from soak_deeds import Cycles, Mix
from soak_run import Soak
from soak_watch import Beats, watched

from pysandpool import PoolConfig, PoolStats, SandboxPool


def soak(seconds: float, seed: int, beats: Beats) -> int:
    run = Soak(seed, 3, beats)
    begun = time.monotonic()
    run.start(Mix(run))
    try:
        while not run.over.is_set() and time.monotonic() - begun < seconds:
            run.over.wait(1)
            passed = time.monotonic() - begun
            run.check(24 * MIB if passed > min(60, seconds / 3) else None)
            if int(passed) % 10 == 0:
                said = f"{sum(run.counts.values())} events, {dict(run.counts.most_common(4))}"
                print(f"{passed:.0f} s, {run.checker.rss / MIB:.1f} MiB, {said}", flush=True)
    except BaseException as error:  # noqa: BLE001
        run.breach(error)
        return 1
    print(f"in order after {time.monotonic() - begun:.0f} s, seed {seed}: {dict(run.counts)}")
    return 0


def add_up(stats: PoolStats, acquires: int) -> None:
    if stats.hit_count + stats.miss_count != acquires or stats.created_count - stats.evict_count != stats.idle_count:
        raise BreachError(f"{acquires} acquires, but {stats}")


def cycles(executes: int, seed: int, beats: Beats) -> int:
    run = Soak(seed, 0, beats)
    run.pools.append(SandboxPool(None, PoolConfig(min_size=2, max_size=8, max_idle_duration=None)))
    work, begun, woken = Cycles(run, executes), time.monotonic(), 0
    try:
        threads = run.start(work)
        while any(thread.is_alive() for thread in threads):
            threads[0].join(1)
            run.check(8 * MIB if work.left < executes * 0.9 else None)
            woken += 1
            if woken % 10 == 0:
                print(
                    f"{time.monotonic() - begun:.0f} s, {max(work.left, 0)} executes left, {dict(run.counts)}",
                    flush=True,
                )
        run.check()
        woken += 1
        stats = run.pools[0].stats()
        add_up(stats, work.got + woken)
    except BaseException as error:  # noqa: BLE001
        run.breach(error)
        return 1
    print(f"in order: {executes} executes, {work.got} acquires in {time.monotonic() - begun:.0f} s, seed {seed}")
    print(f"faults and errors: {dict(run.counts)}\n{stats}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cycles", type=int, default=0, metavar="EXECUTES")
    args = parser.parse_args()

    def run(beats: Beats) -> int:
        see_orphans()
        return cycles(args.cycles, args.seed, beats) if args.cycles else soak(args.seconds, args.seed, beats)

    return watched(run, f"seed {args.seed}")


if __name__ == "__main__":
    sys.exit(main())
