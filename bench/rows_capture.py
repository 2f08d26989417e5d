"""A command that writes much: bytes per second from its stdout into a Python bytes object. And one that writes little
and often: how long a piece takes until the caller's function has it."""

from __future__ import annotations

import sys
import time

from lease import OURS, job, open_pool, wait_until_steady
from measure import Distribution, interleave
from peers import SUBPROCESS, spawn
from row import Bench, Budget, Effort, Row

from pysandpool import SandboxConfig

MIB = 1024 * 1024
SIZE = 10 * MIB
FLOOD = ["/usr/bin/head", "-c", str(SIZE), "/dev/zero"]


def capture(effort: Effort) -> list[Row]:
    zeros = bytes(SIZE)
    with open_pool(2, SandboxConfig(max_output_bytes=SIZE + MIB)) as pool:
        times = interleave(
            [job(pool, FLOOD, zeros), spawn(FLOOD, zeros)],
            effort.samples(200, 20),
            between=lambda: wait_until_steady(pool),
        )
    ours = Distribution.of(times[OURS])
    return [
        Row(
            name="capture",
            figure="10 MiB of stdout captured, throughput at p50",
            unit="MiB/s",
            value=SIZE / MIB / ours.p50,
            budget=Budget("ratio", ">=", 0.9),
            samples=ours,
            samples_unit="s",
            baseline=SIZE / MIB / Distribution.of(times[SUBPROCESS]).p50,
            against=SUBPROCESS,
        )
    ]


LINES = 200
WRITER = f"""
import os, time
for _ in range({LINES}):
    os.write(1, b"%d\\n" % time.monotonic_ns())
    time.sleep(0.002)
"""


def first_byte(effort: Effort) -> list[Row]:
    delays: list[float] = []

    def take(piece: bytes) -> None:
        now = time.monotonic_ns()
        delays.extend((now - int(line)) / 1e9 for line in piece.split())

    with open_pool(1, SandboxConfig(fs_python=True)) as pool, pool.acquire() as lease:
        while len(delays) < effort.samples(2000, 200):
            lease.execute([sys.executable, "-c", WRITER], on_stdout=take)
    ours = Distribution.of(delays)
    return [
        Row(
            name="first_byte",
            figure="from a write of the command to on_stdout, p50",
            unit="s",
            value=ours.p50,
            budget=Budget("value", "<=", 0.001),
            samples=ours,
        )
    ]


BENCHES = (Bench(("capture",), capture), Bench(("first_byte",), first_byte))
